"""H that is a function of fields at points, such as a wind speed of its components."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import xarray as xr

from daml.arrays import alike, namespace
from daml.errors import DamlError, InputError, first_line
from daml.observing.operators import Tangent
from daml.observing.places.interpolation import CHANGING, Interpolation, dense

Call = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True)
class PointFunctions:
    """Functions of fields at points, by the name of what they give.

    Parameters
    ----------
    call : mapping of str to callable
        Each takes a dict of fields (..., point) and gives (..., point), point by point, for NumPy's
        arrays and torch's tensors.
    """

    call: Mapping[str, Call]

    linear: ClassVar[bool] = False
    changes: ClassVar[bool] = True

    def reordered(self, places: Sequence[int], size: int) -> PointFunctions:
        """Give the functions for variables in another order: they go by the names of fields."""
        return self

    def value(self, name: str, fields: dict[str, Any]) -> Any:
        """Give what a function makes of fields (..., point).

        Raises
        ------
        InputError
            If it raises, or gives another shape or kind of array.
        """
        given = next(iter(fields.values()))
        try:
            found = self.call[name](fields)
        except DamlError:
            raise
        except Exception as error:
            raise InputError(
                f"operator[{name!r}] failed ({type(error).__name__}: {first_line(error)}); it "
                f"takes a dict of fields at points, here {', '.join(fields)}, and gives an array "
                "of the same shape"
            ) from error
        shape = getattr(found, "shape", None)
        if not isinstance(found, type(given)) or tuple(shape or ()) != tuple(given.shape):
            raise InputError(
                f"operator[{name!r}] turned fields of shape {tuple(given.shape)} into a "
                f"{type(found).__name__} of shape {shape}; give one number for each point, in an "
                "array of the same kind and shape"
            )
        return found


class Group(NamedTuple):
    """Slots whose values are a function of fields there."""

    name: str
    fields: tuple[str, ...]
    slots: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Pointwise:
    """H of points at some of which functions of fields are observed.

    Parameters
    ----------
    around : Interpolation
        Between the variables around each point (..., observed, part times corner). What is no
        function has all its weight in the first part; a function has a part for each field.
    parts : int
        How many.
    present : numpy.ndarray (..., observed)
        Whether a value is there. A missing one has any place, and gives 0.
    groups : tuple of Group
        The slots of the functions.
    functions : PointFunctions
    """

    around: Interpolation
    parts: int
    present: np.ndarray
    groups: tuple[Group, ...]
    functions: PointFunctions

    linear: ClassVar[bool] = False
    changes: ClassVar[bool] = True

    def apply(self, x: Any) -> Any:
        """Give H(x) (..., observed) of states (..., variable), or of members."""
        found = self._of_parts(self._parts(x))
        present = self.present
        if found.ndim > present.ndim:
            present = present[..., None, :]
        return found * alike(present.astype(np.float64), found)

    def tangent(self, x: Any) -> Any:
        """Give dH/dx at each state (..., variable): (..., observed, variable), by torch."""
        found = dense(self.around.places, self._weights(x), self.around.size)
        return found.detach().numpy() if isinstance(x, np.ndarray) else found

    def linearised(self, at: Any) -> Interpolation | Tangent:
        """Give H that is linear around states (..., variable), by torch.

        Without a matrix, unless a gradient passes through the states.
        """
        if getattr(at, "requires_grad", False):
            return Tangent(self.tangent(at))
        weights = self._weights(at).detach().cpu().numpy()
        return Interpolation(self.around.places, weights, self.around.size)

    def _weights(self, x: Any) -> Any:
        """Give the slopes (..., observed, part times corner) by the variables around each point."""
        import torch

        at = torch.as_tensor(x, dtype=torch.float64) if isinstance(x, np.ndarray) else x
        with torch.enable_grad():
            parts = self._parts(at)
            if not parts.requires_grad:
                parts = parts.detach().requires_grad_()
            try:
                total = self._of_parts(parts).sum()
                (slope,) = torch.autograd.grad(total, parts, create_graph=at.requires_grad)
            except RuntimeError as error:
                raise InputError(
                    f"'operator' cannot be differentiated by torch ({first_line(error)}); write "
                    "its functions with operations that NumPy's arrays and torch's tensors share"
                ) from error
        corners = self.around.places.shape[-1] // self.parts
        weights = alike(self.around.weights * self.present[..., None], at)
        return weights * slope.repeat_interleave(corners, dim=-1)

    def matrix(self) -> np.ndarray:
        """Refuse: there is no matrix for all times."""
        return CHANGING.matrix()

    def picked(self, rows: Any) -> Pointwise:
        """Give H for some states of the batch."""
        how = self.groups, self.functions
        return Pointwise(self.around.picked(rows), self.parts, self.present[rows], *how)

    def _parts(self, x: Any) -> Any:
        """Give what is interpolated (..., observed, part)."""
        found = self.around.weighted(x)
        return found.reshape(*found.shape[:-1], self.parts, -1).sum(-1)

    def _of_parts(self, parts: Any) -> Any:
        """Give what is observed of parts (..., observed, part)."""
        xp, taken = namespace(parts), [slot for group in self.groups for slot in group.slots]
        plain = [slot for slot in range(parts.shape[-2]) if slot not in set(taken)]
        columns = [parts[..., plain, 0]]
        for name, fields, slots in self.groups:
            own = parts[..., list(slots), :]
            given = {field: own[..., place] for place, field in enumerate(fields)}
            columns.append(self.functions.value(name, given))
        return xp.concat(columns, axis=-1)[..., np.argsort([*plain, *taken]).tolist()]


def check_functions(given: Mapping[str, Any], what: str) -> PointFunctions:
    """Give functions by name; refuse what is none."""
    for name, call in given.items():
        if not callable(call) or isinstance(call, type):
            raise InputError(
                f"{what}: operator[{str(name)!r}] is a {type(call).__name__}; give a function of a "
                "dict of fields at points"
            )
    return PointFunctions({str(name): call for name, call in given.items()})


class _Noticed(dict[str, Any]):
    """Fields that notice which of them are used."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        super().__init__(fields)
        self.used: dict[str, None] = {}

    def __getitem__(self, name: str) -> Any:
        found = super().__getitem__(name)
        self.used[name] = None
        return found


def fields_of(functions: PointFunctions, name: str, fields: Mapping[str, float]) -> tuple[str, ...]:
    """Give the fields that a function uses, tried on one value of each.

    Raises
    ------
    InputError
        If it fails, or gives another shape or numbers that are not finite.
    """
    tried = _Noticed({field: np.full(2, value) for field, value in fields.items()})
    with np.errstate(all="ignore"):
        found = functions.value(name, tried)
    if not np.isfinite(found).all():
        given = ", ".join(f"{field}={value:.6g}" for field, value in fields.items())
        raise InputError(
            f"operator[{name!r}] gives numbers that are not finite for the means of the model's "
            f"template, {given}; correct it, or give the template typical values"
        )
    return tuple(tried.used) or tuple(fields)


def described_parts(groups: Mapping[str, tuple[str, ...]]) -> str:
    """Give the fields of each function as text, which a record keeps."""
    return json.dumps({name: list(fields) for name, fields in groups.items()})


def groups_of(observations: xr.Dataset, functions: PointFunctions | None) -> tuple[Group, ...]:
    """Give the slots of a record that are seen through functions.

    Raises
    ------
    InputError
        If the functions are not given, or others than the record needs.
    """
    needed = json.loads(observations["place"].attrs.get("through", "{}"))
    given = {} if functions is None else functions.call
    lacking = [name for name in needed if name not in given]
    if lacking:
        raise InputError(
            f"observations: {lacking[0]!r} is observed at points through a function; give this "
            f"function again: operator={{{lacking[0]!r}: ...}}"
        )
    unused = [name for name in given if name not in needed]
    if unused:
        raise InputError(
            f"observations: operator[{unused[0]!r}] is given, and no points observe "
            f"{unused[0]!r}; give it to daml.from_points, too, or leave it out"
        )
    fields = observations["field"].values if needed else np.array([])
    return tuple(
        Group(name, tuple(names), tuple(np.flatnonzero(fields == name).tolist()))
        for name, names in needed.items()
    )
