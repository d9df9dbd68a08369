"""An emulator with a regressor of scikit-learn, or one like it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import xarray as xr

from daml.emulators.estimators import Examples, fitted, predicted, recovered
from daml.emulators.fitted import Scaled, scaled_of
from daml.emulators.learned import Learned, check_base, table_for
from daml.errors import InputError
from daml.labels.arguments import check_fields, checked
from daml.labels.ranges import seed, whole
from daml.protocols import Memory, Model
from daml.running.cycling.stepping import advance
from daml.stores.opening import check_whole
from daml.training import examples


@dataclass(frozen=True)
class _Fitted(Scaled):
    """A fitted estimator, and the standardised examples that it was fitted to."""

    estimator: Any
    examples: Examples

    def to_dataset(self) -> xr.Dataset:
        """Give scaling, examples and the fingerprint of the estimator as plain arrays."""
        width, given = len(self.variables), self.examples
        known = predicted(self.estimator, given.probes(), width)
        return (
            super()
            .to_dataset()
            .assign(
                inputs=(("example", "feature"), given.inputs),
                targets=(("example", "variable"), given.targets),
                fingerprint=(("probe", "variable"), known),
            )
        )


@dataclass(frozen=True)
class Regression(Learned):
    """An emulator with a regressor of scikit-learn, or with one that has the same methods.

    In each step the regressor predicts an increment, which is added to the step of the model
    ``base``, or without a base to the last state. It maps standardised states (row, variable) to
    standardised increments (row, variable). With ``window`` each row of its input holds the last
    states one after the other, the oldest first. If :meth:`fit` is given forcings, their values
    follow the variables of each state. A regressor that predicts a single number needs a wrapper:
    ``sklearn.multioutput.MultiOutputRegressor(estimator)``.

    A store does not hold the estimator, which could only be stored as a pickle. Instead it holds
    the examples to which the estimator was fitted, and its predictions for up to 100 of them. To
    load the emulator, give an estimator: ``load_emulator(store, emulator=Regression(estimator))``.
    If this one reproduces the stored predictions, it is used as it is; otherwise a copy is fitted
    to the stored examples and must then reproduce them. A loop that is resumed does the same.

    Parameters
    ----------
    estimator : object
        An object with ``fit(X, y)`` and ``predict(X)``, like the regressors of scikit-learn. Each
        fit starts anew with a copy of it; the estimator itself is never changed.
    base : Model, optional
        Model whose step is corrected. Default: none; the regressor then predicts the change from
        the last state.
    window : int, optional
        Number of last states that the estimator reads in each step. Default: the last state alone.
    seed : int
        Value for each parameter ``random_state`` of the estimator that is None.

    Raises
    ------
    InputError
        If a setting is out of range. ``fit`` raises it if the estimator fails or predicts an array
        of a wrong shape.

    References
    ----------
    Pedregosa, F. et al. (2011): Scikit-learn: machine learning in Python. Journal of Machine
    Learning Research 12, 2825-2830.

    Examples
    --------
    >>> import daml
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import PolynomialFeatures
    >>> run = daml.simulate(daml.Lorenz63(), steps=400, spinup=100)
    >>> estimator = make_pipeline(PolynomialFeatures(2), Ridge(1e-6))
    >>> emulator = daml.emulators.Regression(estimator).fit(run)
    >>> emulator.forecast(run, leads=2).sizes["lead"]
    2
    """

    estimator: Any
    base: Model | None = None
    window: int | None = None
    seed: int = 0
    fitted: _Fitted | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_fields(self)
        for method in ("fit", "predict"):
            if not hasattr(self.estimator, method) or isinstance(self.estimator, type):
                raise InputError(
                    f"Regression: 'estimator' is not an estimator: it has no {method!r}; give one "
                    "like scikit-learn's regressors, e.g. sklearn.linear_model.Ridge()"
                )
        object.__setattr__(self, "seed", seed(self.seed, "Regression: 'seed'"))
        if self.window is not None:
            object.__setattr__(self, "window", whole(self.window, "Regression: 'window'"))
        check_base("Regression", self.base, self.fitted)

    @checked
    def fit(self, analysis: xr.Dataset, *, forcings: xr.Dataset | None = None) -> Regression:
        """Give a fitted copy of the emulator.

        Parameters
        ----------
        analysis : xarray.Dataset
            ``analysis``, or if there is none ``state``, (time, variable) at every model step. Times
            at which all of ``innovation`` is missing were not observed and are not used as targets.
        forcings : xarray.Dataset, optional
            Known inputs in time; see :meth:`daml.LSTM.fit`.

        Returns
        -------
        Regression

        Raises
        ------
        InputError
            If the record lacks a variable, has wrong dims or values, or is too short, or the
            estimator fails.
        """
        length, setting = self.window or 1, "window"
        how: dict[str, Any] = {"owner": "Regression", "setting": setting}
        table = table_for(self, forcings)
        record = examples.Examples(analysis, length, self.base, forcings=table, **how)
        (dt, unit), scaling = record.step, record.scaling()
        scaled = Scaled(record.variables, dt, unit, *scaling, **record.forcing_scaling())
        parts = zip(*(block[:4] for block in record), strict=True)
        states, increments, weights, forcing = map(np.concatenate, parts)
        seen = self._seen(_inputs(scaled, states, forcing))[weights > 0]
        targets = (increments - scaled.increment_mean) / scaled.increment_spread
        given = Examples(seen, targets[weights > 0])
        return self._with(scaled, fitted(self.estimator, given, self.seed), given)

    def _with(self, scaled: Scaled, estimator: Any, given: Examples) -> Regression:
        known = {f.name: getattr(scaled, f.name) for f in fields(Scaled)}
        return replace(self, fitted=_Fitted(**known, estimator=estimator, examples=given))

    def _seen(self, states: np.ndarray) -> np.ndarray:
        """Give the inputs (..., time, feature) of the estimator at states (..., time, variable)."""
        window = self.window or 1
        first = np.repeat(states[..., :1, :], window - 1, axis=-2)
        padded = np.concatenate((first, states), axis=-2)
        view = np.lib.stride_tricks.sliding_window_view(padded, window, axis=-2)
        return view.swapaxes(-1, -2).reshape(*states.shape[:-1], -1)

    def step(self, x: Any, memory: Memory = None, forcing: Any = None) -> tuple[Any, Memory]:
        """Step states (..., variable) by one dt.

        Without a ``memory`` the step is the first one, as after :meth:`start`. An
        emulator that was fitted with forcings also takes their values (..., forcing).
        """
        seen, base_memory = memory or self.start(x)
        known, width = self.known, x.shape[-1]
        scaled = _inputs(known, x, forcing)[..., None, :]
        if self.window is not None:
            seen = np.repeat(scaled, self.window, axis=-2) if seen is None else seen
            scaled = seen = np.concatenate((seen[..., 1:, :], scaled), axis=-2)
        rows = scaled.reshape(-1, scaled.shape[-2] * scaled.shape[-1])
        found = predicted(known.estimator, rows, width).reshape(x.shape)
        moved = x
        if self.base is not None:
            own = (forcing[..., self.of_base],) if self.of_base else ()
            moved, base_memory = advance(self.base, x, base_memory, *own)
        return moved + known.increment_mean + found * known.increment_spread, (seen, base_memory)

    def restored(self, dataset: xr.Dataset) -> Regression:
        """Give the fitted emulator whose ``to_dataset`` is given, with the settings stored there.

        Raises
        ------
        InputError
            If the estimator, fitted to the stored examples, does not reproduce the stored
            predictions.
        """
        made, scaled = self.with_settings(dataset), scaled_of(dataset, "Regression")
        check_whole(dataset, ("inputs", "targets", "fingerprint"), "Regression")
        given = Examples(dataset["inputs"].values, dataset["targets"].values)
        known = dataset["fingerprint"].values
        return made._with(scaled, recovered(self.estimator, given, known, made.seed), given)


def _inputs(known: Scaled, x: np.ndarray, forcing: np.ndarray | None) -> np.ndarray:
    """Give states (..., variable) and forcings (..., column), scaled, side by side."""
    scaled = (x - known.mean) / known.spread
    if forcing is None:
        return np.asarray(scaled)
    further = (forcing - known.forcing_mean) / known.forcing_spread
    return np.concatenate((scaled, further), axis=-1)
