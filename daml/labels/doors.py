"""Fields at the door of a public function: on one axis, on the template of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import xarray as xr

from daml.errors import InputError, name_of
from daml.labels.fields import ERROR, flatten, forms_of, has_fields, is_flat
from daml.labels.templates import Template


def coordinates(variables: Sequence[str], model: object, dataset: xr.Dataset) -> dict[str, Any]:
    """Give the coordinates of the fields that variables are of: a model's, or those of a Dataset.

    Nothing where neither has fields.
    """
    template = Template.of(model) or Template.in_flat(dataset)
    return {} if template is None else template.coordinates(variables)


def points_of(dataset: xr.Dataset, wanted: Sequence[str]) -> tuple[str, ...]:
    """Give the variables that are wanted by their names, or all points of a field by its name."""
    if not has_fields(dataset):
        return tuple(wanted)
    held, fields = dataset["variable"].values.astype(object), dataset["field"].values
    found = (held[fields == name].tolist() or [name] for name in wanted)
    return tuple(dict.fromkeys(str(name) for part in found for name in part))


def one_unit(dataset: xr.Dataset, variables: Sequence[str], what: str) -> None:
    """Refuse variables of fields with different units where they count alike.

    Raises
    ------
    InputError
        It begins with ``what``.
    """
    if not has_fields(dataset):
        return
    fields = dict.fromkeys(dataset["field"].sel(variable=list(variables)).values.tolist())
    units = {field: dataset[field].attrs.get("units", "1") for field in fields if field}
    if len(set(units.values())) > 1:
        listed = ", ".join(f"{field!r} in {unit}" for field, unit in units.items())
        raise InputError(
            f"{what}: the fields have different units ({listed}), and one mean of their squares "
            f"would mix them; give variables=[{next(iter(units))!r}], one field after the other"
        )


def flat_like(dataset: xr.Dataset, other: xr.Dataset) -> xr.Dataset:
    """Give states or observations on the axis ``variable``, on the fields of another Dataset."""
    template = None if is_flat(dataset) else Template.in_flat(other)
    return flat(dataset) if template is None else template.aligned(dataset)


def flat(dataset: xr.Dataset, model: object = None) -> xr.Dataset:
    """Give states or observations on the axis ``variable``, on the template of a model if any.

    A Dataset that is flat is returned as it is.
    """
    if is_flat(dataset) or not isinstance(dataset, xr.Dataset):
        return dataset
    template = Template.of(model)
    if template is not None:
        return template.aligned(dataset)
    found = flatten(dataset)
    if model is not None and any(form.sizes for form in forms_of(found).values()):
        raise InputError(
            f"{name_of(model)}: it has no 'template', so that it is not known where the "
            "fields that are given lie on its grid; give daml.flatten(fields), with the model's "
            "names along 'variable', or make the model a daml.models.Gridded"
        )
    return found


def _within_range(record: xr.Dataset) -> xr.Dataset:
    """Give a record without the values outside of the ranges that its attributes declare.

    Those of ``observation``, or of the fields: ``valid_range``, or ``valid_min`` and ``valid_max``,
    as in CF conventions.
    """
    if not isinstance(record, xr.Dataset) or "observation" not in record:
        return record
    given = values = record["observation"]
    ranges = {"observation": _range(values, "observation")}
    if has_fields(record):
        ranges |= {f: _range(record[f], f) for f in forms_of(record) if f in record.coords}
    for name, (low, high) in ranges.items():
        if low is None and high is None:
            continue
        among = True if name == "observation" else record["field"] == name
        if low is not None:
            values = values.where(~((values < low) & among))
        if high is not None:
            values = values.where(~((values > high) & among))
    return record if values is given else record.assign(observation=values)


def _range(array: xr.DataArray, name: str) -> tuple[Any, Any]:
    """Give the smallest and the largest valid value; None where none is declared."""
    given = array.attrs.get("valid_range")
    low, high = array.attrs.get("valid_min"), array.attrs.get("valid_max")
    if given is not None:
        try:
            low, high = given
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{name!r}: 'valid_range' is {given!r}; give the smallest and the largest valid "
                "value, or remove the attribute"
            ) from error
    return low, high


def flat_record(observations: xr.Dataset, model: object) -> xr.Dataset:
    """Give observations on the axis ``variable``, on the template of a model if any.

    Raises
    ------
    InputError
        If they are fields that do not match the template, or have no error variance.
    """
    found = _within_range(flat(observations, model))
    if found is not observations and "observation" not in found:
        field = next(iter(observations.data_vars))
        raise InputError(
            f"observations: the data variable {field!r} is read as a field, but it has no "
            f"error variance; add '{field}{ERROR}', a number or an array with some of the "
            f"dimensions of {field!r}"
        )
    return found
