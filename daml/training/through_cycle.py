"""What a training through the assimilation cycle makes small: how wrong the innovations are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import xarray as xr

from daml.arrays import fetch, put
from daml.errors import InputError
from daml.labels.doors import flat_record
from daml.labels.space import StateSpace
from daml.labels.trajectories import in_a_row
from daml.models.forced import check_reach
from daml.observing.batches import picked, placed
from daml.observing.functions import Through
from daml.observing.records import Record, read
from daml.pairing import certain, sized
from daml.protocols import Memory, Model, Observed, Run, Scheme, Setting
from daml.running.cycling.cycle import cycle
from daml.running.starts.ensemble_start import EnsembleStart
from daml.running.starts.first_guess import FirstGuess
from daml.schemes.calling import prepared
from daml.training.engine import Blocks, Tensors
from daml.training.held_out import HeldOut
from daml.training.stopping import Watch

SPINUP = 100
"""Age of a cycle, as a scheme sees it, at the end of the burn-in, which stands for a spin-up."""


@dataclass(frozen=True)
class Innovations:
    """How well a model predicts the observations that come next, in its own cycle of analyses.

    Sequences hold the observed values (time, observed), 0 where one is missing; their kind (time);
    the background to start from (time, variable); whether the loss counts them (time); and the
    steps of the record (time).

    The objective is the Gaussian negative log-likelihood of the innovations, less its constant, in
    nats a value, where the scheme gives one: with the B of the model, or of an ensemble. Else it is
    the mean squared innovation in units of R, as a B that is not learned says nothing of the model.

    Parameters
    ----------
    model : callable
        Gives the model, whose steps torch can differentiate.
    scheme : Scheme
        Gives the analyses, by operations of torch.
    record : Record
        The observations.
    like : torch.Tensor
        Has the type and the device of the sequences.
    burn_in : int
        Steps at the head of a sequence that the loss leaves out.
    first : callable, optional
        Gives the ensembles (row, member, variable) from which sequences start at steps (row,) of
        the record, where the scheme carries ensembles.
    deviation : callable, optional
        Gives the standard deviations (variable,) of these ensembles.
    """

    model: Callable[[], Model]
    scheme: Scheme
    record: Record
    like: torch.Tensor
    burn_in: int
    first: Callable[[np.ndarray], np.ndarray] | None = None
    deviation: Callable[[], np.ndarray] | None = None

    @cached_property
    def times(self) -> np.ndarray:
        """The time (step,) of each step of the record."""
        return self.record.axis.grid()

    @cached_property
    def setting(self) -> Setting:
        """What the scheme may know, where the sequences are."""
        setting = self.record.setting(str(self.like.device))
        return setting._replace(deviation=self.deviation)

    @cached_property
    def prepared(self) -> Memory:
        """What the scheme works out before a cycle."""
        return prepared(self.scheme, self.setting)

    @cached_property
    def whole(self) -> Observed:
        """What is observed at all steps of the record, where the sequences are."""
        seen = self.record.seen(np.arange(self.record.axis.length))
        return placed(seen, self.setting, str(self.like.device))

    @cached_property
    def present(self) -> torch.Tensor:
        """1 where a value is present, otherwise 0 (kind, observed)."""
        return torch.as_tensor(self.whole.noise.present, device=self.like.device).to(self.like)

    @cached_property
    def variance(self) -> torch.Tensor:
        """The diagonal of R (kind, observed), times the factor of the scheme."""
        noise, factor = self.whole.noise, float(getattr(self.scheme, "error_factor", 1.0))
        present = torch.as_tensor(noise.present, device=self.like.device)
        return torch.where(present, factor * noise.variance, 1.0).to(self.like)

    @property
    def likelihood(self) -> bool:
        """Whether the objective is the likelihood."""
        return "log_likelihood" in getattr(self.scheme, "outputs", {})

    def total(self, sequences: Tensors) -> torch.Tensor:
        """Give the sum over all values that count."""
        return self._objective(*self._cycled(sequences), sequences)

    def scores(self, sequences: Tensors) -> dict[str, torch.Tensor]:
        """Give the mean, and the root of the mean squared innovation in units of R."""
        innovations, likelihoods = self._cycled(sequences)
        values = self.count(sequences)
        squares = self._squares(innovations, sequences)
        loss = self._objective(innovations, likelihoods, sequences) / values
        return {"held_out_loss": loss, "held_out_rmse": torch.sqrt(squares / values)}

    def each(self, sequences: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the negative log-likelihood of each sequence (sequence,), and its values."""
        likelihoods = self._cycled(sequences)[1]
        counts = sequences[3][:, self.burn_in :]
        present = self.present.sum(-1)[sequences[1][:, self.burn_in :]]
        return -torch.sum(counts * likelihoods, dim=1), torch.sum(counts * present, dim=1)

    def _objective(
        self, innovations: torch.Tensor, likelihoods: torch.Tensor, sequences: Tensors
    ) -> torch.Tensor:
        if not self.likelihood:
            return self._squares(innovations, sequences)
        return -torch.sum(sequences[3][:, self.burn_in :] * likelihoods)

    def count(self, sequences: Tensors) -> torch.Tensor:
        """Give the number of values that count."""
        _, kind, _, counts, _ = sequences
        present = self.present.sum(-1)[kind[:, self.burn_in :]]
        return torch.sum(counts[:, self.burn_in :] * present)

    def _squares(self, innovations: torch.Tensor, sequences: Tensors) -> torch.Tensor:
        _, kind, _, counts, _ = sequences
        variance = self.variance[kind[:, self.burn_in :]]
        return torch.sum(counts[:, self.burn_in :, None] * innovations**2 / variance)

    def _cycled(self, sequences: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the cycle; give the innovations after the burn-in, and their log-likelihoods.

        Shapes (sequence, time, observed) and (sequence, time).
        """
        values, kind, start, _, steps = sequences
        model, x, at = self.model(), start[:, 0], fetch(steps)
        if self.first is not None:
            x = self.like.new_tensor(self.first(at[:, 0]))
        wanted = frozenset({"log_likelihood"} if self.likelihood else ())
        segment = np.zeros(len(x), dtype=np.int64)
        seen = (
            (
                picked(self.whole, at[:, step]),
                Run(at[:, step], segment, step * SPINUP // max(self.burn_in, 1), wanted),
            )
            for step in range(values.shape[1])
        )
        times = self.times[at[:, 0]].reshape(-1, *[1] * (x.ndim - 2))
        memory = certain(model).start(x, np.broadcast_to(times, tuple(x.shape[:-1])))
        updates = cycle(model, self.scheme, self.prepared, x, memory, seen)
        kept = list(updates)[self.burn_in :]
        backgrounds = torch.stack([background for background, _ in kept], dim=1)
        operator = self.whole.operator.picked(at[:, self.burn_in :])
        equivalent = operator.apply(backgrounds)
        if self.first is not None:
            equivalent = equivalent.mean(dim=-2)
        distance = values[:, self.burn_in :] - equivalent
        innovations = distance * self.present[kind[:, self.burn_in :]]
        found = [update.extras["log_likelihood"] for _, update in kept] if self.likelihood else []
        likelihoods = torch.stack(found, dim=1) if found else innovations.new_zeros(())
        return innovations, likelihoods


class Course:
    """A record of observations to train through: what is trained on, and what judges it.

    Parameters
    ----------
    model : Model
        To be trained.
    observations : xarray.Dataset
        As the contract says. The rows of many trajectories lie in a row, and no sequence is of two.
    held_out : float
        Part of the record that the loss leaves out; see :class:`daml.training.held_out.HeldOut`.
    like : torch.Tensor
        Has the type and the device that the tensors get.
    what : str
        The training, for errors.
    operator : Function, optional
        H, where it is no matrix.

    Raises
    ------
    InputError
        If the observations break the contract or are too short.
    """

    def __init__(
        self,
        model: Model,
        observations: xr.Dataset,
        held_out: float,
        like: torch.Tensor,
        what: str = "fit_cycle",
        operator: Through | None = None,
    ) -> None:
        self.what = what
        observations = in_a_row(flat_record(observations, model))
        variables = tuple(model.variables)
        how = variables, model.dt, getattr(model, "time_unit", "s")
        self.record = read(observations, *how, operator, StateSpace.of(model))
        times = self.record.axis.grid()
        check_reach(model, times[0], times[max(len(times) - 2, 0)], what)
        steps = np.arange(len(times))
        self.held_out = self.apart(held_out) if held_out else None
        self.model, self.guess = model, FirstGuess(model, self.record, times, None)
        start = self.guess.state(steps)
        counts = np.ones(len(times)) if self.held_out is None else ~self.held_out.untrained
        seen = self.record.seen(steps)
        kind = put(seen.row, str(like.device)).long()
        values = like.new_tensor(seen.values)
        floats = like.new_tensor(start), like.new_tensor(counts)
        self.tensors: Tensors = [values, kind, *floats, torch.as_tensor(steps, device=like.device)]

    @property
    def own(self) -> int:
        """Steps of a trajectory."""
        return self.record.axis.own

    def apart(self, fraction: float) -> HeldOut:
        """Give a part of the record that is held out."""
        return HeldOut(self.record.axis.length, fraction, self.record.axis.many)

    @cached_property
    def ignorance(self) -> float:
        """The loss, in nats a value, of one who knows mean and covariance of the record alone."""
        observed = self.record.seen(np.arange(self.record.axis.length))
        there = observed.present
        seen = there.any(axis=0)
        there, values = there[:, seen], observed.values[:, seen]
        counts = there.sum(axis=0)
        variance = np.where(there, observed.variance[:, seen], 0.0)
        error = variance.sum(axis=0) / counts
        mean = np.where(there, values, 0.0).sum(axis=0) / counts
        # A missing value counts as the mean: correlations are no larger than they are.
        away = np.where(there, values - mean, 0.0) / np.sqrt(error * counts)
        values = np.maximum(np.linalg.eigvalsh(away.T @ away), 1.0)  # no smaller than R
        return float(1 + np.log(values).mean() + np.log(error).mean()) / 2

    def objective(
        self, model: Callable[[], Model], scheme: Scheme, like: torch.Tensor, burn_in: int
    ) -> Innovations:
        """Give what a training through this record makes small; see :class:`Innovations`."""
        scheme = sized(scheme, self.model)
        if getattr(scheme, "members", None) is None:
            return Innovations(model, scheme, self.record, like, burn_in)
        start = EnsembleStart(self.model, self.record, self.guess)
        first = start.states(scheme), lambda: start.deviation
        return Innovations(model, scheme, self.record, like, burn_in, *first)

    def blocks(self, length: int) -> Blocks:
        """Give all of it to train on, in sequences of a length."""
        steps, many = self.own, self.record.axis.many
        if steps < length:
            raise InputError(
                f"{self.what}: a record of {steps} steps is too short to train on; give at least "
                f"sequence_length ({length}), or shorten that"
            )
        if many == 1:
            return Blocks(steps, 1, lambda number: self.tensors)
        apart = [tensor.reshape(many, steps, *tensor.shape[1:]) for tensor in self.tensors]
        return Blocks(many * steps, 1, lambda number: apart, steps)

    def watch(self, network: torch.nn.Module, objective: Innovations, length: int) -> Watch | None:
        """Give the judge of a training: the objective on the held-out blocks."""
        if self.held_out is None:
            return None
        sequences = self.judged(self.held_out, length, objective.burn_in)
        if not objective.count(sequences):
            raise InputError(
                f"{self.what}: nothing was observed in the blocks that are held out; give a longer "
                "record, or held_out=0"
            )
        return Watch(network, lambda: objective.scores(sequences))

    def judged(self, held_out: HeldOut, length: int, burn_in: int) -> Tensors:
        """Give the sequences that cover held-out blocks, as many for each block in turn."""
        rows = torch.from_numpy(held_out.sequences(length, burn_in))
        *given, counts, steps = self.tensors
        judged = counts.new_tensor(held_out.judged)
        return [tensor[rows] for tensor in (*given, judged, steps)]
