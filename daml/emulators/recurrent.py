"""What emulators with recurrent layers share: an LSTM, a GRU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from daml.emulators.networks import Layered, Network, Windowed
from daml.emulators.neural import Neural
from daml.errors import InputError


@dataclass(frozen=True)
class _Layers:
    hidden: int = 100
    layers: int = 2


@dataclass(frozen=True)
class Recurrent(Neural, _Layers):  # the fields of the last class come first
    """An emulator with recurrent layers, which carry a memory or see a window of states."""

    covariances: ClassVar[tuple[str, ...]] = ("predicted", "constant")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.covariance is not None and self.window is not None:
            name = type(self).__name__
            raise InputError(f"{name}: 'covariance' needs a memory; leave 'window' out")

    def with_layers(self, kind: type[torch.nn.RNNBase], size: int) -> Network:
        """Give a network with layers of a kind for ``size`` variables."""
        if self.window is not None:
            return Windowed(kind, size, self.hidden, self.layers, self.window)
        return Layered(kind, size, self.hidden, self.layers, self.covariance)
