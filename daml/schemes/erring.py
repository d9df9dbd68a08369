"""What schemes with a model error share: how a store keeps it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np
import xarray as xr

S = TypeVar("S", bound="Erring")


class Erring:
    """A scheme with a ``model_error``: a number is among its settings, an array is stored."""

    model_error: Any

    @property
    def by_model_error(self: S) -> S:
        """The same scheme with the ``model_error`` of the model."""
        return cast("S", replace(cast("Any", self), model_error=None))

    def to_dataset(self) -> xr.Dataset:
        """Give the model error, if it is an array, as a Dataset for a store."""
        given = self.model_error
        if isinstance(given, xr.DataArray):
            return given.reset_coords(drop=True).to_dataset(name="model_error")
        if np.ndim(given) == 0:
            return xr.Dataset()
        return xr.Dataset({"model_error": (("row", "column")[: np.ndim(given)], np.array(given))})

    def restored(self: S, dataset: xr.Dataset) -> S:
        """Give this scheme with what ``to_dataset`` stored."""
        if "model_error" not in dataset:
            return self
        found = dataset["model_error"]
        given = found if "variable" in found.dims else found.values
        return cast("S", replace(cast("Any", self), model_error=given))
