"""A step of any model, its result put back into the state that the loops carry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from daml.errors import DamlError, StepError, first_line, name_of

if TYPE_CHECKING:
    from daml.protocols import Array, Memory


class Stepping(Protocol):
    """What steps a state: a model, or what an emulator makes of its base."""

    def step(self, x: Array, memory: Memory, *forcing: Array) -> tuple[Array, Memory]:
        """Move ``x`` (..., variable) by one dt."""
        ...


def advance(model: Any, x: Array, memory: Memory, *forcing: Array) -> tuple[Array, Memory]:
    """Move states ``x`` (..., variable) by one dt, in the type that they have.

    Of a model that is given its forcings by its caller, these are (..., forcing).

    Raises
    ------
    StepError
        If the step raises, or gives no real numbers of the shape of ``x``.
    """
    try:
        # A copy: a step that writes into its argument must not change what is kept of it.
        result = model.step(x.copy() if isinstance(x, np.ndarray) else x, memory, *forcing)
        if type(result) is tuple and len(result) == 2:
            moved = result[0]
            if type(moved) is type(x) and moved.dtype == x.dtype and moved.shape == x.shape:
                return result
        return _state(model, x, result)
    except DamlError:
        raise
    except (Exception, SystemExit) as error:
        reason = first_line(error)
        raise StepError(
            f"{name_of(model)}: 'step' failed ({type(error).__name__}: {reason})"
        ) from error


def _state(model: Stepping, x: Array, result: Any) -> tuple[Array, Memory]:
    """Give state and memory of what a step returned; refuse what is no state."""
    name = name_of(model)
    if not (isinstance(result, tuple) and len(result) == 2):
        many = f" of {len(result)}" if isinstance(result, tuple) else ""
        raise StepError(
            f"{name}: 'step' must give (state, memory), not a {type(result).__name__}{many}; "
            "return x, memory"
        )
    moved, memory = result
    kind = str(getattr(getattr(moved, "dtype", None), "kind", ""))
    if isinstance(x, np.ndarray):
        if not isinstance(moved, np.ndarray) or kind not in set("fiu"):
            what = f"a {type(moved).__name__}" + (f" of type {moved.dtype}" if kind else "")
            raise StepError(
                f"{name}: 'step' turned an array of numbers into {what}; return an array of real "
                "numbers of the same shape"
            )
        moved = moved.astype(x.dtype)
        # A masked value is a missing one; further kinds of arrays are NumPy's own.
        moved = np.asarray(np.ma.filled(moved, np.nan))
    elif isinstance(moved, type(x)) and not moved.is_complex():
        moved = moved.to(x.dtype)
    else:
        raise StepError(
            f"{name}: 'step' turned a torch tensor into a {type(moved).__name__}; return a tensor "
            "of real numbers of the same shape"
        )
    if moved.shape != x.shape:
        raise StepError(
            f"{name}: 'step' turned states of shape {tuple(x.shape)} into {tuple(moved.shape)}; it "
            "must keep the shape (..., variable): write x[..., 0], not x[0]"
        )
    return moved, memory
