"""Parameters of a model, estimated through the assimilation cycle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, cast

import numpy as np
import torch
import xarray as xr

from daml.covariances.dense import labelled
from daml.errors import InputError
from daml.labels.arguments import checked
from daml.protocols import Memory, Model
from daml.schemes import ThreeDVar
from daml.training.bases import check_torch
from daml.training.engine import train
from daml.training.factors import covariance, placed
from daml.training.plan import Plan, check_sequences
from daml.training.through_cycle import Course

UPDATES = 100
"""Minimum number of updates, where no number of epochs is given."""


@checked
def fit_parameters(
    model: Model,
    parameters: Sequence[str],
    observations: xr.Dataset,
    scheme: ThreeDVar,
    *,
    epochs: int | None = None,
    sequence_length: int = 120,
    burn_in: int = 60,
    batch_size: int = 100,
    learning_rate: float = 0.02,
    seed: int = 0,
) -> tuple[Model, ThreeDVar]:
    """Estimate parameters of a model, and the B of its forecasts, from observations.

    Gradients through all steps and analyses of a sequence minimise the Gaussian negative
    log-likelihood of the innovations. B is estimated together with the parameters, as the B of
    another model would bias them.

    Parameters
    ----------
    model : Model
        A dataclass whose step uses the Array API, so that torch's gradients pass through it, as
        daml's own models do. The search starts from its values.
    parameters : sequence of str
        Names of the fields of the model that are estimated.
    observations : xarray.Dataset
        ``observation`` (time, variable) and its ``error_variance`` (variable).
    scheme : ThreeDVar
        Its B is the initial one (:func:`daml.tuned` gives one).
    epochs, sequence_length, burn_in, batch_size
        See :class:`daml.LSTM` and :meth:`daml.LSTM.fit_cycle`. A sequence starts from the nearest
        observations, and from the model's climate for variables that are not observed; the burn-in
        must be long enough to forget this start.
    learning_rate : float
        Maximum change of a parameter in one update, as a fraction of its initial value.
    seed : int
        Seed of the order of the sequences.

    Returns
    -------
    model : Model
        With the estimated parameters.
    scheme : ThreeDVar
        With the estimated B.

    Raises
    ------
    InputError
        If a parameter is not a float field of the model, the scheme has no B, or the observations
        lack a variable or have wrong dims or values.
    DivergedError
        If the loss is not finite.

    Examples
    --------
    >>> import daml
    >>> truth = daml.simulate(daml.Lorenz63(), steps=2000, spinup=500)
    >>> seen = daml.observe(truth, seed=1)
    >>> wrong = daml.Lorenz63(rho=26.0)
    >>> scheme, analysis = daml.tuned(daml.ThreeDVar(), wrong, seen)
    >>> found, scheme = fit_parameters(wrong, ["rho"], seen, scheme, epochs=30)
    >>> abs(found.rho - 28.0) < 0.5
    True
    """
    check_sequences("fit_parameters", sequence_length, burn_in, learning_rate, batch_size, seed)
    if epochs is not None and epochs < 1:
        raise InputError(f"fit_parameters: 'epochs' is {epochs}; give 1 or more")
    variables = tuple(model.variables)
    free = _Free(model, parameters, np.linalg.cholesky(scheme.given(variables)))
    like = torch.zeros((), dtype=torch.float64)
    check_torch(model, "fit_parameters")
    course = Course(model, observations, 0.0, like, "fit_parameters")
    objective = course.objective(free.model, scheme.by_model, like, burn_in)
    plan = Plan(
        epochs=epochs,
        length=sequence_length,
        batch=batch_size,
        updates=UPDATES,
        most=UPDATES,
        shard=batch_size,
        rate=learning_rate,
    )
    train(free, objective, course.blocks(sequence_length), plan, (seed,))
    found: dict[str, Any] = {name: value.item() for name, value in free.values().items()}
    matrix = free.model().background_covariance(None).detach().numpy()
    known = replace(scheme, background_covariance=labelled(matrix, variables))
    return replace(cast("Any", model), **found), known


class _Free(torch.nn.Module):
    """A model with free parameters, in units of their initial values, and its B."""

    def __init__(self, model: Model, parameters: Sequence[str], root: np.ndarray) -> None:
        super().__init__()
        known: list[str] = (
            [f.name for f in fields(cast("Any", model))] if is_dataclass(model) else []
        )
        for name in parameters:
            value = getattr(model, name, None)
            if name not in known or not isinstance(value, float):
                raise InputError(
                    f"fit_parameters: {name!r} is no parameter of {type(model).__name__} with a "
                    f"float as its value; give some of {known}"
                )
        self.given, self.names = model, tuple(parameters)
        first = torch.tensor([getattr(model, name) for name in parameters], dtype=torch.float64)
        self.first = torch.where(first == 0, torch.ones_like(first), first)
        self.parts = torch.nn.Parameter(first / self.first)
        self.places = torch.as_tensor(placed(root))
        self.entries = torch.nn.Parameter(self.places.new_zeros(len(self.places)))

    def values(self) -> dict[str, Any]:
        return dict(zip(self.names, self.first * self.parts, strict=True))

    def model(self) -> _Uncertain:
        moved = replace(cast("Any", self.given), **self.values())
        return _Uncertain(moved, covariance(self.entries, self.places))


@dataclass(frozen=True)
class _Uncertain:
    """A model whose forecasts all have the same B."""

    model: Model
    covariance: torch.Tensor

    @property
    def variables(self) -> tuple[str, ...]:
        return self.model.variables

    @property
    def dt(self) -> Any:
        return self.model.dt

    def start(self, x: Any, time: Any = None) -> Memory:
        return self.model.start(x, time)

    def step(self, x: Any, memory: Memory) -> tuple[Any, Memory]:
        return self.model.step(x, memory)

    def background_covariance(self, memory: Memory) -> torch.Tensor:
        return self.covariance
