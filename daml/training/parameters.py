"""Parameters of a model, estimated through the assimilation cycle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, cast

import numpy as np
import torch
import xarray as xr

from daml.covariances.dense import labelled
from daml.errors import InputError, name_of
from daml.labels.arguments import checked
from daml.labels.ranges import number
from daml.models.forced import is_scheduled, names_of
from daml.protocols import Memory, Model, Scheme
from daml.schemes import ThreeDVar
from daml.training.bases import check_torch
from daml.training.engine import train
from daml.training.factors import covariance, placed
from daml.training.joint_state import fitted
from daml.training.plan import Plan, check_sequences
from daml.training.through_cycle import Course

UPDATES = 100
"""Minimum number of updates, where no number of epochs is given."""


@checked
def fit_parameters(
    model: Model,
    parameters: Sequence[str],
    observations: xr.Dataset,
    scheme: Scheme,
    *,
    epochs: int | None = None,
    sequence_length: int = 120,
    burn_in: int = 60,
    batch_size: int = 100,
    learning_rate: float = 0.02,
    uncertainty: float = 0.1,
    seed: int = 0,
) -> tuple[Model, Scheme]:
    """Estimate parameters of a model from observations.

    With a :class:`daml.ThreeDVar`, the Gaussian negative log-likelihood of the innovations is
    minimised by gradients, which pass through all steps and analyses of a sequence. B is estimated
    together with the parameters, because the B of another model would bias them.

    With an ensemble scheme, the parameters are added to the state as variables that are never
    observed. Each member has its own values, which a step does not change. The analysis updates
    them by their covariances with the observed quantities. The estimate is their mean over the
    second half of the record; the next pass over the record starts from it.

    Parameters
    ----------
    model : Model
        A dataclass; the search starts from the values of its fields. For a
        :class:`daml.ThreeDVar`, torch must be able to differentiate its step, as that of daml's own
        models. For an ensemble scheme, it must have no memory.
    parameters : sequence of str
        Names of the fields of the model to estimate.
    observations : xarray.Dataset
        ``observation`` (time, variable) and its ``error_variance`` (variable).
    scheme : ThreeDVar or an ensemble scheme
        A :class:`daml.ThreeDVar` has the initial B (:func:`daml.tuned` gives one). Settings that an
        ensemble scheme leaves open, such as its inflation, are tuned in each pass.
    epochs : int, optional
        Maximum number of epochs; for an ensemble scheme, maximum number of passes over the record
        (default: at most 5, until no parameter moves by more than a tenth of its uncertainty).
    sequence_length : int
        For a :class:`daml.ThreeDVar`: number of steps in each sequence. A sequence starts from the
        nearest observations, and from the model's climate for variables that are not observed.
    burn_in : int
        For a :class:`daml.ThreeDVar`: number of steps at the start of each sequence that the loss
        ignores. It must be long enough for the cycle to forget the start.
    batch_size : int
        For a :class:`daml.ThreeDVar`: number of sequences per update.
    learning_rate : float
        For a :class:`daml.ThreeDVar`: maximum change of a parameter in one update, as a fraction of
        its initial value.
    uncertainty : float
        For an ensemble scheme: initial standard deviation of each parameter over the members, as a
        fraction of its initial value. Several passes can move the estimate farther than that.
    seed : int
        For a :class:`daml.ThreeDVar`: seed of the order of the sequences. An ensemble scheme has a
        seed of its own.

    Returns
    -------
    model : Model
        The model with the estimated parameters.
    scheme : Scheme
        The scheme with the estimated B, or with its tuned settings.

    Raises
    ------
    InputError
        If a parameter is not a float field of the model, the scheme has neither members nor a B,
        or the observations lack a variable or have wrong dims or values.
    DivergedError
        If the loss is not finite, or the ensemble loses the observations.

    References
    ----------
    Anderson, J. L. (2001): An ensemble adjustment Kalman filter for data assimilation. Mon. Wea.
    Rev. 129, 2884-2903; section 5, on parameters in the state. Aksoy, A., Zhang, F. and
    Nielsen-Gammon, J. W. (2006): Ensemble-based simultaneous state and parameter estimation in a
    two-dimensional sea-breeze model. Mon. Wea. Rev. 134, 2951-2970.

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
    >>> ensemble = daml.schemes.ETKF(12, inflation=1.02, rotate=True)
    >>> found, ensemble = fit_parameters(wrong, ["rho"], seen, ensemble)
    >>> abs(found.rho - 28.0) < 0.5
    True
    """
    check_sequences("fit_parameters", sequence_length, burn_in, learning_rate, batch_size, seed)
    if epochs is not None and epochs < 1:
        raise InputError(f"fit_parameters: 'epochs' is {epochs}; give 1 or more")
    number(uncertainty, "fit_parameters: 'uncertainty'", "a fraction in (0, 1]", above=0, most=1)
    if names_of(model) or is_scheduled(model):
        raise InputError(
            f"fit_parameters: {name_of(model)} takes forcings, and parameters can be estimated "
            "only for models without forcings; give one that computes them from its own clock"
        )
    variables = tuple(model.variables)
    _check_names(model, parameters)
    if getattr(scheme, "members", None) is not None:
        return fitted(model, tuple(parameters), observations, scheme, uncertainty, epochs)
    if not (hasattr(scheme, "given") and hasattr(scheme, "by_model")):
        raise InputError(
            f"fit_parameters: {type(scheme).__name__} has no B and carries no ensemble; give a "
            "daml.ThreeDVar, or an ensemble scheme, e.g. daml.schemes.ETKF(20, inflation=1.02)"
        )
    scheme = cast("ThreeDVar", scheme)
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


def _check_names(model: Model, parameters: Sequence[str]) -> None:
    """Refuse names that are not those of float fields of a model."""
    known: list[str] = [f.name for f in fields(cast("Any", model))] if is_dataclass(model) else []
    for name in parameters:
        if name not in known or not isinstance(getattr(model, name), float):
            raise InputError(
                f"fit_parameters: {name!r} is not a parameter of {name_of(model)} with a "
                f"float as its value; give some of {known}"
            )
    if len(set(parameters)) < len(parameters):
        raise InputError(f"fit_parameters: 'parameters' is {parameters}; give each name once")


class _Free(torch.nn.Module):
    """A model with free parameters, in units of their initial values, and its B."""

    def __init__(self, model: Model, parameters: Sequence[str], root: np.ndarray) -> None:
        super().__init__()
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
