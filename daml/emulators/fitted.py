"""What a training finds and goes on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
import xarray as xr

from daml.emulators.factors import covariance, placed
from daml.emulators.networks import Memory, Network
from daml.errors import InputError
from daml.labels import names
from daml.opening import check_whole
from daml.stored import Attributes

LOSSES = {
    "loss": "mean of what the training makes small",
    "held_out_loss": "the same on the held-out blocks",
    "held_out_rmse": "RMSE of the held-out innovations, in standard deviations of their error",
}
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
    losses: Mapping[str, np.ndarray] = field(default_factory=dict)
    """What the last training told of its epochs, by name."""
    trainings: int = 0
    covariance_root: np.ndarray | None = None
    """Cholesky factor (variable, variable) of B, which the network's factor multiplies."""

    @cached_property
    def scaling(self) -> tuple[torch.Tensor, ...]:
        """Mean and spread of states, then of increments, where the network lives.

        Made once: a step must not wait for a transfer.
        """
        parts = [getattr(self, name) for name in SCALING]
        where = next(self.network.parameters()).device
        with torch.inference_mode(False):  # so that a gradient may pass, too, later
            return tuple(torch.as_tensor(part, device=where) for part in parts)

    def starting(self, matrix: np.ndarray) -> Fitted:
        """Give the same with the B that the network's factor multiplies."""
        return replace(self, covariance_root=np.linalg.cholesky(matrix))

    def after(self, network: Network, losses: Mapping[str, np.ndarray]) -> Fitted:
        """Give what is known after one more training."""
        network.requires_grad_(False)
        done = self.trainings + 1
        return replace(self, network=network, losses=losses, trainings=done)

    def increment(self, x: torch.Tensor, memory: Memory) -> tuple[torch.Tensor, Memory]:
        """Give the increment (..., variable) over the base at states x, in their units."""
        mean, spread, increment_mean, increment_spread = self.scaling
        scaled = ((x - mean) / spread).reshape(-1, x.shape[-1])
        output, memory = self.network.advance(scaled.to(self.network.head.weight.dtype), memory)
        scale = torch.addcmul(increment_mean, output, increment_spread)
        return scale.reshape(x.shape), memory

    def background_covariance(self, memory: Memory) -> torch.Tensor:
        """Give B (..., variable, variable) of the states that the memory predicted."""
        return covariance(self.network.factor(memory).to(self.places.dtype), self.places)

    @cached_property
    def places(self) -> torch.Tensor:
        """What the covariance's root makes of a factor's entries, where the network lives."""
        with torch.inference_mode(False):
            root = placed(np.asarray(self.covariance_root))
            return torch.as_tensor(root, device=self.network.head.weight.device)

    @property
    def history(self) -> xr.Dataset:
        """What the last training told of its epochs."""
        losses = self.losses or {"loss": np.empty(0)}
        told = {name: ("epoch", losses[name], {"long_name": LOSSES[name]}) for name in losses}
        result = xr.Dataset(told, coords={"epoch": np.arange(len(losses["loss"]))})
        for array in result.data_vars.values():
            array.attrs["units"] = "1"
        return result

    def told(self) -> dict[str, object]:
        """Say in a few words what was found, for a notebook."""
        losses = {name: f"{column[-1]:.4g}" for name, column in self.losses.items()}
        named = ", ".join(self.variables)
        return {"fitted to": f"{named}; dt {self.dt:g}", "trainings": self.trainings, **losses}

    def to_dataset(self) -> xr.Dataset:
        """Give weights and scaling as plain arrays."""
        arrays = {name: ("variable", getattr(self, name)) for name in SCALING}
        result = xr.Dataset(arrays, coords={"variable": list(self.variables)})
        if self.covariance_root is not None:
            result["covariance_root"] = (("variable", "covariable"), self.covariance_root)
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
        attrs = Attributes(dataset.attrs, "LSTM")
        check_whole(dataset, ("variable", *SCALING), "LSTM")
        for name, array in dataset.data_vars.items():
            check_whole(dataset, (str(name),), "LSTM")
            if name in SCALING and array.dims != ("variable",):
                raise InputError(
                    f"LSTM: {name!r} has the dims {array.dims}; ('variable',) is needed"
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
        mean, spread, increment_mean, increment_spread = (dataset[n].values for n in SCALING)
        return cls(
            variables=names(dataset),
            dt=attrs.number("dt", above=0),
            time_unit=attrs.text("time_unit"),
            mean=mean,
            spread=spread,
            increment_mean=increment_mean,
            increment_spread=increment_spread,
            network=network,
            covariance_root=(
                dataset["covariance_root"].values if "covariance_root" in dataset else None
            ),
            trainings=attrs.whole("trainings"),
        )


def check_sizes(dataset: xr.Dataset, hidden: int, layers: int) -> None:
    """Refuse weights of a network of another size, before such a network is made.

    Raises
    ------
    InputError
        It says both sizes.
    """
    head = dataset.get("weights.head.weight")
    there = sum(str(name).startswith("weights.lstm.weight_hh_l") for name in dataset.data_vars)
    found = None if head is None or head.ndim != 2 else head.shape
    wanted = dataset.sizes.get("variable"), hidden
    if found != wanted or there != layers:
        raise InputError(
            f"LSTM: the weights kept are not those of such a network (variables and hidden: "
            f"{found} there, {wanted} wanted; layers: {there} there, {layers} wanted); give the "
            "settings that it was fitted with"
        )
