"""How a training goes through a record."""

from __future__ import annotations

from dataclasses import dataclass

from daml.errors import InputError

EPOCHS = 16
"""Minimum number of epochs of a training, where none is given."""


@dataclass(frozen=True)
class Plan:
    """How a training goes through a record: the settings of its optimiser.

    Attributes
    ----------
    epochs : int or None
        Number of epochs. None: as many as ``updates`` requires, from 16 to ``most``.
    length : int
        Steps of a sequence.
    batch : int
        Sequences per update.
    updates : int
        Minimum number of updates, if ``epochs`` is None.
    most : int
        Maximum number of epochs, if ``epochs`` is None.
    shard : int
        Sequences of a batch that one CPU thread processes. It is fixed, as results must not depend
        on the number of cores.
    rate : float
        Peak learning rate of Adam, which decays to 5 % along a cosine.
    """

    epochs: int | None
    length: int
    batch: int
    updates: int
    most: int
    shard: int
    rate: float


def check_sequences(
    what: str, length: int, burn_in: int, rate: float, batch: int = 1, seed: int = 0
) -> None:
    """Refuse sequences without a step that counts, and a rate that goes nowhere."""
    if batch < 1:
        raise InputError(f"{what}: 'batch_size' is {batch}; give 1 or more")
    if seed < 0:
        raise InputError(f"{what}: 'seed' is {seed}; give 0 or more")
    if not 0 <= burn_in < length:
        raise InputError(
            f"{what}: 'burn_in' is {burn_in}; give less than sequence_length ({length})"
        )
    if not rate > 0:
        raise InputError(f"{what}: 'learning_rate' is {rate}; give a rate > 0")
