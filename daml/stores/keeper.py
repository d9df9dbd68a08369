"""Keeps the results of a run as they are made, and resumes a run that was interrupted."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import xarray as xr

from daml.errors import InputError
from daml.labels.definitions import CODE, same
from daml.stores import filling
from daml.stores.opening import open_tree
from daml.stores.store import CHECKPOINTS, Store, check_apart, check_free

RESULTS = ("iteration/", "member/", "correction/", "result")
"""Groups with which a new result is complete enough to replace the old one."""
PAUSE = 2.0
"""Minimum number of seconds between two checkpoints of a training."""


class Keeper(Protocol):
    """Keeps the groups of a run as they are made, in a store or in memory."""

    store: Store | None
    begun: xr.DataTree | None
    """What the run that is resumed had kept; None for a new run."""

    def open(self) -> AbstractContextManager[None]:
        """Give the context in which groups can be kept; it locks the store for this run."""
        ...

    def __call__(self, datasets: dict[str, xr.Dataset]) -> None:
        """Keep Datasets by group; all become visible at the same time."""
        ...

    def tell(self, attrs: dict[str, object]) -> None:
        """Add attributes to those of the experiment."""
        ...

    def tree(self) -> xr.DataTree:
        """Give everything that was kept."""
        ...


def keeper(
    store: str | Path | None,
    attrs: dict[str, object],
    *,
    overwrite: bool = False,
    resume: bool = False,
    may_change: Collection[str] = (),
) -> Keeper:
    """Give the keeper of a run.

    Parameters
    ----------
    store : str or path, optional
        Where groups are kept; default: in memory.
    attrs : mapping
        The whole configuration of the run.
    overwrite : bool
        Whether to replace an existing store, if daml wrote it.
    resume : bool
        Whether to resume the run in the store.
    may_change : collection of str
        Attributes in which a resumed run may differ from the one before.

    Raises
    ------
    InputError
        If the store exists and is neither overwritten nor resumed, if it has another
        configuration, or if both ``overwrite`` and ``resume`` are given.
    """
    if overwrite and resume:
        raise InputError(
            "overwrite and resume are both given: overwrite replaces what is in the store, "
            "resume continues it; give one of them"
        )
    if store is not None:
        return _InStore(Store(store), attrs, overwrite, resume, may_change)
    if resume:
        raise InputError("resume: no store is given; give the store of the run to resume")
    return InMemory(attrs)


class InMemory:
    """Keeps the groups of a run in memory; see :class:`Keeper`."""

    store: Store | None = None
    begun: xr.DataTree | None = None

    def __init__(self, attrs: dict[str, object]) -> None:
        self.attrs = dict(attrs)
        self.kept: dict[str, xr.Dataset] = {}

    def open(self) -> AbstractContextManager[None]:
        """Give an empty context: memory needs no lock."""
        return nullcontext()

    def __call__(self, datasets: dict[str, xr.Dataset]) -> None:
        """Keep Datasets by group."""
        self.kept |= datasets

    def tell(self, attrs: dict[str, object]) -> None:
        """Add attributes to those of the experiment."""
        self.attrs |= attrs

    def tree(self) -> xr.DataTree:
        """Give everything that was kept."""
        tree = xr.DataTree.from_dict(self.kept)
        tree.attrs = dict(self.attrs)
        return tree


class _InStore:
    """Keeps the groups of a run in a store; see :class:`Keeper`.

    The store is made with the first group, and removed again if an input error ends the run before
    the first pass (or member) is complete. A store that is overwritten stays as it is until the
    first pass (or member) of the new run is complete; at a URL, until its first group is written.
    """

    def __init__(
        self,
        store: Store,
        attrs: dict[str, object],
        overwrite: bool,
        resume: bool,
        may_change: Collection[str],
    ) -> None:
        self.store: Store | None = store
        self.into, self.attrs, self.may_change = store, attrs, may_change
        self.overwrite, self.resume = overwrite, resume
        self.begun: xr.DataTree | None = None
        self.made = self.whole = False
        if resume and store.made():
            self._check_equal()
        else:
            check_free(store.place, overwrite)

    def _check_equal(self) -> None:
        """Refuse a store with another configuration."""
        there = self.into.root()["attributes"]
        fixed = {k: v for k, v in self.attrs.items() if k not in self.may_change}
        found = [t for k, v in fixed.items() for t in differences(k, there.get(k), v)]
        if found:
            differing = ", ".join(found[:3] + (["..."] if len(found) > 3 else []))
            raise InputError(
                f"{self.into.address}: cannot be resumed with another configuration ({differing}); "
                "give the same, another store, or --overwrite (overwrite=True)"
            )

    @contextmanager
    def open(self) -> Iterator[None]:
        """Lock the store for this run."""
        with self.into.lock():
            if self.resume and self.into.made():
                self._check_equal()
                self.begun = open_tree(self.into.address)
                self.made = True
                yield
                return
            check_free(self.into.place, self.overwrite)
            with self.into.replacement() if self.into.place.exists() else nullcontext():
                try:
                    yield
                except InputError:  # the run cannot be resumed with these arguments
                    if self.made and not self.whole:
                        self.into.withdraw()
                    raise

    def __call__(self, datasets: dict[str, xr.Dataset]) -> None:
        """Keep Datasets by group; all become visible at the same time."""
        if not self.made:
            self.into.create(self.attrs)
            self.made = True
        for group, dataset in datasets.items():
            self.into.write(dataset, group)
        self.into.commit(datasets)
        for name in CHECKPOINTS.values():
            self.into.remove(name)
        if any(group.startswith(RESULTS) for group in datasets):
            self.whole = True
            self.into.take_place()

    def tell(self, attrs: dict[str, object]) -> None:
        """Add attributes to those of the experiment."""
        self.into.commit((), attrs)

    def tree(self) -> xr.DataTree:
        """Give everything that was kept, opened lazily."""
        return open_tree(self.into.place.address)


def differences(name: str, there: object, now: object) -> list[str]:
    """Give the differences of two attributes; for two descriptions, by setting."""
    if there == now or (name.endswith(f".{CODE}") and "nothing" in (there, now)):
        return []
    one, two = _settings(there), _settings(now)
    if one is None or two is None:
        return [f"{name}: {str(there)[:80]} there, {str(now)[:80]} now"]
    if name.endswith(f".{CODE}"):
        return _changed_code(name.removesuffix(f".{CODE}"), one, two)
    return [
        difference
        for key in sorted(one.keys() | two.keys())
        for difference in differences(f"{name}.{key}", _setting(one, key), _setting(two, key))
    ]


def _changed_code(name: str, one: Mapping[str, Any], two: Mapping[str, Any]) -> list[str]:
    """Give the functions of a user's class whose code has changed."""
    changed = [
        key
        for key in sorted(one.keys() | two.keys())
        if key not in one or key not in two or not same(one[key], two[key])
    ]
    return [f"{name}: the code of {key!r} has changed since" for key in changed]


def _settings(attribute: object) -> dict[str, object] | None:
    """Give the settings in a description; None if the attribute is not a description."""
    try:
        found = json.loads(attribute) if isinstance(attribute, str) else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _setting(settings: dict[str, object], key: str) -> object:
    """Give a setting; as JSON if it has settings itself."""
    found = settings.get(key, "nothing")
    return json.dumps(found, sort_keys=True) if isinstance(found, dict) else found


def check_given(
    store: str | Path | None, given: Mapping[str, xr.Dataset], resume: bool = False
) -> None:
    """Refuse Datasets that a store would change, or that lie in a store to be overwritten.

    A run in memory refuses none, and a resumed run overwrites nothing.

    Raises
    ------
    InputError
        If there is one; the message names it and the variable or attribute, or its path.
    """
    for name, dataset in given.items() if store is not None else ():
        encodings = [dataset.encoding, *(v.encoding for v in dataset.variables.values())]
        for source in {e["source"] for e in encodings if "source" in e and not resume}:
            check_apart(cast("str", store), source)
        filling.check(dataset, name)


class TrainingCheckpoint:
    """Stores the state of the training of a pass; see :class:`daml.protocols.Checkpoint`."""

    def __init__(self, store: Store, iteration: int, training: str) -> None:
        self.store, self.iteration, self.name = store, iteration, CHECKPOINTS[training]
        self.last = time.monotonic()

    def load(self) -> dict[str, np.ndarray] | None:
        """Give what was saved last in the training of this pass; None if nothing was saved."""
        found = self.store.load(self.name)
        if found is None or int(found.pop("iteration", -1)) != self.iteration:
            return None
        return found

    def due(self) -> bool:
        """Whether the last checkpoint is some seconds old, and the store exists."""
        return self.store.made() and time.monotonic() - self.last >= PAUSE

    def save(self, arrays: dict[str, np.ndarray]) -> None:
        """Save arrays in place of those saved before."""
        self.store.save(self.name, arrays | {"iteration": np.array(self.iteration)})
        self.last = time.monotonic()


def fingerprint(dataset: xr.Dataset) -> str:
    """Give a checksum of the numbers and names in a Dataset, by which a record is recognised."""
    found = hashlib.sha256()
    for name in sorted(map(str, dataset.variables)):
        variable = dataset[name].variable
        text = variable.dtype.kind in "OUT"
        kind = "U" if text else variable.dtype.kind  # a store may return another kind of text
        found.update(f"{name} {variable.dims} {variable.shape} {kind}".encode())
        values = variable.values
        if text or kind == "S":
            found.update(str(values.tolist()).encode())
        else:
            found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()
