"""A scheme made for a model: what it leaves open is estimated from innovations."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import xarray as xr

from daml.assimilation import assimilate
from daml.covariance import scaled_to_observations
from daml.errors import InputError
from daml.forecasting import free_run
from daml.innovations import from_innovations
from daml.protocols import Model, Scheme
from daml.schemes import ThreeDVar

ROUNDS = 4
"""Times that B is estimated anew for a model that none was known for; once, later."""


def tuned(
    scheme: Scheme,
    model: Model,
    observations: xr.Dataset,
    *,
    before: ThreeDVar | None = None,
    rows: np.ndarray | None = None,
) -> tuple[Scheme, xr.Dataset]:
    """Give a scheme with all that it leaves open, for a model, and the analysis by it.

    Parameters
    ----------
    scheme : Scheme
        A :class:`ThreeDVar` whose B is "climatological" or "innovations"; any other stays as it
        is.
    model : Model
    observations : xarray.Dataset
        As the contract says.
    before : ThreeDVar, optional
        Of a model much like this one: where to start from. Otherwise from the climatology of a
        free run of the model, its variance at most twice that of the observation error.
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

    Examples
    --------
    >>> import daml
    >>> truth = daml.simulate(daml.CoupledLorenz63(), steps=2000, spinup=500)
    >>> seen = daml.observe(truth, variables=["x0", "x1", "x2"], seed=1)
    >>> scheme, analysis = tuned(daml.ThreeDVar("innovations"), daml.Lorenz63(), seen)
    >>> scheme.background_covariance.shape
    (3, 3)
    """
    if not isinstance(scheme, ThreeDVar) or not isinstance(scheme.background_covariance, str):
        return scheme, assimilate(model, observations, scheme)
    way, known = scheme.background_covariance, before
    if known is None:
        climate = scaled_to_observations(free_run(model, observations), observations)
        known = replace(scheme, background_covariance=climate)
    analysis = assimilate(model, observations, known)
    if way == "climatological":
        return known, analysis
    if rows is not None and len(rows) != analysis.sizes["time"]:
        raise InputError(
            f"tuned: {len(rows)} 'rows' were given, the analysis has {analysis.sizes['time']} times"
        )
    for _ in range(ROUNDS if before is None else 1):
        judged = analysis if rows is None else analysis.isel(time=np.flatnonzero(rows))
        climate = cast("xr.DataArray", known.background_covariance)
        covariance = from_innovations(judged, observations, climate)
        known = replace(scheme, background_covariance=covariance)
        analysis = assimilate(model, observations, known)
    return known, analysis
