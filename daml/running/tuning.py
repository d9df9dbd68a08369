"""A scheme made for a model: what it leaves open is estimated from innovations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import xarray as xr

from daml.errors import InputError
from daml.labels.arguments import checked
from daml.observing.records import Readings
from daml.pairing import knows_covariance
from daml.protocols import Model, Scheme
from daml.running.assimilation import assimilated
from daml.running.climatology import scaled_climatology
from daml.schemes.estimation import Pairs, observed_pairs


@checked
def tuned(
    scheme: Scheme,
    model: Model,
    observations: xr.Dataset,
    *,
    before: Scheme | None = None,
    rows: np.ndarray | None = None,
) -> tuple[Scheme, xr.Dataset]:
    """Give a scheme with all that it leaves open, for a model, and the analysis by it.

    Parameters
    ----------
    scheme : Scheme
        What it leaves open (:class:`daml.protocols.Tunable`) is estimated; one that leaves nothing
        open stays as it is. A :class:`ThreeDVar` is open where its B is "climatological" or
        "innovations", and its factor on R "estimated" perhaps. Where it asks the "model" for B, it
        stays if the model knows; for another model B is estimated from innovations.
    model : Model
    observations : xarray.Dataset
        As the contract says.
    before : Scheme, optional
        Of a model much like this one: where to start from. Otherwise from
        :func:`daml.covariance.scaled_climatology`.
    rows : numpy.ndarray (time,) of bool, optional
        Model steps whose innovations count: those that the model was not trained on. All, unless
        given.

    Returns
    -------
    scheme : Scheme
    analysis : xarray.Dataset
        Of :func:`daml.assimilate`.

    Raises
    ------
    InputError, DivergedError
        As of :func:`daml.assimilate` and :func:`daml.innovations.from_innovations`.

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
    found = cache(lambda: observed_pairs(observations))
    return estimated(scheme, model, Readings(observations), found, before, rows)


def estimated(
    scheme: Scheme,
    model: Model,
    readings: Readings,
    found: Callable[[], Pairs],
    before: Scheme | None = None,
    rows: np.ndarray | None = None,
) -> tuple[Scheme, xr.Dataset]:
    """Do the work of :func:`tuned`; ``found`` gives the observations' pairs if they are needed."""
    trial = _Trial(model, readings, found, rows)
    if hasattr(scheme, "tuned"):
        scheme = scheme.tuned(trial, before)
    return scheme, trial.run(scheme)


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
        return type(self.stepped).__name__

    @property
    def variables(self) -> tuple[str, ...]:
        return tuple(self.stepped.variables)

    @property
    def knows_covariance(self) -> bool:
        return knows_covariance(self.stepped)

    def shortened(self, times: int) -> _Trial:
        part = self.observations.isel(time=slice(0, times))
        return _Trial(self.stepped, Readings(part, self.readings.space), self.pairs, None)

    def run(self, scheme: Scheme) -> xr.Dataset:
        if self.last is None or self.last[0] is not scheme:
            record = self.readings.of(self.stepped)
            found = assimilated(self.stepped, self.observations, scheme, record)
            self.last = scheme, found
        return self.last[1]

    def judged(self, analysis: xr.Dataset) -> xr.Dataset:
        rows = self.rows
        if rows is None:
            return analysis
        if rows.shape != (analysis.sizes["time"],) or rows.dtype != bool:
            raise InputError(
                f"tuned: 'rows' has {rows.size} entries of type {rows.dtype}; give True or False "
                f"for each of the {analysis.sizes['time']} times of the analysis"
            )
        return analysis.isel(time=np.flatnonzero(rows))

    def climatology(self) -> xr.DataArray:
        record = self.readings.of(self.stepped)
        return scaled_climatology(self.stepped, self.observations, self.pairs(), record)
