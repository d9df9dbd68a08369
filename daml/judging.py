"""What held-out observations say of a pass: the loop's own judge, which never sees a truth."""

from __future__ import annotations

from typing import cast

import numpy as np
import xarray as xr

from daml.covariance import check
from daml.forecasting import forecast
from daml.heldout import HeldOut
from daml.labels import names
from daml.protocols import Model, Scheme
from daml.records import Record, read
from daml.schemes import ThreeDVar

SQUARES = "held_out_square_error"
LEADS = 4
WARMUP = 100


def judge(
    model: Model,
    scheme: Scheme,
    analysis: xr.Dataset,
    observations: xr.Dataset,
    held_out: HeldOut,
) -> xr.Dataset:
    """Score a model on the observations of the held-out blocks.

    Parameters
    ----------
    model : Model
        Forecasts from the analyses, at 1 to 4 dt.
    scheme : Scheme
        With the B that gave the analysis.
    analysis : xarray.Dataset
        Of the whole record, the held-out blocks included: what is not trained on is assimilated.
    observations : xarray.Dataset
        As the contract says.
    held_out : HeldOut

    Returns
    -------
    xarray.Dataset
        ``held_out_rmse`` (lead): root mean square of observation minus forecast, in standard
        deviations of the observation error;
        ``held_out_square_error`` (block, lead): its square, block by block;
        ``consistency``: mean of d' (H B H' + R)^-1 d over the number of observed quantities, of
        the background's innovations d: 1 where B and R are right. Only of a 3DVar.
    """
    variables = tuple(model.variables)
    record = read(observations, variables, model.dt, getattr(model, "time_unit", "s"))
    warmup = min(WARMUP, int(held_out.blocks[0, 0]) - LEADS)
    states = analysis[["analysis"]].rename(analysis="state")
    found = forecast(model, states, leads=LEADS, warmup=warmup)
    predicted = found["forecast"].transpose("start", "lead", "variable").values
    blocks = held_out.blocks
    variances = np.diagonal(record.kind_covariance, axis1=1, axis2=2)
    squares = np.empty((len(blocks), LEADS))
    for place, (first, stop) in enumerate(blocks):
        rows = np.arange(first, stop)
        seen, present = record.values(rows), record.kind_present[record.kind[rows]]
        variance = variances[record.kind[rows]]
        for ahead in range(1, LEADS + 1):
            there = record.operator.apply(predicted[rows - warmup - ahead, ahead - 1])
            squares[place, ahead - 1] = _mean((seen - there) ** 2 / variance, present)
    result = xr.Dataset(
        {SQUARES: (("block", "lead"), squares)},
        coords={name: found[name] for name in ("lead", "lead_steps")},
    )
    result["held_out_rmse"] = np.sqrt(result[SQUARES].mean("block"))
    if isinstance(scheme, ThreeDVar):
        if scheme.asks_model:
            normal = analysis["normalized_innovation"].isel(time=np.flatnonzero(held_out.judged))
            result["consistency"] = (normal**2).mean()
        else:
            result["consistency"] = _consistency(scheme, analysis, record, held_out.judged)
    told = {
        SQUARES: "mean squared innovation of a held-out block",
        "held_out_rmse": "RMSE of the innovations of the held-out blocks",
        "consistency": "squared innovation per degree of freedom, in units of B + R",
    }
    for name in result.data_vars:
        result[name].attrs = {"long_name": told[str(name)], "units": "1"}
    return result


def _consistency(
    scheme: ThreeDVar, analysis: xr.Dataset, record: Record, judged: np.ndarray
) -> float:
    """Give the mean of d' (H B H' + R)^-1 d over the number of values in d."""
    covariance = check(cast("xr.DataArray", scheme.background_covariance), names(analysis), "B")
    rows = np.flatnonzero(judged)
    kind, present = record.kind[rows], record.kind_present
    matrix = record.matrices()
    expected = matrix @ covariance @ np.swapaxes(matrix, 1, 2)
    expected = expected + record.kind_covariance * float(scheme.error_factor)
    innovation = np.nan_to_num(analysis["innovation"].isel(time=rows).values)
    squared = 0.0
    for number in np.unique(kind):
        part = innovation[kind == number]
        squared += float((part * np.linalg.solve(expected[number], part.T).T).sum())
    return squared / max(int(present[kind].sum()), 1)


def _mean(squares: np.ndarray, present: np.ndarray) -> float:
    """Give the mean of what is present, all quantities alike; NaN where nothing is."""
    return float(squares[present].mean()) if present.any() else np.nan
