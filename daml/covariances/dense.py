"""Background error covariances: estimates and checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import xarray as xr

from daml.errors import InputError
from daml.labels.arguments import checked
from daml.labels.datasets import check_names, listed, named, names, pack
from daml.labels.doors import flat


@checked
def climatological(
    run: xr.Dataset, scale: float = 1.0, max_variance: float | None = None
) -> xr.DataArray:
    """Compute the sample covariance of a long run, scaled.

    B = scale * cov(run); with ``max_variance`` the scale is such that the largest variance of
    B has this value. The climatology without scaling is much larger than the error covariance of a
    short forecast, so that analyses would be nearly equal to the observations.

    Parameters
    ----------
    run : xarray.Dataset
        ``state`` (time, variable) with any leading dims, in the model's units.
    scale : float
        Factor on the sample covariance.
    max_variance : float, optional
        Largest variance of the result, in units of the variable squared; replaces ``scale``.

    Returns
    -------
    xarray.DataArray (variable, covariable)
        Symmetric positive definite; the attributes give the scale.

    Raises
    ------
    InputError
        If the run is too short or a variable in it does not vary, or if a scale is not positive.

    References
    ----------
    Goodliff, M. and Miyoshi, T. (2025), EGUsphere, egusphere-2025-933.

    Examples
    --------
    >>> import daml
    >>> run = daml.simulate(daml.Lorenz63(), steps=2000, spinup=500)
    >>> B = daml.climatological(run, max_variance=2)
    >>> round(float(B.max()), 6)
    2.0
    """
    if not scale > 0:
        raise InputError(f"climatological: 'scale' is {scale}; give a factor > 0")
    if max_variance is not None and not max_variance > 0:
        raise InputError(f"climatological: 'max_variance' is {max_variance}; give a variance > 0")
    run = flat(run)
    values, _ = pack(run, "state")
    variables = names(run)
    rows = values.reshape(-1, len(variables))
    if len(rows) <= len(variables):
        raise InputError(
            f"climatological: {len(rows)} states are too few for {len(variables)} variables; "
            "give a longer run"
        )
    sample = np.atleast_2d(np.cov(rows, rowvar=False))
    if max_variance is not None and scale == 1.0:
        scale = max_variance / float(sample.diagonal().max())
    elif max_variance is not None:
        raise InputError("climatological: give 'scale' or 'max_variance', not both")
    result = labelled(scale * sample, variables)
    result.attrs |= {"scale": scale, "states": len(rows)}
    check(result, variables, "the climatology")
    return result


@checked
def labelled(matrix: np.ndarray, variables: Sequence[str]) -> xr.DataArray:
    """Put names on a covariance matrix (variable, covariable)."""
    if matrix.shape != (len(variables), len(variables)):
        raise InputError(
            f"labelled: 'matrix' has the shape {matrix.shape}; give {len(variables)} rows and "
            f"columns, one for each of the 'variables'"
        )
    return xr.DataArray(
        matrix,
        dims=("variable", "covariable"),
        coords={"variable": list(variables), "covariable": list(variables)},
        name="background_covariance",
        attrs={"long_name": "background error covariance", "units": "1"},
    )


@checked
def check(covariance: xr.DataArray, variables: Sequence[str], what: str) -> np.ndarray:
    """Give a covariance as a matrix in the order of ``variables``.

    Parameters
    ----------
    covariance : xarray.DataArray (variable, covariable)
    variables : sequence of str
        The names that it must cover; further names are left out.
    what : str
        What an error calls it.

    Returns
    -------
    numpy.ndarray (variable, covariable)

    Raises
    ------
    InputError
        If dims or names are wrong, or it is not symmetric positive definite.

    Examples
    --------
    >>> check(labelled(np.eye(2), ["u", "v"]), ["v"], "B")
    array([[1.]])
    """
    if not isinstance(covariance, xr.DataArray):
        raise InputError(
            f"{what}: an xarray.DataArray (variable, covariable) is needed, a "
            f"{type(covariance).__name__} was given"
        )
    if set(covariance.dims) != {"variable", "covariable"}:
        raise InputError(
            f"{what}: its dimensions are {tuple(covariance.dims)}; give ('variable', 'covariable')"
        )
    for dim in ("variable", "covariable"):
        check_names(covariance, what, dim)
        covariance = named(covariance, dim)
        lacking = [v for v in variables if v not in covariance.indexes[dim]]
        if lacking:
            has = listed(names(covariance, dim))
            raise InputError(
                f"{what}: its {dim!r} lacks {lacking[0]!r} (it has {has}); "
                f"give it for {tuple(variables)}"
            )
    chosen = covariance.sel(variable=list(variables), covariable=list(variables))
    matrix = np.asarray(chosen.transpose("variable", "covariable").values, dtype=np.float64)
    if not np.isfinite(matrix).all():
        raise InputError(f"{what}: it holds values that are not finite; give finite covariances")
    if not np.allclose(matrix, matrix.T, rtol=1e-8, atol=1e-12 * np.abs(matrix).max()):
        raise InputError(f"{what}: it is not symmetric; give (C + C.T) / 2")
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        lowest = float(np.linalg.eigvalsh(matrix)[0])
        raise InputError(
            f"{what}: it is not positive definite (lowest eigenvalue {lowest:.3g}); add a small "
            "variance to its diagonal, or leave out a variable that never varies"
        ) from None
    return cast("np.ndarray", matrix)
