"""The networks, on standardised sequences."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch.utils.checkpoint import checkpoint

Memory = Any
PIECE = 2**26
"""Numbers that a pass over windows keeps at most for its gradient: 256 MB."""
STEPS = 100
"""Steps through which gradients of windows pass, typically, where each is made by itself."""


class Network(torch.nn.Module):
    """LSTM layers and a linear head: (batch, time, variable) to the same shape.

    With ``covariance`` a second head gives a triangular factor, the identity at first: of the
    memory where it is "predicted", the same always where it is "constant".
    """

    def __init__(self, size: int, hidden: int, layers: int, covariance: str | None = None) -> None:
        super().__init__()
        self.covariance = covariance
        self.lstm = torch.nn.LSTM(size, hidden, layers, batch_first=True)
        self.head = torch.nn.Linear(hidden, size)
        entries = size * (size + 1) // 2
        if covariance == "predicted":
            self.factor_head = torch.nn.Linear(hidden, entries)
            torch.nn.init.zeros_(self.factor_head.weight)
            torch.nn.init.zeros_(self.factor_head.bias)
        elif covariance == "constant":
            self.factor_entries = torch.nn.Parameter(torch.zeros(entries))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Predict along whole sequences, each from an empty memory."""
        return cast("torch.Tensor", self.head(self.lstm(inputs)[0]))

    def advance(self, x: torch.Tensor, memory: Memory) -> tuple[torch.Tensor, Memory]:
        """Predict from one more input (batch, variable) with the memory so far.

        The memory holds output and cell (batch, hidden) of each layer. One cell after the other
        takes less than the whole network on a sequence of one step.
        """
        if memory is None:
            empty = x.new_zeros((len(x), self.lstm.hidden_size))
            memory = ((empty, empty),) * self.lstm.num_layers
        cells = []
        for weights, cell in zip(self.lstm.all_weights, memory, strict=True):
            cells.append(torch.lstm_cell(x, cell, *weights))
            x = cells[-1][0]
        return self.head(x), tuple(cells)

    def factor(self, memory: Memory) -> torch.Tensor:
        """Give the free entries (..., entry) of the factor for what the memory predicted."""
        if self.covariance == "constant":
            return self.factor_entries
        if memory is None:  # nothing is predicted yet
            return self.factor_head.bias * 0
        return cast("torch.Tensor", self.factor_head(memory[-1][0]))


class Windowed(Network):
    """The same network, looking at a window of inputs and predicting after its last.

    A training keeps eight numbers of each unit and step of every window for its gradient. Where
    these are more than ``PIECE``, windows are read in pieces whose numbers are computed again for
    the gradient, so that memory does not grow with sequences times window.
    """

    def __init__(self, size: int, hidden: int, layers: int, window: int) -> None:
        super().__init__(size, hidden, layers)
        self.window = window

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Predict after each step of a sequence, from the window that ends there."""
        padded = torch.cat((inputs[:, :1].expand(-1, self.window - 1, -1), inputs), dim=1)
        windows = padded.unfold(1, self.window, 1).transpose(2, 3)
        rows = max(PIECE // self._kept, 1)
        if inputs.shape[0] * inputs.shape[1] <= rows:
            return self._last(windows.reshape(-1, self.window, inputs.shape[-1])).view_as(inputs)
        parts = (part for sequence in windows for part in sequence.split(rows))
        return torch.cat([self._again(part) for part in parts]).view_as(inputs)

    def advance(self, x: torch.Tensor, memory: Memory) -> tuple[torch.Tensor, Memory]:
        """Predict from the window that ends with one more input (batch, variable)."""
        if memory is None:
            memory = x[:, None].expand(-1, self.window, -1)
        memory = torch.cat((memory[:, 1:], x[:, None]), dim=1)
        many = torch.is_grad_enabled() and len(memory) * self._kept > PIECE // STEPS
        return (self._again if many else self._last)(memory), memory

    @property
    def _kept(self) -> int:
        """The numbers that the gradient of one window keeps."""
        return 8 * self.window * self.lstm.hidden_size * self.lstm.num_layers

    def _last(self, windows: torch.Tensor) -> torch.Tensor:
        """Predict after windows (row, step, variable)."""
        return cast("torch.Tensor", self.head(self.lstm(windows)[0][:, -1]))

    def _again(self, windows: torch.Tensor) -> torch.Tensor:
        """Do the same, and compute what the gradient needs again rather than keep it."""
        found = checkpoint(self._last, windows, use_reentrant=False, preserve_rng_state=False)
        return cast("torch.Tensor", found)
