"""How fast a model's trajectories part."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import torch
import xarray as xr

from daml.errors import InputError, name_of
from daml.labels.arguments import checked
from daml.labels.datasets import pack
from daml.labels.dates import is_span, span
from daml.labels.lacking import at_climate
from daml.models.forced import check_given
from daml.protocols import Memory, Model

BLOCKS = 20
"""Parts of the growth whose means show how sure its mean is."""


@checked
def lyapunov_exponent(
    model: Model, initial: xr.Dataset, *, steps: int = 500, spinup: int = 100, seed: int = 0
) -> float:
    """Compute the largest Lyapunov exponent, per unit of the model's time.

    This is the first exponent of :func:`lyapunov_spectrum`, which also gives its standard error.

    Parameters
    ----------
    model : Model
        A model whose step torch can differentiate: one of daml's own models, or an emulator with a
        network whose base is such a model.
    initial : xarray.Dataset
        ``state`` (time, variable): a hundred or more initial states, spread over the attractor.
        Each is the start of a run of its own.
    steps : int
        Number of steps of each run over which the growth of a small difference is averaged.
    spinup : int
        Number of steps before these, in which the difference turns into the direction of the
        largest growth.
    seed : int
        Seed of the first differences.

    Returns
    -------
    float
        The mean over all runs.

    Raises
    ------
    InputError
        If an argument is out of range, or torch cannot differentiate the step.

    References
    ----------
    Benettin, G. et al. (1980): Lyapunov characteristic exponents for smooth dynamical systems and
    for Hamiltonian systems. Meccanica 15, 9-20.

    Examples
    --------
    >>> import daml
    >>> run = daml.simulate(daml.Lorenz63(), steps=2000, spinup=500)
    >>> starts = run.isel(time=slice(0, None, 20))
    >>> 0.85 < lyapunov_exponent(daml.Lorenz63(), starts, steps=200, spinup=50) < 0.95
    True
    """
    _check("lyapunov_exponent", steps, spinup, seed, 1)
    growth, _ = _growth("lyapunov_exponent", model, initial, 1, steps, spinup, seed)
    return float(growth.mean())


@checked
def lyapunov_spectrum(
    model: Model,
    initial: xr.Dataset,
    *,
    exponents: int | None = None,
    steps: int = 1000,
    spinup: int = 100,
    seed: int = 0,
) -> xr.Dataset:
    """Compute the largest Lyapunov exponents, per unit of the model's time, with standard errors.

    Small differences of the state and the memory are propagated with the tangent of the step, which
    torch computes. After each step a QR factorisation makes them orthonormal again; the exponents
    are the means of the logarithms of the diagonal of R, per unit of time.

    Parameters
    ----------
    model : Model
        A model whose step torch can differentiate: one of daml's own models, or an emulator with a
        network whose base is such a model.
    initial : xarray.Dataset
        ``state`` (time, variable): independent initial states, each the start of a run of its own.
        The runs are computed together, so that ten take little more time than one. Hidden variables
        that the states lack start at the model's climate; the spin-up brings them onto the
        attractor.
    exponents : int, optional
        Number of exponents. Default: one for each variable. The cost of a step is proportional to
        this number.
    steps : int
        Number of steps of each run over which the growth is averaged.
    spinup : int
        Number of steps before these, in which the differences turn into the directions of the
        largest growth. If two exponents are close, this takes long.
    seed : int
        Seed of the first differences.

    Returns
    -------
    xarray.Dataset
        ``exponent`` (number), in falling order except for sampling errors; ``standard_error``
        (number), from the means of 20 blocks of the steps, or from the means of the runs if there
        are more than 20. The standard error is too small if initial states lie less than ``steps``
        apart in one record, because their runs then share parts of their trajectories.
        ``kaplan_yorke_dimension`` is j + (sum of the first j exponents) / abs(the next one), with
        the largest j for which the sum is not negative. It is NaN if ``exponents`` is too small to
        find j, and the number of variables if the sum of all exponents is not negative.

    Raises
    ------
    InputError
        If an argument is out of range, or torch cannot differentiate the step.

    References
    ----------
    Benettin, G. et al. (1980): Lyapunov characteristic exponents for smooth dynamical systems and
    for Hamiltonian systems. Meccanica 15, 9-20. Kaplan, J. L. and Yorke, J. A. (1979): Chaotic
    behavior of multidimensional difference equations. In: Functional Differential Equations and
    Approximation of Fixed Points, Springer, 204-227.

    Examples
    --------
    >>> import daml
    >>> run = daml.simulate(daml.Lorenz63(), steps=10000, spinup=500)
    >>> starts = run.isel(time=slice(0, None, 100))
    >>> found = lyapunov_spectrum(daml.Lorenz63(), starts, steps=100, spinup=50)
    >>> bool(abs(found.exponent - [0.9, 0.0, -14.5]).max() < 0.2)
    True
    >>> round(float(found.kaplan_yorke_dimension), 1)
    2.1
    """
    many = len(tuple(model.variables)) if exponents is None else exponents
    _check("lyapunov_spectrum", steps, spinup, seed, many)
    growth, size = _growth("lyapunov_spectrum", model, initial, many, steps, spinup, seed)
    inner = growth.reshape(-1, many)
    means = np.stack([part.mean(axis=0) for part in np.array_split(inner, min(BLOCKS, len(inner)))])
    error = means.std(axis=0, ddof=1) / len(means) ** 0.5 if len(means) > 1 else np.nan * means[0]
    found = inner.mean(axis=0)
    dimension = kaplan_yorke(found, size)
    return xr.Dataset(
        {
            "exponent": ("number", found, {"long_name": "Lyapunov exponent", "units": "1"}),
            "standard_error": ("number", error, {"long_name": "standard error", "units": "1"}),
            "kaplan_yorke_dimension": ((), dimension, {"units": "1"}),
        },
        {"number": np.arange(1, many + 1)},
        {"steps": steps, "spinup": spinup, "seed": seed},
    )


def kaplan_yorke(exponents: np.ndarray, size: int) -> float:
    """Give the Kaplan-Yorke dimension of the largest exponents of ``size`` that there are.

    Examples
    --------
    >>> kaplan_yorke(np.array([1.0, 0.0, -4.0]), 3)
    2.25
    """
    sums = np.cumsum(exponents)
    below = np.flatnonzero(sums < 0)
    if not len(below):
        return float(size) if len(exponents) == size else float("nan")
    j = int(below[0])
    return j + (float(sums[j - 1] / -exponents[j]) if j else 0.0)


def _check(owner: str, steps: int, spinup: int, seed: int, exponents: int) -> None:
    if steps < 1 or spinup < 0 or seed < 0 or exponents < 1:
        also = f", exponents={exponents}" if owner == "lyapunov_spectrum" else ""
        raise InputError(
            f"{owner}: steps={steps}, spinup={spinup}, seed={seed}{also}; give steps >= 1, "
            f"spinup >= 0, seed >= 0{', exponents >= 1' if also else ''}"
        )


def _growth(
    owner: str,
    model: Model,
    initial: xr.Dataset,
    many: int,
    steps: int,
    spinup: int,
    seed: int,
) -> tuple[np.ndarray, int]:
    """Give the rates (start, step, number) at which differences grow, and how many there may be."""
    check_given(model)
    states, _ = pack(at_climate(initial, "state", model), "state", tuple(model.variables))
    x = torch.as_tensor(states.reshape(-1, states.shape[-1]))
    shape = _copied(model.step(x, model.start(x)), many)
    leaves = _leaves(shape)
    size, starts = sum(part[0].numel() for part in leaves), len(x)
    if many > size > 0:
        raise InputError(
            f"{owner}: 'exponents' is {many}, and state and memory of {name_of(model)} are "
            f"{size} numbers; give at most as many"
        )
    generator = torch.Generator().manual_seed(seed)
    draw = functools.partial(torch.randn, generator=generator)
    tangent = [draw(many * starts, *part.shape[1:]).to(part) for part in leaves]
    found = []
    for number in range(spinup + steps):
        copies = [torch.cat([part] * many) for part in leaves]  # one for each difference
        moved, along, shape = _moved(owner, model, shape, copies, tangent)
        leaves = [part[:starts] for part in moved]
        rows = torch.cat([part.reshape(many, starts, -1).double() for part in along], dim=-1)
        frame, triangle = torch.linalg.qr(rows.permute(1, 2, 0))
        turned = frame.permute(2, 0, 1).split([part[0].numel() for part in along], dim=-1)
        tangent = [t.reshape(part.shape).to(part) for t, part in zip(turned, along, strict=True)]
        if number >= spinup:
            diagonal = torch.diagonal(triangle, dim1=-2, dim2=-1)
            found.append(torch.log(torch.abs(diagonal)).numpy())
    return np.stack(found, axis=1) / _length(model), size


def _moved(
    owner: str,
    model: Model,
    shape: Memory,
    leaves: list[torch.Tensor],
    tangent: list[torch.Tensor],
) -> tuple[list[torch.Tensor], list[torch.Tensor], Memory]:
    """Move the tensors of state and memory by one step, and small differences of them.

    The third is state and memory afterwards, of which what is no tensor counts, such as a clock.
    """
    trees: list[Memory] = []

    def step(*parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
        state, inner = _filled(shape, list(parts))
        trees.append(model.step(state, inner))
        return tuple(_leaves(trees[-1]))

    try:
        with warnings.catch_warnings():  # torch's own, when it first loads its tangents
            warnings.simplefilter("ignore", DeprecationWarning)
            moved, along = torch.func.jvp(step, tuple(leaves), tuple(tangent))[:2]
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{owner}: no tangent passes through the step of {name_of(model)} "
            f"({str(error).splitlines()[0]}); write the step with torch's functions"
        ) from error
    return list(moved), list(along), trees[-1]


def _length(model: Model) -> float:
    """Give the length of a step in units of the model's time."""
    dt, unit = model.dt, getattr(model, "time_unit", "s")
    return span(dt, unit, "dt") / span(1, unit, "dt") if is_span(dt) else float(dt)


def _copied(tree: Memory, many: int) -> Memory:
    """Give a nested tuple with so many copies of the arrays in it that are no tensors."""
    if isinstance(tree, np.ndarray):
        return np.concatenate([tree] * many)
    return tuple(_copied(part, many) for part in tree) if isinstance(tree, tuple) else tree


def _leaves(tree: Memory) -> list[torch.Tensor]:
    """Give the tensors in a nested tuple, in order."""
    if isinstance(tree, torch.Tensor):
        return [tree]
    return [leaf for part in tree for leaf in _leaves(part)] if isinstance(tree, tuple) else []


def _filled(tree: Memory, leaves: list[torch.Tensor]) -> Memory:
    """Give a nested tuple of the same shape with other tensors, taken from the front."""
    if isinstance(tree, torch.Tensor):
        return leaves.pop(0)
    return tuple(_filled(part, leaves) for part in tree) if isinstance(tree, tuple) else tree
