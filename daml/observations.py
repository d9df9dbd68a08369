"""Noisy, partial observations of a true record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from daml import __version__
from daml.errors import InputError
from daml.labels import names, pack
from daml.operators import read_operator
from daml.randomness import BLOCK, Seed, blocks


def observe(
    truth: xr.Dataset,
    *,
    variables: Sequence[str] | None = None,
    operator: xr.DataArray | None = None,
    every: int = 1,
    error_variance: float | Mapping[str, float] = 1.0,
    missing: float = 0.0,
    seed: Seed = 0,
) -> xr.Dataset:
    """Give noisy, partial observations of a true record: y = H x + e, e ~ N(0, R).

    Parameters
    ----------
    truth : xarray.Dataset
        ``state`` (time, variable).
    variables : sequence of str, optional
        What is observed; everything, unless given.
    operator : xarray.DataArray (variable, model_variable), optional
        A matrix H in place of ``variables``.
    every : int
        Observe each so-many-th time.
    error_variance : float or mapping from name to float
        Diagonal of R, in units of the observed quantity squared.
    missing : float
        Probability, from 0 to below 1, that a single value is missing.
    seed : int or numpy.random.Generator
        The noise follows from it and from the place in the record, not from how it is chunked.

    Returns
    -------
    xarray.Dataset
        ``observation`` (time, variable) and ``error_variance`` (variable).

    Raises
    ------
    InputError
        If truth breaks the contract or an argument is out of its range.

    Examples
    --------
    >>> import daml
    >>> truth = daml.simulate(daml.Lorenz63(), steps=10)
    >>> daml.observe(truth, variables=["x0"], every=2, seed=1).observation.shape
    (5, 1)
    """
    if every < 1:
        raise InputError(f"observe: 'every' is {every}; give 1 or more")
    if not 0 <= missing < 1:
        raise InputError(f"observe: 'missing' is {missing}; give a probability in [0, 1)")
    if variables is not None and operator is not None:
        raise InputError("observe: give 'variables' or 'operator', not both")
    state, layout = pack(truth, "state", variables)
    if layout.packed != ("time", "variable"):
        raise InputError(
            f"observe: 'state' has the dimensions {layout.dims}; give (time, variable)"
        )
    observed = tuple(variables) if variables is not None else names(truth)
    result = xr.Dataset(coords={"variable": list(observed)})
    if operator is not None:
        result = xr.Dataset({"operator": operator})
        observed = names(operator)
        state = read_operator(result, observed, names(truth)).apply(state)
    variance = np.array(
        [
            error_variance[v] if isinstance(error_variance, Mapping) else error_variance
            for v in observed
        ],
        dtype=np.float64,
    )
    if not (np.isfinite(variance) & (variance > 0)).all():
        at = int(np.argmin(np.isfinite(variance) & (variance > 0)))
        raise InputError(
            f"observe: 'error_variance' is {variance[at]:g} for variable {observed[at]!r}; "
            "give a variance > 0"
        )
    values = np.empty_like(state)
    for rows, random in blocks(seed, len(state)):
        whole, count = (BLOCK, state.shape[-1]), rows.stop - rows.start
        noise = random.standard_normal(whole)[:count]
        gone = random.random(whole)[:count] < missing
        values[rows] = np.where(gone, np.nan, state[rows] + np.sqrt(variance) * noise)
    units = truth["state"].attrs.get("units", "1")
    result["observation"] = (("time", "variable"), values[::every])
    result["error_variance"] = ("variable", variance)
    result = result.assign_coords(time=truth["time"][::every])
    result["observation"].attrs = {"long_name": "observation", "units": units}
    result["error_variance"].attrs = {
        "long_name": "observation error variance",
        "units": "1" if units == "1" else f"({units})2",
    }
    result.attrs = dict(truth.attrs) | {
        "daml_version": __version__,
        "every": every,
        "missing": missing,
    }
    if not isinstance(seed, np.random.Generator):
        result.attrs["observation_seed"] = seed
    return result
