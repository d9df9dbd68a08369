"""A store in a folder: small files whole or not at all, one run at a time.

What is large goes to its address through Zarr. ``daml.remote`` gives the same at a URL.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from daml.errors import StoreError, writing

ROOT = "zarr.json"
LOCK = ".lock"
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

    def check_writable(self) -> None:
        """Refuse a folder where nothing can be written; change nothing."""
        parent = self.path if self.path.exists() else self.path.parent
        while not parent.exists():
            parent = parent.parent
        try:
            with tempfile.TemporaryDirectory(dir=parent):
                pass
        except OSError as error:
            raise StoreError(
                f"{self.address}: cannot write there ({error.strerror}); give another path"
            ) from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs off; the system frees it when this process ends, dead or not."""
        made = [self.path, *(p for p in self.path.parents if not p.exists())]
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
                with suppress(OSError):
                    for path in made:
                        path.rmdir()
            held.release()

    @contextmanager
    def aside(self) -> Iterator[Folder]:
        """Give a folder beside this one that takes its place at the end; nothing, on an error."""
        for stale in self.path.parent.glob(f".{self.path.name}.*.part"):
            if not _runs(int(stale.name.split(".")[-2])):  # of a run that was killed
                shutil.rmtree(stale, ignore_errors=True)
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        try:
            yield Folder(part)
            part.rename(self.path)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _runs(process: int) -> bool:
    """Whether there is a process of that number."""
    # Imported here: once it is loaded, freed memory goes back to the system, and a training pays.
    import psutil

    return bool(psutil.pid_exists(process))
