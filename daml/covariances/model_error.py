"""The covariance Q of the error that a model makes in a step: a scheme's argument, or a model's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from daml.arrays import namespace
from daml.errors import InputError
from daml.labels.arguments import shown
from daml.labels.datasets import check_names, listed, named, names

if TYPE_CHECKING:
    from daml.protocols import Model, Scheme

FORMS = (
    "a variance, variances (variable,) or a covariance (variable, variable), or a DataArray with "
    "the dimension 'variable', or 'variable' and 'covariable'"
)
ROUNDING = 1e-9
"""By how much a covariance may miss symmetry, or an eigenvalue zero, as a part of the largest."""


def model_error(scheme: Scheme, model: Model) -> Any:
    """Give Q (variable, variable), or variances (variable,), of a scheme and its model.

    The scheme's own ``model_error`` comes before the model's. None where neither has one. Tensors
    stay tensors, so that gradients pass.

    Raises
    ------
    InputError
        If it is no covariance of the model's variables, or still to be found.
    """
    if "model_error" in getattr(scheme, "open", ()):
        raise InputError(
            f"{type(scheme).__name__}: 'model_error' is not estimated yet; estimate it: "
            "scheme, analysis = daml.tuned(scheme, model, observations)"
        )
    for owner in (scheme, model):
        given = getattr(owner, "model_error", None)
        if given is not None:
            return of_variables(given, tuple(model.variables), type(owner).__name__)
    return None


def knows_model_error(model: object) -> bool:
    """Whether a model has a covariance of the error of a step."""
    return getattr(model, "model_error", None) is not None


def of_variables(given: Any, variables: Sequence[str], owner: str) -> Any:
    """Give a model error as variances (variable,) or a covariance (variable, variable).

    Parameters
    ----------
    given : number, array or xarray.DataArray
        A number is the variance of each variable.
    variables : sequence of str
    owner : str
        Whose it is, for errors.

    Raises
    ------
    InputError
        If its shape or its names are others, or it is no covariance.

    Examples
    --------
    >>> of_variables(0.5, ("u", "v"), "SigmaPoint")
    array([0.5, 0.5])
    """
    what, size = f"{owner}: 'model_error'", len(variables)
    if isinstance(given, xr.DataArray):
        given = _selected(given, variables, what)
    tensor = hasattr(given, "requires_grad")
    if not tensor:
        try:
            values = np.asarray(given)
        except ValueError:  # rows of different lengths
            values = np.asarray(None)
        if values.dtype.kind not in "fiu":
            raise InputError(f"{what} is {shown(given)}; give {FORMS}")
        given = values.astype(np.float64)
    shape = tuple(given.shape)
    if shape == ():
        given = given * (given.new_ones(size) if tensor else np.ones(size))
    elif shape not in ((size,), (size, size)):
        raise InputError(
            f"{what} has the shape {shape}, and the model {size} variables; give {FORMS}"
        )
    if not tensor:
        _check(given, what)
    return given


def _selected(given: xr.DataArray, variables: Sequence[str], what: str) -> np.ndarray:
    """Give the values of a DataArray in the order of the variables."""
    dims = tuple(d for d in ("variable", "covariable") if d in given.dims)
    if set(dims) != set(given.dims):
        raise InputError(f"{what} has the dimensions {given.dims}; give {FORMS}")
    for dim in dims:
        check_names(given, what, dim)
        given = named(given, dim)
        lacking = [v for v in variables if v not in given.indexes[dim]]
        if lacking:
            has = listed(names(given, dim))
            raise InputError(
                f"{what} lacks {lacking[0]!r} in {dim!r} (it has {has}); give it for "
                f"{tuple(variables)}"
            )
    chosen = given.sel({dim: list(variables) for dim in dims}).transpose(*dims)
    return np.asarray(chosen.values)


def _check(values: np.ndarray, what: str) -> None:
    """Refuse what is no covariance; zero variances are allowed."""
    if not np.isfinite(values).all():
        raise InputError(f"{what} holds values that are not finite; give finite variances")
    if values.ndim == 1:
        if (values < 0).any():
            raise InputError(f"{what} holds a variance below 0; give variances >= 0")
        return
    largest = np.abs(values).max(initial=0.0)
    if not np.allclose(values, values.T, rtol=0, atol=ROUNDING * largest):
        raise InputError(f"{what} is not symmetric; give (Q + Q.T) / 2")
    if np.linalg.eigvalsh(values)[0] < -ROUNDING * largest:
        raise InputError(f"{what} is not a covariance: an eigenvalue is below 0; give Q = T @ T.T")


def dense(error: Any) -> Any:
    """Give Q (variable, variable) of variances (variable,), or as it is."""
    if error.ndim == 2:
        return error
    return np.diag(error) if isinstance(error, np.ndarray) else error.diag()


def error_root(error: Any) -> Any:
    """Give the symmetric root of Q, deviations (variable,) where it is variances.

    It does not depend on the order of the variables. A gradient passes to Q, also where eigenvalues
    are equal: S' of the root S solves S S' + S' S = Q'.
    """
    xp = namespace(error)
    if error.ndim == 1:
        return xp.sqrt(error)
    fixed = error.detach() if hasattr(error, "detach") else error
    values, vectors = xp.linalg.eigh(fixed)
    roots = xp.sqrt(xp.where(values > 0, values, xp.zeros_like(values)))
    turned = xp.matrix_transpose(vectors)
    root = (vectors * roots) @ turned
    if not getattr(error, "requires_grad", False):
        return root
    sums = roots[:, None] + roots
    change = turned @ (error - fixed) @ vectors / xp.where(sums > 0, sums, xp.inf)
    return root + vectors @ change @ turned
