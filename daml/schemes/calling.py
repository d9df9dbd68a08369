"""How daml calls a scheme, one of a user's own perhaps: what it gives is checked each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from daml.arrays import fetch, namespace, stacked, unrecorded
from daml.errors import DamlError, DivergedError, InputError, first_line
from daml.labels.definitions import is_users
from daml.protocols import Observed, Run, Update

if TYPE_CHECKING:
    from daml.protocols import Array, Memory, Scheme, Setting

LARGEST = 1e100
"""A magnitude whose square, summed, is no finite number any more."""


def prepared(scheme: Scheme, setting: Setting) -> Memory:
    """Give what a scheme prepares for a setting.

    Raises
    ------
    InputError
        If ``prepare`` fails.
    """
    try:
        return scheme.prepare(setting)
    except DamlError:
        raise
    except Exception as error:
        raise InputError(
            f"{type(scheme).__name__}: 'prepare' failed ({type(error).__name__}: "
            f"{first_line(error)}); it takes a daml.protocols.Setting and returns what 'update' "
            "needs, or None"
        ) from error


def updated(
    scheme: Any, forecast: Any, observed: Any, run: Any, memory: Memory
) -> tuple[Update, Memory]:
    """Give what a scheme makes of a forecast, and its memory.

    Of a scheme with a window ``forecast`` is a :class:`daml.protocols.Window`, and the observations
    and positions are those of its times.

    NumPy's arrays are copied on both sides of a user's scheme: it may write into what it is given,
    and may give the same array each time.

    Raises
    ------
    InputError
        If ``update`` fails or gives no analysis.
    DivergedError
        If it fails on forecasts that have diverged.
    """
    x, name = forecast.state, type(scheme).__name__
    users = is_users(scheme)
    if isinstance(x, np.ndarray) and users:
        forecast = forecast._replace(state=x.copy())
        parts = (observed,) if isinstance(observed, Observed) else observed
        copies = tuple(part._replace(values=part.values.copy()) for part in parts)
        observed = copies[0] if isinstance(observed, Observed) else copies
    try:
        found = scheme.update(forecast, observed, run, memory)
        update, memory = found
        state = update.state
        if not users:
            return update, memory
        wanted = (run if isinstance(run, Run) else run[-1]).wanted
        extras = {key: fresh(update.extras[key]) for key in wanted if key in update.extras}
        moments = {key: fresh(part) for key, part in update.moments.items()}
    except DamlError:
        raise
    except Exception as error:
        if isinstance(x, np.ndarray) and not (np.abs(x) < LARGEST).all():
            raise DivergedError(
                f"{name}: the forecasts of the cycle grew beyond all bounds, and 'update' failed "
                f"({first_line(error)}); take a smaller dt, or give an ensemble more members or "
                "another inflation"
            ) from error
        if isinstance(error, MemoryError):
            raise InputError(
                f"{name}: 'update' needs more memory than there is ({first_line(error)}) for "
                f"forecasts of shape {tuple(x.shape)}; give fewer members or a shorter window, or "
                "a scheme for larger states"
            ) from error
        if isinstance(observed, Observed) and _undefined(observed.operator, x):
            raise InputError(
                f"{name}: 'update' failed ({first_line(error)}), because 'operator' gives no "
                "finite values for some forecasts; let it take any state, e.g. "
                "np.log(np.maximum(x, 1e-6)), or keep states away with 'bounds' of the model"
            ) from error
        torch = "" if isinstance(x, np.ndarray) else ", which are torch tensors with a gradient"
        raise InputError(
            f"{name}: 'update' failed ({type(error).__name__}: {first_line(error)}); it must give "
            f"(Update(analysis), memory) for forecasts (..., variable), here of shape "
            f"{tuple(x.shape)}{torch}"
        ) from error
    alike = type(state) is type(x) and state.shape == x.shape
    if not alike or (state.dtype != x.dtype and not _real(state)):
        shape = tuple(getattr(state, "shape", ()))
        kind = f" of {state.dtype}" if hasattr(state, "dtype") else ""
        raise InputError(
            f"{name}: 'update' turned backgrounds of shape {tuple(x.shape)} into a "
            f"{type(state).__name__}{kind} of shape {shape}; return the analysis as real numbers "
            "in the same kind and shape of array"
        )
    if not isinstance(x, np.ndarray):
        return update._replace(state=state.to(x.dtype)), memory
    further = update.carried, update.errors, update.onward
    return Update(state.astype(x.dtype), extras, moments, *further), memory


def _undefined(operator: Any, x: Array) -> bool:
    """Whether H has no finite value of some finite states, such as the log of a negative one."""
    with np.errstate(all="ignore"), unrecorded(x):
        seen, finite = operator.apply(x), namespace(x).isfinite
        return bool(finite(x).all()) and not bool(finite(seen).all())


def gathered(
    scheme: Scheme,
    name: str,
    dims: tuple[str, ...],
    shape: tuple[int, ...],
    extras: Sequence[Mapping[str, Array]],
) -> np.ndarray:
    """Give one of a scheme's outputs (step, *shape) of its extras at each step.

    Raises
    ------
    InputError
        If it is missing, of another shape, or no real number.
    """
    what = f"{type(scheme).__name__}: 'update' gave"
    for part in extras:
        found = tuple(getattr(part.get(name), "shape", ())) if name in part else None
        if found != shape:
            gave = f"no {name!r}" if found is None else f"{name!r} of shape {found}"
            raise InputError(
                f"{what} {gave}, and its outputs say {dims}, here {shape}; give it in the extras "
                "of Update, or leave it out of 'outputs'"
            )
    array = fetch(stacked([part[name] for part in extras]))
    if array.dtype.kind not in "fiub":
        raise InputError(f"{what} {name!r} of type {array.dtype}; give real numbers")
    return array


def fresh(memory: Memory) -> Memory:
    """Give a memory whose arrays a scheme may write into: each cycle starts from what was prepared.

    Objects of other kinds stay as they are; large tables are held in such ones, and in daml's own
    named tuples.
    """
    if isinstance(memory, np.ndarray):
        return memory.copy()
    if isinstance(memory, tuple) and hasattr(memory, "_fields") and is_users(memory):
        return type(memory)(*map(fresh, memory))
    if type(memory) in (tuple, list):
        return type(memory)(map(fresh, memory))
    if type(memory) is dict:
        return {key: fresh(part) for key, part in memory.items()}
    return memory


def _real(array: Any) -> bool:
    """Whether an array, NumPy's or torch's, holds real numbers."""
    if isinstance(array, np.ndarray):
        return array.dtype.kind in "fiu"
    return bool(array.dtype.is_floating_point)
