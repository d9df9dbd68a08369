"""The cycle in time: assimilate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from daml.errors import InputError
from daml.labels.arguments import checked
from daml.labels.datasets import (
    SMOOTHED,
    check_dims,
    check_names,
    first_time,
    names,
    time_axis,
)
from daml.labels.doors import flat_record
from daml.labels.space import StateSpace
from daml.labels.trajectories import by_trajectory, joined_like
from daml.models.forced import check_reach, given
from daml.observing.functions import Given, Through, seen_through
from daml.observing.records import GIVEN, Readings, Record, read
from daml.pairing import certain, check_lag, check_members, check_scheme, has_window, sized
from daml.running import converging
from daml.running.checks import check_model, remembers, typical
from daml.running.cycling.guards import ENOUGH, check_rejected, checks
from daml.running.kept import labels_of, outputs_of
from daml.running.lost import ADVICE, MOST, check_lost, check_near
from daml.running.onward.ends import End
from daml.running.onward.going_on import GoingOn, going_on
from daml.running.onward.likeness import end_like
from daml.running.segmented import Cycles
from daml.running.starts.early import SPINUP, first_spinup
from daml.running.starts.first_guess import FirstGuess
from daml.running.targets import Target
from daml.segments import Cut, rows_at_once, segment_length
from daml.stores.filling import filled

if TYPE_CHECKING:
    from daml.protocols import Model, Scheme

TOLERANCE, ENSEMBLE_TOLERANCE = 0.01, 0.5
"""Largest difference where segments meet: see `Cycles.run`."""
PATIENCE = 4
"""Times the first spin-up at most, of a filter that is lost for the most part."""
CHUNK_SEGMENTS = 32
"""Segments in a chunk on disk, of few variables: groups of segments end with a chunk then."""


@checked
@by_trajectory
def assimilate(
    model: Model,
    observations: xr.Dataset,
    scheme: Scheme,
    *,
    segments: int | None = None,
    spinup: int | None = None,
    tolerance: float | None = None,
    initial: xr.Dataset | None = None,
    operator: Given | None = None,
    forcings: xr.Dataset | None = None,
    keep_members: bool = False,
    store: str | Path | None = None,
) -> xr.Dataset:
    """Assimilate a record with a model: analysis, step, analysis, ...

    Long records are cut into segments that run as one batch, each starting ``spinup`` steps
    early. If the largest difference between the analyses of two segments where they meet, in
    standard deviations of the record, is above ``tolerance``, the spin-up is doubled.

    Parameters
    ----------
    model : Model
        The model that makes the backgrounds.
    observations : xarray.Dataset
        A record (see the guide, "The Datasets"); its times are whole model steps apart.
    scheme : Scheme
        The scheme that makes the analyses.
    segments : int, optional
        Number of segments; 1 is the exact sequential run. Default: the square root of the record's
        length, with segments of 100 to 500 steps each; 1 if the cycle forgets its initial state too
        slowly for that.
    spinup : int, optional
        Initial number of model steps by which a segment starts early. Default: 100, or more, so
        that they include 40 times with observations.
    tolerance : float, optional
        Largest difference between segments, in standard deviations of a variable's analysis
        (default: 0.01). Because two runs of an ensemble never become equal, for an ensemble it is
        the mean squared difference in units of the mean variance of the members (default: 0.5).
    initial : xarray.Dataset, optional
        ``state`` (variable): the background at the first time. Default: the nearest observed
        values, and the model's climate for variables that are never observed. Or an analysis with
        the same model and scheme that ends before the first time: the cycle continues from its end,
        and with ``segments=1`` the result is bit for bit that of one run over both records.
    operator : callable, optional
        H as a function, linear or not, from states (..., variable) to observed values (...,
        observed), in place of the operator of the observations. ``ThreeDVar`` requires that torch
        can differentiate a nonlinear function.
    forcings : xarray.Dataset, optional
        Known inputs of a model that names them as its ``forcings``: for each name a data variable
        (time, ...). See :func:`daml.models.forced`. They must cover all steps.
    keep_members : bool
        Whether the result also has the members of an ensemble, ``background_members`` and
        ``analysis_members`` (time, member, variable).
    store : str or path, optional
        A new Zarr store to which the result is written part by part, so that memory does not grow
        with the record; the observations may be larger than memory, too.

    Returns
    -------
    xarray.Dataset
        ``background``, ``analysis`` (time, variable), ``innovation`` (time, observed): one row per
        model step; and the scheme's own ``outputs``. The mean of ``chi_square`` (time) is 1 if the
        scheme predicts the size of the innovations correctly. A scheme that takes B from the model
        also returns the expected standard deviations, ``background_spread`` and
        ``innovation_spread``, ``normalized_innovation``, whose variance is 1 if they are right, and
        ``log_likelihood`` (time). The variables ``end_...`` hold the end of the cycle, from which
        it can be continued (``initial``). The attributes give the number of segments, the spin-up,
        the difference between segments, and for an ensemble the number of segments that were
        restarted. With ``store`` the result is opened lazily. With observations in Dask arrays it
        is lazy, too, computed as a whole, and lacks these attributes.

    Raises
    ------
    InputError
        If model or observations are not valid; if ``segments`` is given and the cycle does not
        forget its initial state, or a segment with its spin-up is as long as the record; if
        ``keep_members`` is set for a scheme with a single state; or if ``initial`` is an analysis
        that cannot be continued: it lacks its end, is of another model or scheme, or ends later
        than the first observation.
    DivergedError
        If the state of the cycle is no longer finite, or an ensemble has lost the observations in
        more than half of the record.

    Warns
    -----
    UserWarning
        If an ensemble has lost the observations in parts of the record, where ``lost`` is 1; if the
        mean squared innovation is above 2.5 times the variance of the observations, so that the
        analysis may be worse than none; or if the iterations of a scheme did not converge in more
        than 5 % of the record, where ``converged`` is 0.

    Notes
    -----
    An ensemble that is too small or too narrow can lose the observations for good: its innovations
    are as large as those of a free run, and much larger than its spread. It counts as lost if, over
    a part of the record as long as a segment, the mean ``chi_square`` is above 3 and the mean
    squared innovation above half the variance of the observations. Such a segment is restarted
    once, with twice the spin-up.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> truth = daml.simulate(model, steps=500, spinup=500)
    >>> B = daml.climatological(truth, max_variance=2)
    >>> daml.assimilate(model, daml.observe(truth), daml.ThreeDVar(B)).analysis.shape
    (500, 3)
    """
    check_cut("assimilate", segments, spinup)
    return assimilated(
        *(given(model, forcings, "assimilate"), observations, scheme),
        segments=segments,
        spinup=spinup,
        tolerance=tolerance,
        initial=initial,
        operator=operator,
        keep_members=keep_members,
        store=store,
        keep_end=True,
    )


def check_cut(what: str, segments: int | None, spinup: int | None) -> None:
    """Refuse a number of segments or a spin-up that is none; the text begins with ``what``."""
    if segments is not None and segments < 1:
        raise InputError(f"{what}: 'segments' is {segments}; give 1 or more")
    if spinup is not None and spinup < 0:
        raise InputError(f"{what}: 'spinup' is {spinup}; give 0 or more")


def check_fit(segments: int | None, cut: Cut, lag: int | None) -> None:
    """Refuse segments that would each run over the whole record."""
    if cut.steps >= cut.total:
        tail = f" and a lag of {lag}" if lag else ""
        raise InputError(
            f"{'smooth' if lag else 'assimilate'}: with segments={segments} each segment has "
            f"{cut.length} steps after a spin-up of {cut.spinup}{tail}, which is as long as "
            f"the whole record of {cut.total} steps; use segments=1, or a smaller "
            f"spinup{' or lag' if lag else ''}"
        )


def _cut(total: int, segments: int | None, spinup: int, lag: int, scheme: Scheme) -> Cut:
    """Cut a record; windows end at the same times in all segments.

    Where a window ends with the first row of the next segment, it is run to its end.
    """
    length = segment_length(total) if segments is None else -(-total // segments)
    if not has_window(scheme):
        return Cut(total, length, spinup, lag)
    shift = scheme.shift
    length, early = (-(-steps // shift) * shift for steps in (length, max(spinup, shift)))
    return Cut(total, length, early, min(shift - 1, 1))


def assimilated(
    model: Model,
    observations: xr.Dataset,
    scheme: Scheme,
    record: Record | None = None,
    *,
    segments: int | None = None,
    spinup: int | None = None,
    tolerance: float | None = None,
    initial: xr.Dataset | None = None,
    operator: Given | None = None,
    keep_members: bool = False,
    lag: int | None = 0,
    store: str | Path | None = None,
    keep_end: bool = False,
) -> xr.Dataset:
    """Do the work of :func:`assimilate`; with a ``record``, what was read of the observations.

    With a ``lag``, that of :func:`daml.smooth`: None is the whole record. A ``record`` is that of
    a loop or a trial, which go on with a filter that is lost. With ``keep_end`` the analysis can be
    gone on from.
    """
    if record is None:
        observations = flat_record(observations, model)
    since = first_time(observations)
    check_model(model, since)
    space = StateSpace.of(model) if record is None else record.space
    as_given, scheme = scheme, sized(scheme, model)
    check_scheme(scheme, model, space, partial(remembers, certain(model), since))
    if keep_members:
        check_members(scheme, "keep_members=True")
    variables = tuple(model.variables)
    unit = getattr(model, "time_unit", "s")
    axis = time_axis(observations, "observation", model.dt, unit) if record is None else record.axis
    times = axis.grid()
    check_reach(model, times[0], times[max(len(times) - 2, 0)], "assimilate")
    check_dims(observations, "observation", ("variable",))
    check_names(observations, "observation")
    total = len(times)
    labels = labels_of(model, as_given, observations, times, operator, keep_members)
    going, observations = going_on(initial if keep_end else None, model, as_given, observations)
    labels = labels if going is None else going.labelled(labels, scheme, names(observations))
    outputs = outputs_of(scheme, keep_members, checks=checks(scheme, observations))
    if lag != 0:
        lag = check_lag(lag, total, scheme, "smooth")
        labels, outputs = labels.assign_attrs(lag=lag), {**outputs, **SMOOTHED}
    cut = _cut(total, segments, SPINUP if spinup is None else spinup, lag, scheme)
    if (segments or 1) > 1:
        check_fit(segments, cut, lag)
    observations, function = seen_through(
        observations, operator, variables, typical(model), "assimilate"
    )
    run = _Running(
        *(model, scheme, record, going, initial, function, space, keep_members, lag),
        *(total, segments, spinup, tolerance),
    )
    units = {"units": observations["observation"].attrs.get("units", "1")}
    source = observations[[name for name in GIVEN if name in observations]]
    filling = {n: (dims, units | dict(attrs)) for n, (dims, attrs) in outputs.items()}
    values = len(variables) * labels.sizes.get("member", 1)
    chunk = _chunk(cut.length, total, max(values, labels.sizes["observed"]))
    # What was read already is there to be computed on at once.
    lazily = source if record is None else None
    about = model, scheme, observations, labels, outputs, function, space, going
    more: Any = {"further": run.ended, "further_like": partial(end_like, *about)}
    return filled(labels, filling, run, store, chunk, source=lazily, **more if keep_end else {})


def analysed(model: Model, readings: Readings, scheme: Scheme, **how: Any) -> xr.Dataset:
    """Do the same with observations that were read already, each trajectory by itself."""
    found = [
        assimilated(model, one.observations, scheme, one.of(model), **how) for one in readings.each
    ]
    return joined_like(found, readings.given, "assimilate")


@dataclass
class _Running:
    """Fills the arrays of an analysis; says then where it ended."""

    model: Model
    scheme: Scheme
    record: Record | None
    going: GoingOn | None
    initial: xr.Dataset | None
    function: Through | None
    space: StateSpace
    keep_members: bool
    lag: int
    total: int
    segments: int | None
    spinup: int | None
    tolerance: float | None
    end: End | None = None

    def __call__(self, arrays: Mapping[str, Any], *source: xr.Dataset) -> dict[str, Any]:
        """Fill arrays from observations, unless they were read; give what attrs say of it."""
        model, lag, seen = self.model, self.lag, self.record
        if seen is None:
            unit = getattr(model, "time_unit", "s")
            how = tuple(model.variables), model.dt, unit, self.function, self.space
            seen = read(source[0], *how)
        initial = self.initial if self.going is None else None
        first = FirstGuess(model, seen, seen.axis.grid(), initial)
        cycles = Cycles(model, self.scheme, seen, first, self.keep_members, lag, self.going)
        early = first_spinup(seen) if self.spinup is None else self.spinup
        cut = _cut(self.total, self.segments, early, lag, self.scheme)
        how_far = cut, self.tolerance, self.segments, Target(arrays)
        attrs = _joined(cycles, *how_far, refuse_lost=self.record is None)
        self.end = cycles.end
        return attrs

    def ended(self) -> xr.Dataset:
        """Give the variables of where it ended."""
        return xr.Dataset() if self.end is None else self.end.variables()


def _joined(
    cycles: Cycles,
    cut: Cut,
    tolerance: float | None,
    segments: int | None,
    target: Target,
    *,
    refuse_lost: bool,
) -> dict[str, Any]:
    """Cycle until the start of the segments is forgotten; give what attrs say of it.

    ``cut`` has the first spin-up, and ``segments`` is how many were asked for.
    """
    total, length, early, tail = cut.total, cut.length, cut.spinup, cut.tail
    what = "smooth" if cycles.lag else "assimilate"
    latest = early * PATIENCE
    if tolerance is None:
        tolerance = TOLERANCE if cycles.members is None else ENSEMBLE_TOLERANCE
    while True:
        part = Cut(total, length, early, tail)
        cut = part if part.steps < total else Cut(total, total, 0)
        joined = cycles.run(cut, target)
        difference, is_lost = joined.difference, (joined.lost or 0.0) > MOST
        if cut.segments == 1 or (difference <= tolerance and not is_lost):
            break
        if is_lost and early >= latest:
            break
        early = max(2 * early, 1)
        if segments is not None and early + length + tail >= total:
            raise InputError(
                f"{what}: with {segments} segments the cycle does not forget its start (difference "
                f"{difference:.3g} after {early // 2} steps, tolerance {tolerance:g}); use "
                "segments=1"
            )
    attrs = {"segments": cut.segments, "spinup": cut.spinup, "segment_difference": difference}
    if cycles.record.limit is not None:
        attrs["gross_errors"] = joined.rejected[0]
        if refuse_lost and (cycles.going is None or joined.rejected[1] >= ENOUGH):
            check_rejected(*joined.rejected, cycles.scheme)
    what = f"{what}: {type(cycles.scheme).__name__}"
    advice = getattr(cycles.scheme, "window_advice", converging.ADVICE)
    converging.check_converged(joined.unconverged, what, advice)
    if refuse_lost and not joined.lost:  # a loop scores its passes itself
        check_near(*joined.distance, what)
    if joined.lost is None:
        return attrs
    advice = getattr(cycles.scheme, "advice", ADVICE)
    about = joined.lost, cut.segments, joined.restarted, what
    check_lost(*about, advice=advice, refuse=refuse_lost)
    return {**attrs, "segments_restarted": joined.restarted}


def _chunk(length: int, total: int, size: int) -> int:
    """Give the rows of ``size`` values in a chunk of a store, by the length of a segment."""
    fitting = rows_at_once(size)
    return min(CHUNK_SEGMENTS * length, fitting) if length < total else fitting
