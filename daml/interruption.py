"""What the command line says when Ctrl-C or a batch system ends a run."""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from daml.errors import DamlError


class Terminated(KeyboardInterrupt):
    """SIGTERM, which batch systems send before they kill a run."""


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end what runs as Ctrl-C does: files and worker processes are cleaned up."""

    def stop(number: int, frame: object) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Interruption:
    """Knows whether an interrupted command left something in its store that can be resumed.

    Parameters
    ----------
    arguments : mapping of str
        Of the command: ``store``, ``resume`` and ``overwrite`` where it has them.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self.store = arguments.get("store") if "resume" in arguments else None
        self.overwrite = bool(arguments.get("overwrite"))
        self.before = self._content() if self.overwrite else None

    def resumable(self) -> bool:
        """Whether the store holds an experiment, and not only the one to be overwritten."""
        content = self._content()
        return content is not None and content != self.before

    def message(self, words: Sequence[str]) -> str:
        """Give one line: the command that resumes a command of these words, if one can."""
        if self.store is None:
            return "Interrupted."
        if not self.resumable():
            return "Interrupted before the first result: there is nothing to resume."
        return f"Interrupted. To resume: {resuming(words)}"

    def _content(self) -> dict[str, Any] | None:
        from daml.store import Store

        if self.store is None:
            return None
        try:
            store = Store(self.store)
            return store.root() if store.made() else None
        except (DamlError, OSError):
            return None


def resuming(words: Sequence[str]) -> str:
    """Give the command that resumes one that was called with these arguments.

    Examples
    --------
    >>> resuming(["paper", "--store", "my run.zarr", "--overwrite"])
    "daml paper --store 'my run.zarr' --resume"
    """
    kept = [word for word in words if word not in ("--resume", "--overwrite")]
    end = kept.index("--") if "--" in kept else len(kept)
    return shlex.join([*_program(words), *kept[:end], "--resume", *kept[end:]])


def _program(words: Sequence[str]) -> list[str]:
    """Give what the arguments were given to: ``daml``, a path to it, or ``python -m daml``."""
    head = sys.orig_argv[: len(sys.orig_argv) - len(words)]
    if [*head, *words] != sys.orig_argv or "daml" not in (Path(word).stem for word in head[1:]):
        return ["daml"]
    if Path(head[-1]).is_file():  # the script that was installed with the package
        found = shutil.which("daml")
        return ["daml"] if found and Path(found).samefile(head[-1]) else head[-1:]
    return head
