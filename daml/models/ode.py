"""Ordinary differential equations as models: a right-hand side, stepped by Runge-Kutta."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from daml.arrays import namespace
from daml.errors import InputError
from daml.labels.arguments import check_fields

if TYPE_CHECKING:
    from daml.protocols import Array


def parted(x: Array) -> Sequence[Array]:
    """Give the entries (...) along the last axis of ``x``.

    Where gradients pass, to take them all at once spares an array of zeros for each.
    """
    if isinstance(x, np.ndarray):
        return [x[..., place] for place in range(x.shape[-1])]
    return tuple(namespace(x).unstack(x, axis=-1))


def joined(x: Array, *parts: Array) -> Array:
    """Give parts (...) side by side along a new last axis, in the kind of array that ``x`` is.

    NumPy's own ``stack`` takes a third of a step of a small model; no gradient passes through
    NumPy, so there the parts are written in place.
    """
    if isinstance(x, np.ndarray):
        result = np.empty((*x.shape[:-1], len(parts)), x.dtype)
        for place, part in enumerate(parts):
            result[..., place] = part
        return result
    return namespace(x).stack(parts, axis=-1)


def runge_kutta(tendency: Callable[[Array], Array], x: Array, dt: float, substeps: int) -> Array:
    """Move states (...) by dt, in so many steps of the classical scheme of fourth order."""
    h = dt / substeps
    for _ in range(substeps):
        k1 = tendency(x)
        k2 = tendency(x + h / 2 * k1)
        k3 = tendency(x + h / 2 * k2)
        k4 = tendency(x + h * k3)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x


@dataclass(frozen=True)
class ODE(ABC):
    """Base class of models that are ordinary differential equations.

    A subclass defines the names ``variables`` and the right-hand side, ``tendency(x)``. Steps are
    those of the classical fourth-order Runge-Kutta scheme. ``tendency`` uses the Array API, so that
    it runs with NumPy and torch, and torch can differentiate it. A model with ``forcings`` defines
    ``tendency(x, forcing)``; the forcings (..., forcing) are constant during a step, with their
    values at its start.

    Parameters
    ----------
    dt : float
        Length of a step, in model time units.
    substeps : int
        Number of Runge-Kutta steps in each dt.
    time_unit : str
        Length of a model time unit for records with dates, as NumPy abbreviates it: "s", "h" or
        "D". Records whose times are numbers do not need it.

    Raises
    ------
    InputError
        If dt or substeps is not positive.

    References
    ----------
    Kutta, W. (1901): Beitrag zur näherungsweisen Integration totaler Differentialgleichungen.
    Zeitschrift für Mathematik und Physik 46, 435-453.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> import numpy as np
    >>> @dataclass(frozen=True)
    ... class Decay(ODE):
    ...     rate: float = 1.0
    ...     variables = ("x",)
    ...
    ...     def tendency(self, x):
    ...         return -self.rate * x
    >>> state, _ = Decay(dt=0.1).step(np.ones(1))
    >>> bool(abs(state[0] - np.exp(-0.1)) < 1e-6)
    True
    """

    dt: float = 0.05
    substeps: int = 1
    time_unit: str = "s"

    variables: ClassVar[tuple[str, ...]] = ()
    arrays: ClassVar[tuple[str, ...]] = ("numpy", "torch")
    """Kinds of arrays that a step takes."""

    def __post_init__(self) -> None:
        check_fields(self)
        name = type(self).__name__
        if not self.dt > 0:
            raise InputError(f"{name}: dt is {self.dt:g}; give a step > 0")
        if self.substeps < 1:
            raise InputError(f"{name}: substeps is {self.substeps}; give 1 or more")

    @abstractmethod
    def tendency(self, x: Array) -> Array:
        """Give dx/dt for a state (..., variable), per model time unit."""

    def start(self, x: Array, time: Array | None = None) -> None:  # noqa: B027
        """Give the memory, which is None: a step depends on the state alone."""

    def step(self, x: Array, memory: None = None, forcing: Any = None) -> tuple[Array, None]:
        """Step a state (..., variable) by one dt.

        Parameters
        ----------
        x : array (..., variable)
            The state, in the model's units.
        memory : None
            An ordinary differential equation has no memory.
        forcing : array (..., forcing), optional
            Values of the forcings at the start of the step, for a model with ``forcings``.

        Returns
        -------
        tuple of array (..., variable) and None
        """
        tendency: Any = self.tendency
        if forcing is not None:
            tendency = partial(tendency, forcing=forcing)
        return runge_kutta(tendency, x, self.dt, self.substeps), None
