"""Networks of observations, whose places are drawn: stations, tracks, and random places."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from daml.errors import InputError
from daml.labels.arguments import check_fields


@dataclass(frozen=True)
class Network(ABC):
    """So many places at each time."""

    n: int
    moves: ClassVar[bool] = True
    """Whether the places change."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.n < 1:
            raise InputError(f"{type(self).__name__}: 'n' is {self.n}; give 1 or more")

    @abstractmethod
    def drawn(
        self, random: np.random.Generator, times: int, extent: np.ndarray, spacing: np.ndarray
    ) -> np.ndarray:
        """Give the places (time, n, dimension) at so many times.

        ``extent`` (dimension, 2) is where the grid begins and ends, ``spacing`` (dimension,) that
        of its points.
        """


@dataclass(frozen=True)
class Stations(Network):
    """Stations at random places of the grid, which stay there.

    Parameters
    ----------
    n : int
        Number of stations.

    Examples
    --------
    >>> import daml
    >>> daml.networks.Stations(20)
    Stations(n=20)
    """

    moves: ClassVar[bool] = False

    def drawn(
        self, random: np.random.Generator, times: int, extent: np.ndarray, spacing: np.ndarray
    ) -> np.ndarray:
        """Give the places (time, n, dimension): the same at all times."""
        places = random.uniform(extent[:, 0], extent[:, 1], (self.n, len(extent)))
        return np.broadcast_to(places, (times, *places.shape))


@dataclass(frozen=True)
class RandomPlaces(Network):
    """Other random places of the grid at each time.

    Parameters
    ----------
    n : int
        Number of places at a time.

    Examples
    --------
    >>> import daml
    >>> daml.networks.RandomPlaces(20)
    RandomPlaces(n=20)
    """

    def drawn(
        self, random: np.random.Generator, times: int, extent: np.ndarray, spacing: np.ndarray
    ) -> np.ndarray:
        """Give the places (time, n, dimension)."""
        return random.uniform(extent[:, 0], extent[:, 1], (times, self.n, len(extent)))


@dataclass(frozen=True)
class Tracks(Network):
    """Tracks along straight lines, such as those of ships, satellites and drifters.

    Each starts at a random place, in a random direction, and where the grid ends it goes on at the
    opposite side.

    Parameters
    ----------
    n : int
        Number of tracks: places at a time.
    speed : float
        Spacings of the grid from one time of the truth to the next.

    Examples
    --------
    >>> import daml
    >>> daml.networks.Tracks(3, speed=0.7)
    Tracks(n=3, speed=0.7)
    """

    speed: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.speed < np.inf:
            raise InputError(f"Tracks: 'speed' is {self.speed}; give a number > 0")

    def drawn(
        self, random: np.random.Generator, times: int, extent: np.ndarray, spacing: np.ndarray
    ) -> np.ndarray:
        """Give the places (time, n, dimension)."""
        start = random.uniform(extent[:, 0], extent[:, 1], (self.n, len(extent)))
        way = random.standard_normal(start.shape)
        way /= np.linalg.norm(way, axis=-1, keepdims=True)
        gone = np.arange(times)[:, None, None] * (self.speed * way * spacing)
        width = np.where(extent[:, 1] > extent[:, 0], extent[:, 1] - extent[:, 0], 1.0)
        found: np.ndarray = extent[:, 0] + np.mod(start - extent[:, 0] + gone, width)
        return found
