"""What a training finds and goes on from."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
import xarray as xr

from daml.emulators.networks import Network
from daml.errors import InputError
from daml.labels import names

SCALING = ("mean", "spread", "increment_mean", "increment_spread")


@dataclass(frozen=True)
class Fitted:
    """What a training found: weights, and the scaling of states and increments."""

    variables: tuple[str, ...]
    dt: float
    time_unit: str
    mean: np.ndarray
    spread: np.ndarray
    increment_mean: np.ndarray
    increment_spread: np.ndarray
    network: Network
    losses: np.ndarray = field(default_factory=lambda: np.empty(0))
    trainings: int = 0

    @cached_property
    def scaling(self) -> tuple[torch.Tensor, ...]:
        """Mean and spread of states, then of increments, where the network lives.

        Made once: a step must not wait for a transfer.
        """
        parts = [getattr(self, name) for name in SCALING]
        where = next(self.network.parameters()).device
        with torch.inference_mode(False):  # so that a gradient may pass, too, later
            return tuple(torch.as_tensor(part, device=where) for part in parts)

    def told(self) -> dict[str, object]:
        """Say in a few words what was found, for a notebook."""
        losses = {"loss": f"{self.losses[-1]:.4g}"} if len(self.losses) else {}
        named = ", ".join(self.variables)
        return {"fitted to": f"{named}; dt {self.dt:g}", "trainings": self.trainings, **losses}

    def to_dataset(self) -> xr.Dataset:
        """Give weights and scaling as plain arrays."""
        arrays = {name: ("variable", getattr(self, name)) for name in SCALING}
        result = xr.Dataset(arrays, coords={"variable": list(self.variables)})
        for key, weight in self.network.state_dict().items():
            name = f"weights.{key}"
            value = weight.detach().cpu().numpy().copy()
            result[name] = ([f"{name}.{i}" for i in range(value.ndim)], value)
        for array in result.data_vars.values():
            array.attrs = {"long_name": str(array.name), "units": "1"}
        result.attrs = {"dt": self.dt, "time_unit": self.time_unit, "trainings": self.trainings}
        return result

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset, network: Network) -> Fitted:
        """Give back what ``to_dataset`` gave, its weights in ``network``.

        Raises
        ------
        InputError
            If they are not whole, or those of another network.
        """
        lost = [name for name, array in dataset.data_vars.items() if not np.isfinite(array).all()]
        if lost:
            raise InputError(
                f"LSTM: {str(lost[0])!r} has lost values: a file of the store is gone; restore it "
                "from a copy, or train again"
            )
        weights = {
            str(name).removeprefix("weights."): torch.as_tensor(array.values)
            for name, array in dataset.data_vars.items()
            if str(name).startswith("weights.")
        }
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise InputError(
                f"LSTM: the weights kept are not those of such a network ({reason}); give the "
                "settings that it was fitted with"
            ) from error
        network.requires_grad_(False)
        return cls(
            variables=names(dataset),
            dt=float(dataset.attrs["dt"]),
            time_unit=dataset.attrs["time_unit"],
            **{name: dataset[name].values for name in SCALING},
            network=network,
            trainings=int(dataset.attrs["trainings"]),
        )
