"""How fast a model's trajectories part."""

from __future__ import annotations

import warnings

import torch
import xarray as xr

from daml.errors import InputError
from daml.labels.arguments import checked
from daml.labels.datasets import pack
from daml.labels.lacking import at_climate
from daml.models.forced import check_given
from daml.protocols import Memory, Model


@checked
def lyapunov_exponent(
    model: Model, initial: xr.Dataset, *, steps: int = 500, spinup: int = 100, seed: int = 0
) -> float:
    """Give the largest Lyapunov exponent, per unit of the model's time.

    A small difference of state and memory is carried along by the tangent of the step, which
    torch differentiates, and brought back to length one after each.

    Parameters
    ----------
    model : Model
        Made of torch's operations: daml's own, an LSTM over one of them.
    initial : xarray.Dataset
        ``state`` (time, variable): states to start from, each on its own; a hundred or more,
        spread over the attractor. Hidden variables that are missing start at the model's
        climate; the spin-up brings them onto the attractor.
    steps : int
        Over which, and over all starts, growth is a mean.
    spinup : int
        Steps before that.
    seed : int
        Of the first difference.

    Returns
    -------
    float

    Raises
    ------
    InputError
        If no tangent passes through the model's step.

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
    if steps < 1 or spinup < 0 or seed < 0:
        raise InputError(
            f"lyapunov_exponent: steps={steps}, spinup={spinup}, seed={seed}; give steps >= 1, "
            "spinup >= 0, seed >= 0"
        )
    check_given(model)
    states, _ = pack(at_climate(initial, "state", model), "state", tuple(model.variables))
    x = torch.as_tensor(states.reshape(-1, states.shape[-1]))
    x, memory = model.step(x, model.start(x))
    leaves = _leaves((x, memory))
    generator = torch.Generator().manual_seed(seed)
    tangent = [torch.randn(part.shape, generator=generator).to(part) for part in leaves]
    shape, growth = (x, memory), 0.0
    trees: list[Memory] = []
    for number in range(spinup + steps):

        def step(*parts: torch.Tensor, shape: Memory = shape) -> tuple[torch.Tensor, ...]:
            given = list(parts)
            state, inner = _filled(shape, given)
            moved = model.step(state, inner)
            trees.append(moved)
            return tuple(_leaves(moved))

        try:
            with warnings.catch_warnings():  # torch's own, when it first loads its tangents
                warnings.simplefilter("ignore", DeprecationWarning)
                moved, along = torch.func.jvp(step, tuple(leaves), tuple(tangent))[:2]
        except (RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"lyapunov_exponent: no tangent passes through the step of "
                f"{type(model).__name__} ({str(error).splitlines()[0]}); write it with torch"
            ) from error
        leaves, tangent, shape = list(moved), list(along), trees.pop()  # a clock is no tensor
        rows = torch.cat([part.reshape(len(x), -1).double() for part in tangent], dim=1)
        size = torch.linalg.vector_norm(rows, dim=1)
        tangent = [(part.movedim(0, -1) / size).movedim(-1, 0).to(part) for part in tangent]
        growth += float(torch.log(size).mean()) if number >= spinup else 0.0
    return growth / (steps * float(model.dt))


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
