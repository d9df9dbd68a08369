"""H that is a function on arrays: its checks, whether it is linear, and its tangent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from array_api_compat import array_namespace

from daml.errors import DamlError, InputError, first_line
from daml.labels.datasets import is_hidden, names
from daml.labels.descriptions import description
from daml.observing.operators import Selection, Tangent
from daml.observing.places.moving import moves
from daml.observing.places.pointwise import PointFunctions, check_functions

Given = Callable[[Any], Any] | Mapping[str, Callable[[Any], Any]]
"""A function of states, or functions of fields at points by the name of what they give."""
LARGEST = 1 << 24
"""Values of the largest matrix that is made of a linear function: 128 MB."""
SCALES = 1e-2, 1.0, 1e3
"""Sizes of the states on which it is tried whether a function is linear."""


@dataclass(frozen=True)
class Function:
    """H that is a function of states (..., variable) to what is observed (..., observed).

    Parameters
    ----------
    call : callable
        The function. Its own attribute ``linear`` and its own methods ``tangent(x)`` and
        ``adjoint(y)``, where it has them, are taken in place of what is found here.
    observed : tuple of str
        What it gives.
    size : int
        Number of the model's variables.
    """

    call: Callable[[Any], Any]
    observed: tuple[str, ...]
    size: int
    changes: ClassVar[bool] = False

    def apply(self, x: Any) -> Any:
        """Give H(x) (..., observed) of a state (..., variable); NumPy, or torch if it takes that.

        Raises
        ------
        InputError
            If the function raises, or gives another shape or kind of array.
        """
        found = _called(self.call, x)
        shape = (*x.shape[:-1], len(self.observed))
        if isinstance(x, np.ndarray) and getattr(found, "dtype", np.dtype("O")).kind in "fiu":
            found = np.asarray(found, dtype=np.float64)
        elif isinstance(x, np.ndarray) or not isinstance(found, type(x)):
            kind = f" of type {found.dtype}" if hasattr(found, "dtype") else ""
            raise InputError(
                f"'operator' turned states, a {type(x).__name__}, into a {type(found).__name__}"
                f"{kind}; give an array of real numbers of the same kind"
            )
        if tuple(found.shape) != shape:
            raise InputError(
                f"'operator' turned states of shape {tuple(x.shape)} into "
                f"{tuple(found.shape)}, and {shape} is needed for {len(self.observed)} "
                "observed quantities; write x[..., 0], not x[0], and name all quantities that "
                "it returns"
            )
        return found

    @cached_property
    def linear(self) -> bool:
        """Whether H(x - 2 y) = H(x) - 2 H(y) for states of several sizes."""
        said = getattr(self.call, "linear", None)
        if said is not None:
            return bool(said)
        random = np.random.default_rng(0)
        for scale in SCALES:
            x, y = scale * random.standard_normal((2, 2, self.size))
            try:
                with np.errstate(all="ignore"):
                    whole, parts = self.apply(x - 2 * y), self.apply(x) - 2 * self.apply(y)
            except InputError:  # of states that it does not take
                return False
            width = np.abs(parts).max(initial=0.0)
            if not np.isfinite(width) or not (np.abs(whole - parts) <= 1e-9 * width).all():
                return False
        return True

    @property
    def fits(self) -> bool:
        """Whether H is linear and small enough for a matrix."""
        return len(self.observed) * self.size <= LARGEST and self.linear

    def matrix(self) -> np.ndarray:
        """Give H (observed, variable) of a linear function.

        Raises
        ------
        InputError
            If there is none, or it is too large.
        """
        if not self.linear:
            raise InputError(
                "'operator' is not linear, and a matrix H is needed here, as in estimates of "
                "B; give daml.ThreeDVar with a B, an ensemble scheme, another scheme that "
                "calls observed.operator.apply(x), or a linear 'operator'"
            )
        if not self.fits:
            raise InputError(
                f"'operator' has no matrix here: one of {len(self.observed)} x {self.size} values "
                "is too large; give a scheme that calls observed.operator.apply(x)"
            )
        return np.ascontiguousarray(self.apply(np.eye(self.size)).T)

    def tangent(self, x: Any) -> Any:
        """Give dH/dx (..., observed, variable) at states (..., variable), by torch.

        Raises
        ------
        InputError
            If torch cannot differentiate the function.
        """
        own = getattr(self.call, "tangent", None)
        if own is not None:
            return own(x)
        import torch

        at = torch.as_tensor(x, dtype=torch.float64) if isinstance(x, np.ndarray) else x
        rows = at.reshape(-1, self.size)
        try:
            found = torch.func.vmap(torch.func.jacrev(self.apply))(rows)
        except Exception as error:
            raise _not_differentiated(error, "tangent(x), (..., observed, variable)") from error
        found = found.reshape(*at.shape[:-1], len(self.observed), self.size)
        return found.numpy() if isinstance(x, np.ndarray) else found

    def linearised(self, at: Any) -> Any:
        """Give what has ``apply`` and ``adjoint`` of the function that is linear around states.

        By torch, without a matrix; by the function's own ``tangent`` where it has one.

        Raises
        ------
        InputError
            If torch cannot differentiate the function.
        """
        if isinstance(self.call, _Reordered):
            return self.call.linearised(at)
        if hasattr(self.call, "tangent"):
            return Tangent(self.call.tangent(at))
        import torch

        start = torch.as_tensor(at, dtype=torch.float64) if isinstance(at, np.ndarray) else at
        try:
            seen, back = torch.func.vjp(self.apply, start)[:2]
            # The product with the transpose is linear: its own transpose is the function again.
            along = torch.func.vjp(lambda y: back(y)[0], torch.zeros_like(seen))[1]
        except Exception as error:
            raise _not_differentiated(error, "tangent(x), (..., observed, variable)") from error
        return Around(along, back)

    def adjoint(self, y: Any) -> Any:
        """Give H' y (..., variable) of observations (..., observed) of a linear H, by torch.

        Raises
        ------
        InputError
            If torch cannot differentiate the function.
        """
        own = getattr(self.call, "adjoint", None)
        if own is not None:
            return own(y)
        import torch

        weights = torch.as_tensor(y, dtype=torch.float64) if isinstance(y, np.ndarray) else y
        try:
            zero = weights.new_zeros((*weights.shape[:-1], self.size))
            found = torch.func.vjp(self.apply, zero)[1](weights)[0]
        except Exception as error:
            raise _not_differentiated(error, "adjoint(y), (..., variable)") from error
        return found.numpy() if isinstance(y, np.ndarray) else found

    def picked(self, rows: Any) -> Function:
        """Give the function for some states of a batch: all have the same."""
        return self

    def reordered(self, places: Sequence[int], size: int) -> Function:
        """Give H for states of ``size`` variables, in which each variable here has its place."""
        return Function(_Reordered(self, tuple(places), size), self.observed, size)


@dataclass(frozen=True, eq=False)
class Around:
    """A function that is linear around states, by products with tensors alone."""

    along: Callable[[Any], Any]
    """Gives a tuple of the product of changes of the states (..., variable)."""
    back: Callable[[Any], Any]
    """Gives a tuple of the product of (..., observed) with the transpose."""

    def apply(self, x: Any) -> Any:
        """Give (..., observed) of changes of the states (..., variable)."""
        return _by_torch(self.along, x)

    def adjoint(self, y: Any) -> Any:
        """Give (..., variable) of (..., observed), by the transpose."""
        return _by_torch(self.back, y)


def _by_torch(product: Callable[[Any], Any], array: Any) -> Any:
    """Give a product of an array, NumPy's or torch's."""
    import torch

    if isinstance(array, np.ndarray):
        return product(torch.from_numpy(np.ascontiguousarray(array)))[0].numpy()
    return product(array)[0]


@dataclass(frozen=True)
class _Reordered:
    """A function of states in another order, or of some of their variables."""

    function: Function
    places: tuple[int, ...]
    size: int

    @property
    def linear(self) -> bool:
        return self.function.linear

    def __call__(self, x: Any) -> Any:
        return self.function.call(x[..., list(self.places)])

    def tangent(self, x: Any) -> Any:
        found = self.function.tangent(x[..., list(self.places)])
        others = [place for place in range(self.size) if place not in self.places]
        if others:
            xp = array_namespace(found)
            found = xp.concat(
                (found, xp.zeros_like(found[..., :1] * x[..., None, others])), axis=-1
            )
        return found[..., np.argsort([*self.places, *others]).tolist()]

    def adjoint(self, y: Any) -> Any:
        found = self.function.adjoint(y)
        return Selection(self.places, self.size).adjoint(found)

    def linearised(self, at: Any) -> _Through:
        chosen = Selection(self.places, self.size)
        return _Through(chosen, self.function.linearised(chosen.apply(at)))


@dataclass(frozen=True, eq=False)
class _Through:
    """What is linear around states of some variables, of changes of all of them."""

    chosen: Selection
    around: Any

    def apply(self, x: Any) -> Any:
        """Give (..., observed) of changes of the states (..., variable)."""
        return self.around.apply(self.chosen.apply(x))

    def adjoint(self, y: Any) -> Any:
        """Give (..., variable) of (..., observed), by the transpose."""
        return self.chosen.adjoint(self.around.adjoint(y))


def _not_differentiated(error: Exception, method: str) -> InputError:
    """Give the error for a function that torch cannot differentiate."""
    return InputError(
        f"'operator' cannot be differentiated by torch ({type(error).__name__}: "
        f"{first_line(error)}); write it with operations that NumPy's arrays and torch's "
        "tensors share, as array_namespace(x).log(x) of the package array_api_compat in place of "
        f"np.log(x), or give it a method {method}"
    )


def _called(call: Callable[[Any], Any], x: Any) -> Any:
    """Call a function on a copy of states (..., variable); an error of its own is one line."""
    try:
        return call(x.copy() if isinstance(x, np.ndarray) else x)
    except DamlError:
        raise
    except Exception as error:
        raise InputError(
            f"'operator' failed for states of shape {tuple(x.shape)} "
            f"({type(error).__name__}: {first_line(error)}); it takes x (..., variable) and "
            "gives what is observed (..., observed)"
        ) from error


def number_of_values(call: Callable[[Any], Any], states: np.ndarray) -> int:
    """Give how many values a function gives of a state, tried on a few (row, variable).

    Raises
    ------
    InputError
        If the function raises, or gives anything but one row of values for each state.
    """
    shape = np.shape(_called(call, states))
    if len(shape) != 2 or shape[0] != len(states) or shape[1] == 0:
        raise InputError(
            f"'operator' turned states of shape {states.shape} into {shape}, and ({len(states)}, "
            "observed) is needed, with one value or more along the last axis: write x[..., :1], "
            "not x[..., 0] or x[0]"
        )
    return int(shape[1])


def described(call: Given, observations: xr.Dataset, variables: Any) -> str:
    """Give a function as text, for the attributes of a result."""
    if isinstance(call, Mapping):
        return description(PointFunctions(dict(call)), "operator", exact=False)
    function = Function(call, names(observations), len(variables))
    return description(function, "operator", exact=False)


Through = Function | PointFunctions
"""H that is a function of states, or functions of fields at points."""


def check_function(given: Any, what: str) -> None:
    """Refuse what is no function on arrays."""
    if not callable(given) or isinstance(given, type):
        raise InputError(
            f"{what}: 'operator' is a {type(given).__name__}; give a function on arrays "
            "(..., variable) to (..., observed)"
        )


def seen_through(
    observations: xr.Dataset,
    call: Given | None,
    variables: Sequence[str],
    states: np.ndarray,
    what: str,
) -> tuple[xr.Dataset, Through | None]:
    """Give the observations with the operator that a function is.

    A linear one becomes their ``operator``, a matrix, where that is not too large; another one is
    given back beside them.

    Parameters
    ----------
    observations : xarray.Dataset
        Along ``variable`` what the function gives, in its order.
    call : callable, mapping of str to callable, or None
        A function of states, or functions of fields at the points of a record of places that
        change; None leaves the observations as they are.
    variables : sequence of str
        The model's.
    states : numpy.ndarray (row, variable)
        On these the function is tried.
        Hidden variables, if there are any, are not given to the function.
    what : str
        Who asks, for errors.

    Raises
    ------
    InputError
        If the function is none, or gives another number of values than are named.
    """
    if call is None:
        return observations, None
    if isinstance(call, Mapping):
        if not moves(observations):
            raise InputError(
                f"{what}: 'operator' is a dict of functions of fields at points, and the "
                "observations have no places; give a function of states (..., variable), or "
                "make the record by daml.from_points(table, model, operator=...)"
            )
        return observations, check_functions(call, what)
    if moves(observations):
        raise InputError(
            f"{what}: 'operator' is a function of states, and the observations have places of "
            "their own; leave it out, or give a dict of functions of fields at points: "
            "operator={'speed': ...}"
        )
    check_function(call, what)
    shown = [place for place, name in enumerate(variables) if not is_hidden(name)]
    function = Function(call, names(observations), len(shown))
    if len(shown) < len(variables):
        function = function.reordered(shown, len(variables))
    with np.errstate(all="ignore"):
        together = function.apply(states)
        alone = np.concatenate([function.apply(state[None]) for state in states])
    if not np.allclose(together, alone, rtol=1e-6, equal_nan=True):
        raise InputError(
            f"{what}: 'operator' gives a different result for a state alone than for the same "
            "state beside others; work along the last axis of states (..., variable): x[..., "
            "0], axis=-1"
        )
    plain = observations.drop_vars(["operator", "model_variable"], errors="ignore")
    if not function.fits:
        return plain, function
    rows = (("variable", "model_variable"), function.matrix())
    return plain.assign_coords(model_variable=list(variables)).assign(operator=rows), None
