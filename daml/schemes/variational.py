"""Variational schemes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import xarray as xr
from array_api_compat import array_namespace

from daml.arguments import check_fields, checked
from daml.covariance import check
from daml.errors import InputError
from daml.html import shown
from daml.labels import ANALYSED, check_time, names, pack
from daml.operators import Operator
from daml.records import Record, read
from daml.schemes.observing import Observing

METHODS = ("exact", "cg")
WAYS = ("innovations", "climatological", "model")


@dataclass(frozen=True)
class _Prepared:
    """What a cycle with constant B works out once: per kind of observation."""

    operator: Operator
    gain: Any
    root: Any
    factor: Any


@dataclass(frozen=True)
class ThreeDVar:
    """Three-dimensional variational assimilation.

    Minimises J(x) = (x - xb)' B^-1 (x - xb) + (y - H x)' R^-1 (y - H x) for a linear H.

    Parameters
    ----------
    background_covariance : xarray.DataArray (variable, covariable), or a word
        B, symmetric positive definite, in units of the variables' products; or what it shall be
        estimated from, for which :func:`daml.tuned` and the loop know how: "innovations", anew
        for each model, or "climatological", the scaled climatology of the model that the loop
        starts from, as in Goodliff and Miyoshi (2025). "model" asks the model for the B of each
        of its forecasts, as an LSTM that was trained through the cycle knows it.
    error_factor : float or "estimated"
        Multiplies the observations' error covariance R; "estimated" is found from innovations,
        with B, where R is known but for its size.
    method : {"exact", "cg"}
        By the gain K = B H' (H B H' + R)^-1, or by conjugate gradients preconditioned with the
        factor of B; the two agree to rounding.

    Raises
    ------
    InputError
        If the covariance or the method is wrong.

    References
    ----------
    Lorenc, A. C. (1986): Analysis methods for numerical weather prediction.
    Q. J. R. Meteorol. Soc. 112, 1177-1194.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> run = daml.simulate(model, steps=500, spinup=100)
    >>> scheme = daml.ThreeDVar(daml.climatological(run, max_variance=2))
    >>> scheme.analyse(run, daml.observe(run)).analysis.shape
    (500, 3)
    """

    background_covariance: xr.DataArray | str = "innovations"
    error_factor: float | str = 1.0
    method: str = "exact"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.method not in METHODS:
            raise InputError(f"ThreeDVar: method {self.method!r} is unknown; give one of {METHODS}")
        given, factor = self.background_covariance, self.error_factor
        if factor != "estimated" and (isinstance(factor, str) or not 0 < factor < np.inf):
            raise InputError(
                f"ThreeDVar: 'error_factor' is {factor!r}; give a factor > 0, or 'estimated'"
            )
        if factor == "estimated" and not (isinstance(given, str) and given == "innovations"):
            raise InputError(
                "ThreeDVar: 'error_factor' can be estimated with B only; give "
                "background_covariance='innovations'"
            )
        if isinstance(given, str):
            if given not in WAYS:
                raise InputError(
                    f"ThreeDVar: 'background_covariance' is {given!r}; give one of {WAYS} or an "
                    "xarray.DataArray"
                )
            return
        if not isinstance(given, xr.DataArray) or "variable" not in given.coords:
            raise InputError(
                "ThreeDVar: 'background_covariance' must be an xarray.DataArray (variable, "
                f"covariable) with names, a {type(given).__name__} was given; see "
                "daml.climatological"
            )
        check(given, names(given), "background_covariance")

    def _repr_html_(self) -> str:
        return shown(self, {})

    def given(self, variables: tuple[str, ...]) -> np.ndarray:
        """Give B (variable, variable) as a matrix.

        Raises
        ------
        InputError
            If it is still to be estimated, or does not cover the variables.
        """
        if isinstance(self.background_covariance, str):
            raise InputError(
                f"ThreeDVar: B is still {self.background_covariance!r}; have it estimated: "
                "scheme, analysis = daml.tuned(scheme, model, observations)"
            )
        return check(self.background_covariance, variables, "background_covariance")

    @property
    def asks_model(self) -> bool:
        """Whether B comes from the model at every step; then :meth:`update_with` takes it."""
        return isinstance(self.background_covariance, str) and self.background_covariance == "model"

    def start(self, variables: tuple[str, ...], record: Record) -> _Prepared | Observing:
        """Work out the gain of each kind of observation (kind, variable, observed).

        Raises
        ------
        InputError
            If B does not cover the variables, or is still to be estimated.
        """
        if self.asks_model:
            return Observing.of(record, float(self.error_factor))
        covariance = self.given(variables)
        matrix = record.matrices()
        error = record.kind_covariance * float(self.error_factor)
        if self.method == "exact":
            cross = covariance @ np.swapaxes(matrix, 1, 2)
            # In units of its own deviations: neither units nor pivots matter then.
            total = matrix @ cross + error
            size = np.sqrt(np.diagonal(total, axis1=1, axis2=2))
            scaled = np.swapaxes(cross, 1, 2) / size[:, :, None]
            solved = np.linalg.solve(total / (size[:, :, None] * size[:, None, :]), scaled)
            gain = np.swapaxes(solved / size[:, :, None], 1, 2)
            return _Prepared(record.operator, gain, None, None)
        root = np.linalg.cholesky(covariance)
        whitened = np.linalg.solve(np.linalg.cholesky(error), matrix @ root)
        whitener = np.linalg.inv(np.linalg.cholesky(error))
        return _Prepared(record.operator, whitened, root, whitener)

    def update(
        self, background: Any, values: Any, kind: Any, memory: _Prepared
    ) -> tuple[Any, _Prepared]:
        """Give the analysis (..., variable) of a batch of backgrounds, as Scheme says."""
        xp = array_namespace(background)
        if not isinstance(memory.gain, type(background)):
            memory = _to(memory, background)
        # What is missing has a column of zeros in the gain: nothing else need mask it.
        innovation = values - memory.operator.apply(background)
        if self.method == "exact" and len(memory.gain) == 1:
            increment = innovation @ memory.gain[0].T
        elif self.method == "exact":
            increment = xp.matmul(memory.gain[kind], innovation[..., None])[..., 0]
        else:
            whitened = xp.matmul(memory.factor[kind], innovation[..., None])[..., 0]
            control = _conjugate_gradients(xp, memory.gain[kind], whitened)
            increment = control @ memory.root.T
        return background + increment, memory

    def update_with(
        self, background: Any, values: Any, kind: Any, memory: Observing, covariance: Any
    ) -> tuple[Any, ...]:
        """Give memory, analysis and what was expected, of a batch with a B each.

        As ``Observing.analysed`` gives them.
        """
        memory = memory.like(background)
        return memory, *memory.analysed(background, values, kind, covariance)

    @checked
    def analyse(self, background: xr.Dataset, observations: xr.Dataset) -> xr.Dataset:
        """Give the analysis of each background state, all on their own.

        Parameters
        ----------
        background : xarray.Dataset
            ``background``, or else ``state``, (time, variable).
        observations : xarray.Dataset
            As the contract says; each time must be one of the background's.

        Returns
        -------
        xarray.Dataset
            ``background`` and ``analysis`` (time, variable), ``innovation`` (time, observed).

        Raises
        ------
        InputError
            If a Dataset breaks the contract or the times do not match, or B is a model's.
        """
        if self.asks_model:
            raise InputError(
                "ThreeDVar: 'analyse' has no model to ask for B; give a B, or use daml.assimilate"
            )
        name = "background" if "background" in background else "state"
        times = check_time(background, name)
        extra = [d for d in background[name].dims if d not in ("time", "variable")]
        if extra:
            raise InputError(
                f"ThreeDVar.analyse: {name!r} has the further dimension {extra[0]!r}; select one"
            )
        x, layout = pack(background, name)
        variables = names(background)
        rows = _rows(times, observations)
        numbered = observations.assign_coords(time=rows)
        record = read(numbered, variables, 1.0)
        steps = np.arange(record.axis.length)
        place, kind, seen = rows[0] + steps, record.kind, record.values(steps)
        analysis = x.copy()
        prepared = cast("_Prepared", self.start(variables, record))
        analysis[place], _ = self.update(x[place], seen, kind, prepared)
        innovation = np.full((len(x), len(record.observed)), np.nan)
        distance = seen - record.operator.apply(x[place])
        innovation[place] = np.where(record.kind_present[kind], distance, np.nan)
        found = {"background": x, "analysis": analysis, "innovation": innovation}
        units = {"units": layout.attrs.get("units", "1")}
        return xr.Dataset(
            {n: (dims, found[n], told | units) for n, (dims, told) in ANALYSED.items()},
            coords={
                "time": times,
                "variable": list(variables),
                "observed": list(record.observed),
            },
        )


def _rows(times: np.ndarray, observations: xr.Dataset) -> np.ndarray:
    """Give the row of the background that each observation time is."""
    seen = check_time(observations, "observation")
    if seen.dtype.kind != times.dtype.kind and "M" in (seen.dtype.kind, times.dtype.kind):
        raise InputError("'time' of observations and background are of different kinds")
    rows = np.clip(np.searchsorted(times, seen), 0, len(times) - 1)
    before = np.clip(rows - 1, 0, None)
    rows = np.where(abs(times[before] - seen) < abs(times[rows] - seen), before, rows)
    wrong = times[rows] != seen
    if wrong.any():
        at = int(np.argmax(wrong))
        raise InputError(
            f"'time' of 'observation': {seen[at]} is no time of the background; select the times "
            "that both have, or interpolate the background"
        )
    return rows.astype(np.int64)


def _to(memory: _Prepared, like: Any) -> _Prepared:
    """Give the prepared arrays as torch tensors like ``like``."""
    import torch

    def tensor(array: Any) -> Any:
        return (
            None if array is None else torch.as_tensor(array, dtype=like.dtype, device=like.device)
        )

    return _Prepared(
        memory.operator,
        *(tensor(a) for a in (memory.gain, memory.root, memory.factor)),
    )


def _conjugate_gradients(xp: Any, operator: Any, target: Any) -> Any:
    """Minimise |v|^2 + |A v - d|^2 over v, for a batch.

    ``operator`` A (..., observed, variable), ``target`` d (..., observed); the result has shape
    (..., variable). In exact arithmetic as many steps as variables suffice; twice as many bring
    it to rounding.
    """

    def product(v: Any) -> Any:
        return (
            v
            + xp.matmul(xp.matmul(operator, v[..., None])[..., 0][..., None, :], operator)[
                ..., 0, :
            ]
        )

    residual = xp.matmul(target[..., None, :], operator)[..., 0, :]
    v = xp.zeros_like(residual)
    direction, size = residual, xp.sum(residual * residual, axis=-1)[..., None]
    for _ in range(2 * operator.shape[-1]):
        mapped = product(direction)
        curvature = xp.sum(direction * mapped, axis=-1)[..., None]
        alive = curvature > 0
        step = xp.where(alive, size / xp.where(alive, curvature, xp.ones_like(curvature)), 0 * size)
        v = v + step * direction
        residual = residual - step * mapped
        new = xp.sum(residual * residual, axis=-1)[..., None]
        alive = size > 0
        ratio = xp.where(alive, new / xp.where(alive, size, xp.ones_like(size)), 0 * size)
        direction, size = residual + ratio * direction, new
    return v
