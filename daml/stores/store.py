"""An experiment in Zarr: groups are written aside and made visible by one atomic step.

A store's root holds the metadata of all groups that are visible ("consolidated"), which is what a
reader opens by default. A pass is written first and named there last, by replacing that one file:
a run that is killed, or a full disk, leaves the passes before it as they were.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
import xarray as xr

from daml.errors import InputError, StoreError, first_line
from daml.stores import filling
from daml.stores.folder import LOCK, PART, ROOT, Folder
from daml.stores.opening import VERSION, check_version
from daml.stores.places import Place, place

GROUPS = (
    *("observations", "imperfect", "iteration", "truth", "perfect", "test", "sensitivity"),
    *("beyond", "member", "result", "initial", "observed", "correction"),
)
WRITTEN = re.compile(
    r"observations|truth|sensitivity|result|test|test/(observations|truth)|perfect|perfect/scores|"
    r"imperfect(/(scores|scheme))?|iteration|iteration/\d{4,}(/(scores|scheme|emulator|training))?|"
    r"beyond|beyond/\w+(/scores)?|member|member/[0-9a-f]+|initial(/(scores|emulator))?|"
    r"observed(/\d+)?|correction(/\w+(/(scores|emulator))?)?"
)
"""All groups that daml writes."""
CHECKPOINTS = {"analyses": "checkpoint.npz", "cycle": "checkpoint-cycle.npz"}
"""How far a training on analyses, or through the cycle, is: plain arrays beside the groups."""


class Store:
    """An experiment, in a folder or at a URL."""

    def __init__(self, store: str | Path) -> None:
        self.place = place(store)
        self.address = self.place.address
        self.replaced: Folder | None = None

    def create(self, attrs: dict[str, Any]) -> None:
        """Make an empty experiment; one that is there, at a URL, is removed."""
        metadata = {"kind": "inline", "must_understand": False, "metadata": {}}
        root = {"zarr_format": 3, "node_type": "group"}
        root |= {"attributes": attrs | {"store_version": VERSION}}
        root |= {"consolidated_metadata": metadata}
        self.place.put(ROOT, json.dumps(root).encode())
        self._clear()

    def withdraw(self) -> None:
        """Remove an experiment that this run has made."""
        self.place.remove(ROOT)
        self._clear()

    def _clear(self) -> None:
        for name in (*GROUPS, *CHECKPOINTS.values()):
            self.place.remove(name)

    @contextmanager
    def replacement(self) -> Iterator[None]:
        """Write aside until :meth:`take_place`; at a URL there is no aside.

        Whatever ends the run before it leaves the store as it is.
        """
        if not isinstance(self.place, Folder):
            yield
            return
        self.replaced = self.place
        with self.place.replacement() as aside:
            self.place = aside
            try:
                yield
            finally:
                self.place, self.replaced = self.replaced or self.place, None

    def take_place(self) -> None:
        """Let what was written aside take the place of the store, if it has not yet."""
        if self.replaced is not None:
            self.replaced.exchange(cast("Folder", self.place))
            self.place, self.replaced = self.replaced, None

    def made(self) -> bool:
        """Whether there is an experiment already."""
        return self.place.has(ROOT)

    def root(self) -> dict[str, Any]:
        """Give the metadata of the root: its attributes and all that is visible.

        Raises
        ------
        StoreError
            If it is no store of daml's, or of another version.
        """
        try:
            root = json.loads(self.place.read(ROOT))
            visible = root["consolidated_metadata"]["metadata"]
            known = isinstance(root["attributes"], dict) and isinstance(visible, dict)
            known = known and "daml_version" in root["attributes"]
            known = known and all("node_type" in document for document in visible.values())
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(
                f"{self.address}: not an experiment that daml wrote ({first_line(error)}); "
                "check the path"
            ) from error
        if known:
            check_version(root["attributes"], self.address)
        else:
            raise StoreError(f"{self.address}: not an experiment that daml wrote; check the path")
        return cast("dict[str, Any]", root)

    def groups(self) -> list[str]:
        """Give the visible groups."""
        visible = self.root()["consolidated_metadata"]["metadata"]
        return sorted(name for name, doc in visible.items() if doc["node_type"] == "group")

    def write(self, dataset: xr.Dataset, group: str) -> None:
        """Write a group aside; a reader sees it after the next commit that names it."""
        with self.place.writing(group):
            if isinstance(self.place, Folder) or filling.is_lazy(dataset):
                filling.write(dataset, self.place.address, group)
                return
            # A request for each chunk and document, one after another, would take minutes.
            content = filling.packed(dataset, group)
            self.place.remove(group)
            above = {ROOT} | {f"{p}/{ROOT}" for p in _above(group)}
            there = {name for name in above if self.place.has(name)}
            self.place.put_all({k: v for k, v in content.items() if k not in there})

    def commit(self, groups: Iterable[str], attrs: dict[str, Any] | None = None) -> None:
        """Make groups visible, with new attributes of the root, in one atomic step."""
        root = self.root()
        visible = root["consolidated_metadata"]["metadata"]
        for group in groups:
            found = {name: self.place.read(f"{name}/{ROOT}") for name in _above(group)}
            found |= self.place.documents(group)
            visible.update({name: json.loads(document) for name, document in found.items()})
        root["consolidated_metadata"]["metadata"] = _together(visible)
        root["attributes"] |= attrs or {}
        self.place.put(ROOT, json.dumps(root).encode())

    def save(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Keep arrays in one file beside the groups, atomically."""
        file = io.BytesIO()
        np.savez(file, **arrays)  # type: ignore[arg-type]
        self.place.put(name, file.getvalue())

    def load(self, name: str) -> dict[str, np.ndarray] | None:
        """Give what was saved; None where there is nothing that can be read."""
        try:
            with np.load(io.BytesIO(self.place.read(name)), allow_pickle=False) as found:
                return dict(found)
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
            return None

    def remove(self, name: str) -> None:
        """Remove what was saved."""
        self.place.remove(name)

    def lock(self) -> AbstractContextManager[None]:
        """Keep other runs off the store; a run that is dead holds it no longer.

        Raises
        ------
        StoreError
            If another run holds it.
        """
        return self.place.lock()


def _together(visible: dict[str, Any]) -> dict[str, Any]:
    """Order what is visible so that all that lies in a group follows it, as zarr reads it.

    Otherwise a store to which a pass was added after another group could not be opened.
    """
    first: dict[str, int] = {}
    for name in visible:
        for group in (*reversed(_above(name)), name):
            first.setdefault(group, len(first))

    def place_of(name: str) -> list[int]:
        return [first[group] for group in (*reversed(_above(name)), name)]

    return {name: visible[name] for name in sorted(visible, key=place_of)}


def _above(group: str) -> list[str]:
    """Give the groups that a group lies in, but for the root."""
    return [str(parent) for parent in PurePosixPath(group).parents][:-1]


def check_free(store: str | Path | Place, overwrite: bool = False) -> None:
    """Refuse a store that exists or that cannot be written; change nothing.

    Raises
    ------
    InputError
        If something is there already that may not be overwritten.
    StoreError
        If nothing can be written there.
    """
    where = place(store) if isinstance(store, (str, Path)) else store
    there = where.exists()
    if there and not overwrite:
        raise InputError(
            f"{where.address} exists; give another path, --resume (resume=True) to continue it, "
            "or --overwrite (overwrite=True)"
        )
    if there:
        stranger = _stranger(where)
        if stranger is not None:
            raise InputError(
                f"{where.address} is not a store that daml wrote completely ({stranger}), and is "
                "not changed; give another path"
            )
    where.check_writable(replaced=there)


def check_apart(store: str | Path, source: str | Path) -> None:
    """Refuse a store that is a user's record, lies in it, or holds it.

    Raises
    ------
    InputError
        It names both.
    """
    one, two = (where.identity() for where in (place(store), place(source)))
    if one == two or one in two.parents or two in one.parents:
        raise InputError(
            f"{store}: the record lies at {source}, and a store there would destroy it; give "
            "another path"
        )


def _stranger(where: Place) -> str | None:
    """Give what daml did not write in a store; None where there is nothing of the kind."""
    try:
        root = Store(where.address).root()
    except StoreError:
        return "it has no attributes of an experiment"
    if "store_version" not in root["attributes"]:
        return "it is a record"
    visible = root["consolidated_metadata"]["metadata"]
    kinds = {name: _kind(document) for name, document in where.documents("").items()}
    for name in sorted(where.names()):
        above = [str(parent) for parent in PurePosixPath(name).parents][:-1]
        group = next((p for p in above if kinds.get(p) == "group"), "")
        array = next((p for p in above if kinds.get(p) == "array"), "")
        rest = name.removeprefix(f"{array or group}/")
        if not above:
            ours = name in (ROOT, LOCK, *CHECKPOINTS.values()) or name.endswith(PART)
        elif array:
            ours = rest == ROOT or re.fullmatch(r"c(/\d+)*", rest) is not None
            ours = ours and (array in visible or group not in visible)
        else:
            ours = rest == ROOT
        if not ours or (group and not WRITTEN.fullmatch(group)) or (above and not group):
            return f"it holds {name!r}"
    return None


def _kind(document: bytes) -> str | None:
    """Whether metadata are those of a group or of an array."""
    try:
        return str(json.loads(document)["node_type"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
