"""Models whose states are fields."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import xarray as xr

from daml.labels.templates import Template

if TYPE_CHECKING:
    from daml.protocols import Array, Memory


class Gridded:
    """Base class of models whose state consists of fields on a grid.

    A subclass defines the attributes ``template`` and ``dt``, and the method ``move``, which steps
    the fields.

    Attributes
    ----------
    template : xarray.Dataset
        One data variable per field, with dimensions of space only. All results take coordinates,
        units and other attributes from it. Points with NaN, such as land, are not part of the
        state. The other values are a typical state.
    dt : float or numpy.timedelta64
        Length of a step; see :class:`daml.protocols.Model`.
    arrays : tuple of str
        ("numpy", "torch") if ``move`` also takes torch tensors and torch can differentiate it;
        otherwise it may be left out.
    period : float or sequence of float, optional
        Length after which each dimension repeats itself, None for a dimension that does not; see
        :class:`daml.protocols.Model`.

    Notes
    -----
    A model with ``forcings`` defines ``move(fields, forcing)``, where ``forcing`` (..., forcing)
    has their values at the start of a step.

    The variables of the state are the points of all fields, with names such as "u[3,5]". Their
    ``positions`` are the coordinates of the template, converted to km if these are latitudes and
    longitudes (units "degrees_north" and "degrees_east"). The ``climate`` has the values of the
    template.

    Raises
    ------
    InputError
        If the template is not a Dataset of fields. The error is raised when the template is first
        used.

    Examples
    --------
    >>> import daml
    >>> class Drift(daml.models.Gridded):
    ...     template = xr.Dataset({"h": (("y", "x"), np.zeros((3, 4)), {"units": "m"})})
    ...     dt = 1.0
    ...
    ...     def move(self, fields):
    ...         return {"h": 0.9 * np.roll(fields["h"], 1, axis=-1)}
    >>> run = daml.simulate(Drift(), steps=5)
    >>> run.state.shape, daml.unflatten(run).h.dims
    ((5, 12), ('time', 'y', 'x'))
    """

    template: xr.Dataset
    dt: Any
    arrays: tuple[str, ...] = ("numpy",)

    def move(self, fields: dict[str, Array]) -> dict[str, Array]:
        """Step the fields (..., y, x), a dict by their names, by one dt.

        Points that are not part of the state have the value 0.
        """
        raise NotImplementedError("give the model a method move(fields)")

    @cached_property
    def _template(self) -> Template:
        return Template.given(self.template, type(self).__name__)

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables, along the last axis of a state."""
        return self._template.names

    @property
    def positions(self) -> np.ndarray | None:
        """Positions (variable, dimension) in space, if all fields have the same dimensions."""
        return self._template.positions

    @property
    def climate(self) -> np.ndarray:
        """Values of the template (variable,)."""
        return self._template.values

    def start(self, x: Array, time: Array | None = None) -> Memory:
        """Give the memory, which is None."""
        return None

    def step(self, x: Array, memory: Memory, *forcing: Array) -> tuple[Array, Memory]:
        """Step states (..., variable) by one dt."""
        moved = cast("Any", self.move)(self._template.fields(x), *forcing)
        return self._template.state(moved), memory
