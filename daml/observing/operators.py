"""The observation operator H: what is seen of a state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import scipy.sparse
import xarray as xr

from daml.arrays import namespace
from daml.errors import InputError
from daml.labels.datasets import check_names, is_hidden, listed, named, names
from daml.labels.space import StateSpace
from daml.protocols import ObservationOperator


class _Linear:
    """What operators with a matrix share."""

    linear = True
    changes = False

    def matrix(self) -> np.ndarray:
        """Give H (observed, variable)."""
        raise NotImplementedError

    def sparse(self) -> scipy.sparse.csr_array:
        """Give H (observed, variable) as a sparse matrix."""
        return scipy.sparse.csr_array(self.matrix())

    def tangent(self, x: Any) -> Any:
        """Give H for each state (..., variable): (..., observed, variable)."""
        rows = self.matrix()
        if isinstance(x, np.ndarray):
            return np.broadcast_to(rows, (*x.shape[:-1], *rows.shape))
        return x.new_tensor(rows).expand(*x.shape[:-1], *rows.shape)

    def picked(self, rows: Any) -> Self:
        """Give the operator for some states of a batch: all have the same."""
        return self


@dataclass(frozen=True)
class Selection(_Linear):
    """H that picks entries of the state, by their place."""

    places: tuple[int, ...]
    size: int

    def apply(self, x: Any) -> Any:
        """Give H x (..., observed) of a state (..., variable); NumPy or torch."""
        first, last = self.places[0], self.places[-1]
        if self.places == tuple(range(first, last + 1)):
            return x[..., first : last + 1]
        return x[..., list(self.places)]

    def adjoint(self, y: Any) -> Any:
        """Give H' y (..., variable) of observations (..., observed); NumPy or torch."""
        shape = (*y.shape[:-1], self.size)
        if isinstance(y, np.ndarray):
            return (y.reshape(-1, len(self.places)) @ self.sparse()).reshape(shape)
        places = y.new_tensor(self.places, dtype=int)
        return y.new_zeros(shape).index_add(-1, places, y)

    def matrix(self) -> np.ndarray:
        """Give H (observed, variable)."""
        return np.asarray(self.sparse().toarray())

    def sparse(self) -> scipy.sparse.csr_array:
        """Give H (observed, variable) as a sparse matrix."""
        count = len(self.places)
        entries = np.ones(count), np.array(self.places, dtype=np.int32), np.arange(count + 1)
        return scipy.sparse.csr_array(entries, shape=(count, self.size))


@dataclass(frozen=True)
class LinearOperator(_Linear):
    """H that is a matrix (observed, variable)."""

    rows: np.ndarray

    def apply(self, x: Any) -> Any:
        """Give H x (..., observed) of a state (..., variable); NumPy or torch."""
        if isinstance(x, np.ndarray):
            return x @ self.rows.T
        return x @ x.new_tensor(self.rows).T

    def adjoint(self, y: Any) -> Any:
        """Give H' y (..., variable) of observations (..., observed); NumPy or torch."""
        return y @ (self.rows if isinstance(y, np.ndarray) else y.new_tensor(self.rows))

    def matrix(self) -> np.ndarray:
        """Give H (observed, variable)."""
        return self.rows


@dataclass(frozen=True, eq=False)
class Tangent:
    """An H that is linear around states, as matrices (..., observed, variable)."""

    rows: Any

    def apply(self, x: Any) -> Any:
        """Give (..., observed) of changes of the states (..., variable)."""
        return (self.rows @ x[..., None])[..., 0]

    def adjoint(self, y: Any) -> Any:
        """Give (..., variable) of (..., observed), by the transposes."""
        return (y[..., None, :] @ self.rows)[..., 0, :]


Operator = ObservationOperator


def seen_of(operator: Operator, rows: Any, at: Any) -> Any:
    """Give what H, linear around states (..., variable), makes of rows (..., row, variable)."""
    if operator.linear:
        return operator.apply(rows)
    return rows @ namespace(rows).matrix_transpose(operator.tangent(at))


def linearised(operator: Any, at: Any) -> Any:
    """Give what has ``apply`` and ``adjoint`` of an H that is linear around states.

    Where H allows it no matrix (..., observed, variable) is made.
    """
    if operator.linear and hasattr(operator, "adjoint"):
        return operator
    if hasattr(operator, "linearised"):
        return operator.linearised(at)
    return Tangent(operator.tangent(at))


def check_linearised(operator: Operator, size: int) -> None:
    """Refuse an H of states of a size that has no products with its tangent, either way."""
    if not operator.linear:
        tried = getattr(operator, "trial", None) or operator  # at one time, where it changes
        at = np.ones((1, size))
        around = linearised(tried, at)
        around.adjoint(around.apply(at))


def check_tangent(operator: Operator, size: int) -> None:
    """Refuse an H of states of a size that is not linear, and that torch cannot differentiate."""
    if not operator.linear:
        tried = getattr(operator, "trial", None) or operator  # at one time, where it changes
        tried.tangent(np.ones((1, size)))


def read_operator(
    observations: xr.Dataset, observed: tuple[str, ...], variables: tuple[str, ...]
) -> Operator:
    """Give H of observations: a selection by name, or their ``operator``."""
    if "place" in observations:
        raise InputError(
            "observations: their places change in time, and a matrix H is needed here, as in "
            "estimates of B; give a scheme that needs none, e.g. daml.schemes.ETKF(20), "
            "daml.ThreeDVar with a B, or fixed places: daml.from_points(..., moving=False)"
        )
    if "operator" not in observations:
        places = StateSpace(variables).places(observed)
        lacking = [v for v, place in zip(observed, places, strict=True) if place < 0]
        if lacking and "operator" in observations.attrs:
            raise InputError(
                f"observations: the model has no variable {lacking[0]!r}; if the observations "
                "were made with a function, give this function again: operator=..."
            )
        if lacking:
            raise InputError(
                f"observations: the model has no variable {lacking[0]!r} (it has "
                f"{listed(variables)}); rename it, select what the model has, or add an 'operator' "
                "(variable, model_variable)"
            )
        return Selection(tuple(places.tolist()), len(variables))
    rows = observations["operator"]
    if set(rows.dims) != {"variable", "model_variable"}:
        raise InputError(
            f"'operator' has the dimensions {rows.dims}; give (variable, model_variable)"
        )
    check_names(rows, "operator", "model_variable")
    rows = named(rows, "model_variable")
    given = set(names(rows, "model_variable"))
    unseen = [name for name in variables if name not in given and is_hidden(name)]
    if unseen:
        rows = rows.reindex(model_variable=[*names(rows, "model_variable"), *unseen], fill_value=0)
    if given | set(unseen) != set(variables):
        raise InputError(
            f"'operator' is for the model variables {names(rows, 'model_variable')}, the model "
            f"has {variables}; give a column for each"
        )
    chosen = rows.sel(model_variable=list(variables)).transpose("variable", "model_variable")
    matrix = np.asarray(chosen.values, dtype=np.float64)
    if not np.isfinite(matrix).all():
        raise InputError("'operator' holds values that are not finite; give finite weights")
    return LinearOperator(matrix)
