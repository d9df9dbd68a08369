"""What all emulators with a network share: steps, trainings, and how they are restored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
import xarray as xr

from daml.arrays import fetch
from daml.emulators.fitted import Fitted
from daml.emulators.fitting import begun, fitted_through_cycle, fitted_to
from daml.emulators.learned import table_for
from daml.emulators.networks import parts_of, with_parts
from daml.emulators.settings import Settings
from daml.errors import InputError
from daml.labels.arguments import checked
from daml.observing.functions import Given
from daml.protocols import Checkpoint, Memory, Model, Scheme
from daml.stores.opening import check_whole
from daml.training.bases import base_step, differentiable


@dataclass(frozen=True)
class Neural(Settings):
    """An emulator whose increments are predicted by a network; a subclass gives the network.

    See :class:`daml.LSTM` for the settings. A subclass has a method ``network(size)``, which gives
    a ``daml.emulators.networks.Network`` for a number of variables.
    """

    arrays: ClassVar[tuple[str, ...]] = ("numpy", "torch")
    """Kinds of arrays that a step takes."""

    @property
    def history(self) -> xr.Dataset:
        """Scores (epoch) of the last training: ``loss``, and those on held-out blocks, if any."""
        return cast("xr.Dataset", self.known.history)

    @checked
    def fit(
        self,
        analysis: xr.Dataset,
        *,
        forcings: xr.Dataset | None = None,
        held_out: float = 0.0,
        better: Callable[[Self, Self], bool] | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        """Give a fitted copy of the emulator.

        If it is fitted already, the training starts from its weights and keeps its scaling.

        Parameters
        ----------
        analysis : xarray.Dataset
            ``analysis``, or else ``state``, (time, variable) at every model step. Rows where
            ``innovation`` has no value were not observed and are skipped as targets. With a
            dimension ``trajectory`` no training sequence reaches from one into the next. A lazily
            opened record is read block by block, again in each epoch.
        forcings : xarray.Dataset, optional
            Known inputs in time: a data variable (time, ...) for each. The network sees those of
            the start of a step beside the state, and the base those that it takes. Afterwards a
            step of the emulator takes them, too; see :func:`daml.forecast`.
        held_out : float
            Fraction of the record, in blocks of time, that is not trained on. The training stops
            when it no longer gains there, and returns the weights of the best epoch. 0: none.
        better : callable, optional
            Takes two emulators and returns whether the second is clearly better. It is asked after
            the first training of an emulator with a ``base``: unless the trained network is
            clearly better than the mean increment alone, the result is the latter.
        checkpoint : Checkpoint, optional
            Stores the epochs that are done, so that an interrupted training can be resumed.

        Returns
        -------
        emulator of the same class

        Raises
        ------
        InputError
            If the record lacks a variable, has wrong dims or values, or is too short.
        DivergedError
            If the loss is not finite.
        """
        how: dict[str, Any] = {"held_out": held_out, "better": better, "checkpoint": checkpoint}
        made, record = self.on(analysis)
        table = table_for(made, forcings)
        return replace(made, fitted=fitted_to(made, record, forcings=table, **how))

    def on(self, analysis: xr.Dataset) -> tuple[Self, xr.Dataset]:
        """Give the emulator with what it takes from a record first, and what it is fitted to."""
        return self, analysis

    @checked
    def begin(
        self,
        analysis: xr.Dataset,
        *,
        forcings: xr.Dataset | None = None,
        held_out: float = 0.0,
    ) -> Self:
        """Give a copy that adds the mean increment to the base's step and nothing else.

        It is the simplest correction. :meth:`fit_cycle` can start from it, or from the result of a
        training on analyses.

        Parameters
        ----------
        analysis : xarray.Dataset
            ``analysis``, or else ``state``, (time, variable) at every model step; see :meth:`fit`.
        forcings : xarray.Dataset, optional
            See :meth:`fit`.
        held_out : float
            Fraction of the record, in blocks of time, that is left out.

        Returns
        -------
        emulator of the same class

        Raises
        ------
        InputError
            If the emulator has no base, or the record cannot be trained on.
        """
        if self.base is None:
            name = type(self).__name__
            raise InputError(
                f"{name}.begin: it has no base to correct; give {name}(base=model), or use 'fit'"
            )
        made, record = self.on(analysis)
        return replace(made, fitted=begun(made, record, held_out, table_for(made, forcings)))

    def step(
        self, x: Any, memory: Memory = (None, None), forcing: Any = None
    ) -> tuple[Any, Memory]:
        """Move states (..., variable) by one dt; NumPy or torch, in the states' units.

        With torch tensors gradients pass through it. ``forcing`` (..., forcing) are those that it
        was fitted with, at the start of the step.
        """
        if isinstance(x, np.ndarray):
            with torch.inference_mode():
                given = torch.from_numpy(np.ascontiguousarray(x))
                moved, memory = self._advance(given, memory, x, forcing)
            return moved.numpy(), memory
        return self._advance(x, memory, x, forcing)

    @cached_property
    def _differentiable(self) -> Any:
        """The base for torch tensors; its differences, if any, suit the training's states."""
        known = self.known
        drawn = np.random.default_rng(0).standard_normal((16, len(known.variables)))
        states = known.mean + drawn * known.spread
        return differentiable(cast("Model", self.base), states, self.device, self.typical_forcing)

    def _advance(
        self, x: torch.Tensor, memory: Memory, given: Any, forcing: Any
    ) -> tuple[torch.Tensor, Memory]:
        """Step a tensor; the base steps ``given``, the same states in the caller's kind."""
        inner, base_memory = memory
        own = forcing[..., self.of_base] if self.of_base else None
        moved = there = x.to(self.device)
        if self.base is not None:
            base = self.base if isinstance(given, np.ndarray) else self._differentiable
            further = () if own is None else (own,)
            moved, base_memory = base_step(base, given, base_memory, self.device, *further)
        if forcing is not None:
            forcing = torch.as_tensor(forcing, device=self.device)
        increment, inner = self.known.increment(there, inner, forcing)
        return (moved + increment).to(x.device, x.dtype), (inner, base_memory)

    def packed(self, memory: Memory, x: Any) -> Any:
        """Give the network's memory at states (..., variable) as numbers (..., entry), or None."""
        parts = [part.reshape(*x.shape[:-1], -1) for part in parts_of(memory[0])]
        if not parts:
            return None
        found = torch.cat(parts, dim=-1)
        if isinstance(x, np.ndarray):
            return fetch(found).astype(x.dtype)
        return found.to(x.device, x.dtype)

    def unpacked(self, memory: Memory, carried: Any) -> Memory:
        """Give the memory with other numbers (..., entry) for the network."""
        inner, base_memory = memory
        count = carried[..., 0].size if isinstance(carried, np.ndarray) else carried[..., 0].numel()
        sizes = [part.numel() // count for part in parts_of(inner)]
        given = torch.from_numpy(carried) if isinstance(carried, np.ndarray) else carried
        parts = iter(torch.split(given, sizes, dim=-1))
        return with_parts(inner, parts), base_memory

    @property
    def knows_covariance(self) -> bool:
        """Whether a B was learned through the cycle, for :meth:`background_covariance`."""
        learned = self.fitted is not None and self.fitted.covariance_root is not None
        return learned and self.covariance is not None

    def background_covariance(self, memory: Memory) -> Any:
        """Give B (..., variable, variable) of the forecast of the last step, or of the first state.

        Raises
        ------
        InputError
            If no covariance was learned through the cycle.
        """
        if not self.knows_covariance:
            name, way = type(self).__name__, self.covariances[0]
            raise InputError(
                f"{name}: it has learned no background covariance; give {name}(covariance={way!r}) "
                "and train it through the cycle: emulator.fit_cycle(observations, scheme)"
            )
        return self.known.background_covariance(memory[0])

    @checked
    def fit_cycle(
        self,
        observations: xr.Dataset,
        scheme: Scheme,
        *,
        sequence_length: int = 100,
        burn_in: int = 20,
        batch_size: int | None = None,
        learning_rate: float = 4.5e-3,
        forcings: xr.Dataset | None = None,
        held_out: float = 0.1,
        operator: Given | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        """Train a fitted emulator through the assimilation cycle, on the innovations.

        Gradients pass through all steps and analyses of a sequence. With a ``covariance``, or an
        ensemble scheme that gives ``log_likelihood``, the loss is the Gaussian negative
        log-likelihood of the innovations, otherwise their mean square. A sequence of an ensemble
        starts with members around the nearest observations; for an inflation that falls while a
        cycle starts, the burn-in stands for 100 steps.

        Parameters
        ----------
        observations : xarray.Dataset
            ``observation`` (time, variable) and its ``error_variance`` (variable). With a dimension
            ``trajectory`` no training sequence reaches from one into the next.
        scheme : Scheme
            Gives the analyses, by operations that torch can differentiate, as a ``ThreeDVar`` and
            the ensemble schemes but ``EnKFN`` and ``ParticleFilter`` do. If the emulator learns a
            covariance, this is a :class:`daml.ThreeDVar` with the initial B.
        sequence_length, burn_in, learning_rate
            Steps of a training sequence; steps at its start that the loss leaves out; and peak
            rate of Adam.
        batch_size : int, optional
            Sequences per update. Default: a fifth of those in the record, within 20 and 200.
        forcings : xarray.Dataset, optional
            Of an emulator that was fitted with some; see :meth:`fit`.
        held_out : float
            Fraction of the record, in blocks of time, that is not trained on. The training stops
            when it no longer gains there, and returns the weights of the best epoch. 0: none.
        operator : callable, optional
            H as a function of states (..., variable) to what is observed (..., observed), in place
            of the ``operator`` of the observations; torch differentiates it.
        checkpoint : Checkpoint, optional
            Stores the epochs that are done, so that an interrupted training can be resumed.

        Returns
        -------
        emulator of the same class

        Raises
        ------
        InputError
            If the emulator is not fitted, the scheme has no B, or the observations lack a variable
            or have wrong dims or values.
        DivergedError
            If the loss is not finite.

        References
        ----------
        Chen, Y., Sanz-Alonso, D. and Willett, R. (2022): Autodifferentiable ensemble Kalman
        filters. SIAM J. Math. Data Sci. 4, 801-833.
        """
        fitted = fitted_through_cycle(
            self,
            observations,
            scheme,
            sequence_length=sequence_length,
            burn_in=burn_in,
            batch_size=batch_size,
            learning_rate=learning_rate,
            forcings=table_for(self, forcings),
            held_out=held_out,
            operator=operator,
            checkpoint=checkpoint,
        )
        return replace(self, fitted=fitted)

    def restored(self, dataset: xr.Dataset) -> Self:
        """Give the fitted emulator whose ``to_dataset`` is given, with the settings stored there.

        Raises
        ------
        InputError
            If the weights do not fit a network of these settings.
        """
        made, name = self.with_settings(dataset), type(self).__name__
        check_whole(dataset, ("variable",), name)
        network = made.initial(dataset.sizes["variable"], dataset.sizes.get("forcing", 0))
        return replace(made, fitted=Fitted.from_dataset(dataset, network, name))
