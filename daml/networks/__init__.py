"""Networks with which :func:`daml.observe` observes a truth: places between the points of a grid.

Each gives so many places at a time, drawn with the ``seed`` of :func:`daml.observe`.
"""

from daml.observing.places.drawn import RandomPlaces, Stations, Tracks

__all__ = ["RandomPlaces", "Stations", "Tracks"]
