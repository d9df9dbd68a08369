"""A store in a folder: small files whole or not at all, one run at a time.

What is large goes to its address through Zarr. ``daml.stores.remote`` gives the same at a URL.
"""

from __future__ import annotations

import ctypes
import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePath

from filelock import FileLock, Timeout

from daml.errors import StoreError, writing

ROOT = "zarr.json"
LOCK = ".lock"
PART, OLD = ".part", ".old"
"""Suffixes of folders beside a store: what takes its place, and what it had."""
REFUSED = "another run is writing to it; wait for its end, or give another path"


class Folder:
    """A folder of this machine.

    Attributes
    ----------
    address : str
        What xarray and Zarr take.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.address = str(path)

    def exists(self) -> bool:
        """Whether anything is there, but for a lock."""
        there = self.path.exists()
        return there and not (self.path.is_dir() and set(os.listdir(self.path)) <= {LOCK})

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.path / name).exists()

    def read(self, name: str) -> bytes:
        """Give a file; an OSError where there is none."""
        return (self.path / name).read_bytes()

    def put(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all."""
        file = self.path / name
        part = file.with_name(f".{file.name}.{os.getpid()}.part")
        with self.writing(name):
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                part.write_bytes(content)
                part.replace(file)
            finally:
                part.unlink(missing_ok=True)

    def put_all(self, content: dict[str, bytes]) -> None:
        """Write files."""
        for name, part in content.items():
            self.put(name, part)

    def writing(self, name: str) -> AbstractContextManager[None]:
        """Turn what a library raises where it cannot write into one error."""
        return writing(self.address, name)

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it."""
        path = self.path / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def documents(self, group: str) -> dict[str, bytes]:
        """Give the metadata of a group and of all below it, by name."""
        found = (self.path / group).rglob(ROOT)
        return {p.parent.relative_to(self.path).as_posix(): p.read_bytes() for p in found}

    def check_writable(self, replaced: bool = False) -> None:
        """Refuse a folder where nothing can be written; change nothing.

        One that is ``replaced`` changes places with another beside it.
        """
        path = self.path.resolve()
        parent = path if path.is_dir() and not replaced else path.parent
        while not parent.exists():
            parent = parent.parent
        try:
            if path.is_file():
                raise OSError(errno.ENOTDIR, "a file is there")
            if replaced and path.is_mount():
                raise OSError(errno.EBUSY, "a file system is mounted there")
            with tempfile.TemporaryDirectory(dir=parent, prefix=self._beside().path.name):
                pass
        except OSError as error:
            raise StoreError(
                f"{self.address}: cannot write there ({error.strerror}); give another path"
            ) from error

    def identity(self) -> PurePath:
        """Give an identifier of this place."""
        return self.path.resolve()

    def names(self) -> list[str]:
        """Give all files below, as paths from here."""
        found = (Path(top) / name for top, _, files in os.walk(self.path) for name in files)
        return [path.relative_to(self.path).as_posix() for path in found]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs off; the system frees it when this process ends, dead or not."""
        made = _missing(self.path)
        if self.has(LOCK):  # a run that was killed has made the folder
            made.append(self.path)
        self._clean()
        held = FileLock(self.path / LOCK, timeout=0)
        with self.writing(LOCK):
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                held.acquire()
            except Timeout as error:
                raise StoreError(f"{self.address}: {REFUSED}") from error
        for part in self.path.glob(".*.part"):  # of a run that was killed
            part.unlink(missing_ok=True)
        try:
            yield
        finally:
            if not self.has(ROOT):  # the run gave nothing: leave no trace
                self.remove(LOCK)
                _remove_empty(made)
            held.release()

    @contextmanager
    def aside(self) -> Iterator[Folder]:
        """Give a folder beside this one that takes its place at the end; nothing, on an error."""
        made = _missing(self.path)
        self._clean()
        part = self._beside()
        try:
            yield part
            self.remove(LOCK)
            part.path.rename(self.path)
        except BaseException:
            shutil.rmtree(part.path, ignore_errors=True)
            _remove_empty(made)
            raise

    @contextmanager
    def replacement(self) -> Iterator[Folder]:
        """Give a folder beside this one, locked, and remove what is there at the end.

        This folder stays as it is, unless :meth:`exchange` is called.
        """
        part = self._beside()
        try:
            with part.lock():
                yield part
        finally:
            shutil.rmtree(part.path, ignore_errors=True)

    def exchange(self, other: Folder) -> None:
        """Let another folder change places with this one, in one step where the system can."""
        here = self.path.resolve()
        with self.writing("the new result"):
            if not _exchanged(here, other.path):
                old = other.path.with_suffix(OLD)
                here.rename(old)
                other.path.rename(here)
                old.rename(other.path)

    def _beside(self) -> Folder:
        """Give the folder of this process beside this one."""
        path = self.path.resolve()
        return Folder(path.with_name(f".{path.name}.{os.getpid()}{PART}"))

    def _clean(self) -> None:
        """Remove what a run that was killed has left beside this folder, or put it back."""
        path = self.path.resolve()
        for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
            process = left.stem.rpartition(".")[2]
            if left.suffix not in (PART, OLD) or not process.isdecimal() or _runs(int(process)):
                continue
            if left.suffix == OLD and not path.exists():  # killed between two renames
                left.rename(path)
            shutil.rmtree(left, ignore_errors=True)


def _missing(path: Path) -> list[Path]:
    """Give the folders that have to be made for a path, itself first."""
    return [p for p in (path, *path.parents) if not p.exists()]


def _remove_empty(made: list[Path]) -> None:
    """Remove folders, the deepest first, until one is not empty."""
    for path in made:
        try:
            path.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return


def _exchanged(one: Path, two: Path) -> bool:
    """Let two folders change places in one step; False where the system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(rename(here, os.fsencode(one), here, os.fsencode(two), exchange) == 0)


def _runs(process: int) -> bool:
    """Whether there is another process of that number."""
    # Imported here: once it is loaded, freed memory goes back to the system, and a training pays.
    import psutil

    return process != os.getpid() and bool(psutil.pid_exists(process))
