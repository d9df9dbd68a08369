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
        return (around.reshape(*x.shape[:-1], *shape) * weights).sum(-1)

    def tangent(self, x: Any) -> Any:
        """Give H for each state (..., variable): (..., observed, variable)."""
        corners = self.places.shape[-1]
        places, weights = self.places.reshape(-1, corners), self.weights.reshape(-1, corners)
        rows = np.zeros((len(places), self.size))
        np.add.at(rows, (np.arange(len(places))[:, None], places), weights)
        return alike(rows.reshape(*self.places.shape[:-1], self.size), x)

    def matrix(self) -> np.ndarray:
        """Refuse: there is no matrix for all times."""
        return CHANGING.matrix()

    def picked(self, rows: Any) -> Interpolation:
        """Give H for some states of the batch."""
        return Interpolation(self.places[rows], self.weights[rows], self.size)

    def squares(self, weights: np.ndarray) -> np.ndarray:
        """Give the sum of H^2 (..., variable) over what is observed, by weights (..., observed)."""
        return Interpolation(self.places, self.weights**2, self.size).adjoint(weights)

    def adjoint(self, y: np.ndarray) -> np.ndarray:
        """Give H' y (..., variable) of what is observed (..., observed)."""
        lead, rows = self.places.shape[:-2], int(np.prod(self.places.shape[:-2], dtype=int))
        found, parts = np.zeros((rows, self.size)), self.weights * y[..., None]
        at = np.arange(rows)[:, None], self.places.reshape(rows, -1)
        np.add.at(found, at, parts.reshape(rows, -1))
        return found.reshape(*lead, self.size)


@dataclass(frozen=True)
class Changing:
    """H of a setting whose places change in time: it is known at each time alone."""

    linear: bool = True
    changes: ClassVar[bool] = True

    def apply(self, x: Any) -> Any:
        """Refuse: H is another one at each time."""
        raise self._refusal()

    def tangent(self, x: Any) -> Any:
        """Refuse: H is another one at each time."""
        raise self._refusal()

    def matrix(self) -> np.ndarray:
        """Refuse: there is no matrix for all times."""
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
