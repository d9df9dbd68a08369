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
        """Scores (epoch) of the last training: ``loss``, and scores on held-out blocks, if any."""
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
        """Give a copy of the emulator that is trained on single steps of a record.

        An emulator that is already fitted is trained further: from its weights, and with its
        scaling. The loss is the mean squared error of the standardised increments.

        Parameters
        ----------
        analysis : xarray.Dataset
            ``analysis``, or if there is none ``state``, (time, variable) at every model step. Times
            at which all of ``innovation`` is missing were not observed and are not used as targets.
            With a dimension ``trajectory`` each training sequence lies within one trajectory. A
            record that was opened lazily is read block by block, again in each epoch.
        forcings : xarray.Dataset, optional
            Known inputs in time, one data variable (time, ...) each. The input of the network is
            the state and the values of all forcings at the start of a step; the base takes those
            whose names it lists. The fitted emulator then needs forcings in each step; see
            :func:`daml.forecast`.
        held_out : float
            Fraction of the record, in blocks of time, that is not trained on. The training stops
            when the loss there no longer decreases, and returns the weights of the best epoch. 0:
            nothing is held out, and all epochs are run.
        better : callable, optional
            A function of two emulators that returns whether the second is clearly better. It is
            called after the first training of an emulator with a ``base``. If it returns False, the
            result is the emulator whose network predicts the mean increment and nothing else.
        checkpoint : Checkpoint, optional
            Stores the epochs that are done, so that an interrupted training can be resumed.

        Returns
        -------
        emulator of the same class

        Raises
        ------
        InputError
            If the record lacks a variable, has wrong dims or values, or does not have more steps
            than ``sequence_length``.
        DivergedError
            If the loss is not finite.
        """
        how: dict[str, Any] = {"held_out": held_out, "better": better, "checkpoint": checkpoint}
        made, record = self.on(analysis)
        table = table_for(made, forcings)
        return replace(made, fitted=fitted_to(made, record, forcings=table, **how))

    def on(self, analysis: xr.Dataset) -> tuple[Self, xr.Dataset]:
        """Give the emulator, completed from a record if it needs that, and the record to fit to.

        A :class:`daml.emulators.CNN` takes its grid from the record in this way.
        """
        return self, analysis

    @checked
    def begin(
        self,
        analysis: xr.Dataset,
        *,
        forcings: xr.Dataset | None = None,
        held_out: float = 0.0,
    ) -> Self:
        """Give a fitted copy that adds the mean increment to the step of the base, nothing else.

        This is the simplest correction. :meth:`fit_cycle` can start from it, or from the result of
        :meth:`fit`.

        Parameters
        ----------
        analysis : xarray.Dataset
            ``analysis``, or if there is none ``state``, (time, variable) at every model step; see
            :meth:`fit`.
        forcings : xarray.Dataset, optional
            See :meth:`fit`.
        held_out : float
            Fraction of the record, in blocks of time, that the mean increment leaves out.

        Returns
        -------
        emulator of the same class

        Raises
        ------
        InputError
            If the emulator has no base, or the record is not one that :meth:`fit` accepts.
        """
        if self.base is None:
            name = type(self).__name__
            raise InputError(
                f"{name}.begin: it has no base to correct; give {name}(base=model), or use 'fit'"
            )
        made, record = self.on(analysis)
        return replace(made, fitted=begun(made, record, held_out, table_for(made, forcings)))

    def step(self, x: Any, memory: Memory = None, forcing: Any = None) -> tuple[Any, Memory]:
        """Step states (..., variable), NumPy arrays or torch tensors, by one dt.

        Without a ``memory`` the step is the first one, as after :meth:`start`. Gradients pass
        through the step of torch tensors. An emulator that was fitted with forcings also takes
        their values (..., forcing) at the start of the step.
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
        inner, base_memory = memory or self.start(given)
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
        """Give the memory of the network as numbers (..., entry), for states (..., variable).

        The result is None if the network has no memory, or has not made a step yet.
        """
        parts = [part.reshape(*x.shape[:-1], -1) for part in parts_of(memory[0])]
        if not parts:
            return None
        found = torch.cat(parts, dim=-1)
        if isinstance(x, np.ndarray):
            return fetch(found).astype(x.dtype)
        return found.to(x.device, x.dtype)

    def unpacked(self, memory: Memory, carried: Any) -> Memory:
        """Give the memory with its numbers for the network replaced by ``carried`` (..., entry).

        It reverses :meth:`packed`.
        """
        inner, base_memory = memory
        count = carried[..., 0].size if isinstance(carried, np.ndarray) else carried[..., 0].numel()
        sizes = [part.numel() // count for part in parts_of(inner)]
        given = torch.from_numpy(carried) if isinstance(carried, np.ndarray) else carried
        parts = iter(torch.split(given, sizes, dim=-1))
        return with_parts(inner, parts), base_memory

    @property
    def knows_covariance(self) -> bool:
        """Whether B was learned in a training through the cycle (:meth:`background_covariance`)."""
        learned = self.fitted is not None and self.fitted.covariance_root is not None
        return learned and self.covariance is not None

    def background_covariance(self, memory: Memory) -> Any:
        """Give the background error covariance B (..., variable, variable) after a step.

        ``memory`` is what the step returned, or what :meth:`start` returned for the first state.

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

        Each training sequence is an assimilation cycle, and gradients pass through all of its steps
        and analyses. The loss is the Gaussian negative log-likelihood of the innovations if the
        emulator has a ``covariance``, or if the scheme is an ensemble scheme that gives
        ``log_likelihood``; otherwise it is the mean of their squares in units of the observation
        error variance. Ensembles start with members around the nearest observations. Some schemes
        inflate more while a cycle starts; for these, the burn-in counts as the first 100 steps.

        Parameters
        ----------
        observations : xarray.Dataset
            ``observation`` (time, variable) and its ``error_variance`` (variable). With a dimension
            ``trajectory`` each training sequence lies within one trajectory.
        scheme : Scheme
            The scheme that computes the analyses. torch must be able to differentiate it, which
            holds for ``ThreeDVar`` and for all ensemble schemes except ``EnKFN`` and
            ``ParticleFilter``. If the emulator learns a covariance, it must be a
            :class:`daml.ThreeDVar`, whose B is the initial one.
        sequence_length : int
            Number of steps in each training sequence.
        burn_in : int
            Number of steps at the start of each sequence that the loss ignores.
        batch_size : int, optional
            Number of sequences per update. Default: a fifth of the sequences in the record, but at
            least 20 and at most 200.
        learning_rate : float
            Peak learning rate of the optimiser, Adam.
        forcings : xarray.Dataset, optional
            Known inputs in time, if the emulator was fitted with forcings; see :meth:`fit`.
        held_out : float
            Fraction of the record, in blocks of time, that is not trained on. The training stops
            when the loss there no longer decreases, and returns the weights of the best epoch. 0:
            nothing is held out, and all epochs are run.
        operator : callable, optional
            Observation operator H: a function that maps states (..., variable) to the observed
            quantities (..., observed). It takes torch tensors, and torch must be able to
            differentiate it. Default: ``operator`` of the observations, or else the observed
            variables themselves.
        checkpoint : Checkpoint, optional
            Stores the epochs that are done, so that an interrupted training can be resumed.

        Returns
        -------
        emulator of the same class

        Raises
        ------
        InputError
            If the emulator is not fitted, the scheme cannot be used to train it, or the
            observations lack a variable or have wrong dims or values.
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
