"""What a training through the assimilation cycle makes small: how wrong the innovations are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr

from daml.errors import InputError
from daml.observing.records import read
from daml.protocols import Model
from daml.running.first_guess import FirstGuess
from daml.running.stepping import advance
from daml.schemes.observing import Observing
from daml.training.engine import Blocks, Tensors
from daml.training.held_out import HeldOut
from daml.training.stopping import Watch


@dataclass(frozen=True)
class Innovations:
    """How well a model predicts the observations that come next, in its own cycle of analyses.

    Sequences hold the observed values (time, observed), 0 where one is missing; their kind (time);
    the background to start from (time, variable); and whether the loss counts them (time).

    Parameters
    ----------
    model : callable
        Gives the model, whose steps torch can differentiate.
    observing : Observing
        H and R of each kind.
    covariance : torch.Tensor (variable, variable), optional
        A fixed B: the objective is the mean squared innovation in units of R. Without it the
        model is asked for B, and the objective is the Gaussian negative log-likelihood of the
        innovations, less its constant, in nats a value.
    burn_in : int
        Steps at the head of a sequence that the loss leaves out.
    """

    model: Callable[[], Model]
    observing: Observing
    covariance: torch.Tensor | None
    burn_in: int

    def total(self, sequences: Tensors) -> torch.Tensor:
        """Give the sum over all values that count."""
        return self._objective(*self._cycled(sequences), sequences)

    def scores(self, sequences: Tensors) -> dict[str, torch.Tensor]:
        """Give the mean, and the root of the mean squared innovation in units of R."""
        innovations, surprise = self._cycled(sequences)
        values = self.count(sequences)
        squares = self._squares(innovations, sequences)
        loss = self._objective(innovations, surprise, sequences) / values
        return {"held_out_loss": loss, "held_out_rmse": torch.sqrt(squares / values)}

    def _objective(
        self, innovations: torch.Tensor, surprise: torch.Tensor, sequences: Tensors
    ) -> torch.Tensor:
        if self.covariance is not None:
            return self._squares(innovations, sequences)
        return torch.sum(sequences[3][:, self.burn_in :] * surprise)

    def count(self, sequences: Tensors) -> torch.Tensor:
        """Give the number of values that count."""
        _, kind, _, counts = sequences
        present = self.observing.present.sum(-1)[kind[:, self.burn_in :]]
        return torch.sum(counts[:, self.burn_in :] * present)

    def _squares(self, innovations: torch.Tensor, sequences: Tensors) -> torch.Tensor:
        _, kind, _, counts = sequences
        variance = self.observing.variance[kind[:, self.burn_in :]]
        return torch.sum(counts[:, self.burn_in :, None] * innovations**2 / variance)

    def _cycled(self, sequences: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the cycle; give the innovations after the burn-in, and their surprise.

        Shapes (sequence, time, observed) and (sequence, time).
        """
        values, kind, start, _ = sequences
        model, x = self.model(), start[:, 0]
        memory = model.start(x)
        kept = []
        for step in range(values.shape[1]):
            if step:
                x, memory = advance(model, x, memory)
            covariance = self.covariance
            if covariance is None:
                covariance = model.background_covariance(memory)  # type: ignore[attr-defined]
            innovation, cross, total = self.observing.compared(
                x, values[:, step], kind[:, step], covariance
            )
            increment, surprise = _Analysis.apply(  # type: ignore[no-untyped-call]
                innovation, *(part.expand(len(x), *part.shape[-2:]) for part in (cross, total))
            )
            x = x + increment
            if step >= self.burn_in:
                kept.append((innovation, surprise))
        innovations, surprises = zip(*kept, strict=True)
        return torch.stack(innovations, dim=1), torch.stack(surprises, dim=1)


class _Analysis(torch.autograd.Function):
    """The increment C S^-1 d, and the surprise (d' S^-1 d + log det S) / 2, of a batch.

    Of innovation d (batch, observed), C = B H' (batch, variable, observed) and S = C + R seen
    through H. Its gradient by hand: that of a Cholesky factor and of solving with it, which torch
    would take, is of dozens of small operations.
    """

    @staticmethod
    def forward(
        ctx: Any, innovation: torch.Tensor, cross: torch.Tensor, total: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Give increment (batch, variable) and surprise (batch,)."""
        root = torch.linalg.cholesky_ex(total).L
        inverse = torch.cholesky_inverse(root)
        weights = (inverse @ innovation[..., None])[..., 0]
        ctx.save_for_backward(cross, inverse, weights)
        size = torch.log(root.diagonal(dim1=-2, dim2=-1)).sum(-1)
        increment = (cross @ weights[..., None])[..., 0]
        return increment, torch.sum(innovation * weights, dim=-1) / 2 + size

    @staticmethod
    def backward(ctx: Any, moved: torch.Tensor, told: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Give the gradients by innovation, C and S.

        With w = S^-1 d, and u, s the gradients by increment and surprise: v + s w, u w' and
        s (S^-1 - w w') / 2 - v w', where v = S^-1 C' u.
        """
        cross, inverse, weights = ctx.saved_tensors
        back = (inverse @ (cross.mT @ moved[..., None]))[..., 0]
        told = told[..., None]
        by_total = told[..., None] / 2 * inverse
        by_total -= (back + told / 2 * weights)[..., None] * weights[..., None, :]
        by_cross = moved[..., None] * weights[..., None, :]
        return torch.addcmul(back, told, weights), by_cross, by_total


class Course:
    """A record of observations to train through: what is trained on, and what judges it.

    Parameters
    ----------
    model : Model
        To be trained.
    observations : xarray.Dataset
        As the contract says.
    held_out : float
        Part of the record that the loss leaves out, as of :class:`daml.training.held_out.HeldOut`.
    like : torch.Tensor
        Has the type and the device that the tensors get.
    what : str
        The training, for errors.

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
    ) -> None:
        self.what = what
        variables = tuple(model.variables)
        self.record = read(observations, variables, model.dt, getattr(model, "time_unit", "s"))
        times = self.record.axis.grid()
        steps = np.arange(len(times))
        self.held_out = HeldOut(len(times), held_out) if held_out else None
        start = FirstGuess(model, self.record, times, None).state(steps)
        counts = np.ones(len(times)) if self.held_out is None else ~self.held_out.untrained
        kind = torch.as_tensor(self.record.kind, device=like.device).long()
        values = like.new_tensor(self.record.values(steps))
        self.tensors: Tensors = [values, kind, like.new_tensor(start), like.new_tensor(counts)]

    def blocks(self, length: int) -> Blocks:
        """Give all of it to train on, in sequences of a length."""
        steps = len(self.tensors[0])
        if steps < length:
            raise InputError(
                f"{self.what}: a record of {steps} steps is too short to train on; give at least "
                f"sequence_length ({length}), or shorten that"
            )
        return Blocks(steps, 1, lambda number: self.tensors)

    def watch(self, network: torch.nn.Module, objective: Innovations, length: int) -> Watch | None:
        """Give the judge of a training: the objective on the held-out blocks."""
        if self.held_out is None:
            return None
        rows = torch.as_tensor(self.held_out.sequences(length, objective.burn_in))
        *given, counts = self.tensors
        judged = counts.new_tensor(self.held_out.judged)
        sequences = [tensor[rows] for tensor in (*given, judged)]
        if not objective.count(sequences):
            raise InputError(
                f"{self.what}: nothing was observed in the blocks that are held out; give a longer "
                "record, or held_out=0"
            )
        return Watch(network, lambda: objective.scores(sequences))
