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
        """The result of the training; an emulator that is not fitted raises `InputError`."""
        if self.fitted is None:
            name = type(self).__name__
            raise InputError(
                f"{name}: not fitted yet; use the result of {name.lower()}.fit(analysis)"
            )
        return self.fitted

    def _repr_html_(self) -> str:
        return shown(self, {"fitted": "no"} if self.fitted is None else self.fitted.summary())

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables, along the last axis of a state."""
        return cast("tuple[str, ...]", self.known.variables)

    @property
    def dt(self) -> float:
        """Length of a step; it is that of the record to which the emulator was fitted."""
        return cast("float", self.known.dt)

    @property
    def time_unit(self) -> str:
        """Unit of ``dt`` for records with datetime64 times."""
        return cast("str", self.known.time_unit)

    @property
    def climate(self) -> np.ndarray:
        """Mean state (variable,) of the record to which the emulator was first fitted."""
        return cast("np.ndarray", self.known.mean)

    @property
    def _ground(self) -> Any:
        """What says where the variables lie: the base, if there is one."""
        return self.base

    @property
    def template(self) -> Any:
        """The ``template`` of the base, the fields of its state; None if it has none."""
        return getattr(self._ground, "template", None)

    @property
    def forcings(self) -> tuple[str, ...]:
        """Names of the forcings that a step takes, with which the emulator was fitted."""
        if self.fitted is not None:
            return cast("tuple[str, ...]", self.fitted.forcings)
        return names_of(self.base)

    @property
    def schedule(self) -> Any:
        """Forcings that the base brings along (:func:`daml.models.forced`); None if it has none."""
        return getattr(self.base, "schedule", None)

    @property
    def positions(self) -> Any:
        """Positions of the variables in space, from the base; None if it has none."""
        return getattr(self._ground, "positions", None)

    @property
    def period(self) -> Any:
        """Lengths after which space repeats itself, from the base; None if it does not."""
        return getattr(self._ground, "period", None)

    @property
    def bounds(self) -> Any:
        """Bounds of the variables, from the base; None if it has none."""
        return getattr(self.base, "bounds", None)

    @property
    def remembers(self) -> bool:
        """Whether a step depends on states before the last one."""
        return (getattr(self, "window", None) or 1) > 1

    def start(self, x: Any, time: Any = None) -> Memory:
        """Give the memory to start from at states ``x`` (..., variable).

        It is a tuple: an empty memory of the emulator, and the memory of the base.
        """
        return None, None if self.base is None else self.base.start(x, time)

    @abstractmethod
    def step(self, x: Any, memory: Memory = None, forcing: Any = None) -> tuple[Any, Memory]:
        """Step states (..., variable) by one dt.

        An emulator that was fitted with forcings also takes their values (..., forcing).
        """

    @cached_property
    def of_base(self) -> list[int]:
        """Columns of the forcings of a step that the base takes."""
        return places_of(names_of(self.base), self.known.columns)

    @property
    def typical_forcing(self) -> np.ndarray | None:
        """Mean (forcing,) of the forcings that the base takes; None if it takes none."""
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
        """Forecast from each state of a record; see :func:`daml.forecast` for the arguments."""
        return forecast(self, states, leads=leads, warmup=warmup, forcings=forcings)

    def to_dataset(self) -> xr.Dataset:
        """Give what was learned as a Dataset of plain arrays, with the settings as attributes."""
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

        If the stored ``device`` is "cuda" and this machine has no such device, it becomes "cpu".

        Raises
        ------
        InputError
            If the Dataset holds settings that this class does not have.
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
        """Write the fitted emulator to a new Zarr store, from which ``load_emulator`` loads it.

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
            f"{kind}: the base takes the forcing {lacking[0]!r}, and the {kind} was fitted "
            f"with {fitted.forcings}; give a base that takes no other forcings"
        )
    if fitted is not None and base is not None and tuple(base.variables) != fitted.variables:
        raise InputError(
            f"{kind}: the base steps {tuple(base.variables)}, the {kind} was fitted to "
            f"{fitted.variables}; give a base with the same variables in the same order"
        )
