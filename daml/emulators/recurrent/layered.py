"""What emulators with recurrent layers (LSTM, GRU, RNN) share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
import xarray as xr

from daml.emulators.networks import Layered, Network, Windowed
from daml.emulators.neural import Neural
from daml.errors import InputError


@dataclass(frozen=True)
class _Layers:
    hidden: int = 100
    layers: int = 2


@dataclass(frozen=True)
class Recurrent(Neural, _Layers):  # the fields of the last class come first
    """An emulator with recurrent layers, which carry a memory or read a window of states."""

    covariances: ClassVar[tuple[str, ...]] = ("predicted", "constant")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.covariance is not None and self.window is not None:
            name = type(self).__name__
            raise InputError(f"{name}: 'covariance' needs a memory; leave 'window' out")

    @property
    def remembers(self) -> bool:
        """Whether a step depends on states before the last one."""
        return self.window is None or self.window > 1

    def with_layers(self, kind: type[torch.nn.RNNBase], size: int, forcing: int) -> Network:
        """Give a network with layers of a torch class, such as ``torch.nn.LSTM``; see `network`."""
        if self.window is not None:
            return Windowed(kind, size, self.hidden, self.layers, self.window, forcing)
        return Layered(kind, size, self.hidden, self.layers, self.covariance, forcing)

    def restored(self, dataset: xr.Dataset) -> Self:
        """Give the fitted emulator whose ``to_dataset`` is given, with the settings stored there.

        Raises
        ------
        InputError
            If the weights do not fit a network of these settings.
        """
        made = self.with_settings(dataset)
        check_sizes(dataset, type(self).__name__, made.hidden, made.layers)
        return super().restored(dataset)


def check_sizes(dataset: xr.Dataset, name: str, hidden: int, layers: int) -> None:
    """Refuse weights of a network with another size, before the network is made.

    Raises
    ------
    InputError
        If the sizes differ; the message begins with ``name`` and gives both.
    """
    head = dataset.get("weights.head.weight")
    there = sum(".weight_hh_l" in str(key) for key in dataset.data_vars)
    found = None if head is None or head.ndim != 2 else head.shape
    wanted = dataset.sizes.get("variable"), hidden
    if found != wanted or there != layers:
        raise InputError(
            f"{name}: the stored weights do not fit a network of these settings (variables and "
            f"hidden: {found} stored, {wanted} needed; layers: {there} stored, {layers} needed); "
            "give the settings that it was fitted with"
        )
