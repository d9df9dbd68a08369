"""A long short-term memory network that learns a model's step from analyses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import xarray as xr

from daml import __version__
from daml.emulators.fitted import Fitted, check_sizes
from daml.emulators.fitting import begun, fitted_through_cycle, fitted_to
from daml.emulators.networks import Memory, Network, Windowed
from daml.emulators.settings import check
from daml.errors import InputError
from daml.labels.arguments import checked
from daml.labels.descriptions import description
from daml.labels.html import shown
from daml.protocols import Checkpoint, Model
from daml.running.forecasting import forecast
from daml.schemes import ThreeDVar
from daml.stores.filling import save
from daml.training.bases import base_step, differentiable


@dataclass(frozen=True)
class LSTM:
    """An emulator that predicts the increment over a base and carries its memory.

    Parameters
    ----------
    hidden, layers : int
        Number of units per layer, and of layers.
    epochs : int, optional
        Epochs of a training. Default: 16, or more if these make fewer than 500 updates.
    window : int, optional
        Number of last states that the network sees, instead of a memory; at most
        ``sequence_length``, which holds a whole window and is less than the record. A step and a
        training take as many times longer as the window has states.
    base : Model, optional
        Model whose step is corrected; default: the last state. It steps NumPy arrays, unless it
        is a :class:`daml.models.ODE` or has a ``device``.
    device : str
        Device on which torch computes: "cpu" or "cuda".
    seed : int
        Seed of the initial weights and of the order of the sequences.
    sequence_length, burn_in, batch_size, learning_rate
        Steps of a training sequence; steps at its start that the loss leaves out; sequences per
        update; and peak rate of Adam (cosine decay to 5 %, gradient norm clipped at 1).
    rate_decay : float
        Factor by which each further training lowers the rate, down to a fifth of it.
    covariance : {"predicted", "constant"}, optional
        Whether the network also learns the background covariance B of its forecasts, through the
        cycle (:meth:`fit_cycle`): predicted from its memory, or constant in time.
    cycle_epochs : int, optional
        Epochs of a training through the cycle. Default: 1,200 updates (800 with a base), at most
        800 epochs.

    Raises
    ------
    InputError
        If a setting is out of range.

    References
    ----------
    Hochreiter, S. and Schmidhuber, J. (1997): Long short-term memory. Neural Computation 9,
    1735-1780; as the data-driven model of Goodliff and Miyoshi (2025), egusphere-2025-933.

    Examples
    --------
    >>> import daml
    >>> run = daml.simulate(daml.Lorenz63(), steps=400, spinup=100)
    >>> emulator = daml.LSTM(hidden=8, epochs=2).fit(run)
    >>> emulator.forecast(run, leads=2).sizes["lead"]
    2
    """

    hidden: int = 100
    layers: int = 2
    epochs: int | None = None
    window: int | None = None
    base: Model | None = None
    device: str = "cpu"
    seed: int = 0
    sequence_length: int = 100
    burn_in: int = 10
    batch_size: int = 64
    learning_rate: float = 4e-3
    rate_decay: float = 0.85
    covariance: str | None = None
    cycle_epochs: int | None = None
    fitted: Fitted | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check(self)

    @property
    def known(self) -> Fitted:
        """The result of a training."""
        if self.fitted is None:
            raise InputError("LSTM: not fitted yet; use the result of lstm.fit(analysis)")
        return self.fitted

    def _repr_html_(self) -> str:
        return shown(self, {"fitted": "no"} if self.fitted is None else self.fitted.told())

    @property
    def variables(self) -> tuple[str, ...]:
        """Names along the last axis of a state."""
        return self.known.variables

    @property
    def dt(self) -> float:
        """Length of a step, that of the record that the emulator was fitted to."""
        return self.known.dt

    @property
    def time_unit(self) -> str:
        """Unit of ``dt`` for records with datetime64 times."""
        return self.known.time_unit

    @property
    def climate(self) -> np.ndarray:
        """Mean state (variable,) of the record that the emulator was fitted to."""
        return self.known.mean

    @property
    def history(self) -> xr.Dataset:
        """History (epoch) of the last training: ``loss``, and scores on held-out blocks, if any."""
        return self.known.history

    @checked
    def fit(
        self,
        analysis: xr.Dataset,
        *,
        held_out: float = 0.0,
        better: Callable[[LSTM, LSTM], bool] | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> LSTM:
        """Give a fitted copy of the emulator.

        If it is fitted already, the training starts from its weights and keeps its scaling.

        Parameters
        ----------
        analysis : xarray.Dataset
            ``analysis``, or else ``state``, (time, variable) at every model step. Rows where
            ``innovation`` has no value were not observed and are skipped as targets. A lazily
            opened record is read block by block, again in each epoch.
        held_out : float
            Fraction of the record, in blocks of time, that the loss leaves out. The training stops
            when it no longer gains there, and returns the weights of the best epoch. 0: none.
        better : callable, optional
            Returns whether the second of two emulators is clearly better. An emulator with a
            ``base`` that adds the mean increment alone stays so where its trained network is not.
        checkpoint : Checkpoint, optional
            Stores the epochs that are done, so that an interrupted training can be resumed.

        Returns
        -------
        LSTM

        Raises
        ------
        InputError
            If the record lacks a variable, has wrong dims or values, or is too short.
        DivergedError
            If the loss is not finite.
        """
        return replace(self, fitted=fitted_to(self, analysis, held_out, better, checkpoint))

    @checked
    def begin(self, analysis: xr.Dataset, *, held_out: float = 0.0) -> LSTM:
        """Give a copy that adds the mean increment over the base's step and nothing else.

        It is the simplest correction, and :meth:`fit_cycle` starts from it as well as from what a
        training on analyses finds.

        Parameters
        ----------
        analysis, held_out
            See :meth:`fit`.

        Returns
        -------
        LSTM

        Raises
        ------
        InputError
            If the LSTM has no base, or the record cannot be trained on.
        """
        if self.base is None:
            raise InputError("LSTM.begin: it has no base to correct; give LSTM(base=model), or fit")
        return replace(self, fitted=begun(self, analysis, held_out))

    def network(self, size: int) -> Network:
        """Give a network for ``size`` variables, with initial weights drawn from the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            if self.window is not None:
                made: Network = Windowed(size, self.hidden, self.layers, self.window)
            else:
                made = Network(size, self.hidden, self.layers, self.covariance)
        if self.base is not None:  # a correction starts from the mean increment alone
            torch.nn.init.zeros_(made.head.weight)
            torch.nn.init.zeros_(made.head.bias)
        return made.to(self.device)

    def start(self, x: Any, time: Any = None) -> Memory:
        """Give an empty memory, together with that of the base."""
        return None, None if self.base is None else self.base.start(x, time)

    def step(self, x: Any, memory: Memory = (None, None)) -> tuple[Any, Memory]:
        """Move states (..., variable) by one dt; NumPy or torch, in the states' units.

        With torch tensors gradients pass through it.
        """
        if isinstance(x, np.ndarray):
            with torch.inference_mode():
                moved, memory = self._advance(torch.from_numpy(np.ascontiguousarray(x)), memory, x)
            return moved.numpy(), memory
        return self._advance(x, memory, x)

    @cached_property
    def _differentiable(self) -> Any:
        """The base for torch tensors; its differences, if any, fit the states of the training."""
        known = self.known
        drawn = np.random.default_rng(0).standard_normal((16, len(known.variables)))
        return differentiable(
            cast("Model", self.base), known.mean + drawn * known.spread, self.device
        )

    def _advance(self, x: torch.Tensor, memory: Memory, given: Any) -> tuple[torch.Tensor, Memory]:
        """Step a tensor; the base steps ``given``, the same in the kind that the caller has."""
        inner, base_memory = memory
        moved = there = x.to(self.device)
        if self.base is not None:
            base = self.base if isinstance(given, np.ndarray) else self._differentiable
            moved, base_memory = base_step(base, given, base_memory, self.device)
        increment, inner = self.known.increment(there, inner)
        return (moved + increment).to(x.device, x.dtype), (inner, base_memory)

    @property
    def knows_covariance(self) -> bool:
        """Whether a B was learned through the cycle, which :meth:`background_covariance` gives."""
        learned = self.fitted is not None and self.fitted.covariance_root is not None
        return learned and self.covariance is not None

    def background_covariance(self, memory: Memory) -> Any:
        """Give B (..., variable, variable) of the last step's forecast; at the start, of the state.

        Raises
        ------
        InputError
            If no covariance was learned through the cycle.
        """
        if self.covariance is None or self.known.covariance_root is None:
            raise InputError(
                "LSTM: no background covariance is known; give LSTM(covariance='predicted') and "
                "train it through the cycle: emulator.fit_cycle(observations, scheme)"
            )
        return self.known.background_covariance(memory[0])

    @checked
    def fit_cycle(
        self,
        observations: xr.Dataset,
        scheme: ThreeDVar,
        *,
        sequence_length: int = 100,
        burn_in: int = 20,
        batch_size: int | None = None,
        learning_rate: float = 4.5e-3,
        held_out: float = 0.1,
        checkpoint: Checkpoint | None = None,
    ) -> LSTM:
        """Train a fitted LSTM through the assimilation cycle, on the innovations.

        Gradients pass through all steps and analyses of a sequence. With a ``covariance`` the loss
        is the Gaussian negative log-likelihood of the innovations, otherwise their mean square.

        Parameters
        ----------
        observations : xarray.Dataset
            ``observation`` (time, variable) and its ``error_variance`` (variable).
        scheme : ThreeDVar
            Its B is the initial covariance, or the constant one if the LSTM learns none.
        sequence_length, burn_in, learning_rate
            See :class:`LSTM`.
        batch_size : int, optional
            Sequences per update (default: a fifth of those of the record, but 20 to 200).
        held_out : float
            Fraction of the record, in blocks of time, that the loss leaves out. The training stops
            when it no longer gains there, and returns the weights of the best epoch. 0: none.
        checkpoint : Checkpoint, optional
            See :meth:`fit`.

        Returns
        -------
        LSTM

        Raises
        ------
        InputError
            If the LSTM is not fitted, the scheme has no B, or the observations are wrong.
        DivergedError
            If the loss is not finite.

        References
        ----------
        Chen, Y., Sanz-Alonso, D. and Willett, R. (2022): Autodifferentiable ensemble Kalman
        filters. SIAM J. Math. Data Sci. 4, 801-833.
        """
        how = sequence_length, burn_in, batch_size, learning_rate, held_out, checkpoint
        return replace(self, fitted=fitted_through_cycle(self, observations, scheme, *how))

    @checked
    def forecast(self, states: xr.Dataset, *, leads: Any = 4, warmup: int = 100) -> xr.Dataset:
        """Forecast from each state of a record; see :func:`daml.forecast`."""
        return forecast(self, states, leads=leads, warmup=warmup)

    def to_dataset(self) -> xr.Dataset:
        """Give weights, scaling and settings as plain arrays and attributes."""
        result = self.known.to_dataset()
        apart = ("base", "fitted")
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in apart}
        result.attrs |= {
            "emulator": "LSTM",
            "settings": json.dumps(settings),
            "base": "null" if self.base is None else description(self.base, "base", exact=False),
            "daml_version": __version__,
        }
        return result

    def restored(self, dataset: xr.Dataset) -> LSTM:
        """Give the fitted emulator whose ``to_dataset`` is given.

        Raises
        ------
        InputError
            If the weights do not fit a network of these settings.
        """
        check_sizes(dataset, self.hidden, self.layers)
        network = self.network(dataset.sizes["variable"])
        return replace(self, fitted=Fitted.from_dataset(dataset, network))

    @checked
    def save(self, store: str | Path) -> None:
        """Write the fitted emulator to a new Zarr store, for ``load_emulator``.

        Raises
        ------
        InputError
            If the store exists, or the emulator is not fitted.
        """
        save(self.to_dataset(), store, "the emulator")
