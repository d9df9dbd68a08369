"""The settings that all emulators with a network share, checked."""

from __future__ import annotations

import inspect
import sys
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from daml.arrays import check_device
from daml.emulators.fitted import Fitted
from daml.emulators.learned import Learned, check_base
from daml.emulators.networks import Network
from daml.errors import InputError
from daml.labels.arguments import check_fields
from daml.labels.ranges import number, seed, whole
from daml.protocols import Model
from daml.training.plan import check_sequences

OPTIONAL = ("epochs", "cycle_epochs", "window")
WHOLE = ("hidden", "layers", "batch_size", "sequence_length", *OPTIONAL)
RATES: dict[str, dict[str, Any]] = {
    "learning_rate": {"needed": "a rate > 0", "above": 0.0, "most": sys.float_info.max},
    "rate_decay": {"needed": "a factor in (0, 1]", "above": 0.0, "most": 1.0},
    "variance_floor": {"needed": "a variance > 0", "above": 0.0, "most": sys.float_info.max},
}
"""The range of each number, and how messages describe it."""


@dataclass(frozen=True)
class Settings(Learned):
    """An emulator with a network: its settings, and the network itself.

    Subclasses document all settings, see :class:`daml.LSTM`. To put fields of its own first, a
    subclass also inherits from a dataclass with these fields, named last.
    """

    epochs: int | None = None
    window: int | None = None
    base: Model | None = None
    device: str = "cpu"
    seed: int = 0
    sequence_length: int = 100
    burn_in: int = 10
    batch_size: int = 64
    learning_rate: float = 4e-3
    rate_decay: float = 0.85
    covariance: str | None = None
    cycle_epochs: int | None = None
    variance_floor: float | None = field(default=None, metadata={"later": True})
    fitted: Fitted | None = field(default=None, repr=False, compare=False)

    covariances: ClassVar[tuple[str, ...]] = ("constant",)
    """Ways to learn the background covariance through the cycle."""

    def __post_init__(self) -> None:
        check(self)

    @abstractmethod
    def network(self, size: int, forcing: int = 0) -> Network:
        """Give a network for ``size`` variables, with its initial weights.

        Its inputs are the variables, and after them as many of forcings.
        """

    def alike(self, mean: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the mean and spread (variable,) by which variables are scaled: each by its own."""
        return mean, spread

    def initial(self, size: int, forcing: int = 0) -> Network:
        """Give the network that a first training starts from, on its device.

        The seed decides its weights. The network of an emulator with a base adds nothing at first.
        """
        if forcing and len(inspect.signature(self.network).parameters) < 2:
            name = type(self).__name__
            raise InputError(
                f"{name}: its network takes no forcings; write network(self, size, forcing=0), of "
                "a network with so many inputs after the variables, or leave the forcings out"
            )
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.manual_seed(self.seed)
            made = self.network(size, forcing) if forcing else self.network(size)
        if self.base is not None:  # training starts from the mean increment alone
            torch.nn.init.zeros_(made.head.weight)
            torch.nn.init.zeros_(made.head.bias)
        return made.to(self.device)


def check(emulator: Settings) -> None:
    """Refuse settings that are out of range; turn NumPy's numbers into Python's.

    Raises
    ------
    InputError
        If there is one; the message names the class and the setting.
    """
    check_fields(emulator)
    kind, plain = type(emulator).__name__, dict[str, Any]()
    for name in WHOLE:
        value = getattr(emulator, name, None)
        if value is not None or (hasattr(emulator, name) and name not in OPTIONAL):
            plain[name] = whole(value, f"{kind}: {name!r}")
    plain["burn_in"] = whole(emulator.burn_in, f"{kind}: 'burn_in'", least=0)
    plain["seed"] = seed(emulator.seed, f"{kind}: 'seed'")
    if emulator.fitted is None:  # otherwise its network is on the device already
        plain["device"] = check_device(emulator.device, kind)
    for name in RATES:
        value = getattr(emulator, name)
        if value is not None:
            plain[name] = number(value, f"{kind}: {name!r}", **RATES[name])
    check_sequences(kind, emulator.sequence_length, emulator.burn_in, emulator.learning_rate)
    if emulator.window is not None and emulator.window > emulator.sequence_length:
        raise InputError(
            f"{kind}: 'window' is {emulator.window}; give sequence_length "
            f"({emulator.sequence_length}) or less, as no sequence of a training holds a longer one"
        )
    covariance = emulator.covariance
    if covariance is not None and covariance not in emulator.covariances:
        raise InputError(
            f"{kind}: 'covariance' is {covariance!r}; give one of {emulator.covariances}, or None"
        )
    check_base(kind, emulator.base, emulator.fitted)
    for name, value in plain.items():
        object.__setattr__(emulator, name, value)
