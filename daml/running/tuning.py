"""Schemes are tuned for a model: what they leave open is estimated from innovations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import numpy as np
import xarray as xr

from daml.covariances.model_error import knows_model_error
from daml.errors import DamlError, InputError, first_line, name_of
from daml.labels.arguments import checked, shown
from daml.labels.datasets import first_time
from daml.labels.doors import flat_record
from daml.labels.trajectories import TRAJECTORY, in_a_row
from daml.models.forced import given
from daml.observing.functions import Given, described, seen_through
from daml.observing.records import Readings
from daml.pairing import check_linear, knows_covariance
from daml.protocols import Model, Scheme
from daml.running.assimilation import analysed
from daml.running.checks import check_model, typical
from daml.running.climatology import free_runs, scaled_climatology
from daml.schemes.estimation import Pairs, observed_pairs


@checked
def tuned(
    scheme: Scheme,
    model: Model,
    observations: xr.Dataset,
    *,
    before: Scheme | None = None,
    rows: np.ndarray | None = None,
    operator: Given | None = None,
    forcings: xr.Dataset | None = None,
) -> tuple[Scheme, xr.Dataset]:
    """Tune a scheme for a model, and give it with its analysis.

    Parameters
    ----------
    scheme : Scheme
        Its open settings (:class:`daml.protocols.Tunable`) are estimated; a scheme with none is
        returned as it is. A :class:`daml.ThreeDVar` is open if its B is "climatological" or
        "innovations" (then its factor on R may be "estimated", too). If its B is "model", it
        stays so where the model knows its B; otherwise B is estimated from innovations.
        An ensemble scheme is open if its ``inflation`` is "innovations", or its ``error_factor``
        "estimated"; a :class:`daml.schemes.SigmaPoint` or :class:`daml.schemes.ExtendedKalman` if
        its ``model_error`` is "innovations": they are those for which the innovations are most
        likely. A model's own model error is taken where it has one.
    model : Model
        The model that gives the forecasts.
    observations : xarray.Dataset
        ``observation`` (time, variable) and its ``error_variance`` (variable). Of a record with a
        dimension ``trajectory`` the innovations of all trajectories count, each of which starts
        afresh.
    before : Scheme, optional
        The scheme that was tuned for a similar model, to start from. By default the B of a
        :class:`daml.ThreeDVar` starts from :func:`daml.covariance.scaled_climatology`.
    rows : numpy.ndarray (time,) or (trajectory, time) of bool, optional
        The model steps whose innovations are used: those that the model was not trained on.
        Default: all.
    operator : callable, optional
        H as a function of states; see :func:`daml.assimilate`. With one that is not linear no B can
        be estimated: give a scheme that needs none, or has one.
    forcings : xarray.Dataset, optional
        Known inputs of the model; see :func:`daml.assimilate`.

    Returns
    -------
    scheme : Scheme
        With nothing open.
    analysis : xarray.Dataset
        The analysis by this scheme; see :func:`daml.assimilate`.

    Raises
    ------
    InputError
        If the observations lack a variable or have wrong dims or values, or there are too few
        innovations.
    DivergedError
        If an assimilation gives numbers that are not finite.

    References
    ----------
    Mehra, R. K. (1970): On the identification of variances and adaptive Kalman filtering. IEEE
    Trans. Autom. Control 15, 175-184.

    Examples
    --------
    >>> import daml
    >>> truth = daml.simulate(daml.CoupledLorenz63(), steps=2000, spinup=500)
    >>> seen = daml.observe(truth, variables=["x0", "x1", "x2"], seed=1)
    >>> scheme, analysis = tuned(daml.ThreeDVar("innovations"), daml.Lorenz63(), seen)
    >>> scheme.background_covariance.shape
    (3, 3)
    """
    model = given(model, forcings, "tuned")
    observations = flat_record(observations, model)
    variables, function = tuple(model.variables), None
    if operator is not None:
        check_model(model, first_time(observations))
        about = variables, typical(model), "tuned"
        observations, function = seen_through(observations, operator, *about)
    readings = Readings(observations, None, function, variables)
    many = observations.sizes.get(TRAJECTORY)
    if rows is not None and many is not None and rows.ndim == 2 and len(rows) == many:
        rows = rows.ravel()
    found = cache(lambda: observed_pairs(readings.observations))
    scheme, analysis = estimated(scheme, model, readings, found, before, rows)
    if operator is not None:
        analysis.attrs["operator"] = described(operator, observations, variables)
    return scheme, analysis


def estimated(
    scheme: Scheme,
    model: Model,
    readings: Readings,
    found: Callable[[], Pairs],
    before: Scheme | None = None,
    rows: np.ndarray | None = None,
) -> tuple[Scheme, xr.Dataset]:
    """Tune a scheme as :func:`tuned` does, with observations that are read already.

    ``found`` gives the covariance of the observations and its number of pairs, if needed.
    """
    trial = _Trial(model, readings, found, rows)
    if hasattr(scheme, "tuned"):
        scheme = _made(scheme, trial, before)
    return scheme, trial.analysis(scheme)


def _made(scheme: Any, trial: _Trial, before: Scheme | None) -> Scheme:
    """Give what a scheme's ``tuned`` gives; refuse what is no scheme."""
    name = type(scheme).__name__
    try:
        found = scheme.tuned(trial, before)
    except DamlError:
        raise
    except Exception as error:
        raise InputError(
            f"{name}: 'tuned' failed ({type(error).__name__}: {first_line(error)}); it takes "
            "(trial, before), a daml.protocols.Trial and a scheme or None, and returns a scheme"
        ) from error
    if isinstance(found, type) or not hasattr(found, "update"):
        raise InputError(
            f"{name}: 'tuned' returned {shown(found)}; return the scheme with its open "
            "settings estimated"
        )
    return cast("Scheme", found)


@dataclass
class _Trial:
    """A model and a record; see :class:`daml.protocols.Trial`."""

    stepped: Model
    readings: Readings
    pairs: Callable[[], Pairs]
    rows: np.ndarray | None
    last: tuple[Scheme, xr.Dataset] | None = field(default=None, init=False)
    """The scheme that ran last over the whole record, and its analysis."""

    @property
    def observations(self) -> xr.Dataset:
        return self.readings.observations

    @property
    def model(self) -> str:
        return name_of(self.stepped)

    @property
    def variables(self) -> tuple[str, ...]:
        return tuple(self.stepped.variables)

    @property
    def knows_covariance(self) -> bool:
        return knows_covariance(self.stepped)

    @property
    def knows_model_error(self) -> bool:
        return knows_model_error(self.stepped)

    def shortened(self, times: int) -> _Trial:
        given = self.readings.given
        values = given["observation"]
        there = np.asarray(values.notnull().any([d for d in values.dims if d != "time"]))
        first = int(there.argmax())  # a record may begin with times without any value
        part = given.isel(time=slice(first, first + times))
        if TRAJECTORY in given.dims:  # whole ones, as far as possible
            part = part.isel({TRAJECTORY: slice(0, -(-times // max(part.sizes["time"], 1)))})
        return _Trial(self.stepped, self.readings.part(part), self.pairs, None)

    def analysis(self, scheme: Scheme) -> xr.Dataset:
        """Give the analysis as :func:`daml.assimilate` gives it."""
        if self.last is None or self.last[0] is not scheme:
            self.last = scheme, analysed(self.stepped, self.readings, scheme)
        return self.last[1]

    def run(self, scheme: Scheme) -> xr.Dataset:
        return in_a_row(self.analysis(scheme))

    def judged(self, analysis: xr.Dataset) -> xr.Dataset:
        if self.rows is None:
            return analysis
        rows = self.rows
        if rows.shape != (analysis.sizes["time"],) or rows.dtype != bool:
            raise InputError(
                f"tuned: 'rows' has {rows.size} entries of type {rows.dtype}; give True or False "
                f"for each of the {analysis.sizes['time']} times of the analysis"
            )
        return analysis.isel(time=np.flatnonzero(rows))

    def climatology(self) -> xr.DataArray:
        record = self.readings.of(self.stepped)
        check_linear(record.operator, "tuned")
        return scaled_climatology(self.stepped, self.observations, self.pairs(), record)

    def variances(self) -> xr.DataArray:
        record = self.readings.of(self.stepped)
        if record.operator.linear and not record.changes:
            found = np.diagonal(self.climatology().values)
        else:
            states = free_runs(self.stepped, self.observations, record)
            found = states.reshape(-1, len(self.variables)).var(axis=0)
        return xr.DataArray(found, {"variable": list(self.variables)}, ("variable",))
