"""Random turns of an ensemble that keep its mean and its covariance."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from scipy.stats import ortho_group

from daml.arrays import alike, namespace
from daml.randomness import Stream, picked
from daml.schemes.matrices import identity

TURNS, VALUES = 256, 1 << 17
"""Random turns that are made once, to pick one of at each step; fewer of many members."""


def turns(seed: int, steps: np.ndarray, like: Any, among: Any) -> Any:
    """Give random turns (..., member, member) of ensembles; means of 0 stay so.

    Only those that observations have changed are turned. Between observations the model makes what
    it makes of the members; to mix them there again and again would undo it.

    Parameters
    ----------
    seed : int
    steps : numpy.ndarray (...) of int
        The model step of each ensemble, from which the turn follows.
    like : array (..., member, any)
        Has the number of members, and the kind of array.
    among : array (...) of bool
        Which ensembles are turned.
    """
    drawn = _turns(seed, like.shape[-2])
    found = alike(drawn[picked(seed, steps, len(drawn), Stream.ROTATION)], like)
    return namespace(found).where(among[..., None, None], found, identity(like.shape[-2], found))


@cache
def _turns(seed: int, members: int) -> np.ndarray:
    """Give random turns (turn, member, member), uniform among those that keep (1, ..., 1)."""
    count = min(TURNS, max(VALUES // members**2, 16))
    drawn = np.random.default_rng([seed, Stream.ROTATION])
    if members == 2:
        inner = drawn.choice([-1.0, 1.0], size=(count, 1, 1))
    else:
        inner = ortho_group.rvs(members - 1, size=count, random_state=drawn)
    # Directions that are orthogonal to (1, ..., 1).
    first = np.concatenate((np.ones((members, 1)), np.eye(members)[:, 1:]), axis=1)
    basis = np.linalg.qr(first)[0][:, 1:]
    return np.asarray(basis @ inner @ basis.T + 1 / members)
