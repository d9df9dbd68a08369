"""Forecasts from the end of an analysis, beyond its record."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from daml.arrays import alike, fetch, home
from daml.covariances.dense import check
from daml.covariances.model_error import error_root
from daml.errors import InputError, StepError
from daml.labels.arguments import checked
from daml.labels.datasets import pack, step_like
from daml.labels.dates import after
from daml.labels.trajectories import by_trajectory
from daml.models.forced import check_reach, given
from daml.randomness import Seed, Stream, normal, ranks, sequence
from daml.running.checks import check_finite, check_model
from daml.running.leads import labels_of_leads, model_steps
from daml.running.onward.ends import End
from daml.running.onward.last import FreeSteps, last_point
from daml.running.onward.unfit import Asked, check_end, check_parts, check_same
from daml.stores.memories import apart, together

if TYPE_CHECKING:
    from daml.protocols import Array, Memory, Model

ASKED = Asked(
    "forecast_ahead",
    "analysis",
    "or run the model from its last state, without a memory: daml.simulate(model, steps=5, "
    "initial=result[['analysis']].rename(analysis='state').isel(time=-1))",
)


@checked
@by_trajectory
def forecast_ahead(
    model: Model,
    analysis: xr.Dataset,
    *,
    leads: int | Sequence[int],
    members: int | None = None,
    seed: Seed = 0,
    covariance: xr.DataArray | None = None,
    forcings: xr.Dataset | None = None,
) -> xr.Dataset:
    """Forecast from the end of an analysis, beyond its record.

    :func:`daml.forecast` starts from each state of a record, to verify forecasts; this function
    starts from the last state only. The model keeps the memory that it had in the cycle. Each
    member of an ensemble is forecast; if the model has a ``model_error``, a random error N(0, Q) is
    added to each member after each step, as in the cycle. A ``model_error`` of the scheme is not
    added.

    Parameters
    ----------
    model : Model
        The model with which the analysis was made.
    analysis : xarray.Dataset
        The complete result of :func:`daml.assimilate`, with its variables ``end_...``.
    leads : int or sequence of int
        Model steps to forecast; 4 means 1, 2, 3, 4.
    members : int, optional
        For an analysis with a single state: number of members that are drawn from a Gaussian around
        the last analysis and also forecast. For an ensemble it must be its own number.
    seed : int or numpy.random.Generator
        Seed of these draws and of the model errors. With the seed of the scheme, the model errors
        are those of the continued cycle.
    covariance : xarray.DataArray, optional
        The covariance (variable, covariable) of the error of the last analysis, in units of the
        variables squared, with which ``members`` are drawn; for 3DVar (I - K H) B. Default: the
        standard deviations ``spread`` of the analysis at its last time, if it has them, without
        correlations.
    forcings : xarray.Dataset, optional
        Known inputs of a model that names them as its ``forcings``; see :func:`daml.models.forced`.
        They must cover all leads, and the time back to the start of the scheme's last window.

    Returns
    -------
    xarray.Dataset
        ``forecast`` (lead, variable), the mean of the members if there are any; ``lead`` in model
        time with ``lead_steps``, the valid ``time`` (lead), and ``start``, the last time of the
        analysis. With members also ``spread`` (lead, variable), their standard deviation, and
        ``forecast_members`` (lead, member, variable).

    Raises
    ------
    InputError
        If the analysis lacks its end or is of another model; if ``members`` is given and no spread
        is known; or if the members at the end are not available: they have different weights, or
        the record ends within the ``shift`` of a scheme with a window (then use
        ``keep_members=True``).
    DivergedError
        If a forecast is no longer finite.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> seen = daml.observe(daml.simulate(model, steps=200, spinup=500))
    >>> analysis = daml.assimilate(model, seen, daml.schemes.ETKF(members=10, inflation=1.1))
    >>> daml.forecast_ahead(model, analysis, leads=8).forecast_members.shape
    (8, 10, 3)
    """
    steps = model_steps(leads, what=ASKED.function)
    model = given(model, forcings, ASKED.function)
    end = _checked_end(model, analysis)
    _check_members(end, members, covariance)
    start, since = (np.asarray(end.facts[name])[()] for name in ("time", "state_time"))
    check_model(model, since)
    step = step_like(np.asarray(start), model.dt, getattr(model, "time_unit", "s"))
    start = start.astype(np.result_type(start, step) if start.dtype.kind in "iu" else start.dtype)
    times = after(start, np.arange(steps[-1] + 1), step)
    check_reach(model, since, times[-2], ASKED.function)
    number = seed if isinstance(seed, int) else int(sequence(seed).generate_state(1)[0])
    free = FreeSteps(model, number)
    x, memory, weight = last_point(model, analysis, end, free, ASKED)
    last = int(end.facts["step"])
    if weight is None and members is not None:
        x = x + _drawn(model, members, _root(model, analysis, covariance), number, last, x)
        memory, weight = _repeated(memory, members, home(model)), 1 / (members - 1)
    many = weight is not None
    states = _states(free, x, memory, steps, times, last, many)
    states = states.reshape(len(steps), *([-1] if many else []), states.shape[-1])
    labels = labels_of_leads(model, times[:1], 0, steps, analysis).isel(start=0)
    del labels.attrs["warmup"]
    units = analysis["analysis"].attrs.get("units", "1")
    return _result(labels, times[steps], states, weight, units)


def _checked_end(model: Model, analysis: xr.Dataset) -> End:
    """Give the end of an analysis by a model; refuse others."""
    if not {"time", "variable"} <= set(analysis["analysis"].dims if "analysis" in analysis else ()):
        raise InputError(
            "forecast_ahead: 'analysis' has no variable 'analysis' (time, variable); give the "
            "complete result of daml.assimilate"
        )
    end = check_end(End.found(analysis), analysis, ASKED)
    check_same(analysis, model, None, ASKED)
    many = np.shape(end.facts.get("state", ()))[:-1]
    check_parts(end, (*many[:1], len(model.variables)), ASKED)
    return end


def _check_members(end: End, members: int | None, covariance: xr.DataArray | None) -> None:
    """Refuse members, or what they are drawn with, that do not go with an analysis."""
    own = len(end.facts["state"]) if np.ndim(end.facts["state"]) > 1 else None
    if members is not None and members < 2:
        raise InputError(f"forecast_ahead: 'members' is {members}; give 2 or more")
    if own is not None and members not in (None, own):
        raise InputError(
            f"forecast_ahead: 'members' is {members}, and the ensemble of 'analysis' has {own}; "
            "leave it out"
        )
    if covariance is not None and (own is not None or members is None):
        why = "there are no 'members' to draw" if own is None else "'analysis' has its own members"
        how = "give members=50, too" if own is None else "leave it out"
        raise InputError(f"forecast_ahead: 'covariance' is given, and {why}; {how}")


def _root(model: Model, analysis: xr.Dataset, covariance: xr.DataArray | None) -> np.ndarray:
    """Give the root of the covariance of the last analysis, or its deviations (variable,)."""
    variables = tuple(model.variables)
    if covariance is not None:
        return np.asarray(error_root(check(covariance, variables, "forecast_ahead: 'covariance'")))
    if "spread" in analysis:
        spread: np.ndarray = pack(analysis.isel(time=[-1]), "spread", variables)[0][0]
        if np.isfinite(spread).all():
            return spread
    raise InputError(
        "forecast_ahead: 'members' is given, and the uncertainty of the last analysis is not "
        "known; give its covariance=, or an analysis by an ensemble, e.g. "
        "daml.schemes.ETKF(20)"
    )


def _drawn(
    model: Model, members: int, root: np.ndarray, seed: int, step: int, like: Array
) -> Array:
    """Draw deviations (member, variable) from a state, of mean 0, with a root of a covariance."""
    shape = members, len(model.variables)
    drawn = normal(seed, np.array([step]), shape, Stream.FIRST)[0][:, ranks(model.variables)]
    drawn = drawn - drawn.mean(axis=0)
    return alike(drawn * root if root.ndim == 1 else drawn @ root, like)


def _repeated(memory: Memory, members: int, device: str | None) -> Memory:
    """Give the memory of one state (1, variable) for so many states (member, variable)."""

    def many(array: np.ndarray) -> np.ndarray:
        is_one = array.ndim and array.shape[0] == 1
        return np.repeat(array, members, axis=0) if is_one else np.array(array)

    plan, arrays = apart(memory, "memory", pick=many)
    return together(plan, arrays, memory, device)


def _states(
    free: FreeSteps,
    x: Array,
    memory: Memory,
    leads: list[int],
    times: np.ndarray,
    last: int,
    many: bool,
) -> np.ndarray:
    """Give the forecasts (lead, ..., variable) from states (..., variable) at the model step."""
    found = []
    bar = partial(tqdm, desc="forecast", delay=2, disable=None, leave=False)
    with np.errstate(all="ignore"):
        for number in bar(range(1, leads[-1] + 1)):
            try:
                x, memory = free.moved(x, memory, last + number, many)
            except StepError as error:
                raise error.at(number, times[number - 1]) from error.__cause__
            if number in leads:
                found.append(fetch(x).copy())
    states = np.stack(found)
    when = times[leads].reshape(-1, *[1] * (states.ndim - 2))
    when = np.broadcast_to(when, states.shape[:-1])
    check_finite(states, when, tuple(free.model.variables), type(free.model).__name__)
    return states


def _result(
    labels: xr.Dataset, times: np.ndarray, states: np.ndarray, weight: float | None, units: str
) -> xr.Dataset:
    """Give the Dataset of forecasts (lead, [member,] variable)."""
    labels = labels.assign_coords(time=("lead", times, {"long_name": "time of the forecast"}))
    attrs: dict[str, Any] = {"long_name": "forecast", "units": units}
    dims = ("lead", "variable")
    if weight is None:
        return labels.assign(forecast=(dims, states, attrs))
    mean = states.mean(axis=1)
    squares = ((states - mean[:, None]) ** 2).sum(axis=1)
    about: dict[str, Any] = {"long_name": "standard deviation of the forecast's members"}
    members: dict[str, Any] = {"long_name": "members of the forecast", "units": units}
    return labels.assign_coords(member=np.arange(states.shape[1])).assign(
        forecast=(dims, mean, attrs),
        spread=(dims, np.sqrt(weight * squares), about | {"units": units}),
        forecast_members=(("lead", "member", "variable"), states, members),
    )
