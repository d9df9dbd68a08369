"""A correction whose weights are the same at all places, each of which sees those near it."""

from __future__ import annotations

import numpy as np
import torch

from daml.emulators.hidden.corrections import Correction
from daml.emulators.hidden.shared_places import Places
from daml.errors import InputError

COUPLED = 0.5
"""First weight of a hidden variable in the increments at its place."""
DAMPED = (-1.0, -0.5)
"""First weight of a hidden variable in its own increments: of the first one, and of all others."""


class LocalCorrection(Correction):
    """Layers and a linear map at each place of a line or a ring, with the same weights everywhere.

    They read the variables within ``reach`` places on either side, and 0 (the mean) beyond the ends
    of a line. The root T of the model error has the same form.

    Parameters
    ----------
    places : Places
        Of the variables that are not hidden.
    hidden : int
        Hidden variables at each place.
    units, layers : int
        Units of a layer at a place, and layers.
    reach : int
    """

    order: torch.Tensor
    """Variables, place by place."""
    back: torch.Tensor
    """Where each variable (variable,) stands in that order."""
    field: torch.Tensor
    """Which of the variables of its place each is."""
    entries: torch.Tensor
    """Rows and columns in T, and which of the free numbers stands there (3, entry)."""

    def __init__(self, places: Places, hidden: int, units: int, layers: int, reach: int) -> None:
        places = places.widened(hidden)
        count, fields = places.variables.shape
        self.reach, self.copies, self.ring = reach, count, places.ring
        super().__init__(fields, hidden, units, layers, fields * (2 * reach + 1))
        self.error_mixing = torch.nn.Parameter(
            torch.zeros((2 * reach + 1) * fields**2, dtype=torch.float64)
        )
        order = places.variables.ravel()
        self._keep("order", order)
        self._keep("back", np.argsort(order))
        self._keep("field", np.argsort(order) % fields)
        near = places.near(reach)
        place, shift = np.nonzero(near >= 0)
        own = places.variables[place][:, :, None]
        other = places.variables[near[place, shift]][:, None, :]
        free = np.arange(fields**2).reshape(fields, fields) + fields**2 * shift[:, None, None]
        entries = np.broadcast_arrays(own, other, free)
        self._keep("entries", np.stack([part.ravel() for part in entries]))

    def _keep(self, name: str, values: np.ndarray) -> None:
        self.register_buffer(name, torch.as_tensor(values), persistent=False)

    def take(self, other: Correction) -> None:
        """Refuse: what each place sees has another layout without hidden variables.

        Raises
        ------
        InputError
            Always.
        """
        raise InputError(
            "fit_cycle: a local network that was trained without hidden variables cannot be "
            "trained further with hidden variables; start from Augmented(...).begin(analysis)"
        )

    def couple(self, weight: torch.Tensor, shown: int) -> None:
        """Write the first linear map (field, input) from the hidden variables of a place."""
        fields = len(weight)
        own = weight[:, self.reach * fields : (self.reach + 1) * fields]
        own[:shown, shown:] = COUPLED
        for number, place in enumerate(range(shown, fields)):
            own[place, place] = DAMPED[min(number, 1)]

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """Give the increments of states (row, variable), both in the network's units."""
        fields = u.index_select(1, self.order).reshape(len(u), self.copies, -1)
        if self.reach:
            ends = fields[:, -self.reach :], fields[:, : self.reach]
            if not self.ring:
                ends = torch.zeros_like(ends[0]), torch.zeros_like(ends[1])
            fields = torch.cat((ends[0], fields, ends[1]), dim=1)
        shifted = [fields[:, k : k + self.copies] for k in range(2 * self.reach + 1)]
        found = super().forward(torch.cat(shifted, dim=-1))
        return found.reshape(len(u), -1).index_select(1, self.back)

    def error_root(self, scale: torch.Tensor) -> torch.Tensor:
        """Give T (variable, variable), whose rows are ``scale`` (variable,) at first."""
        row, column, free = self.entries
        root = torch.eye(len(scale), dtype=scale.dtype, device=scale.device)
        root = root.index_put((row, column), self.error_mixing[free], accumulate=True)
        return (scale * torch.exp(self.error_scale[self.field]))[:, None] * root

    def shared(self, values: np.ndarray) -> np.ndarray:
        """Give the means over places of numbers (variable,)."""
        order, field = self.order.cpu().numpy(), self.field.cpu().numpy()
        return np.asarray(values[order].reshape(self.copies, -1).mean(axis=0)[field])
