"""Variational schemes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import xarray as xr
from array_api_compat import array_namespace

from daml.arrays import fetch
from daml.covariances.dense import check
from daml.errors import InputError
from daml.labels.arguments import check_fields, checked
from daml.labels.datasets import ANALYSED, check_time, names, pack
from daml.labels.html import shown
from daml.observing.operators import Operator
from daml.observing.records import Record, read
from daml.schemes.observing import Observing
from daml.stores.opening import check_whole

METHODS = ("exact", "cg")
WAYS = ("innovations", "climatological", "model")


TABLE = 2**23
"""Numbers in a table of gains at most; a longer one is worked out a batch at a time."""


@dataclass(frozen=True)
class _Prepared:
    """What a cycle with constant B works out once: a table by kind of observation.

    Where the record has too many kinds for one, there is none, and ``tables`` gives that of the
    kinds that a batch has.
    """

    operator: Operator
    root: Any
    gain: Any = None
    factor: Any = None
    tables: Callable[[Any], tuple[np.ndarray, Any]] | None = None

    def picked(self, kind: Any, like: Any) -> tuple[_Prepared, Any]:
        """Give the same with a table, in the kind of array of ``like``, and places in it."""
        found = self
        if self.tables is not None:
            distinct, place = np.unique(fetch(kind), return_inverse=True)
            gain, factor = self.tables(distinct)
            kind = place.reshape(kind.shape)
            found = _Prepared(self.operator, self.root, gain, factor)
        return found if isinstance(found.gain, type(like)) else _to(found, like), kind


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

    def to_dataset(self) -> xr.Dataset:
        """Give B, unless the model knows it, and the factor on R; for a store."""
        told = {"long_name": "factor on the error covariance R", "units": "1"}
        found = xr.Dataset({"error_factor": ((), float(self.error_factor), told)})
        if not self.asks_model:  # which keeps what it knows of B
            found["background_covariance"] = cast("xr.DataArray", self.background_covariance)
        return found

    def restored(self, dataset: xr.Dataset) -> ThreeDVar:
        """Give this scheme with what ``to_dataset`` gave.

        Raises
        ------
        StoreError
            If some of it is lost.
        """
        kept = ("error_factor",) if self.asks_model else ("error_factor", "background_covariance")
        check_whole(dataset, kept, "the scheme that was kept")
        covariance = dataset.get("background_covariance", self.background_covariance)
        factor = float(dataset["error_factor"])
        return replace(self, background_covariance=covariance, error_factor=factor)

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
        factor = float(self.error_factor)
        exact = self.method == "exact"
        root = None if exact else np.linalg.cholesky(covariance)

        def tables(kinds: Any) -> tuple[np.ndarray, Any]:
            matrix, error = record.matrices(kinds), record.error_covariances(kinds) * factor
            if exact:
                return _gain(covariance, matrix, error), None
            triangle = np.linalg.cholesky(error)
            return np.linalg.solve(triangle, matrix @ root), np.linalg.inv(triangle)

        kinds, observed = record.kind_present.shape
        if kinds > 1 and kinds * observed * max(observed, len(variables)) > TABLE:
            return _Prepared(record.operator, root, tables=tables)
        return _Prepared(record.operator, root, *tables(slice(None)))

    def update(
        self, background: Any, values: Any, kind: Any, memory: _Prepared
    ) -> tuple[Any, _Prepared]:
        """Give the analysis (..., variable) of a batch of backgrounds, as Scheme says."""
        xp = array_namespace(background)
        table, kind = memory.picked(kind, background)
        # What is missing has a column of zeros in the gain: nothing else need mask it.
        innovation = values - table.operator.apply(background)
        if self.method == "exact" and len(table.gain) == 1:
            increment = innovation @ table.gain[0].T
        elif self.method == "exact":
            increment = xp.matmul(table.gain[kind], innovation[..., None])[..., 0]
        else:
            whitened = xp.matmul(table.factor[kind], innovation[..., None])[..., 0]
            control = _conjugate_gradients(xp, table.gain[kind], whitened)
            increment = control @ table.root.T
        return background + increment, memory if memory.tables is not None else table

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


def _gain(covariance: np.ndarray, matrix: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Give K = B H' (H B H' + R)^-1 (kind, variable, observed).

    In units of the deviations of what is expected: neither units nor pivots matter then.
    """
    cross = covariance @ np.swapaxes(matrix, 1, 2)
    total = matrix @ cross + error
    size = np.sqrt(np.diagonal(total, axis1=1, axis2=2))
    scaled = np.swapaxes(cross, 1, 2) / size[:, :, None]
    solved = np.linalg.solve(total / (size[:, :, None] * size[:, None, :]), scaled)
    found: np.ndarray = np.swapaxes(solved / size[:, :, None], 1, 2)
    return found


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

    parts = (tensor(array) for array in (memory.root, memory.gain, memory.factor))
    return _Prepared(memory.operator, *parts)


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
