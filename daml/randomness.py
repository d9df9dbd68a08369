"""Random numbers that follow from a seed and a position, never from how a record is cut."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLOCK = 4096
"""Rows of a record that one generator serves."""

Seed = int | np.random.Generator


def sequence(seed: Seed) -> np.random.SeedSequence:
    """Give the seed sequence of an int, or a fresh child of a generator."""
    if isinstance(seed, np.random.Generator):
        return seed.bit_generator.seed_seq.spawn(1)[0]  # type: ignore[attr-defined, no-any-return]
    return np.random.SeedSequence(seed)


def blocks(seed: Seed, rows: int) -> Iterator[tuple[slice, np.random.Generator]]:
    """Give, for each block of a record's rows, its own generator."""
    root = sequence(seed)
    for number, first in enumerate(range(0, rows, BLOCK)):
        child = np.random.SeedSequence(root.entropy, spawn_key=(*root.spawn_key, number))
        yield slice(first, min(first + BLOCK, rows)), np.random.default_rng(child)
