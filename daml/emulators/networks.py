"""Networks, which map standardised sequences to standardised increments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch.utils.checkpoint import checkpoint

Memory = Any
PIECE = 2**26
"""Maximum of the numbers that a pass over windows keeps for its gradient (256 MB)."""
CELLS: dict[str, Callable[..., torch.Tensor]] = {
    "gru": torch.gru_cell,
    "rnn": torch.rnn_tanh_cell,
}
"""One step of the layers whose memory is their output alone."""
STEPS = 100
"""Typical number of steps through which gradients pass, where windows are read one by one."""


class Gain(torch.nn.Module):
    """A factor and an offset for each variable: the head of a user's network.

    With ``shared`` the factor is the same for all variables.
    """

    def __init__(self, size: int, shared: bool = False) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1 if shared else size))
        self.bias = torch.nn.Parameter(torch.zeros(size))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Give the inputs (..., variable), scaled and moved."""
        return self.weight * inputs + self.bias


class Network(torch.nn.Module):
    """What a training needs of a network, which maps (batch, time, variable) to the same shape.

    With forcings its inputs are those of (batch, time, variable and forcing). Its last part is
    ``head``, whose output is its bias alone if its weight is zero. With ``covariance`` the network
    also gives the entries of a triangular factor of B, which is the identity at first: "predicted"
    from the memory, or "constant".
    """

    head: torch.nn.Linear | Gain

    def __init__(self, covariance: str | None = None) -> None:
        super().__init__()
        self.covariance = covariance

    def advance(self, x: torch.Tensor, memory: Memory) -> tuple[torch.Tensor, Memory]:
        """Predict from one more input (batch, variable) with the memory so far."""
        raise NotImplementedError

    def add_factor(self, size: int, hidden: int = 0) -> None:
        """Add the parameters of the factor: constant, or predicted from ``hidden`` outputs."""
        entries = size * (size + 1) // 2
        if self.covariance == "predicted":
            self.factor_head = torch.nn.Linear(hidden, entries)
            torch.nn.init.zeros_(self.factor_head.weight)
            torch.nn.init.zeros_(self.factor_head.bias)
        elif self.covariance == "constant":
            self.factor_entries = torch.nn.Parameter(torch.zeros(entries))

    def factor(self, memory: Memory) -> torch.Tensor:
        """Give the free entries (..., entry) of the factor for the memory after a prediction."""
        if self.covariance == "constant":
            return self.factor_entries
        if memory is None:  # nothing is predicted yet
            return self.factor_head.bias * 0
        return cast("torch.Tensor", self.factor_head(memory[-1][0]))


class Layered(Network):
    """Recurrent layers and a linear head: (batch, time, variable) to the same shape.

    Parameters
    ----------
    kind : type
        ``torch.nn.LSTM``, ``torch.nn.GRU`` or ``torch.nn.RNN``.
    size, hidden, layers : int
        Number of variables, of units per layer, and of layers.
    covariance : str, optional
        See :class:`Network`.
    forcing : int
        Number of inputs after the variables.
    """

    def __init__(
        self,
        kind: type[torch.nn.RNNBase],
        size: int,
        hidden: int,
        layers: int,
        covariance: str | None = None,
        forcing: int = 0,
    ) -> None:
        super().__init__(covariance)
        self.name = kind.__name__.lower()
        made = cast("Any", kind)(size + forcing, hidden, layers, batch_first=True)
        self.add_module(self.name, made)
        self.head = torch.nn.Linear(hidden, size)
        self.add_factor(size, hidden)

    @property
    def layers(self) -> torch.nn.RNNBase:
        """The recurrent layers."""
        return cast("torch.nn.RNNBase", getattr(self, self.name))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Predict along whole sequences, each from an empty memory."""
        return cast("torch.Tensor", self.head(self.layers(inputs)[0]))

    def advance(self, x: torch.Tensor, memory: Memory) -> tuple[torch.Tensor, Memory]:
        """Predict from one more input (batch, variable) with the memory so far.

        The memory holds for each layer its output (batch, hidden), and for an LSTM its cell. To
        call one cell after the other is faster than the whole network on a sequence of one step.
        """
        layers, long = self.layers, self.name == "lstm"
        if memory is None:
            empty = x.new_zeros((len(x), layers.hidden_size))
            memory = ((empty, empty) if long else (empty,),) * layers.num_layers
        cells: list[tuple[torch.Tensor, ...]] = []
        for weights, cell in zip(layers.all_weights, memory, strict=True):
            if long:
                cells.append(torch.lstm_cell(x, cell, *weights))
            else:
                cells.append((CELLS[self.name](x, cell[0], *weights),))
            x = cells[-1][0]
        return self.head(x), tuple(cells)


class Windowed(Layered):
    """Recurrent layers that read a window of inputs and predict after the last of them.

    The gradient needs eight numbers for each unit and step of every window. If these are more than
    ``PIECE``, windows are read in pieces and the numbers are computed again for the gradient, so
    that the memory used does not grow with the number of sequences times the window.
    """

    def __init__(
        self,
        kind: type[torch.nn.RNNBase],
        size: int,
        hidden: int,
        layers: int,
        window: int,
        forcing: int = 0,
    ) -> None:
        super().__init__(kind, size, hidden, layers, forcing=forcing)
        self.window = window

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Predict after each step of a sequence, from the window that ends there."""
        seen = windows(inputs, self.window)
        rows = max(PIECE // self._kept, 1)
        if inputs.shape[0] * inputs.shape[1] <= rows:
            found = self._last(seen.reshape(-1, self.window, inputs.shape[-1]))
            return found.view(*inputs.shape[:2], -1)
        parts = (part for sequence in seen for part in sequence.split(rows))
        found = torch.cat([self._again(part) for part in parts])
        return found.view(*inputs.shape[:2], -1)

    def advance(self, x: torch.Tensor, memory: Memory) -> tuple[torch.Tensor, Memory]:
        """Predict from the window that ends with one more input (batch, variable)."""
        memory = moved_on(memory, x, self.window)
        many = torch.is_grad_enabled() and len(memory) * self._kept > PIECE // STEPS
        return (self._again if many else self._last)(memory), memory

    @property
    def _kept(self) -> int:
        """How many numbers the gradient of one window needs."""
        return 8 * self.window * self.layers.hidden_size * self.layers.num_layers

    def _last(self, seen: torch.Tensor) -> torch.Tensor:
        """Predict after windows (row, step, variable)."""
        return cast("torch.Tensor", self.head(self.layers(seen)[0][:, -1]))

    def _again(self, seen: torch.Tensor) -> torch.Tensor:
        """Predict as :meth:`_last` does, but compute again what the gradient needs."""
        found = checkpoint(self._last, seen, use_reentrant=False, preserve_rng_state=False)
        return cast("torch.Tensor", found)


def parts_of(memory: Memory) -> list[torch.Tensor]:
    """Give the tensors of a memory, a (nested) tuple of them."""
    if isinstance(memory, torch.Tensor):
        return [memory]
    return [part for cell in memory or () for part in parts_of(cell)]


def with_parts(memory: Memory, parts: Iterator[torch.Tensor]) -> Memory:
    """Give the memory with other tensors, in the order of :func:`parts_of`."""
    if isinstance(memory, torch.Tensor):
        return next(parts).reshape(memory.shape).to(memory.device, memory.dtype)
    return tuple(with_parts(cell, parts) for cell in memory)


def windows(inputs: torch.Tensor, window: int) -> torch.Tensor:
    """Give the window (batch, time, window, variable) that ends at each step of sequences.

    Before its start a sequence (batch, time, variable) is filled with its first step.
    """
    padded = torch.cat((inputs[:, :1].expand(-1, window - 1, -1), inputs), dim=1)
    return padded.unfold(1, window, 1).transpose(2, 3)


def moved_on(memory: torch.Tensor | None, x: torch.Tensor, window: int) -> torch.Tensor:
    """Give the window (batch, window, variable) that ends with one more input (batch, variable)."""
    if memory is None:
        memory = x[:, None].expand(-1, window, -1)
    return torch.cat((memory[:, 1:], x[:, None]), dim=1)
