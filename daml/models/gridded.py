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
    """Base class of models of fields; a subclass defines the fields and their step.

    Attributes
    ----------
    template : xarray.Dataset
        One data variable per field, with dimensions of space only. Its coordinates, units and other
        attributes are those of all results. Points with NaN, such as land, are not part of the
        state; the other values are a typical state.
    dt : float or numpy.timedelta64
        Length of a step; see :class:`daml.protocols.Model`.
    arrays : tuple of str
        ("numpy", "torch") if ``move`` also takes torch tensors, and torch differentiates it.
    period : float or sequence of float, optional
        Period of each dimension, or None; see :class:`daml.protocols.Model`.

    Notes
    -----
    A model with ``forcings`` defines ``move(fields, forcing)``, with their values (..., forcing).

    ``variables`` are the points of all fields, named "u[3,5]"; ``positions`` follow from the
    coordinates of the template, in km where they are latitudes and longitudes (units
    "degrees_north" and "degrees_east"), and ``climate`` from its values.

    Raises
    ------
    InputError
        If the template is not a Dataset of fields; raised when it is first used.

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
        """Move fields (..., y, x), by name, by one step; 0 stands where there is no variable."""
        raise NotImplementedError("give the model a method move(fields)")

    @cached_property
    def _template(self) -> Template:
        return Template.given(self.template, type(self).__name__)

    @property
    def variables(self) -> tuple[str, ...]:
        """Names along the last axis of a state."""
        return self._template.names

    @property
    def positions(self) -> np.ndarray | None:
        """Where the variables lie (variable, dimension), if all fields share their space."""
        return self._template.positions

    @property
    def climate(self) -> np.ndarray:
        """The values of the template (variable,)."""
        return self._template.values

    def start(self, x: Array, time: Array | None = None) -> Memory:
        """Give no memory."""
        return None

    def step(self, x: Array, memory: Memory, *forcing: Array) -> tuple[Array, Memory]:
        """Move states (..., variable) by one step."""
        moved = cast("Any", self.move)(self._template.fields(x), *forcing)
        return self._template.state(moved), memory
