"""The settings of an LSTM, checked."""

from __future__ import annotations

import sys
from typing import Any

from daml.arrays import check_device
from daml.errors import InputError
from daml.labels.arguments import check_fields
from daml.labels.ranges import number, seed, whole
from daml.training.plan import check_sequences

LSTM = Any
"""A :class:`daml.LSTM`, whose own file imports this one."""
COVARIANCES = ("predicted", "constant")
"""Whether the network says how wrong its forecast is, and whether that changes."""
OPTIONAL = ("epochs", "cycle_epochs", "window")
WHOLE = ("hidden", "layers", "batch_size", "sequence_length", *OPTIONAL)
RATES: dict[str, dict[str, Any]] = {
    "learning_rate": {"needed": "a rate > 0", "above": 0.0, "most": sys.float_info.max},
    "rate_decay": {"needed": "a factor in (0, 1]", "above": 0.0, "most": 1.0},
}
"""What a number must be."""


def check(lstm: LSTM) -> None:
    """Refuse settings that are out of range; turn NumPy's numbers into Python's.

    Raises
    ------
    InputError
        It names the setting.
    """
    check_fields(lstm)
    plain: dict[str, object] = {}
    for name in WHOLE:
        value = getattr(lstm, name)
        if value is not None or name not in OPTIONAL:
            plain[name] = whole(value, f"LSTM: {name!r}")
    plain["burn_in"] = whole(lstm.burn_in, "LSTM: 'burn_in'", least=0)
    plain["seed"] = seed(lstm.seed, "LSTM: 'seed'")
    if lstm.fitted is None:  # else its network lives there already
        plain["device"] = check_device(lstm.device, "LSTM")
    for name in ("learning_rate", "rate_decay"):
        value = getattr(lstm, name)
        plain[name] = number(value, f"LSTM: {name!r}", **RATES[name])
    check_sequences("LSTM", lstm.sequence_length, lstm.burn_in, lstm.learning_rate)
    if lstm.window is not None and lstm.window > lstm.sequence_length:
        raise InputError(
            f"LSTM: 'window' is {lstm.window}; give sequence_length ({lstm.sequence_length}) or "
            "less, as no sequence of a training holds a longer one"
        )
    if lstm.covariance is not None and lstm.covariance not in COVARIANCES:
        raise InputError(
            f"LSTM: 'covariance' is {lstm.covariance!r}; give one of {COVARIANCES}, or None"
        )
    if lstm.covariance is not None and lstm.window is not None:
        raise InputError("LSTM: 'covariance' needs a memory; leave 'window' out")
    fitted, base = lstm.fitted, lstm.base
    if fitted is not None and base is not None and tuple(base.variables) != fitted.variables:
        raise InputError(
            f"LSTM: the base steps {tuple(base.variables)}, the LSTM was fitted to "
            f"{fitted.variables}; give a base with the same variables in the same order"
        )
    for name, value in plain.items():
        object.__setattr__(lstm, name, value)
