"""The result of a training, from which the next one starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
import xarray as xr

from daml.emulators.networks import Memory, Network
from daml.errors import InputError
from daml.labels.datasets import names
from daml.stores.attributes import Attributes
from daml.stores.opening import check_whole
from daml.training.factors import covariance, placed

LOSSES = {
    "loss": "mean of the objective of the training",
    "held_out_loss": "the same on the held-out blocks",
    "held_out_rmse": "RMSE of the held-out innovations, in standard deviations of their error",
}
WEIGHTS = "weights."
FORCING = ("forcing_mean", "forcing_spread")
SCALING = ("mean", "spread", "increment_mean", "increment_spread")


@dataclass(frozen=True)
class Scaled:
    """Names, step, and the scaling of states and increments of the record that was fitted to.

    ``columns`` (column,) names the forcing of each further input; ``forcing_mean`` and
    ``forcing_spread`` are their scaling.
    """

    variables: tuple[str, ...]
    dt: float
    time_unit: str
    mean: np.ndarray
    spread: np.ndarray
    increment_mean: np.ndarray
    increment_spread: np.ndarray
    columns: tuple[str, ...] = field(default=(), kw_only=True)
    forcing_mean: np.ndarray = field(default_factory=lambda: np.empty(0), kw_only=True)
    forcing_spread: np.ndarray = field(default_factory=lambda: np.empty(0), kw_only=True)

    @property
    def forcings(self) -> tuple[str, ...]:
        """The names of the forcings, in the order of their columns."""
        return tuple(dict.fromkeys(self.columns))

    def summary(self) -> dict[str, object]:
        """Give a short description for notebooks."""
        return {"fitted to": f"{', '.join(self.variables)}; dt {self.dt:g}"}

    def to_dataset(self) -> xr.Dataset:
        """Give the scaling as plain arrays."""
        arrays = {name: ("variable", getattr(self, name)) for name in SCALING}
        result = xr.Dataset(arrays, coords={"variable": list(self.variables)})
        if self.columns:
            scales = {name: ("forcing", getattr(self, name)) for name in FORCING}
            result = result.assign(scales).assign_coords(forcing=list(self.columns))
        result.attrs = {"dt": self.dt, "time_unit": self.time_unit}
        return result


def scaled_of(dataset: xr.Dataset, name: str) -> Scaled:
    """Restore what :meth:`Scaled.to_dataset` gave, from the Dataset of an emulator.

    Raises
    ------
    InputError
        If an array is missing or damaged; the message begins with ``name``.
    """
    attrs = Attributes(dataset.attrs, name)
    check_whole(dataset, ("variable", *SCALING), name)
    for key, array in dataset.data_vars.items():
        known = array.where(~np.isinf(array), 0.0) if str(key).startswith(WEIGHTS) else array
        check_whole(known.to_dataset(name=key), (str(key),), name)  # a mask of a user's is infinite
        if key in SCALING and array.dims != ("variable",):
            raise InputError(f"{name}: {key!r} has the dims {array.dims}; ('variable',) is needed")
    further: dict[str, Any] = {}
    if FORCING[0] in dataset:
        check_whole(dataset, ("forcing", *FORCING), name)
        further |= {"columns": names(dataset, "forcing")}
        further |= {key: dataset[key].values for key in FORCING}
    return Scaled(
        variables=names(dataset),
        dt=attrs.number("dt", above=0),
        time_unit=attrs.text("time_unit"),
        **further | {key: dataset[key].values for key in SCALING},
    )


@dataclass(frozen=True)
class Fitted(Scaled):
    """The result of a training: weights, and the scaling of states and increments."""

    network: Network
    losses: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Scores (epoch,) of the last training, by name."""
    trainings: int = 0
    covariance_root: np.ndarray | None = None
    """Cholesky factor (variable, variable) of B, which is multiplied by the network's factor."""

    @cached_property
    def scaling(self) -> tuple[torch.Tensor, ...]:
        """Mean and spread of states, of increments, and of forcings, where the network is.

        They are transferred once, so that no step has to wait for them.
        """
        parts = [getattr(self, name) for name in (*SCALING, *FORCING)]
        where = next(self.network.parameters()).device
        with torch.inference_mode(False):  # gradients may pass through them later
            return tuple(torch.as_tensor(part, device=where) for part in parts)

    def starting(self, matrix: np.ndarray) -> Fitted:
        """Give a copy with a matrix as B, as long as the network's factor is the identity."""
        return replace(self, covariance_root=np.linalg.cholesky(matrix))

    def after(self, network: Network, losses: Mapping[str, np.ndarray]) -> Fitted:
        """Give the result after one more training."""
        network.requires_grad_(False)
        done = self.trainings + 1
        return replace(self, network=network, losses=losses, trainings=done)

    def increment(
        self, x: torch.Tensor, memory: Memory, forcing: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, Memory]:
        """Give the increment (..., variable) over the base at states x, in the units of x.

        ``forcing`` (..., column) are further inputs of the network, if it takes some.
        """
        mean, spread, increment_mean, increment_spread, *of_forcing = self.scaling
        scaled = (x - mean) / spread
        if forcing is not None:
            further = (forcing.to(scaled.device) - of_forcing[0]) / of_forcing[1]
            scaled = torch.cat((scaled, further.to(scaled.dtype)), dim=-1)
        scaled = scaled.reshape(-1, scaled.shape[-1])
        output, memory = self.network.advance(scaled.to(self.network.head.weight.dtype), memory)
        scale = torch.addcmul(increment_mean, output, increment_spread)
        return scale.reshape(x.shape), memory

    def background_covariance(self, memory: Memory) -> torch.Tensor:
        """Give B (..., variable, variable) of the forecast with which the memory was returned."""
        return covariance(self.network.factor(memory).to(self.places.dtype), self.places)

    @cached_property
    def places(self) -> torch.Tensor:
        """The map from the entries of a factor to the root of B, on the device of the network."""
        with torch.inference_mode(False):
            root = placed(np.asarray(self.covariance_root))
            return torch.as_tensor(root, device=self.network.head.weight.device)

    @property
    def history(self) -> xr.Dataset:
        """Scores (epoch) of the last training."""
        losses = self.losses or {"loss": np.empty(0)}
        variables = {name: ("epoch", losses[name], {"long_name": LOSSES[name]}) for name in losses}
        result = xr.Dataset(variables, coords={"epoch": np.arange(len(losses["loss"]))})
        for array in result.data_vars.values():
            array.attrs["units"] = "1"
        return result

    def summary(self) -> dict[str, object]:
        """Give a short description of the result for notebooks."""
        losses = {name: f"{column[-1]:.4g}" for name, column in self.losses.items()}
        return {**super().summary(), "trainings": self.trainings, **losses}

    def to_dataset(self) -> xr.Dataset:
        """Give weights and scaling as plain arrays."""
        result = super().to_dataset()
        if self.covariance_root is not None:
            result["covariance_root"] = (("variable", "covariable"), self.covariance_root)
        for key, weight in self.network.state_dict().items():
            name = f"{WEIGHTS}{key}"
            value = weight.detach().cpu().numpy().copy()
            result[name] = ([f"{name}.{i}" for i in range(value.ndim)], value)
        result.attrs["trainings"] = self.trainings
        return result

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset, network: Network, name: str) -> Fitted:
        """Restore the result that ``to_dataset`` gave, with its weights in ``network``.

        Raises
        ------
        InputError
            If an array is missing or damaged, or the weights belong to another network; the
            message begins with ``name``.
        """
        scaled = scaled_of(dataset, name)
        weights = {
            str(key).removeprefix(WEIGHTS): torch.as_tensor(array.values)
            for key, array in dataset.data_vars.items()
            if str(key).startswith(WEIGHTS)
        }
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise InputError(
                f"{name}: the stored weights do not fit a network of these settings ({reason}); "
                "give the settings that it was fitted with"
            ) from error
        network.requires_grad_(False)
        root = dataset["covariance_root"].values if "covariance_root" in dataset else None
        return cls(
            **{f.name: getattr(scaled, f.name) for f in fields(scaled)},
            network=network,
            covariance_root=root,
            trainings=Attributes(dataset.attrs, name).whole("trainings"),
        )
