"""How a control changes what is observed, by torch: also through the memory of a model."""

from __future__ import annotations

from typing import Any

import numpy as np

from daml.arrays import namespace
from daml.schemes.windowed.window_cost import WindowCost


class Recorded:
    """One run of the model from the start and with the errors of a control, recorded by torch."""

    def __init__(self, cost: WindowCost, v: Any, *, learns: bool = False) -> None:
        import torch

        self.cost, self.like = cost, v
        start, errors = cost.control.moved(v)
        with torch.enable_grad():
            parts = (start, *(errors or ()))
            self.inputs = [_input(part, keep=learns) for part in parts]
            first, rest = self.inputs[0], tuple(self.inputs[1:])
            states = cost.window.moved(first, rest) if rest else cost.window.moved(first)
            found = [observed.operator.apply(states[place]) for place, observed in cost.seen]
            self.seen = torch.cat(found, dim=-1)
            """H(x) (..., observed) of all times at which something is observed."""

    def back(self, weights: Any, *, create_graph: bool = False) -> list[Any]:
        """Give the gradients (..., variable) by the start and the errors of a sum of H(x)."""
        import torch

        how = {"retain_graph": True, "create_graph": create_graph, "allow_unused": True}
        found = torch.autograd.grad(self.seen, self.inputs, weights, **how)
        pairs = zip(found, self.inputs, strict=True)
        return [torch.zeros_like(one) if part is None else part for part, one in pairs]

    def split(self, rows: Any) -> list[Any]:
        """Give the parts (..., observed) of each time."""
        found, first = [], 0
        for _, observed in self.cost.seen:
            last = first + observed.values.shape[-1]
            found.append(rows[..., first:last])
            first = last
        return found


def derivative(cost: WindowCost, v: Any) -> Any:
    """Give G (..., observed, control), a gradient for each row.

    Where torch records a gradient, it is that of G, too.
    """
    import torch

    learns = torch.is_grad_enabled() and not isinstance(v, np.ndarray)
    run = Recorded(cost, v, learns=learns)
    count = run.seen.shape[-1]
    rows = []
    for row in range(count):
        weights = torch.zeros_like(run.seen)
        weights[..., row] = 1
        rows.append(run.back(weights, create_graph=learns))
    parts = []
    for by_row in zip(*rows, strict=True):
        part = torch.stack(by_row, dim=-2)
        parts.append(part if learns else alike(part, v))
    white = [_white(cost, run, part) for part in parts]
    return cost.control.rows(white[0], white[1:])


def _white(cost: WindowCost, run: Recorded, rows: Any) -> Any:
    """Give R^(-1/2) times a derivative (..., observed, variable)."""
    xp = namespace(rows)
    parts = zip(run.split(xp.matrix_transpose(rows)), cost.seen, strict=True)
    return xp.matrix_transpose(
        xp.concat([cost.whitened(part, observed) for part, (_, observed) in parts], axis=-1)
    )


def tensor(array: Any) -> Any:
    """Give an array as a tensor."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(array)) if isinstance(array, np.ndarray) else array


def alike(found: Any, like: Any) -> Any:
    """Give a tensor without its gradient, in the kind of array that ``like`` is."""
    return found.detach().numpy() if isinstance(like, np.ndarray) else found.detach()


def _input(array: Any, *, keep: bool) -> Any:
    """Give a tensor by which torch differentiates, with what it depends on if that is kept."""
    given = tensor(array)
    if keep and given.requires_grad:
        return given
    return given.detach().clone().requires_grad_()
