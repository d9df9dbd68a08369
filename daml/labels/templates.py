"""The template of a model: the fields of its state, and records that are to lie on them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from array_api_compat import array_namespace

from daml.errors import InputError, name_of, warn
from daml.labels.fields import AT, ERROR, Form, described, flatten, forms_of, has_fields, is_flat

NEAR = 1e-6
"""By how much coordinates may be off those of the template, in units of their smallest spacing."""
EARTH = 6371.0
"""Radius of the Earth in km."""
CELSIUS = "degc", "celsius", "degree_celsius", "degrees_celsius", "°c"
"""Spellings of one unit."""


@dataclass(frozen=True, eq=False)
class Template:
    """The fields of a model's state; a NaN in a field is no variable, such as land.

    Attributes
    ----------
    flat : xarray.Dataset
        ``state`` (variable), of all points, masked ones too.
    """

    flat: xr.Dataset

    @classmethod
    def of(cls, model: object) -> Template | None:
        """Give that of a model; None if it has none.

        Raises
        ------
        InputError
            If it is no Dataset of fields in space, or names other variables than the model does.
        """
        given = getattr(model, "template", None)
        if given is None or isinstance(model, type):
            return None
        owner = name_of(model)
        template = cls.given(given, owner)
        variables = tuple(getattr(model, "variables", ()))
        if variables[: len(template.names)] != template.names:  # hidden ones may follow
            first = variables[0] if variables else None
            raise InputError(
                f"{owner}: 'variables' are {len(variables)} names that begin with {first!r}, and "
                f"those of 'template' are {len(template.names)} that begin with "
                f"{template.names[0]!r}; subclass daml.models.Gridded, which names them"
            )
        return template

    @classmethod
    def given(cls, fields: Any, owner: str) -> Template:
        """Give that of fields; ``owner`` is whose they are, for errors."""
        if not isinstance(fields, xr.Dataset) or is_flat(fields):
            raise InputError(
                f"{owner}: 'template' is a {type(fields).__name__}; give an xarray.Dataset with a "
                "data variable (y, x) for each field of the state"
            )
        if "time" not in fields.dims:  # a map taken out of a record still has its date
            fields = fields.drop_vars("time", errors="ignore")
        template = cls(flatten(fields))
        dims = template.flat["state"].dims if "state" in template.flat else ()
        if dims != ("variable",):
            raise InputError(
                f"{owner}: 'template' has the dimensions {tuple(map(str, fields.dims))}; give "
                "those of space alone: template.isel(time=0, drop=True)"
            )
        return template

    @classmethod
    def in_flat(cls, dataset: xr.Dataset) -> Template | None:
        """Give that of a flat Dataset, with all points; None if it is of no fields."""
        if not has_fields(dataset):
            return None
        forms = forms_of(dataset)
        space = {dim for form in forms.values() for dim in form.sizes}
        marks = [f"{field}{ending}" for field in forms for ending in ("", ERROR)]
        grid = {
            name: array.variable
            for name, array in dataset.coords.items()
            if array.dims and set(array.dims) <= space and name not in marks
        }
        fields = {
            field: (tuple(form.sizes), np.zeros(form.shape), dataset[field].attrs)
            for field, form in forms.items()
        }
        return cls(flatten(xr.Dataset(fields, grid)))

    def coordinates(self, variables: Sequence[str]) -> dict[str, Any]:
        """Give the coordinates of results along variables; those of no field have the field ''."""
        at = self.flat.indexes["variable"].get_indexer(list(variables))
        about = self.flat.drop_vars(["state", "variable"]).isel(variable=np.maximum(at, 0))
        beside = xr.DataArray(at < 0, dims="variable")
        if bool(beside.any()):
            attrs = about["field"].attrs
            about["field"] = about["field"].where(~beside, "").assign_attrs(attrs)
            for name in [n for n in about.coords if str(n).startswith(AT)]:
                about[name] = about[name].where(~beside, -1).assign_attrs(about[name].attrs)
        return {str(name): array.variable for name, array in about.coords.items()}

    @cached_property
    def forms(self) -> dict[str, Form]:
        """The dimensions of each field."""
        return forms_of(self.flat)

    @property
    def first(self) -> str:
        """The name of the first field."""
        return next(iter(self.forms))

    @cached_property
    def there(self) -> np.ndarray:
        """Whether each point (point,) is a variable."""
        return np.asarray(self.flat["state"].notnull().values)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The variables."""
        return tuple(self.flat["variable"].values[self.there].tolist())

    @cached_property
    def values(self) -> np.ndarray:
        """The values (variable,)."""
        return np.asarray(self.flat["state"].values[self.there], dtype=np.float64)

    def fields(self, x: Any) -> dict[str, Any]:
        """Give states (..., variable) as fields (..., *space), 0 where there is no variable."""
        xp, size = array_namespace(x), len(self.there)
        if not self.there.all():
            place = np.full(size, len(self.names))
            place[self.there] = np.arange(len(self.names))
            x = xp.concat((x, xp.zeros_like(x[..., :1])), axis=-1)[..., place]
        found, done = {}, 0
        for field, form in self.forms.items():
            part = x[..., done : done + form.size]
            found[field] = xp.reshape(part, (*x.shape[:-1], *form.shape))
            done += form.size
        return found

    def state(self, fields: Mapping[str, Any]) -> Any:
        """Give fields (..., *space) as states (..., variable)."""
        parts = []
        for field, form in self.forms.items():
            part = fields[field]
            leading = part.shape[: part.ndim - len(form.shape)]
            parts.append(array_namespace(part).reshape(part, (*leading, form.size)))
        x = array_namespace(parts[0]).concat(parts, axis=-1)
        return x if self.there.all() else x[..., np.flatnonzero(self.there)]

    @cached_property
    def positions(self) -> np.ndarray | None:
        """Where the variables lie (variable, dimension); None unless all fields share their space.

        In km on the sphere, in three dimensions, where there are latitudes and longitudes; else by
        the coordinates of the dimensions, or their places where they have none.
        """
        spaces = [tuple(form.sizes) for form in self.forms.values()]
        if not spaces[0] or any(set(space) != set(spaces[0]) for space in spaces):
            return None
        if self._degrees is not None:
            north, east = np.deg2rad(self._degrees)
            flat = np.cos(north)
            around = flat * np.cos(east), flat * np.sin(east), np.sin(north)
            return EARTH * np.stack(around, axis=-1)
        along = []
        for dim, at in self._points.items():
            index = self.flat.indexes.get(dim)
            if index is not None and index.dtype.kind not in "fiu":
                return None
            along.append(at if index is None else np.asarray(index, dtype=np.float64)[at])
        return np.stack(along, axis=-1).astype(np.float64)

    @property
    def on_sphere(self) -> bool:
        """Whether positions are those on a sphere."""
        return self.positions is not None and self._degrees is not None

    @property
    def _points(self) -> dict[str, np.ndarray]:
        """Where the variables (variable,) lie along each dimension of the first field."""
        return {
            dim: self.flat[f"{AT}{dim}"].values[self.there] for dim in self.forms[self.first].sizes
        }

    @cached_property
    def _degrees(self) -> np.ndarray | None:
        """Latitudes and longitudes (2, variable), if the template has them."""
        points, found = self._points, []
        for kind in ("north", "east"):
            for array in self.flat.coords.values():
                units = str(array.attrs.get("units", "")).lower()
                inside = array.dims and set(array.dims) <= set(points)
                if inside and units in (f"degrees_{kind}", f"degree_{kind}"):
                    at = tuple(points[str(dim)] for dim in array.dims)
                    found.append(np.asarray(array.values[at], dtype=np.float64))
                    break
        return np.stack(found) if len(found) == 2 else None

    def aligned(self, dataset: xr.Dataset) -> xr.Dataset:
        """Give a Dataset of fields, some or all and on all points or some, flat on this template.

        Raises
        ------
        InputError
            If a field is unknown, or its dimensions or coordinates are others, or there are values
            where the template has none.
        """
        flat = flatten(dataset)
        forms, numbers = forms_of(flat), np.full(flat.sizes["variable"], -1)
        for field, form in forms.items():
            if field not in self.forms:
                raise InputError(
                    f"{field!r} is not a field of the model, which has {', '.join(self.forms)}; "
                    f"rename it, or leave it out: ds.drop_vars({field!r})"
                )
            own = self.forms[field]
            if set(form.sizes) != set(own.sizes):
                raise InputError(
                    f"{field!r} has the dimensions {tuple(form.sizes)} in space, and in the "
                    f"model's template {tuple(own.sizes)}; give it these"
                )
            self._compare_units(field, flat[field].attrs)
            entries = np.flatnonzero(flat["field"].values == field)
            at = [
                self._places(field, dim, dataset)[flat[f"{AT}{dim}"].values[entries]]
                for dim in own.sizes
            ]
            inside = np.ravel_multi_index(tuple(at), own.shape) if at else 0
            numbers[entries] = self._first_point(field) + inside
        return self._renamed(flat, numbers, forms)

    def _compare_units(self, field: str, attrs: Mapping[Any, Any]) -> None:
        """Warn of a field in other units than the template's; their spelling does not matter."""
        given, own = (str(a.get("units", "")) for a in (attrs, self.flat[field].attrs))
        if given and own and _factors(given) != _factors(own):
            warn(
                f"{field!r} has the units {given!r}, and in the model's template {own!r}; daml "
                "converts no units: convert the values, or correct the attribute 'units'"
            )

    def _first_point(self, field: str) -> int:
        before = list(self.forms)[: list(self.forms).index(field)]
        return sum(self.forms[name].size for name in before)

    def _places(self, field: str, dim: str, dataset: xr.Dataset) -> np.ndarray:
        """Give where each entry of a dimension lies in the template's."""
        size, own = dataset.sizes[dim], self.forms[field].sizes[dim]
        given, index = dataset.indexes.get(dim), self.flat.indexes.get(dim)
        if given is None or index is None:
            if size != own:
                raise InputError(
                    f"{field!r} has {size} entries along {dim!r}, and the model's template {own}; "
                    f"give both a coordinate {dim!r}, or the same size"
                )
            return np.arange(own)
        places = index.get_indexer(given)
        numbers = index.dtype.kind in "fiu" and given.dtype.kind in "fiu"
        if (places < 0).any() and numbers:
            wanted, has = (np.asarray(i, dtype=np.float64) for i in (given, index))
            places = np.abs(wanted[:, None] - has).argmin(axis=1)
            spacing = np.diff(np.sort(has)).min() if own > 1 else max(abs(float(has[0])), 1.0)
            places[np.abs(has[places] - wanted) > NEAR * spacing] = -1
        if (places < 0).any():
            first = given[int(np.argmax(places < 0))]
            near = index[int(np.abs(np.asarray(index, float) - first).argmin())] if numbers else ""
            nearest = f" (the nearest is {near})" if numbers else ""
            raise InputError(
                f"{field!r}: {dim!r} has {first}, which is no place of the model's template"
                f"{nearest}; interpolate it: ds.interp({dim}=template[{dim!r}])"
            )
        return np.asarray(places)

    def _renamed(
        self, flat: xr.Dataset, numbers: np.ndarray, forms: Mapping[str, Form]
    ) -> xr.Dataset:
        """Give a flat Dataset with the names and coordinates of the template's points."""
        values = "observation" if "observation" in flat else "state"
        masked = ~self.there[numbers]
        if masked.any():
            filled = flat[values].isel(variable=masked).notnull()
            if bool(filled.any()):
                at = int(np.argmax(filled.any([d for d in filled.dims if d != "variable"]).values))
                name = flat["variable"].values[np.flatnonzero(masked)[at]]
                raise InputError(
                    f"{values!r} has values of {name!r}, where the model's template has none; "
                    "mask them: ds.where(template.notnull())"
                )
            flat, numbers = flat.isel(variable=~masked), numbers[~masked]
        order = np.argsort(numbers, kind="stable")
        flat, numbers = flat.isel(variable=order), numbers[order]
        about = self.flat.drop_vars("state").isel(variable=numbers)
        marks = [name for field in forms for name in (field, f"{field}{ERROR}")]
        leading = {dim for dim in flat[values].dims if dim != "variable"}
        kept = [
            *(name for name in marks if name in flat.coords),
            *(name for name, c in flat.coords.items() if c.dims and leading >= set(c.dims)),
        ]
        renamed = {
            field: replace(form, error=forms[field].error if field in forms else None)
            for field, form in self.forms.items()
        }
        found = xr.Dataset({name: array.variable for name, array in flat.data_vars.items()})
        own = {name: flat[name].variable for name in kept}
        found = found.assign_coords({**about.coords, **own})
        found["field"].attrs = described(renamed)
        return found.assign_attrs(flat.attrs)


def _factors(units: str) -> list[str]:
    """Give the factors of units in one spelling: "m s-1" for "m/s", "m s^-1" and "m s**-1"."""
    text = units.replace("**", "").replace("^", "").replace("*", " ").strip()
    text = re.sub(r"\s*/\s*([^\W\d]+)(\d*)", lambda per: f" {per[1]}-{per[2] or 1}", text)
    return sorted("degC" if one.lower() in CELSIUS else one for one in re.split(r"[\s.]+", text))
