"""Optimal interpolation from the climatology."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from daml.arrays import alike, namespace
from daml.covariances.dense import check, climatological
from daml.errors import InputError
from daml.labels.arguments import check_fields
from daml.labels.datasets import names, pack
from daml.protocols import Forecast, Observed, Outputs, Run, Setting, Update
from daml.schemes.ensembles.parts import SILENT
from daml.schemes.labelled import CHI_SQUARE, analyse
from daml.schemes.variational.gains import Tables, tables
from daml.stores.opening import check_whole

MOMENTS = ("mean", "covariance")


class Climate(NamedTuple):
    """What is known before a cycle."""

    gains: Tables
    mean: Any
    """(variable,)."""
    root: Any
    """L (variable, variable) of the covariance L L' of the climate."""
    signal: Any
    """Variances of H x in the climate (observed,); None where H changes in time."""


@dataclass(frozen=True)
class OptimalInterpolation:
    """Interpolation of the observations with climatological statistics.

    The background of each analysis is the climatological mean m, and B is the climatological
    covariance: m + B H' (H B H' + R)^-1 (y - H m), for a linear H. The model's forecast is used
    only at times without observations. This is a baseline: a scheme that is no better makes no use
    of its model.

    Parameters
    ----------
    climatology : xarray.Dataset
        A long run of the model (``state`` with the dims time and variable, from
        :func:`daml.simulate`), or its ``mean`` (variable) and ``covariance`` (variable,
        covariable). Only these two are kept.

    Raises
    ------
    InputError
        If the climatology has neither, or is too short a run.

    References
    ----------
    Gandin, L. S. (1965): Objective analysis of meteorological fields. Israel Program for Scientific
    Translations, Jerusalem.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> scheme = daml.schemes.OptimalInterpolation(daml.simulate(model, steps=1000, spinup=100))
    >>> seen = daml.observe(daml.simulate(model, steps=500, spinup=100, seed=1))
    >>> daml.assimilate(model, seen, scheme).analysis.shape
    (500, 3)
    """

    climatology: xr.Dataset | None = field(default=None, metadata={"needed": True})

    def __post_init__(self) -> None:
        check_fields(self)
        given = self.climatology
        if given is None:
            return
        if "state" in given:
            covariance, (values, _) = climatological(given), pack(given, "state")
            mean = values.reshape(-1, values.shape[-1]).mean(axis=0)
            given = xr.Dataset({"mean": ("variable", mean), "covariance": covariance})
            object.__setattr__(self, "climatology", given)
        lacking = [name for name in MOMENTS if name not in given]
        if lacking:
            raise InputError(
                f"OptimalInterpolation: 'climatology' has no {lacking[0]!r}; give a run of the "
                "model (daml.simulate), or its 'mean' and 'covariance'"
            )
        check(given["covariance"], names(given), "the covariance of 'climatology'")

    @property
    def outputs(self) -> Outputs:
        """What an analysis has besides: chi-square is of the distance from the climate's mean."""
        return CHI_SQUARE

    def to_dataset(self) -> xr.Dataset:
        """Give mean and covariance; for a store."""
        return self._given()

    def restored(self, dataset: xr.Dataset) -> OptimalInterpolation:
        """Give this scheme with what ``to_dataset`` gave.

        Raises
        ------
        StoreError
            If some of it is lost.
        """
        check_whole(dataset, MOMENTS, "the scheme that was kept")
        return replace(self, climatology=dataset[list(MOMENTS)])

    def prepare(self, setting: Setting) -> Climate:
        """Work out the gain of each pattern of observations.

        Raises
        ------
        InputError
            If the climatology is missing or does not cover the variables, or H is not linear.
        """
        given = self._given()
        covariance = check(given["covariance"], setting.variables, "climatology")
        mean = given["mean"].sel(variable=list(setting.variables)).values.astype(np.float64)
        like, signal = setting.noise.variance, None
        if not setting.operator.linear or len(like):  # there is a matrix, or an error says why not
            matrix = setting.operator.matrix()
            signal = alike(np.einsum("ov,vw,ow->o", matrix, covariance, matrix), like)
        gains = tables(setting, covariance, 1.0, "exact")
        return Climate(gains, alike(mean, like), gains.alone.root, signal)

    def update(
        self, forecast: Forecast, observed: Observed, run: Run, memory: Climate
    ) -> tuple[Update, Climate]:
        """Give the analysis (..., variable) of a batch of forecasts."""
        x = forecast.state
        xp = namespace(x)
        mean = xp.zeros_like(x) + memory.mean
        analysis, square = memory.gains.analysed(mean, observed)
        present, signal = xp.astype(observed.present, x.dtype), memory.signal
        if not observed.tabled:
            signal = xp.sum((observed.operator.tangent(x) @ memory.root) ** 2, axis=-1)
        informed = xp.sum(present * signal / observed.variance, axis=-1) > SILENT
        state = xp.where(informed[..., None], analysis, x)
        return Update(state, {"chi_square": square}), memory

    def analyse(self, background: xr.Dataset, observations: xr.Dataset) -> xr.Dataset:
        """Give the analysis at the times of background states; see :func:`daml.schemes.analyse`."""
        return analyse(self, background, observations)

    def _given(self) -> xr.Dataset:
        if self.climatology is None:
            raise InputError(
                "OptimalInterpolation: 'climatology' is missing; give a run of the model: "
                "OptimalInterpolation(daml.simulate(model, steps=10000, spinup=500))"
            )
        return self.climatology
