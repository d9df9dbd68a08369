"""Positive definite matrices from entries that are free: B = L T T' L'."""

from __future__ import annotations

import numpy as np
import torch


def placed(root: np.ndarray) -> np.ndarray:
    """Give what makes of the entries of a triangular T the product L T (entry, variable ** 2).

    Entries are T's diagonal, then what lies below it, row by row; ``root`` (variable, variable)
    is L.
    """
    size = len(root)
    rows, columns = np.concatenate((np.diag_indices(size), np.tril_indices(size, -1)), axis=1)
    found = np.zeros((len(rows), size, size))
    found[np.arange(len(rows)), :, columns] = root[:, rows].T
    return found.reshape(len(rows), -1)


def covariance(free: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Give B (..., variable, variable) of entries (..., entry), the diagonal's as logarithms."""
    size = round(places.shape[1] ** 0.5)
    diagonal, below = free.tensor_split((size,), dim=-1)
    flat = torch.cat((torch.exp(diagonal), below), dim=-1) @ places
    root = flat.view(*flat.shape[:-1], size, size)
    return root @ root.mT
