"""An experiment in Zarr: groups are written aside and made visible by one atomic step.

A store's root holds the metadata of all groups that are visible ("consolidated"), which is what a
reader opens by default. A pass is written first and named there last, by replacing that one file:
a run that is killed, or a full disk, leaves the passes before it as they were.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import xarray as xr
from filelock import FileLock, Timeout

from daml import files
from daml.errors import InputError, StoreError
from daml.files import cannot_write
from daml.opening import VERSION, check_version, first_line

GROUPS = (
    *("observations", "imperfect", "iteration", "truth", "perfect", "test", "sensitivity"),
    *("member", "result"),
)
ROOT = "zarr.json"
CHECKPOINT = "checkpoint.npz"
"""How far a training is: plain arrays beside the groups."""


class Store:
    """An experiment on disk."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def create(self, attrs: dict[str, Any], overwrite: bool = False) -> None:
        """Make an empty experiment; of one that is overwritten only what daml wrote is removed."""
        path = check_free(self.path, overwrite)
        path.mkdir(parents=True, exist_ok=True)
        metadata = {"kind": "inline", "must_understand": False, "metadata": {}}
        root = {"zarr_format": 3, "node_type": "group"}
        root |= {"attributes": attrs | {"store_version": VERSION}}
        self._put(ROOT, json.dumps(root | {"consolidated_metadata": metadata}).encode())
        for name in GROUPS:
            shutil.rmtree(path / name, ignore_errors=True)
        self.remove(CHECKPOINT)

    def made(self) -> bool:
        """Whether there is an experiment already."""
        return (self.path / ROOT).exists()

    def root(self) -> dict[str, Any]:
        """Give the metadata of the root: its attributes and all that is visible.

        Raises
        ------
        StoreError
            If it is no store of daml's, or of another version.
        """
        try:
            root = json.loads((self.path / ROOT).read_text())
            visible = root["consolidated_metadata"]["metadata"]
            known = "daml_version" in root["attributes"] and isinstance(visible, dict)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{self.path}: not an experiment that daml wrote ({first_line(error)}); check the "
                "path"
            ) from error
        check_version(root["attributes"], self.path)
        if not known:
            raise StoreError(f"{self.path}: not an experiment that daml wrote; check the path")
        return cast("dict[str, Any]", root)

    def groups(self) -> list[str]:
        """Give the visible groups."""
        visible = self.root()["consolidated_metadata"]["metadata"]
        return sorted(name for name, doc in visible.items() if doc["node_type"] == "group")

    def write(self, dataset: xr.Dataset, group: str) -> None:
        """Write a group aside; a reader sees it after the next commit that names it."""
        files.write(dataset, self.path, group)

    def commit(self, groups: Iterable[str], attrs: dict[str, Any] | None = None) -> None:
        """Make groups visible, with new attributes of the root, in one atomic step."""
        root = self.root()
        visible = root["consolidated_metadata"]["metadata"]
        for group in groups:
            parts = Path(group).parts
            above = [Path(*parts[: n + 1]) for n in range(len(parts) - 1)]
            found = [self.path / p / ROOT for p in above]
            for file in [*found, *(self.path / group).rglob(ROOT)]:
                name = file.parent.relative_to(self.path).as_posix()
                visible[name] = json.loads(file.read_text())
        root["attributes"] |= attrs or {}
        self._put(ROOT, json.dumps(root).encode())

    def save(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Keep arrays in one file beside the groups, atomically."""
        file = io.BytesIO()
        np.savez(file, **arrays)  # type: ignore[arg-type]
        self._put(name, file.getvalue())

    def load(self, name: str) -> dict[str, np.ndarray] | None:
        """Give what was saved; None where there is nothing that can be read."""
        try:
            with np.load(self.path / name, allow_pickle=False) as found:
                return dict(found)
        except (OSError, ValueError, EOFError, KeyError):
            return None

    def remove(self, name: str) -> None:
        """Remove what was saved."""
        (self.path / name).unlink(missing_ok=True)

    def _put(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all."""
        part = self.path / f".{name}.{os.getpid()}.part"
        try:
            part.write_bytes(content)
            part.replace(self.path / name)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise cannot_write(self.path, name, error) from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs off the store; the system frees it when this process ends, dead or not.

        Raises
        ------
        StoreError
            If another run holds it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            held = FileLock(self.path / ".lock", timeout=0)
            held.acquire()
        except Timeout as error:
            raise StoreError(
                f"{self.path}: another run is writing to it; wait for its end, or give another path"
            ) from error
        except OSError as error:
            raise cannot_write(self.path, ".lock", error) from error
        for part in self.path.glob(".*.part"):  # of a run that was killed
            part.unlink(missing_ok=True)
        try:
            yield
        finally:
            if not (self.path / ROOT).exists():  # the run gave nothing: leave no trace
                (self.path / ".lock").unlink()
                with suppress(OSError):
                    self.path.rmdir()
            held.release()


def check_free(store: str | Path, overwrite: bool = False) -> Path:
    """Refuse a store that exists or that cannot be written; change nothing.

    Raises
    ------
    InputError
        If something is there already that may not be overwritten.
    StoreError
        If the folder cannot be written.
    """
    path = Path(store)
    there = path.exists() and not (path.is_dir() and {p.name for p in path.iterdir()} <= {".lock"})
    if there and not overwrite:
        raise InputError(
            f"{path} exists; give another path, --resume (resume=True) to go on with it, or "
            "--overwrite (overwrite=True)"
        )
    if there and not _is_ours(path):
        raise InputError(f"{path} is no store that daml wrote, and stays; give another path")
    parent = path if path.exists() else path.parent
    while not parent.exists():
        parent = parent.parent
    try:
        with tempfile.TemporaryDirectory(dir=parent):
            pass
    except OSError as error:
        raise StoreError(
            f"{path}: cannot write there ({error.strerror}); give another path"
        ) from error
    return path


def _is_ours(path: Path) -> bool:
    try:
        return bool(Store(path).root())
    except StoreError:
        return False
