"""The cycle in time: assimilate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from daml import __version__
from daml.checks import check_finite, check_model, check_scheme
from daml.errors import InputError
from daml.first_guess import FirstGuess
from daml.labels import describe
from daml.observations import ObservationArrays, read
from daml.schemes.variational import analysed

if TYPE_CHECKING:
    from daml.protocols import Array, Memory, Model, Scheme

SEGMENT = 1000
"""Model steps of a segment of a long record, unless told otherwise."""


def cycle_steps(
    model: Model,
    scheme: Scheme,
    observations: ObservationArrays,
    x: Array,
    memory: Memory,
    rows: Sequence[Any] | np.ndarray,
    values: Array,
) -> Iterator[tuple[Array, Array]]:
    """Yield background and analysis (..., variable) of one time after the other.

    A pure function of arrays: with torch tensors gradients pass through it. ``x`` is the first
    background, ``rows`` (step, ...) says which row of ``values`` (time, observed) each member of
    the batch sees at each step.
    """
    prepared = scheme.start(tuple(model.variables), observations)
    for number, row in enumerate(rows):
        analysis, prepared = scheme.update(x, values[row], observations.kind[row], prepared)
        yield x, analysis
        if number + 1 < len(rows):
            x, memory = model.step(analysis, memory)


def assimilate(
    model: Model,
    observations: xr.Dataset,
    scheme: Scheme,
    *,
    segments: int | None = None,
    spinup: int = 100,
    tolerance: float = 0.01,
    initial: xr.Dataset | None = None,
) -> xr.Dataset:
    """Cycle a model through a record: analysis, step, analysis, ...

    Long records are cut into segments that run as one batch, each starting ``spinup`` steps
    early. Where the spin-up of a segment meets the end of the one before, the largest difference
    of the two analyses, in standard deviations of the record, is known: above ``tolerance`` the
    spin-up is doubled.

    Parameters
    ----------
    model : Model
        Gives the background.
    observations : xarray.Dataset
        As the contract says; their times are whole steps of the model.
    scheme : Scheme
        Gives the analysis.
    segments : int, optional
        How many; 1 is the exact sequential run. Unless given, one for each 1,000 steps; where
        the start is forgotten too slowly for that, the sequential run.
    spinup : int
        Model steps by which a segment starts early, at first.
    tolerance : float
        Largest difference between segments, in standard deviations of a variable's analysis.
    initial : xarray.Dataset, optional
        ``state`` (variable): the background at the first time. Unless given, the nearest values
        observed, and the model's climate for what is never observed.

    Returns
    -------
    xarray.Dataset
        ``background``, ``analysis`` (time, variable), ``innovation`` (time, observed): one row
        per model step. attrs say segments, spin-up and difference.

    Raises
    ------
    InputError
        If model or observations break the contract, or if ``segments`` were asked for and the
        start is not forgotten.
    DivergedError
        If the cycle leaves the finite numbers.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> truth = daml.simulate(model, steps=500, spinup=500)
    >>> B = daml.climatological(truth, max_variance=2)
    >>> daml.assimilate(model, daml.observe(truth), daml.ThreeDVar(B)).analysis.shape
    (500, 3)
    """
    if segments is not None and segments < 1:
        raise InputError(f"assimilate: 'segments' is {segments}; give 1 or more")
    if spinup < 0:
        raise InputError(f"assimilate: 'spinup' is {spinup}; give 0 or more")
    check_model(model)
    check_scheme(scheme)
    variables = tuple(model.variables)
    arrays = read(observations, variables, model.dt, getattr(model, "time_unit", "s"))
    times = arrays.axis.grid()
    total = len(times)
    length = SEGMENT if segments is None else -(-total // segments)
    start = FirstGuess(model, arrays, times, initial)
    while True:
        cut = length < total and spinup + length < total
        steps = min(length + spinup, total) if cut else total
        firsts = np.arange(0, total, length) if cut else np.zeros(1, dtype=np.int64)
        windows = np.clip(firsts - spinup, 0, None) if cut else firsts
        background, analysis, difference = _run(
            model, scheme, arrays, start, windows, firsts, steps, total
        )
        if not cut or difference <= tolerance:
            break
        spinup = max(2 * spinup, 1)
        if segments is not None and spinup + length >= total:
            raise InputError(
                f"assimilate: with {segments} segments the start is not forgotten (difference "
                f"{difference:.3g} standard deviations after {spinup // 2} steps, tolerance "
                f"{tolerance:g}); use segments=1"
            )
    check_finite(analysis, times, variables, f"the cycle of {type(model).__name__}")
    innovation = np.where(arrays.present, arrays.values - arrays.operator.apply(background), np.nan)
    units = observations["observation"].attrs
    result = analysed(times, variables, background, analysis, arrays.observed, innovation, units)
    result["time"].attrs = dict(observations["time"].attrs)
    result.attrs = {
        "model": str(describe(model)),
        "scheme": str(describe(scheme)),
        "daml_version": __version__,
        "segments": len(firsts),
        "spinup": int(spinup) if cut else 0,
        "segment_difference": float(difference),
    }
    return result


def _run(
    model: Model,
    scheme: Scheme,
    arrays: ObservationArrays,
    start: FirstGuess,
    windows: np.ndarray,
    firsts: np.ndarray,
    steps: int,
    total: int,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Run segments that begin at ``windows``; keep what lies from ``firsts`` on."""
    length = int(firsts[1]) if len(firsts) > 1 else total
    x = start.state(windows)
    memory = model.start(x, start.times[windows])
    batch = (len(windows), steps, x.shape[-1])
    background, analysis = np.empty(batch), np.empty(batch)
    rows = np.minimum(windows[None] + np.arange(steps)[:, None], total - 1)
    with (
        tqdm(total=steps, desc="assimilate", delay=2, disable=None, leave=False) as bar,
        np.errstate(all="ignore"),
    ):
        pairs = cycle_steps(model, scheme, arrays, x, memory, rows, arrays.values)
        for number, (before, after) in enumerate(pairs):
            background[:, number], analysis[:, number] = before, after
            bar.update()
    offset = firsts - windows
    keep = [slice(o, o + min(length, total - f)) for o, f in zip(offset, firsts, strict=True)]
    kept = [
        np.concatenate([part[k] for part, k in zip(parts, keep, strict=True)])
        for parts in (background, analysis)
    ]
    end = analysis[np.arange(len(firsts) - 1), offset[:-1] + length - 1]
    spun = analysis[np.arange(1, len(firsts)), np.maximum(offset[1:] - 1, 0)]
    apart = np.where((offset[1:] > 0)[:, None], np.abs(end - spun), np.inf)
    with np.errstate(all="ignore"):
        spread = kept[1].std(axis=0)
        worst = float(np.max(apart / np.where(spread > 0, spread, 1.0), initial=0.0))
    # A NaN is reported as a divergence by the caller: no longer spin-up would mend it.
    return kept[0], kept[1], worst if np.isfinite(kept[1]).all() else 0.0
