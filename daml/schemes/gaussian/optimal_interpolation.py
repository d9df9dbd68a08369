"""Optimal interpolation from the climatology."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from daml.arrays import alike, namespace
from daml.covariances.acting import described, restored
from daml.covariances.dense import check, climatological
from daml.errors import InputError
from daml.labels.arguments import check_fields
from daml.labels.datasets import check_names, listed, named, names, pack
from daml.protocols import (
    Covariance,
    CovarianceProduct,
    Forecast,
    Observed,
    Outputs,
    Run,
    Setting,
    Update,
)
from daml.schemes.ensembles.parts import SILENT
from daml.schemes.labelled import CHI_SQUARE, analyse
from daml.schemes.variational.by_actions import Actions
from daml.schemes.variational.gains import Tables, tables
from daml.stores.opening import check_whole

MOMENTS = ("mean", "covariance")


class Climate(NamedTuple):
    """What is known before a cycle."""

    gains: Tables | Actions
    mean: Any
    """(variable,)."""
    root: Any
    """L (variable, variable) of the covariance L L' of the climate; None of one by its actions."""
    signal: Any
    """Variances of H x in the climate (observed,); None where H changes in time, or the mean one of
    a covariance by its actions where they are not known."""


@dataclass(frozen=True)
class OptimalInterpolation:
    """Optimal interpolation of the observations with climatological statistics.

    The background of each analysis is the climatological mean m, and B is the climatological
    covariance. The analysis is m + B H' (H B H' + R)^-1 (y - H m), for a linear H. Forecasts are
    used only at times without observations. The scheme is a baseline: one that is not better gains
    nothing from its model.

    Parameters
    ----------
    climatology : xarray.Dataset
        Either a long run of the model, ``state`` (time, variable), such as the result of
        :func:`daml.simulate`; or its ``mean`` (variable) and ``covariance`` (variable, covariable).
        Only mean and covariance are kept.
    covariance : object, optional
        For many variables, an object that multiplies by B, such as
        :class:`daml.covariance.Localised`; see :class:`daml.ThreeDVar`. Of the ``climatology`` only
        the mean is then used. Default: B is the covariance of the ``climatology``.

    Raises
    ------
    InputError
        If the climatology has neither a state nor a mean, or is too short a run.
        :func:`daml.assimilate` raises it if the climatology lacks a variable, or H is not linear.

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
    covariance: CovarianceProduct | Covariance | None = field(
        default=None, metadata={"later": True}
    )

    def __post_init__(self) -> None:
        check_fields(self)
        given = self.climatology
        if given is None:
            return
        if "state" in given:
            given = _moments(given, of_two=self.covariance is None)
            object.__setattr__(self, "climatology", given)
        lacking = [name for name in self._moments if name not in given]
        if lacking:
            raise InputError(
                f"OptimalInterpolation: 'climatology' has no {lacking[0]!r}; give a run of the "
                "model (daml.simulate), or its 'mean' and 'covariance'"
            )
        if self.covariance is None:
            check(given["covariance"], names(given), "the covariance of 'climatology'")
            return
        check_names(given["mean"], "the mean of 'climatology'")

    @property
    def _moments(self) -> tuple[str, ...]:
        """What is used of the climatology."""
        return MOMENTS if self.covariance is None else MOMENTS[:1]

    @property
    def needs(self) -> frozenset[str]:
        """What is required of the model: what the covariance needs."""
        return frozenset(getattr(self.covariance, "needs", ()))

    @property
    def outputs(self) -> Outputs:
        """The further variables of an analysis: chi-square of the distance from the climate."""
        return CHI_SQUARE

    def to_dataset(self) -> xr.Dataset:
        """Give mean and covariance as a Dataset for a store."""
        found = self._given()[list(self._moments)]
        return found if self.covariance is None else found.merge(described(self.covariance))

    def restored(self, dataset: xr.Dataset) -> OptimalInterpolation:
        """Give this scheme with what ``to_dataset`` stored.

        Raises
        ------
        StoreError
            If a variable is missing or damaged.
        """
        acting = restored(dataset)
        covariance = self.covariance if acting is None else acting
        kept = MOMENTS if covariance is None else MOMENTS[:1]
        check_whole(dataset, kept, "the scheme that was kept")
        return replace(self, climatology=dataset[list(kept)], covariance=covariance)

    def prepare(self, setting: Setting) -> Climate:
        """Work out the gain of each pattern of observations.

        Raises
        ------
        InputError
            If the climatology is missing or does not cover the variables, or H is not linear.
        """
        given = self._given()
        if self.covariance is not None:
            return self._by_actions(setting)
        covariance = check(given["covariance"], setting.variables, "climatology")
        mean = given["mean"].sel(variable=list(setting.variables)).values.astype(np.float64)
        like, signal = setting.noise.variance, None
        if not setting.operator.linear or len(like):  # there is a matrix, or an error says why not
            matrix = setting.operator.matrix()
            signal = alike(np.einsum("ov,vw,ow->o", matrix, covariance, matrix), like)
        gains = tables(setting, covariance, 1.0, "exact")
        return Climate(gains, alike(mean, like), gains.alone.root, signal)

    def _by_actions(self, setting: Setting) -> Climate:
        """Give the same with a B by its actions."""
        if not setting.operator.linear:
            setting.operator.matrix()  # which says why there is none
        mean = named(self._given()["mean"])
        lacking = [name for name in setting.variables if name not in mean.indexes["variable"]]
        if lacking:
            raise InputError(
                f"OptimalInterpolation: the mean of 'climatology' lacks the variable {lacking[0]!r}"
                f" (it has {listed(names(mean))}); give it for {listed(setting.variables)}"
            )
        actions = Actions.of(setting, self.covariance, (1.0, 1.0), "OptimalInterpolation")
        like, values = setting.noise.variance, mean.sel(variable=list(setting.variables)).values
        known = None if actions.prepared is None else actions.prepared.diagonal
        signal = actions.mean_variance() if known is None else alike(known, like)
        return Climate(actions, alike(values.astype(np.float64), like), None, signal)

    def update(
        self, forecast: Forecast, observed: Observed, run: Run, memory: Climate
    ) -> tuple[Update, Climate]:
        """Give the analysis (..., variable) of a batch of forecasts."""
        x = forecast.state
        xp = namespace(x)
        mean = xp.zeros_like(x) + memory.mean
        analysis, square = memory.gains.analysed(mean, observed)
        present, signal = xp.astype(observed.present, x.dtype), memory.signal
        if not observed.tabled and memory.root is not None:
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


def _moments(run: xr.Dataset, *, of_two: bool) -> xr.Dataset:
    """Give the mean of a run, and its covariance if ``of_two``."""
    found = {"covariance": climatological(run)} if of_two else {}
    values, _ = pack(run, "state")
    mean = values.reshape(-1, values.shape[-1]).mean(axis=0)
    return xr.Dataset(found, {"variable": list(names(run))}).assign(mean=("variable", mean))
