"""Schemes side by side on one record: how accurate they are, and what they cost."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from daml.errors import DivergedError, InputError, first_line
from daml.labels.arguments import checked
from daml.labels.trajectories import TRAJECTORY
from daml.models.enclosing import Around
from daml.observing.functions import Given
from daml.pairing import certain, sized
from daml.running.assimilation import assimilate
from daml.running.tuning import tuned
from daml.verification.scores import analysis_error

if TYPE_CHECKING:
    from daml.protocols import Array, Memory, Model, Scheme

SHORT = 2.0
"""CPU seconds below which a run is repeated, and the faster of both counts: the first one may have
loaded a library."""
SCORES = {
    name: {"long_name": words, "units": unit}
    for name, words, unit in (
        ("analysis_rmse", "RMSE of the analysis", "1"),
        ("background_rmse", "RMSE of the background", "1"),
        ("spread", "root of the mean squared spread of the analysis", "1"),
        ("chi_square", "mean squared innovation in units of its expected covariance", "1"),
        ("log_likelihood", "mean log-likelihood of the innovations of a time", "1"),
        ("lost", "part of the record in which the scheme lost the observations", "1"),
        ("states", "states that the model steps for a step of the record", "1"),
        ("seconds", "CPU time for 1,000 steps of the record", "s"),
    )
}
"""Long names and units of what is found of each scheme."""


@checked
def compare_schemes(
    model: Model,
    observations: xr.Dataset,
    schemes: Mapping[str, Scheme],
    *,
    truth: xr.Dataset | None = None,
    skip: int = 100,
    segments: int | None = None,
    spinup: int | None = None,
    tolerance: float | None = None,
    operator: Given | None = None,
) -> xr.Dataset:
    """Assimilate one record with several schemes, and compare their accuracy and cost.

    Parameters
    ----------
    model, observations
        See :func:`daml.assimilate`.
    schemes : mapping of str to Scheme
        The schemes by name. Open settings of a scheme are tuned first (:func:`daml.tuned`), which
        is not part of its cost.
    truth : xarray.Dataset, optional
        ``state`` (time, variable) of a twin experiment, used only to compute errors.
    skip : int
        Number of steps at the start of the record that the scores leave out.
    segments, spinup, tolerance, operator
        See :func:`daml.assimilate`.

    Returns
    -------
    xarray.Dataset
        Scores along ``scheme``, over all trajectories if the record has many; NaN if a scheme
        lacks a score or failed:

        - ``analysis_rmse`` and ``background_rmse``, with a truth: in the units of the state, at the
          times with observations. The analyses of a window use all of its observations, so compare
          schemes whose windows end at each of these times;
        - ``spread``: the root mean square;
        - ``chi_square``: the mean, 1 if a scheme predicts the size of its innovations correctly;
        - ``log_likelihood``: the mean over the times with observations, for comparisons without a
          truth;
        - ``lost``: the fraction of the record in which an ensemble has lost the observations;
        - ``states``: number of states that the model steps for each step of the record, including
          spin-ups and the start;
        - ``seconds``: CPU time (s) for 1,000 steps;
        - ``reason``: why a scheme failed.

    Raises
    ------
    InputError
        If model or observations are not valid, or a scheme cannot be used with them. A scheme
        that diverges does not end the comparison.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> truth = daml.simulate(model, steps=1000, spinup=500)
    >>> schemes = {"3DVar": daml.ThreeDVar(), "ETKF": daml.schemes.ETKF(10)}
    >>> found = compare_schemes(model, daml.observe(truth), schemes, truth=truth)
    >>> found.analysis_rmse.idxmin().item()
    'ETKF'
    """
    if not isinstance(schemes, Mapping):
        raise InputError(
            f"compare_schemes: 'schemes' is a {type(schemes).__name__}; give a mapping of names to "
            "schemes, {'3DVar': daml.ThreeDVar()}"
        )
    if not schemes:
        raise InputError("compare_schemes: there is no scheme; give {'3DVar': daml.ThreeDVar()}")
    if skip < 0:
        raise InputError(f"compare_schemes: 'skip' is {skip}; give 0 or more")
    how = {"segments": segments, "spinup": spinup, "tolerance": tolerance, "operator": operator}
    rows = [_scored(model, observations, scheme, truth, skip, how) for scheme in schemes.values()]
    names = [name for name in SCORES if truth is not None or not name.endswith("rmse")]
    found = {
        name: ("scheme", [row.get(name, np.nan) for row in rows], SCORES[name]) for name in names
    }
    reasons = ("scheme", [row.get("reason", "") for row in rows], {"long_name": "why it failed"})
    return xr.Dataset({**found, "reason": reasons}, {"scheme": list(schemes)})


def _scored(
    model: Model,
    observations: xr.Dataset,
    scheme: Scheme,
    truth: xr.Dataset | None,
    skip: int,
    how: Mapping[str, Any],
) -> dict[str, Any]:
    """Give the scores of one scheme by name; of one that diverges the reason alone."""
    counted = _Counted(model)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*has lost the observations", UserWarning)
        try:
            scheme = sized(scheme, model)
            if getattr(scheme, "open", ()):
                scheme, _ = tuned(scheme, model, observations, operator=how["operator"])
            analysis, seconds = _timed(counted, observations, scheme, how)
            if seconds < SHORT:
                seconds = min(seconds, _timed(model, observations, scheme, how)[1])
        except DivergedError as error:
            return {"reason": first_line(error)}
    steps = analysis.sizes["time"] * analysis.sizes.get(TRAJECTORY, 1)
    found = {"states": counted.count.states / steps, "seconds": 1000 * seconds / steps}
    part = analysis.isel(time=slice(skip, None))
    seen = part["innovation"].notnull().any("observed")
    if truth is not None:
        times = seen.any([dim for dim in seen.dims if dim != "time"])
        errors = analysis_error(part.isel(time=np.flatnonzero(times)), truth, skip=0)
        squares = (errors**2).mean()  # over trajectories
        found |= {str(name): float(value) ** 0.5 for name, value in squares.items()}
    if "spread" in part:
        found["spread"] = float(np.sqrt((part["spread"] ** 2).mean()))
    if "chi_square" in part:
        found["chi_square"] = float(part["chi_square"].mean())
    if "log_likelihood" in part:  # that of a window lies at its last time
        found["log_likelihood"] = float(part["log_likelihood"].sum() / seen.sum())
    if "lost" in part:
        found["lost"] = float(part["lost"].mean())
    return found


def _timed(
    model: Model, observations: xr.Dataset, scheme: Scheme, how: Mapping[str, Any]
) -> tuple[xr.Dataset, float]:
    """Give an analysis, and the CPU time (s) that it took."""
    since = time.process_time()
    analysis = assimilate(model, observations, scheme, **how).load()
    return analysis, time.process_time() - since


class _Counted(Around):
    """A model that counts the states that it steps."""

    def __init__(self, model: Model, count: _Count | None = None) -> None:
        self.model, self.count = model, count or _Count()

    @property
    def certain(self) -> _Counted:
        """The model without its noise, which is what a cycle steps; it shares the count."""
        return _Counted(certain(self.model), self.count)

    def step(self, x: Array, memory: Memory) -> tuple[Array, Memory]:
        """Move states (..., variable) by one step."""
        with self.count.lock:
            self.count.states += int(np.prod(x.shape[:-1]))
        return self.model.step(x, memory)


@dataclass
class _Count:
    """States that were stepped, by threads perhaps."""

    states: int = 0
    lock: Any = field(default_factory=Lock)
