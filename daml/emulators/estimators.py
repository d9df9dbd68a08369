"""Estimators like those of scikit-learn: fitted, and recognised by their predictions.

An estimator is any object with ``fit(X, y)`` and ``predict(X)``. What it has learned may be of any
kind (trees, kernels), so that a store cannot hold it as plain arrays. The store holds the examples
instead, and a fingerprint: the predictions of the fitted estimator for some of them.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from daml.errors import InputError, first_line

PROBES = 100
"""Maximum number of examples in a fingerprint."""
NEAR = 1e-5
"""Largest difference of two equal predictions, in standard deviations."""


@dataclass(frozen=True)
class Examples:
    """The inputs (row, feature) and targets (row, variable) that an estimator is fitted to."""

    inputs: np.ndarray
    targets: np.ndarray

    def probes(self) -> np.ndarray:
        """Give the inputs of the fingerprint, evenly spread over the examples."""
        return self.inputs[:: -(-len(self.inputs) // PROBES)]


def fitted(estimator: Any, examples: Examples, seed: int) -> Any:
    """Fit a copy of an estimator; the seed decides its random numbers.

    Raises
    ------
    InputError
        If it fails, or does not predict a finite number for each variable.
    """
    from sklearn.exceptions import DataConversionWarning

    name, width = type(estimator).__name__, examples.targets.shape[1]
    targets = examples.targets
    try:
        made = _copied(estimator, seed)
        with warnings.catch_warnings():
            # Of one variable, too, targets are (row, variable).
            warnings.simplefilter("ignore", DataConversionWarning)
            made.fit(examples.inputs.copy(), targets.copy())
        found = np.asarray(made.predict(examples.probes()))
    except Exception as error:
        raise InputError(
            f"Regression: {name} failed on inputs {examples.inputs.shape} and targets "
            f"{targets.shape} ({type(error).__name__}: {first_line(error)}); wrap an estimator "
            "that predicts a single number: "
            f"sklearn.multioutput.MultiOutputRegressor({name}())"
        ) from error
    rows = len(examples.probes())
    fits = found.shape == (rows, width) or (width == 1 and found.shape == (rows,))
    if not fits or found.dtype.kind not in "fiu" or not np.isfinite(found).all():
        raise InputError(
            f"Regression: {name} predicted {found.dtype} {found.shape} for {rows} rows; finite "
            f"numbers of shape (row, variable), here {(rows, width)}, are needed"
        )
    return made


def _copied(estimator: Any, seed: int) -> Any:
    """Give an estimator that is not fitted, with a seed where it has none."""
    from sklearn.base import clone

    made = clone(estimator, safe=False)
    made = copy.deepcopy(made) if made is estimator else made
    known = made.get_params() if hasattr(made, "get_params") else {}
    drawn = [key for key, value in known.items() if key.endswith("random_state") and value is None]
    if drawn:
        made.set_params(**dict.fromkeys(drawn, seed))
    return made


def predicted(estimator: Any, inputs: np.ndarray, width: int) -> np.ndarray:
    """Give the predictions (row, width) for inputs (row, feature).

    They are NaN for inputs that are not finite, such as those of a forecast that diverges, which
    estimators refuse.
    """
    found = np.full((len(inputs), width), np.nan)
    finite = np.isfinite(inputs).all(axis=1)
    if finite.any():
        try:
            found[finite] = np.reshape(estimator.predict(inputs[finite]), (-1, width))
        except Exception as error:
            name, shape = type(estimator).__name__, inputs[finite].shape
            raise InputError(
                f"Regression: {name} failed to predict from inputs {shape} "
                f"({type(error).__name__}: {first_line(error)}); it must return numbers of shape "
                "(row, variable)"
            ) from error
    return found


def recovered(estimator: Any, examples: Examples, fingerprint: np.ndarray, seed: int) -> Any:
    """Give the estimator that has a fingerprint: the one given, or a copy that is fitted again.

    Raises
    ------
    InputError
        If the predictions of both differ from the fingerprint.
    """

    def apart(one: Any) -> float:
        found = predicted(one, examples.probes(), examples.targets.shape[1])
        return float(np.abs(found - fingerprint).max())

    try:
        if apart(estimator) <= NEAR:
            return estimator
    except Exception:  # not fitted yet, which each class reports in its own way
        pass
    again = fitted(estimator, examples, seed)
    difference = apart(again)
    if not difference <= NEAR:
        raise InputError(
            f"Regression: the {type(estimator).__name__} given is not the one that was stored: its "
            f"predictions differ by up to {difference:.2g} standard deviations, also when it is "
            "fitted again to the same examples; give one with the same settings, or the fitted "
            "estimator itself"
        )
    return again
