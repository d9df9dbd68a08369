"""What daml raises, so that a script can tell a wrong input from a failed run, and its warnings."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


class DamlError(Exception):
    """Base class of daml's errors; the message is one line that says how to fix the problem."""


class InputError(DamlError, ValueError):
    """An argument or a Dataset cannot be used; nothing was changed."""


class StepError(InputError):
    """A model's step failed, or gave what is no state; the loop that ran it says when."""

    def at(self, number: int, times: Any) -> InputError:
        """Give the same with the number of the step and the times (...) that it led to."""
        first, last = times.min(), times.max()
        when = f"time {first}" if first == last else f"times {first} to {last}, side by side"
        return InputError(f"{self}; this was step {number}, to {when}")


class StoreError(DamlError, OSError):
    """A file or a store cannot be read or written."""


class DivergedError(DamlError, FloatingPointError):
    """A model, a training or an ensemble diverged."""


def first_line(error: BaseException) -> str:
    """Give what another library's error says, in a line."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def name_of(model: Any) -> str:
    """Give the name of a model's class; of one that daml put around another, of the model inside.

    See :class:`daml.models.enclosing.Around`.
    """
    while hasattr(type(model), "enclosed"):
        model = model.enclosed
    return type(model).__name__


@contextmanager
def writing(
    address: str, name: str, failures: tuple[type[Exception], ...] = (OSError,)
) -> Iterator[None]:
    """Turn a failure to write into one error; daml's own pass."""
    try:
        yield
    except DamlError:
        raise
    except failures as error:
        raise StoreError(
            f"{address}: cannot write {name!r} ({first_line(error)}); what was finished before is "
            "kept: free space, or bring the server back, then continue with --resume (resume=True)"
        ) from error


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the user's line: the one that called daml, whatever lies between.

    ``stacklevel`` counts frames, and their number depends on decorators and on which function of
    daml calls which; Python 3.12 has ``skip_file_prefixes``, which 3.11 lacks.
    """
    frame: FrameType | None = sys._getframe()
    user: FrameType | None = None
    while frame is not None:
        caller = frame.f_back
        if frame.f_code.co_filename.startswith(PACKAGE):
            user = caller
        elif frame is user and frame.f_code.co_filename.startswith("<frozen importlib"):
            user = caller  # the import of a module
        frame = caller
    user = user or sys._getframe()
    registry = user.f_globals.setdefault("__warningregistry__", {})
    place = user.f_code.co_filename, user.f_lineno, user.f_globals.get("__name__")
    warnings.warn_explicit(message, category, *place, registry)
