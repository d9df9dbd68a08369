"""Parameters of a model, estimated through the assimilation cycle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
import xarray as xr

from daml.emulators.cycling import Course, Innovations
from daml.emulators.settings import check_sequences
from daml.emulators.training import Plan, train
from daml.errors import InputError
from daml.models import ODE
from daml.schemes import ThreeDVar
from daml.schemes.observing import Observing


def fit_parameters(
    model: ODE,
    parameters: Sequence[str],
    observations: xr.Dataset,
    scheme: ThreeDVar,
    *,
    epochs: int | None = None,
    sequence_length: int = 50,
    burn_in: int = 20,
    batch_size: int = 100,
    learning_rate: float = 0.02,
    held_out: float = 0.1,
    seed: int = 0,
) -> ODE:
    """Give a model with the parameters for which its forecasts meet the observations best.

    The mean squared innovation, in units of R, is made small by gradients through all steps and
    analyses of a sequence.

    Parameters
    ----------
    model : ODE
        A dataclass whose ``tendency`` is written on the Array API, as daml's own are; its values
        are what the search starts from.
    parameters : sequence of str
        Which of its fields.
    observations : xarray.Dataset
        As the contract says.
    scheme : ThreeDVar
        With the B of the analyses (:func:`daml.tuned` gives one).
    epochs, sequence_length, burn_in, batch_size, held_out
        As of :meth:`daml.LSTM.fit_cycle`.
    learning_rate : float
        Largest change of a parameter in an update, as a part of its first value.
    seed : int
        Of the order of the sequences.

    Returns
    -------
    ODE

    Raises
    ------
    InputError
        If a parameter is no number of the model's, the scheme has no B, or the observations break
        the contract.
    DivergedError
        If the loss leaves the finite numbers.

    Examples
    --------
    >>> import daml
    >>> truth = daml.simulate(daml.Lorenz63(), steps=2000, spinup=500)
    >>> seen = daml.observe(truth, seed=1)
    >>> wrong = daml.Lorenz63(rho=26.0)
    >>> scheme, analysis = daml.tuned(daml.ThreeDVar(), wrong, seen)
    >>> found = fit_parameters(wrong, ["rho"], seen, scheme, epochs=20)
    >>> abs(found.rho - 28.0) < 0.5
    True
    """
    check_sequences("fit_parameters", sequence_length, burn_in, learning_rate)
    free = _Free(model, parameters)
    like = torch.zeros((), dtype=torch.float64)
    course = Course(model, observations, held_out, like)
    observing = Observing.of(course.record, float(scheme.error_factor)).like(like)
    covariance = like.new_tensor(scheme.given(tuple(model.variables)))
    objective = Innovations(free.model, observing, covariance, burn_in)
    plan = Plan(epochs, sequence_length, batch_size, UPDATES, UPDATES, SHARD, learning_rate)
    watch = course.watch(free, objective, sequence_length)
    train(free, objective, course.blocks(sequence_length), plan, (seed,), watch=watch)
    found: dict[str, Any] = {name: float(value) for name, value in free.values().items()}
    return replace(model, **found)


UPDATES = 300
"""Updates at least, unless the epochs are told."""
SHARD = 50
"""Sequences that a thread takes of a batch."""


class _Free(torch.nn.Module):
    """A model some of whose parameters are free; each counts in units of its first value."""

    def __init__(self, model: ODE, parameters: Sequence[str]) -> None:
        super().__init__()
        known = [f.name for f in fields(model)] if is_dataclass(model) else []
        for name in parameters:
            value = getattr(model, name, None)
            if name not in known or not isinstance(value, float):
                raise InputError(
                    f"fit_parameters: {name!r} is no parameter of {type(model).__name__} with a "
                    f"float as its value; give some of {tuple(known)}"
                )
        self.given, self.names = model, tuple(parameters)
        first = torch.tensor([getattr(model, name) for name in parameters], dtype=torch.float64)
        self.first = torch.where(first == 0, torch.ones_like(first), first)
        self.parts = torch.nn.Parameter(first / self.first)

    def values(self) -> dict[str, Any]:
        return dict(zip(self.names, self.first * self.parts, strict=True))

    def model(self) -> ODE:
        return replace(self.given, **self.values())
