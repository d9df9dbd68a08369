"""Truth and observations of a twin experiment, and how a model scores on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from daml import verification
from daml.labels.space import StateSpace
from daml.loop.passes import Pass
from daml.observing.records import Readings
from daml.observing.simulated import observe
from daml.protocols import Model, Scheme
from daml.running.assimilation import assimilate, assimilated
from daml.running.forecasting import forecast, simulate
from daml.running.tuning import tuned

RECORDS = ("train", "test")
CHI_SQUARE = {"long_name": "squared innovation per degree of freedom", "units": "1"}


class Twin:
    """Two records of a truth and of its observations: one is learned from, one is unseen.

    Analyses are scored over the variables of the imperfect model, observed or not; forecasts start
    from true states of the unseen record.

    Parameters
    ----------
    imperfect, perfect : Model
        The model to improve, and the one that the truth is from.
    observed : sequence of str
        Variables that are observed at each step, with an error variance of 1.
    steps : pair of int
        Lengths of the two records.
    spinup : int
        Steps before each.
    skip : int
        Steps at a record's head that the scores leave out.
    random : sequence of numpy.random.Generator
        One for each truth, then one for the noise of each.
    leads : sequence of int, optional
        Of the forecasts, in steps; default: 1 to 4.
    """

    keeps_chi_square = True
    """Whether scores hold the mean chi-square of any scheme, or of a B that a network predicts."""

    def __init__(
        self,
        imperfect: Model,
        perfect: Model,
        observed: Sequence[str],
        *,
        steps: tuple[int, int],
        spinup: int,
        skip: int,
        random: Sequence[np.random.Generator],
        leads: Sequence[int] = (1, 2, 3, 4),
    ) -> None:
        self.imperfect, self.perfect, self.observed = imperfect, perfect, tuple(observed)
        self.skip, self.leads = skip, list(leads)
        self.truth = {
            record: simulate(perfect, steps=length, spinup=spinup, seed=generator)
            for record, length, generator in zip(RECORDS, steps, random[:2], strict=True)
        }
        self.observations = {
            record: observe(self.truth[record], variables=self.observed, seed=generator)
            for record, generator in zip(RECORDS, random[2:4], strict=True)
        }
        # An emulator has the positions of the model that it replaces.
        self.test_record = Readings(self.observations["test"], StateSpace.of(imperfect))

    def analysis_rmse(self, record: str, analysis: xr.Dataset) -> xr.Dataset:
        """Give RMSE of analysis and background over the variables of the imperfect model."""
        return verification.analysis_error(
            analysis, self.truth[record], skip=self.skip, variables=self.imperfect.variables
        )

    def forecast_error(self, model: Model) -> xr.Dataset:
        """Give the errors of forecasts from the test record's true states."""
        truth = self.truth["test"]
        return verification.forecast_error(forecast(model, truth, leads=self.leads), truth)

    def score(self, done: Pass, reference: xr.DataArray | None) -> xr.Dataset:
        """Give the scores of a pass; ``reference`` is the imperfect model's forecast error."""
        return self.scored(done, self.forecast_error(done.model), reference)

    def scored(self, done: Pass, errors: xr.Dataset, reference: xr.DataArray | None) -> xr.Dataset:
        """Give the scores of a pass whose forecasts have these errors."""
        seen = self.observations["test"]
        test = assimilated(done.model, seen, done.scheme, self.test_record.of(done.model))
        scores = self.rmse([done.analysis, test])
        scores["mfe"] = verification.mfe(errors)
        if reference is not None:
            scores["mfe_reduction"] = verification.reduction(scores["mfe"], reference)
        return scores

    def perfect_rmse(self, scheme: Scheme) -> xr.Dataset:
        """Give the perfect model's RMSE (record), with a scheme that is tuned for it."""
        if getattr(scheme, "open", ()):
            scheme, _ = tuned(scheme, self.perfect, self.observations["train"])
        analyses = [assimilate(self.perfect, seen, scheme) for seen in self.observations.values()]
        return self.rmse(analyses)

    def rmse(self, analyses: Sequence[xr.Dataset]) -> xr.Dataset:
        """Give RMSE and ``chi_square`` (record) of the analyses of both records."""
        parts = [self.analysis_rmse(r, a) for r, a in zip(self.truth, analyses, strict=True)]
        for part, analysis in zip(parts, analyses, strict=True):
            later = analysis.isel(time=slice(self.skip, None))
            if "normalized_innovation" in analysis:
                normal = later["normalized_innovation"]
                part["chi_square"] = (normal**2).mean().assign_attrs(CHI_SQUARE)
            elif self.keeps_chi_square and "chi_square" in analysis:
                part["chi_square"] = later["chi_square"].mean().assign_attrs(CHI_SQUARE)
        return xr.concat(parts, xr.DataArray(list(self.truth), dims="record", name="record"))
