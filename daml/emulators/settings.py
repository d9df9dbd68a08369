"""What an LSTM can be told, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from daml.arguments import check_fields
from daml.errors import InputError

if TYPE_CHECKING:
    from daml.emulators.lstm import LSTM

COVARIANCES = ("predicted", "constant")
"""Whether the network says how wrong its forecast is, and whether that changes."""


def check(lstm: LSTM) -> None:
    """Refuse settings that are out of range.

    Raises
    ------
    InputError
        It names the setting.
    """
    check_fields(lstm)
    for name in ("hidden", "layers", "epochs", "cycle_epochs", "window", "batch_size"):
        value = getattr(lstm, name)
        if value is not None and value < 1:
            raise InputError(f"LSTM: {name!r} is {value}; give 1 or more")
    check_sequences("LSTM", lstm.sequence_length, lstm.burn_in, lstm.learning_rate)
    if lstm.covariance not in (None, *COVARIANCES):
        raise InputError(
            f"LSTM: 'covariance' is {lstm.covariance!r}; give one of {COVARIANCES}, or None"
        )
    if lstm.covariance is not None and lstm.window is not None:
        raise InputError("LSTM: 'covariance' needs a memory; leave 'window' out")
    if not 0 < lstm.rate_decay <= 1:
        raise InputError(f"LSTM: 'rate_decay' is {lstm.rate_decay}; give a factor in (0, 1]")
    if lstm.device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError("LSTM: device 'cuda' is not available here; give device='cpu'")


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
