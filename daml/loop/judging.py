"""Scores models by their forecasts of held-out observations; no truth is used."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import xarray as xr

from daml.labels.datasets import names, pack
from daml.labels.lacking import completed
from daml.labels.trajectories import in_a_row
from daml.observing.records import Readings, Record
from daml.protocols import Model, Observed
from daml.running.forecasting import ahead
from daml.segments import Cut, side_by_side
from daml.training.held_out import HeldOut

SQUARES = "held_out_square_error"
WARMUP = 100
"""Steps of analyses on which a memory is warmed up before a forecast, if the record has them."""
PIECE = 25
"""Number of consecutive starts of forecasts in a segment."""
PARTS = (1 / 8, 1 / 4, 1 / 2)
"""Horizons of the scored forecasts, in units of the lead at which half the skill is lost.

The error of one step is hidden by the noise of observations; at long leads all models are alike."""
LEADS = (1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91)
"""Model steps at which that lead is searched for."""


@dataclass(frozen=True)
class Judge:
    """Scores models on the observations of held-out blocks.

    Parameters
    ----------
    record : Record
        The observations.
    times : numpy.ndarray (time,)
        The time of each model step.
    held_out : HeldOut
        The blocks.
    horizons : tuple of int
        Leads of the scored forecasts, in model steps.
    readings : Readings, optional
        The same observations for models whose variables are in another order than those that the
        record was read for.
    """

    record: Record
    times: np.ndarray
    held_out: HeldOut
    horizons: tuple[int, ...]
    readings: Readings | None = None

    @cached_property
    def seen(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values and error variances (row, observed) and block (row,) of the held-out rows."""
        held, lengths = self._held(self.record), np.diff(self.held_out.blocks, axis=1)[:, 0]
        numbers = np.repeat(np.arange(len(lengths)), lengths)
        return held.values, np.where(held.present, held.variance, np.inf), numbers

    def _held(self, record: Record) -> Observed:
        """Give what a record has in the held-out rows (row,)."""
        ends = np.cumsum(np.diff(self.held_out.blocks, axis=1))
        parts = [slice(first, stop) for first, stop in pairwise([0, *ends.tolist()])]
        rows = np.concatenate([np.arange(*block) for block in self.held_out.blocks])
        return record.seen(rows, parts)

    @classmethod
    def of(
        cls,
        model: Model,
        analysis: xr.Dataset,
        spread: np.ndarray,
        record: Record,
        held_out: HeldOut,
        readings: Readings | None = None,
    ) -> Judge:
        """Give a judge whose horizons follow from the skill of a model's own forecasts.

        Half the skill is lost at the lead at which the mean squared error of forecasts is half the
        variance of what is observed, both without the errors of observations. ``spread``
        (observed,) are the variances of the observations. At least one held-out row has a value
        (:func:`daml.loop.preconditions.check_length`).
        """
        leads = tuple(n for n in LEADS if n <= held_out.room // 2)
        wide = cls(record, record.axis.grid(), held_out, leads, readings)
        errors = np.nanmean(wide.squares(model, analysis), axis=0) - 1
        observed = record.seen(np.arange(record.axis.length))
        weights = np.where(observed.present, 1 / observed.variance, 0.0).sum(axis=0)
        signal = float(weights @ spread) / observed.present.sum() - 1
        half = next((n for n, e in zip(leads, errors, strict=True) if e > signal / 2), leads[-1])
        horizons = tuple(max(round(part * half), least) for least, part in enumerate(PARTS, 1))
        return cls(record, wide.times, held_out, horizons, readings)

    def squares(self, model: Model, analysis: xr.Dataset) -> np.ndarray:
        """Give mean squared innovations (block, horizon) of forecasts, in units of R.

        Parameters
        ----------
        model : Model
            Gives the forecasts. Its memory is warmed up on the analyses before each start.
        analysis : xarray.Dataset
            ``analysis`` (time, variable): the states to start from.
        """
        starting, _ = pack(in_a_row(analysis), "analysis", tuple(model.variables))
        record = self.record if self.readings is None else self.readings.of(model)
        operator = self._held(record).operator
        blocks, farthest = self.held_out.blocks, self.horizons[-1]
        heads = np.concatenate([np.arange(a - farthest, b, PIECE) for a, b in blocks])
        # Pieces may run on into another trajectory, but not as far as a block of one.
        warmup = min(WARMUP, int((heads % self.held_out.own).min()))
        cut = Cut(len(heads) * PIECE, PIECE, warmup)
        seen, variance, numbers = self.seen
        place = np.full(len(starting) + PIECE + farthest, -1)
        place[np.concatenate([np.arange(*block) for block in blocks])] = np.arange(len(seen))

        def judged(group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            sums, counts = np.zeros((2, len(blocks), len(self.horizons)))
            starts = heads[group] - warmup
            for steps, part in ahead(model, starting, self.times, cut, starts, self.horizons):
                first = np.arange(steps.start, steps.stop)[:, None] + heads[group]
                for lead, horizon in enumerate(self.horizons):
                    rows = place[first + horizon]
                    states = part[:, lead][rows >= 0]
                    rows = rows[rows >= 0]
                    found = operator.picked(rows).apply(states)
                    error = ((seen[rows] - found) ** 2 / variance[rows]).sum(axis=1)
                    np.add.at(sums[:, lead], numbers[rows], error)
                    count = np.isfinite(variance[rows]).sum(axis=1)
                    np.add.at(counts[:, lead], numbers[rows], count)
            return sums, counts

        with side_by_side(model, cut) as (groups, each):
            parts = list(each(judged, groups))
        sums, counts = (sum(column) for column in zip(*parts, strict=True))
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(counts > 0, sums / counts, np.nan))

    def errors(self, model: Model, analysis: xr.Dataset) -> xr.DataArray:
        """Give the result of :meth:`squares` with named dimensions."""
        return xr.DataArray(self.squares(model, analysis), dims=("block", "horizon"))

    def scores(self, model: Model, analysis: xr.Dataset, given: xr.Dataset) -> xr.Dataset:
        """Score a model on the observations of the held-out blocks.

        Parameters
        ----------
        model : Model
        analysis : xarray.Dataset
            The analysis of the whole record by this model. The held-out observations, which are
            not trained on, are assimilated all the same.
        given : xarray.Dataset
            The analysis of the model that the loop started from. Variables that it lacks are those
            of ``analysis``.

        Returns
        -------
        xarray.Dataset
            ``held_out_square_error`` (origin, block, horizon): mean squared innovation of
            forecasts from the model's "own" analyses and from those of the model "given", in
            units of the observation error variance; ``held_out_rmse`` (horizon), the root of its
            mean over all blocks, from the own analyses; ``horizon_steps`` (horizon), the leads in
            model steps; and ``consistency``, the mean of d' (H B H' + R)^-1 d per value, where d
            is the innovation: 1 if B and R are right. It needs a scheme that gives
            ``chi_square``.
        """
        own = self.squares(model, analysis)
        squares = [own]
        squares.append(own if given is analysis else self.squares(model, _with(given, analysis)))
        result = xr.Dataset(
            {
                SQUARES: (("origin", "block", "horizon"), np.stack(squares)),
                "horizon_steps": ("horizon", np.array(self.horizons)),
            },
            coords={"origin": ["own", "given"]},
        )
        result["held_out_rmse"] = np.sqrt(
            result[SQUARES].sel(origin="own", drop=True).mean("block")
        )
        if "chi_square" in analysis:
            result["consistency"] = self._consistency(analysis)
        words = {
            SQUARES: "mean squared innovation of a held-out block",
            "held_out_rmse": "RMSE of the innovations of the held-out blocks",
            "consistency": "squared innovation per degree of freedom, in units of B + R",
            "horizon_steps": "lead of the forecast in model steps",
        }
        for name in result.data_vars:
            result[name].attrs = {"long_name": words[str(name)], "units": "1"}
        return result

    def _consistency(self, analysis: xr.Dataset) -> float:
        """Give the mean of d' (H B H' + R)^-1 d over the number of values in d."""
        held = in_a_row(analysis[["chi_square", "innovation"]]).isel(time=self.held_out.judged)
        counts = held["innovation"].count("observed")
        return float((held["chi_square"] * counts).sum() / counts.sum().clip(1))


def _with(given: xr.Dataset, analysis: xr.Dataset) -> xr.Dataset:
    """Give an analysis with the variables of another one that it lacks."""
    missing = [name for name in names(analysis) if name not in given.indexes["variable"]]
    return completed(given, "analysis", missing, analysis["analysis"])
