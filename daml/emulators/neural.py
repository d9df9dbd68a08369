"""What all networks share: how they step, are fitted, and come back from a store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self, cast

import numpy as np
import torch
import xarray as xr

from daml.emulators.fitted import Fitted
from daml.emulators.fitting import begun, fitted_through_cycle, fitted_to
from daml.emulators.settings import Settings
from daml.errors import InputError
from daml.labels.arguments import checked
from daml.protocols import Checkpoint, Memory, Model, Scheme
from daml.stores.opening import check_whole
from daml.training.bases import base_step, differentiable


@dataclass(frozen=True)
class Neural(Settings):
    """An emulator whose increments a network predicts; a subclass says which one.

    See :class:`daml.LSTM` for the settings. A subclass writes ``network``, which gives a
    :class:`daml.emulators.networks.Network` for a number of variables.
    """

    @property
    def history(self) -> xr.Dataset:
        """History (epoch) of the last training: ``loss``, and scores on held-out blocks, if any."""
        return cast("xr.Dataset", self.known.history)

    @checked
    def fit(
        self,
        analysis: xr.Dataset,
        *,
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
        emulator of the same class

        Raises
        ------
        InputError
            If the record lacks a variable, has wrong dims or values, or is too short.
        DivergedError
            If the loss is not finite.
        """
        how: dict[str, Any] = {"held_out": held_out, "better": better, "checkpoint": checkpoint}
        return replace(self, fitted=fitted_to(self, analysis, **how))

    @checked
    def begin(self, analysis: xr.Dataset, *, held_out: float = 0.0) -> Self:
        """Give a copy that adds the mean increment over the base's step and nothing else.

        It is the simplest correction, and :meth:`fit_cycle` starts from it as well as from what a
        training on analyses finds.

        Parameters
        ----------
        analysis, held_out
            See :meth:`fit`.

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
                f"{name}.begin: it has no base to correct; give {name}(base=model), or fit"
            )
        return replace(self, fitted=begun(self, analysis, held_out))

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
        if not self.knows_covariance:
            name, way = type(self).__name__, self.covariances[0]
            raise InputError(
                f"{name}: no background covariance is known; give {name}(covariance={way!r}) and "
                "train it through the cycle: emulator.fit_cycle(observations, scheme)"
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
        held_out: float = 0.1,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        """Train a fitted emulator through the assimilation cycle, on the innovations.

        Gradients pass through all steps and analyses of a sequence. With a ``covariance`` the loss
        is the Gaussian negative log-likelihood of the innovations, otherwise their mean square.

        Parameters
        ----------
        observations : xarray.Dataset
            ``observation`` (time, variable) and its ``error_variance`` (variable).
        scheme : Scheme
            Gives the analyses, by operations that torch differentiates. If the emulator learns a
            covariance, it is a :class:`daml.ThreeDVar` with the initial B.
        sequence_length, burn_in, learning_rate
            Steps of a training sequence; steps at its start that the loss leaves out; and peak
            rate of Adam.
        batch_size : int, optional
            Sequences per update (default: a fifth of those of the record, but 20 to 200).
        held_out : float
            Fraction of the record, in blocks of time, that the loss leaves out. The training stops
            when it no longer gains there, and returns the weights of the best epoch. 0: none.
        checkpoint : Checkpoint, optional
            See :meth:`fit`.

        Returns
        -------
        emulator of the same class

        Raises
        ------
        InputError
            If the emulator is not fitted, the scheme has no B, or the observations are wrong.
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
            held_out=held_out,
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
        network = made.initial(dataset.sizes["variable"])
        return replace(made, fitted=Fitted.from_dataset(dataset, network, name))
