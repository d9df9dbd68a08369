"""Reanalyses: the state at each time, from the observations before it and after it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

from daml.errors import InputError
from daml.labels.arguments import checked
from daml.labels.trajectories import by_trajectory
from daml.models.forced import given
from daml.observing.functions import Given
from daml.running.assimilation import assimilated, check_cut

if TYPE_CHECKING:
    from daml.protocols import Model, Scheme


@checked
@by_trajectory
def smooth(
    model: Model,
    observations: xr.Dataset,
    scheme: Scheme,
    *,
    lag: int | None = None,
    segments: int | None = None,
    spinup: int | None = None,
    tolerance: float | None = None,
    initial: xr.Dataset | None = None,
    operator: Given | None = None,
    forcings: xr.Dataset | None = None,
    keep_members: bool = False,
    store: str | Path | None = None,
) -> xr.Dataset:
    """Estimate the state at each time from the observations before and after it.

    The scheme assimilates the record as in :func:`assimilate`. Then the corrections are carried
    back in time by the regression of each state on its forecast at the next time (ensemble
    Rauch-Tung-Striebel smoother). The result is an estimate of the past. Do not verify forecasts
    from it: it contains the observations that come later.

    Parameters
    ----------
    model, observations, scheme
        See :func:`assimilate`. The scheme must propagate the covariance of its errors: an ensemble,
        :class:`daml.schemes.SigmaPoint` or :class:`daml.schemes.ExtendedKalman`.
    lag : int, optional
        Number of model steps after each time whose observations are used. Default: all later
        observations; the whole record then runs in one segment, and its members are held in memory.
    segments, spinup, tolerance, initial, operator, forcings
        See :func:`assimilate`. Each segment runs ``lag`` steps beyond its end.
    keep_members : bool
        Whether the result also has ``background_members`` and ``analysis_members`` (time, member,
        variable), the latter smoothed: the members' deviations are transformed so that their
        covariance is the smoothed one.
    store : str or path, optional
        See :func:`assimilate`.

    Returns
    -------
    xarray.Dataset
        See :func:`assimilate`; here ``analysis`` is the smoothed mean and ``spread`` its
        standard deviation; everything else is the filter's. The attribute ``lag`` is the number of
        model steps.

    Raises
    ------
    InputError
        See :func:`assimilate`; and if the lag is less than 1 or not within the record, if there
        are segments without a lag, or if the scheme has no covariance.
    DivergedError
        If the state of the cycle is no longer finite.

    References
    ----------
    Raanes, P. N. (2016): On the ensemble Rauch-Tung-Striebel smoother and its equivalence to the
    ensemble Kalman smoother. Q. J. R. Meteorol. Soc. 142, 1259-1264.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> truth = daml.simulate(model, steps=500, spinup=500)
    >>> seen, scheme = daml.observe(truth), daml.schemes.ETKF(members=10)
    >>> filtered = daml.assimilate(model, seen, scheme)
    >>> smoothed = daml.smooth(model, seen, scheme, lag=10)
    >>> errors = [((a.analysis - truth.state) ** 2).mean() for a in (filtered, smoothed)]
    >>> bool(errors[1] < 0.7 * errors[0])
    True
    """
    check_cut("smooth", segments, spinup)
    if lag is not None and lag < 1:
        raise InputError(
            f"smooth: 'lag' is {lag}; give 1 model step or more, or None for all that follow"
        )
    if lag is None and segments not in (None, 1):
        raise InputError(
            f"smooth: 'segments' is {segments}, and without a lag the record runs in one piece; "
            "give a lag, or leave segments out"
        )
    return assimilated(
        *(given(model, forcings, "smooth"), observations, scheme),
        segments=1 if lag is None else segments,
        spinup=spinup,
        tolerance=tolerance,
        initial=initial,
        operator=operator,
        keep_members=keep_members,
        lag=lag,
        store=store,
    )
