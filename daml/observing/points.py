"""Observations at any places of a model's grid, from a table with a row for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from daml.errors import InputError, name_of
from daml.labels.arguments import checked, shown
from daml.labels.space import StateSpace
from daml.labels.templates import Template
from daml.observing.places.around import Weights
from daml.observing.places.pointwise import check_functions, described_parts, fields_of
from daml.observing.places.slots import Sites, moving_record
from daml.observing.stepped import changes, merged, nearest

if TYPE_CHECKING:
    from daml.protocols import Model

NEEDED = ("time", "observation", "error_variance")
LARGEST = 1 << 25
"""Values of the largest operator that is made: 256 MB."""


@checked
def from_points(
    points: pd.DataFrame | xr.Dataset,
    model: Model,
    *,
    tolerance: Any = None,
    start: Any = None,
    moving: bool | None = None,
    operator: Mapping[str, Callable[[Any], Any]] | None = None,
) -> xr.Dataset:
    """Make a record from a table of observations at any places and times.

    The operator of the record interpolates linearly between the surrounding points of the model's
    grid, without those that are masked. Times are moved to the nearest step of the model, see
    :func:`daml.on_steps`.

    With fixed places, such as stations, each observed place is a variable of the record, with a row
    of its ``operator``. If places change in time, as those of ships and satellites do, the values
    of each time are stored side by side in slots, each with its ``place`` and ``weight`` at this
    time. The number of slots is the largest number of values at one time.

    Parameters
    ----------
    points : pandas.DataFrame or xarray.Dataset
        One row, or one entry along the only dimension, per observation, with the columns ``time``,
        ``observation`` and ``error_variance``; the coordinates of the field, such as ``lat`` and
        ``lon``; ``field``, unless the model has only one; and ``instrument``, if there may be
        several instruments at one place with independent errors.
    model : Model
        With a ``template``, whose dimensions have coordinates (:class:`daml.models.Gridded`).
    tolerance, start
        See :func:`daml.on_steps`.
    moving : bool, optional
        Whether places change in time. Default: True if more than half of the places are observed at
        one of several times only, or if an operator for all places would have more than 33 million
        entries. Both forms give the same analyses; estimates of B, as in
        ``ThreeDVar("innovations")``, need fixed places.
    operator : mapping of str to callable, optional
        For each ``field`` of the table that the model lacks, a function of a dict of the
        model's fields at the points (..., point), such as
        ``{"speed": lambda fields: (fields["u"] ** 2 + fields["v"] ** 2) ** 0.5}``. Give it to
        ``assimilate``, ``smooth`` or ``improve`` again. The record then has the form for moving
        places.

    Returns
    -------
    xarray.Dataset
        ``observation`` and ``error_variance`` (time, variable). With fixed places also ``operator``
        (variable, model_variable). With moving places ``variable`` are the slots, named by field
        and instrument, "u#0", "u#1"; ``place`` (time, variable, corner) are the indices along
        ``model_variable`` of the model's variables around a value, -1 where a value is missing, and
        ``weight`` their weights; and there are the coordinates of the values, such as ``lat`` and
        ``lon`` (time, variable). The attributes are those of :func:`daml.on_steps`, and
        ``outside``, the number of rows that were left out because they lie outside of the grid or
        where it is masked.

    Raises
    ------
    InputError
        If the model has no template or no coordinates, a column is missing, a field is unknown, a
        variance is not positive, all rows lie outside, the units of ``observation`` of a Dataset
        are not those of its fields, or ``moving`` is False and there are so many places that their
        operator would have more than 33 million entries.

    Examples
    --------
    >>> import daml
    >>> class Ring(daml.models.Gridded):
    ...     template = xr.Dataset({"q": ("x", [0.1, 0.2, 0.3])}, {"x": [0.0, 1.0, 2.0]})
    ...     dt = 1.0
    ...
    ...     def move(self, fields):
    ...         return {"q": np.cos(3 * fields["q"])}
    >>> buoys = pd.DataFrame({"time": [0.0, 1.1, 2.0], "x": [0.5, 0.5, 1.75],
    ...                       "observation": [0.9, 0.8, 0.4], "error_variance": 0.01})
    >>> record = from_points(buoys, Ring())
    >>> record.operator.values
    array([[0.5 , 0.5 , 0.  ],
           [0.  , 0.25, 0.75]])

    A ship is at another place at each time:

    >>> ship = pd.DataFrame({"time": [0.0, 1.0, 2.0], "x": [0.5, 0.7, 0.9],
    ...                      "observation": [0.9, 0.8, 0.4], "error_variance": 0.01})
    >>> from_points(ship, Ring()).weight.values[:, 0]
    array([[0.5, 0.5],
           [0.3, 0.7],
           [0.1, 0.9]])
    """
    template = Template.of(model)
    if template is None:
        raise InputError(
            f"from_points: {name_of(model)} has no template, which says where its variables "
            "lie; make it a daml.models.Gridded"
        )
    through = _through(template, operator, moving)
    table = _table(points, template, through)
    missing = int(table["time"].isna().sum())
    if missing:
        raise InputError(
            f"from_points: {missing} of {len(table)} rows have no 'time' (NaN or NaT); leave them "
            "out: points.dropna(subset=['time'])"
        )
    near = nearest(table["time"].to_numpy(), model, tolerance, start, "from_points")
    used = {name for f in table["field"].unique() for name in through.get(f, (f,))}
    weights = Weights(template, getattr(model, "period", None), used)
    columns, shares = weights.of(table, through)
    inside = np.isfinite(shares).all(axis=1)
    good = inside & near.kept & np.isfinite(table["observation"].to_numpy())
    if not good.any():
        raise InputError(
            f"from_points: none of the {len(table)} rows has a value, lies on the grid of "
            f"{name_of(model)} ({weights.reach()}), and has a time within the tolerance of a "
            "step; check the units and the times"
        )
    rows = np.flatnonzero(good)
    kept = table.iloc[rows]
    site = kept.groupby(weights.keys(kept), sort=False, dropna=False).ngroup().to_numpy()
    first = np.unique(site, return_index=True)[1]
    around = columns[rows][first], shares[rows][first]
    sites = Sites(
        kept, near, rows, site, *around, template, weights, StateSpace.of(model).positions
    )
    result, doubled = record_of(sites, True if through else moving)
    if through:
        result["place"].attrs["through"] = described_parts(through)
    moved = changes(near, rows, doubled, int(table["observation"].notna().sum()))
    return result.assign_attrs(moved, outside=int((~inside).sum()))


def record_of(sites: Sites, moving: bool | None) -> tuple[xr.Dataset, int]:
    """Give a record, with an operator unless places move; and how many values were merged.

    None finds out whether they do.
    """
    moves = _moves(sites) if moving is None else moving
    return moving_record(sites) if moves else _fixed_record(sites)


def _through(
    template: Template, operator: Mapping[str, Any] | None, moving: bool | None
) -> dict[str, tuple[str, ...]]:
    """Give the fields that each function takes, tried on a value of each field."""
    if operator is None:
        return {}
    if not isinstance(operator, Mapping):
        raise InputError(
            f"from_points: 'operator' is a {type(operator).__name__}; give a dict of functions of "
            "fields at points: operator={'speed': ...}"
        )
    if moving is False:
        raise InputError(
            "from_points: 'moving' is False, and points that are observed through a function have "
            "no row of an operator; leave 'moving' out"
        )
    functions = check_functions(operator, "from_points")
    taken = [name for name in functions.call if name in template.forms]
    if taken:
        raise InputError(
            f"from_points: operator[{taken[0]!r}] has the name of a field of the model; give "
            "its result a name of its own"
        )
    state, field = template.flat["state"], template.flat["field"]
    one = {name: float(state.where(field == name).mean()) for name in template.forms}
    return {name: fields_of(functions, name, one) for name in functions.call}


def _moves(sites: Sites) -> bool:
    """Whether places change: most are seen only once, or they are too many for an operator."""
    visits, steps = sites.visits()
    once = steps > 1 and 2 * int((visits == 1).sum()) > len(visits)
    return once or len(visits) * len(sites.template.names) > LARGEST


def _fixed_record(sites: Sites) -> tuple[xr.Dataset, int]:
    """Give a record with an operator; and how many values were merged with others."""
    kept, names = sites.table, sites.template.names
    operator = _operator(sites.columns, sites.shares, len(names))
    given = kept["observation"].to_numpy(float), kept["error_variance"].to_numpy(float)
    found = merged(sites.near, sites.rows, sites.site, *given, len(operator))
    rows = kept.iloc[sites.first].to_dict("records")
    result = xr.Dataset(
        {
            "observation": (("time", "variable"), found.observation),
            "error_variance": (("time", "variable"), found.error_variance),
            "operator": (("variable", "model_variable"), operator),
        },
        {
            "time": found.times,
            "variable": [sites.weights.name(row) for row in rows],
            "model_variable": list(names),
        },
    )
    where = sites.positions
    if where is not None:
        result = result.assign_coords(position=(("variable", "dimension"), where))
    return result, found.doubled


def _table(points: Any, template: Template, through: Mapping[str, Any]) -> pd.DataFrame:
    """Give the rows as a DataFrame with all columns; refuse what lacks one."""
    unit = None
    if isinstance(points, xr.Dataset):
        unit = points["observation"].attrs.get("units") if "observation" in points else None
        points = points.to_dataframe()
    if not isinstance(points, pd.DataFrame) or not len(points):
        raise InputError(
            f"from_points: 'points' is {shown(points)}; give a pandas.DataFrame, or a Dataset "
            "along one dimension, with a row for each observation"
        )
    table = points.reset_index()
    if "field" not in table and len(template.forms) == 1:
        table = table.assign(field=template.first)
    needed = [*NEEDED, "field"]
    lacking = [name for name in needed if name not in table]
    if lacking:
        raise InputError(
            f"from_points: the column {lacking[0]!r} is missing (there are "
            f"{', '.join(map(str, points.columns))}); add it, or rename yours"
        )
    given = table["field"].unique()
    unknown = [name for name in given if name not in (*template.forms, *through)]
    if unknown:
        raise InputError(
            f"from_points: {unknown[0]!r} is not a field of the model, which has "
            f"{', '.join(template.forms)}; rename it, or give a function of these fields: "
            f"operator={{{unknown[0]!r}: ...}}"
        )
    for name in given if unit is not None else ():
        own = template.flat[name].attrs.get("units", unit) if name in template.forms else unit
        if own != unit:
            raise InputError(
                f"from_points: 'observation' is in {unit}, and the field {name!r} of the model in "
                f"{own}; convert it, and its 'error_variance'"
            )
    wrong = table["observation"].notna() & ~(table["error_variance"] > 0)
    if wrong.any():
        at = int(np.argmax(wrong.to_numpy()))
        raise InputError(
            f"from_points: 'error_variance' is {table['error_variance'].iloc[at]} in row {at}; "
            "give variances > 0"
        )
    return table


def _operator(columns: np.ndarray, shares: np.ndarray, size: int) -> np.ndarray:
    """Give the matrix (place, variable) of weights (place, corner)."""
    if len(columns) * size > LARGEST:
        raise InputError(
            f"from_points: {len(columns)} places and {size} variables make an operator of "
            f"{len(columns) * size:,} entries, more than {LARGEST:,}; leave 'moving' out, or give "
            "fewer places, e.g. means over the boxes of the grid"
        )
    matrix = np.zeros((len(columns), size))
    np.add.at(matrix, (np.arange(len(columns))[:, None], columns), shares)
    return matrix
