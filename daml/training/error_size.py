"""The size of a model's error, by the likelihood of a whole record, with all the cycle's memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize

from daml.arrays import one_core
from daml.training.engine import Tensors
from daml.training.streams import Streams

BURN_IN, LONG, MOST = 300, 100, 200
"""Steps at the head of a sequence that are not judged, those that are at least, and sequences."""
NARROWER = 0.5
"""By how much the logarithms are changed at first: a training leaves the error too large."""
WORST = 1e300
"""In place of a likelihood that is not finite."""
TOLERANCE, TRIALS = 0.05, 20
"""Accuracy of the logarithms, and runs through the record at most."""


def fit_error_size(scale: torch.nn.Parameter, groups: list[slice], streams: Streams) -> None:
    """Find the factors on the standard deviations of a model's error, in place.

    Gradients that pass through a few dozen steps leave the model error too large: what a smaller
    one gains lies beyond them. So the factors are searched for by the likelihood of whole cycles.

    Parameters
    ----------
    scale : torch.nn.Parameter (variable,)
        Logarithms of the standard deviations.
    groups : list of slice
        Variables that share a factor.
    streams : Streams
        The record, the model and the scheme, and the climate to start from.
    """
    burn_in = min(BURN_IN, streams.course.own // 4)
    sequences, objective = _sequences(streams, burn_in), streams.judging(burn_in)
    start = scale.detach().clone()

    def loss(logarithms: np.ndarray) -> float:
        for group, value in zip(groups, logarithms, strict=True):
            scale[group] = start[group] + float(value)
        mean = float(objective.total(sequences) / objective.count(sequences))
        return mean if np.isfinite(mean) else WORST

    size = len(groups)
    first = np.vstack((np.zeros(size), -NARROWER * np.eye(size)))
    how: dict[str, Any] = {"initial_simplex": first, "xatol": TOLERANCE, "fatol": 1e-6}
    with torch.no_grad(), one_core():
        found = minimize(loss, first[0], method="Nelder-Mead", options=how | {"maxfev": TRIALS})
        loss(found.x)


def _sequences(streams: Streams, burn_in: int) -> Tensors:
    """Give sequences over the whole record, each within a trajectory."""
    own = streams.course.own
    many = streams.steps // own
    number = int(np.clip(own // LONG, 1, max(MOST // many, 1)))
    long = -(-own // number)
    heads = np.clip(np.arange(number) * long - burn_in, 0, max(own - long - burn_in, 0))
    heads = np.add.outer(own * np.arange(many), heads).ravel()
    rows = heads[:, None] + np.arange(min(long + burn_in, own))
    return [tensor[rows] for tensor in streams.course.tensors]
