"""What all of daml's emulators share: increments over a base, settings, and stores."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import MISSING, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
import xarray as xr

from daml import __version__
from daml.errors import InputError
from daml.labels.arguments import checked
from daml.labels.descriptions import description
from daml.labels.forcings import Forcings, places_of
from daml.labels.html import shown
from daml.models.forced import check_given, names_of
from daml.protocols import Memory, Model
from daml.running.forecasting import forecast
from daml.stores.attributes import Attributes
from daml.stores.filling import save

APART = ("base", "fitted", "grid")
"""Fields that are not settings; a store holds them in other ways."""


class Learned(ABC):
    """An emulator of increments over a base; its subclasses are frozen dataclasses of settings.

    A subclass has the fields ``base`` and ``fitted``. All other fields with a default are settings,
    which a store holds. Fields without a default (a user's network or estimator) are not stored,
    and are given again on loading.
    """

    base: Model | None
    fitted: Any

    @property
    def known(self) -> Any:
        """The result of a training; an emulator that is not fitted raises `InputError`."""
        if self.fitted is None:
            name = type(self).__name__
            raise InputError(
                f"{name}: not fitted yet; use the result of {name.lower()}.fit(analysis)"
            )
        return self.fitted

    def _repr_html_(self) -> str:
        return shown(self, {"fitted": "no"} if self.fitted is None else self.fitted.told())

    @property
    def variables(self) -> tuple[str, ...]:
        """Names along the last axis of a state."""
        return cast("tuple[str, ...]", self.known.variables)

    @property
    def dt(self) -> float:
        """Length of a step, that of the record that the emulator was fitted to."""
        return cast("float", self.known.dt)

    @property
    def time_unit(self) -> str:
        """Unit of ``dt`` for records with datetime64 times."""
        return cast("str", self.known.time_unit)

    @property
    def climate(self) -> np.ndarray:
        """Mean state (variable,) of the record that the emulator was fitted to."""
        return cast("np.ndarray", self.known.mean)

    @property
    def _ground(self) -> Any:
        """What says where the variables lie: the base, if there is one."""
        return self.base

    @property
    def template(self) -> Any:
        """The fields of the base's state, if it has any."""
        return getattr(self._ground, "template", None)

    @property
    def forcings(self) -> tuple[str, ...]:
        """Names of the forcings that a step takes: those that it was fitted with."""
        if self.fitted is not None:
            return cast("tuple[str, ...]", self.fitted.forcings)
        return names_of(self.base)

    @property
    def schedule(self) -> Any:
        """The forcings of a base that has its own (:func:`daml.models.forced`)."""
        return getattr(self.base, "schedule", None)

    @property
    def positions(self) -> Any:
        """Where the variables lie, if the base says it."""
        return getattr(self._ground, "positions", None)

    @property
    def period(self) -> Any:
        """Lengths after which the base's space repeats itself, if it does."""
        return getattr(self._ground, "period", None)

    @property
    def bounds(self) -> Any:
        """Bounds of the base's variables, if it has any."""
        return getattr(self.base, "bounds", None)

    @property
    def remembers(self) -> bool:
        """Whether a step depends on states before the last one."""
        return (getattr(self, "window", None) or 1) > 1

    def start(self, x: Any, time: Any = None) -> Memory:
        """Give an empty memory, together with that of the base."""
        return None, None if self.base is None else self.base.start(x, time)

    @abstractmethod
    def step(
        self, x: Any, memory: Memory = (None, None), forcing: Any = None
    ) -> tuple[Any, Memory]:
        """Move states (..., variable) by one dt, with forcings (..., forcing) if it takes some."""

    @cached_property
    def of_base(self) -> list[int]:
        """The places of the forcings of the base among those of a step."""
        return places_of(names_of(self.base), self.known.columns)

    @property
    def typical_forcing(self) -> np.ndarray | None:
        """The mean (forcing,) of those of the base; None where it takes none."""
        return self.known.forcing_mean[self.of_base] if self.of_base else None

    @checked
    def forecast(
        self,
        states: xr.Dataset,
        *,
        leads: Any = 4,
        warmup: int = 100,
        forcings: xr.Dataset | None = None,
    ) -> xr.Dataset:
        """Forecast from each state of a record; see :func:`daml.forecast`."""
        return forecast(self, states, leads=leads, warmup=warmup, forcings=forcings)

    def to_dataset(self) -> xr.Dataset:
        """Give what was learned, and the settings, as plain arrays and attributes."""
        result: xr.Dataset = self.known.to_dataset()
        for array in result.data_vars.values():
            array.attrs = {"long_name": str(array.name), "units": "1"}
        settings = {name: getattr(self, name) for name in settings_of(type(self))}
        result.attrs |= {
            "emulator": type(self).__name__,
            "settings": json.dumps(settings),
            "base": "null" if self.base is None else description(self.base, "base", exact=False),
            "daml_version": __version__,
        }
        return result

    def with_settings(self, dataset: xr.Dataset) -> Self:
        """Give the emulator with the settings that ``to_dataset`` stored.

        If they say "cuda" and this machine has no such device, it is "cpu".

        Raises
        ------
        InputError
            If they are not settings of this class.
        """
        name = type(self).__name__
        needed = f"the settings of the class {name}"
        attrs, known = Attributes(dataset.attrs, name), settings_of(type(self))
        settings = attrs.settings("settings") or {}
        for setting in settings:
            if setting not in known:
                raise attrs.wrong("settings", f"{needed} (without {setting[:40]!r})")
        if str(settings.get("device")).startswith("cuda") and not torch.cuda.is_available():
            settings["device"] = "cpu"
        try:
            return cast("Self", replace(cast("Any", self), **settings))
        except InputError as error:
            raise attrs.wrong("settings", f"{needed} ({error})") from error

    @checked
    def save(self, store: str | Path) -> None:
        """Write the fitted emulator to a new Zarr store, for ``load_emulator``.

        Raises
        ------
        InputError
            If the store exists, or the emulator is not fitted.
        """
        save(self.to_dataset(), store, "the emulator")


def settings_of(kind: type[Learned]) -> list[str]:
    """Give the names of the settings that a store holds."""
    kept = fields(cast("Any", kind))
    return [f.name for f in kept if f.name not in APART and f.default is not MISSING]


def given_of(kind: type[Learned]) -> list[str]:
    """Give the names of the fields that are not stored, which a user gives on loading."""
    return [f.name for f in fields(cast("Any", kind)) if f.default is MISSING]


def table_for(emulator: Learned, forcings: xr.Dataset | None) -> Forcings | None:
    """Give the forcings to train an emulator with: all that are given, or those it knows.

    Raises
    ------
    InputError
        If it takes some and none are given, or it was fitted without any.
    """
    if forcings is None:
        check_given(emulator)
        return None
    if emulator.fitted is None:
        return Forcings.read(forcings)
    if not emulator.fitted.columns:
        name = type(emulator).__name__
        raise InputError(
            f"{name}: it was fitted without forcings, and is now given some; leave them out, or "
            "start from an emulator that is not fitted"
        )
    return Forcings.read(forcings, emulator.fitted.forcings)


def check_base(kind: str, base: Model | None, fitted: Any) -> None:
    """Refuse a base with other variables than an emulator was fitted to.

    Raises
    ------
    InputError
        If there is one; the message begins with ``kind``, the class of the emulator.
    """
    lacking = [name for name in names_of(base) if fitted is not None and name not in fitted.columns]
    if lacking:
        raise InputError(
            f"{kind}: the base takes the forcing {lacking[0]!r}, and the {kind} was fitted with "
            f"{fitted.forcings}; give a base that takes no others"
        )
    if fitted is not None and base is not None and tuple(base.variables) != fitted.variables:
        raise InputError(
            f"{kind}: the base steps {tuple(base.variables)}, the {kind} was fitted to "
            f"{fitted.variables}; give a base with the same variables in the same order"
        )
