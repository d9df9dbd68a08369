"""A sparse matrix that multiplies states, NumPy's or torch's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Sparse:
    """A matrix M (row, column) with few entries that are not 0."""

    matrix: Any
    """SciPy's, by rows (``csr``)."""

    def times(self, x: Any) -> Any:
        """Give M x (..., row) of states (..., column)."""
        shape = (*x.shape[:-1], self.matrix.shape[0])
        columns = x.reshape(-1, self.matrix.shape[1]).T
        if isinstance(x, np.ndarray):
            # Contiguous rows: how a sum over them is rounded must not depend on their number.
            return np.ascontiguousarray((self.matrix @ columns).T).reshape(shape)
        return (self._tensor(x) @ columns).T.contiguous().reshape(shape)

    @cached_property
    def _tensors(self) -> dict[Any, Any]:
        return {}

    def _tensor(self, like: Any) -> Any:
        """Give the matrix in the kind of a tensor, made once for each kind."""
        import torch

        kind = like.dtype, like.device
        if kind not in self._tensors:
            entries = self.matrix.tocoo()
            places = np.stack([entries.row, entries.col]).astype(np.int64)
            self._tensors[kind] = torch.sparse_coo_tensor(
                torch.as_tensor(places, device=like.device),
                torch.as_tensor(entries.data, dtype=like.dtype, device=like.device),
                entries.shape,
                device=like.device,
                is_coalesced=True,
                check_invariants=False,
            )
        return self._tensors[kind]
