"""Random numbers that follow from a seed and a position, never from how a record is cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum, unique
from functools import cache, lru_cache
from typing import Any, cast

import numpy as np

BLOCK, VALUES = 4096, 1 << 21
"""Rows of a record that one generator serves, and values in them: fewer rows where they are wide"""

Seed = int | np.random.Generator


@unique
class Stream(IntEnum):
    """Tells apart what is drawn with one seed at one step for different purposes."""

    FIRST = 1
    """The members that a cycle starts from."""
    ROTATION = 2
    PERTURBATION = 3
    """Of observations."""
    MODEL_ERROR = 4
    """Of members."""
    PARAMETERS = 5
    INFLATION = 6
    TRUTH = 7
    """Errors of a stochastic model."""
    RESAMPLING = 11
    KERNEL = 12


def sequence(seed: Seed) -> np.random.SeedSequence:
    """Give the seed sequence of an int, or a fresh child of a generator."""
    if isinstance(seed, np.random.Generator):
        given: np.random.SeedSequence = cast("Any", seed.bit_generator).seed_seq
        return given.spawn(1)[0]
    return np.random.SeedSequence(seed)


def normal(seed: int, steps: np.ndarray, shape: tuple[int, ...], stream: int = 0) -> np.ndarray:
    """Draw standard normal numbers (step, *shape) that follow from seed, step and stream alone.

    Parameters
    ----------
    seed : int
    steps : numpy.ndarray (step,) of int
        Model steps >= 0.
    shape : tuple of int
    stream : int
        Tells apart what one scheme draws for different purposes.

    Examples
    --------
    >>> one, two = normal(0, np.array([3, 5]), (2,)), normal(0, np.array([5]), (2,))
    >>> bool((one[1] == two[0]).all())
    True
    """
    drawn = np.empty((len(steps), *shape))
    for row, step in enumerate(steps.tolist()):
        _at(seed, step, stream).standard_normal(out=drawn[row])
    return drawn


def uniform(seed: int, steps: np.ndarray, stream: int = 0) -> np.ndarray:
    """Draw a number (step,) from [0, 1) for each step; see :func:`normal`."""
    return np.array([_at(seed, step, stream).random() for step in steps.tolist()])


def _at(seed: int, step: int, stream: int) -> np.random.Generator:
    """Give the generator of a step."""
    return np.random.Generator(np.random.Philox(key=[seed, stream], counter=[0, 0, step, 0]))


@cache
def _start(seed: int, stream: int) -> np.ndarray:
    """Give the number at which the draws of a stream begin."""
    return np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)


def picked(seed: int, steps: np.ndarray, count: int, stream: int = 0) -> np.ndarray:
    """Draw numbers (...) from 0 to ``count`` - 1 that follow from seed, step and stream alone.

    A few operations on all steps at once, by the mixing function of SplitMix64.

    Parameters
    ----------
    seed : int
    steps : numpy.ndarray (...) of int
        Model steps >= 0.
    count : int
    stream : int
        Tells apart what one scheme draws for different purposes.

    References
    ----------
    Steele, G. L., Lea, D. and Flood, C. H. (2014): Fast splittable pseudorandom number generators.
    OOPSLA 2014, 453-472.

    Examples
    --------
    >>> numbers = picked(0, np.arange(1000), 4)
    >>> bool((np.bincount(numbers) > 200).all())
    True
    """
    z = _start(seed, stream) + np.asarray(steps).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray((z ^ (z >> np.uint64(31))) % np.uint64(count), dtype=np.int64)


def ranks(names: Sequence[str]) -> np.ndarray:
    """Give the place of each name when all are sorted: names, not places, decide what is drawn.

    Examples
    --------
    >>> ranks(["b", "a", "c"])
    array([1, 0, 2])
    """
    return _ranks(tuple(str(name) for name in names))


@lru_cache(maxsize=8)
def _ranks(names: tuple[str, ...]) -> np.ndarray:
    found = np.argsort(np.argsort(names))
    found.flags.writeable = False
    return found


def block(size: int) -> int:
    """Give the rows of ``size`` values that one generator serves."""
    return max(min(BLOCK, VALUES // size), 1)


def blocks(seed: Seed, rows: int, size: int) -> Iterator[tuple[slice, np.random.Generator]]:
    """Give, for each block of a record's rows of ``size`` values, its own generator."""
    root, length = sequence(seed), block(size)
    for number, first in enumerate(range(0, rows, length)):
        child = np.random.SeedSequence(root.entropy, spawn_key=(*root.spawn_key, number))
        yield slice(first, min(first + length, rows)), np.random.default_rng(child)
