"""The network of a model with hidden variables: a correction of its base, and its model error."""

from __future__ import annotations

from itertools import chain, pairwise

import torch

from daml.emulators.networks import Memory, Network

FIRST = 0.1
"""Factor on torch's first weights: a correction is small at first."""
COUPLING = 0.3
"""Standard deviation of the first linear map from hidden variables to the others."""


class Correction(Network):
    """Dense layers, with a linear map beside them: (..., variable) to the same shape.

    It also holds the free entries of a root T of the model error, T T' = Q.

    Parameters
    ----------
    size : int
        Number of variables.
    hidden : int
        How many of them, the last ones, are hidden.
    units, layers : int
        Units of a layer, and layers.
    """

    def __init__(self, size: int, hidden: int, units: int, layers: int) -> None:
        super().__init__()
        widths = [size, *[units] * layers]
        parts = [(torch.nn.Linear(*pair), torch.nn.Tanh()) for pair in pairwise(widths)]
        self.layers = torch.nn.Sequential(*chain.from_iterable(parts))
        self.head = torch.nn.Linear(units, size)
        self.linear = torch.nn.Linear(size, size, bias=False)
        self.error_scale = torch.nn.Parameter(torch.zeros(size).double())
        self.error_mixing = torch.nn.Parameter(torch.zeros(size * (size - 1) // 2).double())
        with torch.no_grad():
            for weight in self.layers.parameters():
                weight.mul_(FIRST)
            self.head.weight.mul_(FIRST)
            self.head.bias.zero_()
            self.linear.weight.zero_()
            shown = size - hidden
            self.linear.weight[:shown, shown:] = COUPLING * torch.randn(shown, hidden)

    def take(self, other: Correction) -> None:
        """Take over the weights of a network for the variables that are not hidden."""
        shown, mixed = len(other.error_scale), len(other.error_mixing)
        with torch.no_grad():
            for own, given in zip(self.layers.parameters(), other.layers.parameters(), strict=True):
                own[..., : given.shape[-1]] = given
            self.head.weight[:shown] = other.head.weight
            self.head.bias[:shown] = other.head.bias
            self.linear.weight[:shown, :shown] = other.linear.weight
            self.error_scale[:shown] = other.error_scale
            self.error_mixing[:mixed] = other.error_mixing

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """Give the increments of states, both in the network's units."""
        found: torch.Tensor = self.head(self.layers(u)) + self.linear(u)
        return found

    def advance(self, x: torch.Tensor, memory: Memory) -> tuple[torch.Tensor, Memory]:
        """Give the increments of states (row, variable); there is no memory."""
        return self(x), None

    def error_root(self, scale: torch.Tensor) -> torch.Tensor:
        """Give T (variable, variable), whose rows are ``scale`` (variable,) at first."""
        size = len(scale)
        root = torch.eye(size, dtype=scale.dtype, device=scale.device)
        row, column = torch.tril_indices(size, size, -1)
        root[row, column] = self.error_mixing
        return (scale * torch.exp(self.error_scale))[:, None] * root
