"""H whose places change in time: a few variables, and their weights, for each value and time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from daml.arrays import alike
from daml.errors import InputError


@dataclass(frozen=True, eq=False)
class Interpolation:
    """H that interpolates between variables, for each state of a batch (...) between others.

    Parameters
    ----------
    places : numpy.ndarray (..., observed, corner) of int
        The variables around each value; any where a weight is 0.
    weights : numpy.ndarray (..., observed, corner)
        Their weights, 0 for missing values.
    size : int
        Number of the model's variables.
    """

    places: np.ndarray
    weights: np.ndarray
    size: int

    linear: ClassVar[bool] = True
    changes: ClassVar[bool] = True

    def apply(self, x: Any) -> Any:
        """Give H x (..., observed) of states (..., variable) or members (..., member, variable)."""
        return self.weighted(x).sum(-1)

    def weighted(self, x: Any) -> Any:
        """Give the parts (..., observed, corner) whose sums are H x, of the same states."""
        lead, shape = self.places.shape[:-2], self.places.shape[-2:]
        members = x.ndim - len(lead) - 1
        if tuple(x.shape[: len(lead)]) != lead or members not in (0, 1):
            raise InputError(
                f"observed.operator: it is H of a batch {lead}, and states of shape "
                f"{tuple(x.shape)} were given; give (*{lead}, variable) or (*{lead}, member, "
                "variable)"
            )
        places = self.places.reshape(*lead, *(1,) * members, -1)
        weights = self.weights.reshape(*lead, *(1,) * members, *shape)
        if isinstance(x, np.ndarray):
            around = np.take_along_axis(x, places, axis=-1)
        else:
            around = x.take_along_dim(_tensor(places, x), dim=-1)
            weights = alike(weights, x)
        return around.reshape(*x.shape[:-1], *shape) * weights

    def tangent(self, x: Any) -> Any:
        """Give H for each state (..., variable): (..., observed, variable)."""
        return alike(dense(self.places, self.weights, self.size), x)

    def matrix(self) -> np.ndarray:
        """Refuse: there is no matrix for all times."""
        return CHANGING.matrix()

    def picked(self, rows: Any) -> Interpolation:
        """Give H for some states of the batch."""
        return Interpolation(self.places[rows], self.weights[rows], self.size)

    def adjoint(self, y: Any) -> Any:
        """Give H' y (..., variable) of what is observed (..., observed); NumPy or torch."""
        lead, rows = self.places.shape[:-2], int(np.prod(self.places.shape[:-2], dtype=int))
        parts = (alike(self.weights, y) * y[..., None]).reshape(rows, -1)
        places = self.places.reshape(rows, -1)
        if not isinstance(y, np.ndarray):
            nothing = y.new_zeros((rows, self.size))
            return nothing.scatter_add(-1, _tensor(places, y), parts).reshape(*lead, self.size)
        found = np.zeros((rows, self.size))
        np.add.at(found, (np.arange(rows)[:, None], places), parts)
        return found.reshape(*lead, self.size)


def dense(places: np.ndarray, weights: Any, size: int) -> Any:
    """Give rows (..., observed, variable) of places and weights (..., observed, corner)."""
    shape = (*places.shape[:-1], size)
    if not isinstance(weights, np.ndarray):
        rows = weights.new_zeros(shape)
        return rows.scatter_add(-1, _tensor(places, weights), weights)
    found, corners = np.zeros(shape), places.shape[-1]
    at = np.arange(places[..., 0].size)[:, None], places.reshape(-1, corners)
    np.add.at(found.reshape(-1, size), at, weights.reshape(-1, corners))
    return found


@dataclass(frozen=True)
class Changing:
    """H of a setting whose places change in time: it is known at each time alone."""

    linear: bool = True
    trial: Any = None
    """H of some time, of an H that is not linear."""
    call: Any = None
    """The functions of fields at points by name, if there are any."""
    changes: ClassVar[bool] = True

    def apply(self, x: Any) -> Any:
        """Refuse: H is another one at each time."""
        raise self._refusal()

    def tangent(self, x: Any) -> Any:
        """Refuse: H is another one at each time."""
        raise self._refusal()

    def matrix(self) -> np.ndarray:
        """Refuse: there is no matrix for all times."""
        if not self.linear:
            raise InputError(
                "'operator' is not linear, and a matrix H is needed here; give daml.ThreeDVar with "
                "a B, or an ensemble scheme, e.g. daml.schemes.ETKF(20)"
            )
        raise self._refusal()

    def picked(self, rows: Any) -> Changing:
        """Give the same."""
        return self

    @staticmethod
    def _refusal() -> InputError:
        return InputError(
            "setting.operator: the places of the observations change in time, and so does H, which "
            "has no matrix; write observed.operator.apply(x), or .tangent(x), in 'update' of the "
            "scheme, or give a record of fixed places: daml.from_points(..., moving=False)"
        )


CHANGING = Changing()


def _tensor(places: np.ndarray, x: Any) -> Any:
    """Give places on the device of a tensor."""
    import torch

    return torch.as_tensor(places, device=x.device)
