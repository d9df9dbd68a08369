"""Progress of a long run: a bar on a terminal, and lines of the logger ``daml``.

A terminal shows a bar of :mod:`tqdm`. Everything else (a batch job, CI, a file) needs lines: each
finished part of a run is one record of ``logging.getLogger("daml")`` at level INFO. Python does
not print these unless logging is configured; the command line prints them to stderr when that is
no terminal.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from logging.handlers import MemoryHandler
from typing import Any

from tqdm.auto import tqdm

LOG = logging.getLogger("daml")
PATIENCE = 5.0
"""Seconds after which the command line prints the first record."""


class Progress:
    """Counts the parts of a run that are done and reports each.

    Parameters
    ----------
    title, unit : str
        Words of the bar: "improve" and "pass", for instance.
    total : int
        Number of parts.
    done : int
        Number of parts that an earlier run did.
    at_most : bool
        Whether the run may end before all parts are done.
    every : float
        Minimum number of seconds between two records.
    **bar
        Further arguments of :class:`tqdm.tqdm`.

    Examples
    --------
    >>> with Progress("improve", "pass", 2) as progress:
    ...     progress.advance({"loss": "0.5"}, "LSTM-0")
    """

    def __init__(
        self,
        title: str,
        unit: str,
        total: int,
        done: int = 0,
        *,
        at_most: bool = False,
        every: float = 0.0,
        **bar: Any,
    ) -> None:
        self.title, self.unit, self.total, self.done = title, unit, total, done
        self.at_most, self.every = at_most, every
        self.bar = tqdm(total=total, initial=done, desc=title, unit=unit, disable=None, **bar)
        self.before = done
        self.begun = self.reported = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def say(self, text: str) -> None:
        """Report what a run is about to do; the time left is counted from here."""
        LOG.info("%s: %s", self.title, text)
        if self.done == self.before:
            self.begun = time.monotonic()

    def advance(self, scores: Mapping[str, str], name: str = "") -> None:
        """Report that a part is done, with its scores and the time left."""
        self.done += 1
        self.bar.set_postfix(dict(list(scores.items())[:2]), refresh=False)  # no room for more
        self.bar.update()
        now = time.monotonic()
        if now - self.reported < self.every:
            return
        self.reported = now
        parts = [name] if name else []
        parts += [f"{self.unit} {self.done} of {'at most ' * self.at_most}{self.total}"]
        parts += [f"{key} {value}" for key, value in scores.items()]
        if self.done < self.total:
            left = (now - self.begun) / (self.done - self.before) * (self.total - self.done)
            parts.append(f"{'at most' if self.at_most else 'about'} {duration(left)} left")
        LOG.info("%s: %s", self.title, ", ".join(parts))


def duration(seconds: float) -> str:
    """Give a time in words.

    Examples
    --------
    >>> duration(5), duration(200), duration(7500)
    ('5 s', '3 min 20 s', '2 h 05 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


@contextmanager
def silenced() -> Iterator[None]:
    """Report nothing for a while: a member of a sweep, which reports for all of them."""
    before = LOG.disabled
    LOG.disabled = True
    try:
        # A bar goes to a terminal only; an error that a library prints goes to any log.
        with redirect_stderr(io.StringIO() if sys.stderr.isatty() else sys.stderr):
            yield
    finally:
        LOG.disabled = before


class Lines(MemoryHandler):
    """Prints records to stderr, the first of them after some seconds.

    What fails by then, a wrong argument for instance, ends with its error as the only line.
    """

    def __init__(self) -> None:
        stream = logging.StreamHandler(sys.stderr)
        stream.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        super().__init__(capacity=1000, target=stream, flushOnClose=False)
        self.timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record, or print it."""
        if self.timer is None:
            self.timer = threading.Timer(PATIENCE, self.print_all)
            self.timer.daemon = True
            self.timer.start()
        super().emit(record)

    def print_all(self) -> None:
        """Print what was kept, and from now on everything at once."""
        self.capacity = 0
        self.flush()

    def close(self) -> None:
        """Print no more."""
        if self.timer is not None:
            self.timer.cancel()
        super().close()


@contextmanager
def lines_without_terminal() -> Iterator[None]:
    """Print the logger's records to stderr for a while, if that is no terminal."""
    if sys.stderr.isatty():
        yield
        return
    lines, level = Lines(), LOG.level
    LOG.addHandler(lines)
    LOG.setLevel(logging.INFO)
    try:
        yield
        lines.print_all()
    finally:
        LOG.removeHandler(lines)
        LOG.setLevel(level)
        lines.close()
