"""How a command runs and ends: with its result, an error in one line, or how to resume it."""

from __future__ import annotations

import functools
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from daml.errors import DamlError
from daml.progress import lines_without_terminal


class Words(click.Group):
    """A group of commands that remembers the arguments as they were given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the arguments, then parse them."""
        ctx.meta["daml.words"] = tuple(args)
        return super().parse_args(ctx, args)


def run(command: Callable[..., None]) -> Callable[..., None]:
    """Run a command, and end it with one line where it fails (exit status 2) or is interrupted.

    An interrupted command exits with 128 plus the number of the signal, as shells do. --debug
    shows the traceback of an error.
    """

    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @functools.wraps(command)
    def wrapped(debug: bool, **arguments: Any) -> None:
        interruption = Interruption(arguments)
        try:
            with terminable(), lines_without_terminal():
                command(**arguments)
                return
        except KeyboardInterrupt as error:
            line = interruption.message(click.get_current_context().meta.get("daml.words", ()))
            number = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
            status = 128 + number
        except (DamlError, PermissionError) as error:
            if debug:
                raise
            line, status = f"Error: {' '.join(str(error).split())}", 2
        click.echo(line, err=True)
        sys.exit(status)

    return wrapped


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
        from daml.stores.store import Store

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
