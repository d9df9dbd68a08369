"""The network of convolutions."""

from __future__ import annotations

from typing import cast

import torch

from daml.emulators.convolutional.lattice import Lattice
from daml.emulators.networks import Gain, Memory, Network, moved_on, windows


class Convolved(Network):
    """Convolutions over a grid: (batch, time, variable) to the same shape.

    Parameters
    ----------
    lattice : Lattice
        Where the variables lie.
    channels : tuple of int
        Channels of each hidden layer.
    kernel : int
        Points along each dimension that a layer sees; odd.
    bilinear : bool
        Whether products of channels follow the first layer.
    window : int, optional
        Number of last states that it sees.
    covariance : str, optional
        See :class:`daml.emulators.networks.Network`.
    corrects : bool
        Whether the head also learns a bias for each variable, as an emulator with a base needs it.
    forcing : int
        Number of inputs after the variables, each a channel that is the same at all points.
    """

    lookup: torch.Tensor
    """The variable in each cell of the grid."""
    cells: torch.Tensor
    """Where each variable stands."""
    mask: torch.Tensor
    """1 at points (1, *shape) with a variable, otherwise 0."""

    def __init__(
        self,
        lattice: Lattice,
        channels: tuple[int, ...],
        kernel: int,
        bilinear: bool,
        window: int | None,
        covariance: str | None,
        corrects: bool,
        forcing: int = 0,
    ) -> None:
        super().__init__(covariance)
        self.lattice, self.bilinear, self.window = lattice, bilinear, window
        self.margin = kernel // 2
        size = len(lattice.cells)
        convolution = (torch.nn.Conv1d, torch.nn.Conv2d)[len(lattice.shape) - 1]
        count, layers = (lattice.fields + forcing) * (window or 1), []
        for number, width in enumerate(channels):
            products = bilinear and number == 0
            layers.append(convolution(count, (3 if products else 1) * width, kernel))
            count = (2 if products else 1) * width
        self.layers = torch.nn.ModuleList(layers)
        self.last = convolution(count, lattice.fields, 1)
        self.head = Gain(size, shared=True)
        self.head.bias.requires_grad_(corrects)
        self.add_factor(size)
        lookup = torch.as_tensor(lattice.lookup)
        self.register_buffer("lookup", lookup, persistent=False)
        self.register_buffer("cells", torch.as_tensor(lattice.cells), persistent=False)
        there = (lookup < size).view(lattice.fields, *lattice.shape).any(dim=0, keepdim=True)
        self.register_buffer("mask", there.float(), persistent=False)
        self.masked = not bool(there.all())

    def convolved(self, seen: torch.Tensor) -> torch.Tensor:
        """Give increments (row, variable) of states (row, variable), or of windows of them.

        Forcings stand after the variables of a state. Beyond an end of the grid, and at points
        without a variable, is 0, the mean.
        """
        rows, lattice = len(seen), self.lattice
        states, further = seen.tensor_split([len(self.cells)], dim=-1)
        x = torch.cat((states, torch.zeros_like(states[..., :1])), dim=-1)[..., self.lookup]
        x = x.reshape(rows, -1, *lattice.shape)
        if further.shape[-1]:
            everywhere = further.reshape(rows, -1, *(1 for _ in lattice.shape))
            x = torch.cat((x, everywhere.expand(-1, -1, *lattice.shape)), dim=1)
        for number, layer in enumerate(self.layers):
            x = torch.relu(layer(self._padded(x)))
            if self.bilinear and number == 0:
                plain, one, other = x.chunk(3, dim=1)
                x = torch.cat((plain, one * other), dim=1)
            if self.masked:
                x = x * self.mask
        found = self.last(x).flatten(1)[:, self.cells]
        return cast("torch.Tensor", self.head(found))

    def _padded(self, x: torch.Tensor) -> torch.Tensor:
        """Widen each dimension of (row, channel, *shape) at both ends."""
        wide = self.margin
        if not wide:
            return x
        for dim, ring in enumerate(self.lattice.ring, start=2):
            if ring:
                ends = x.narrow(dim, x.shape[dim] - wide, wide), x.narrow(dim, 0, wide)
            else:
                zeros = x.new_zeros((*x.shape[:dim], wide, *x.shape[dim + 1 :]))
                ends = zeros, zeros
            x = torch.cat((ends[0], x, ends[1]), dim=dim)
        return x

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Predict after each step of a sequence."""
        seen = inputs if self.window is None else windows(inputs, self.window)
        return self.convolved(seen.flatten(0, 1)).view(*inputs.shape[:2], -1)

    def advance(self, x: torch.Tensor, memory: Memory) -> tuple[torch.Tensor, Memory]:
        """Predict from one more input (batch, variable), and the window before it."""
        if self.window is None:
            return self.convolved(x), None
        memory = moved_on(memory, x, self.window)
        return self.convolved(memory), memory
