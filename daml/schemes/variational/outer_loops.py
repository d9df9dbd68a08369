"""The analysis with a B by its actions and an H that is not linear: outer loops around PSAS."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

from daml.arrays import namespace
from daml.observing.operators import linearised
from daml.protocols import Forecast, Observed
from daml.schemes.variational.by_actions import Actions, per_value
from daml.schemes.variational.controls import Control, ProductRoot
from daml.schemes.variational.damped import minimised
from daml.schemes.variational.implicit import is_recorded, recorded


@dataclass(frozen=True)
class OuterLoops:
    """What a cycle with a B by its actions knows, for any H; see :meth:`analysed`."""

    actions: Actions

    def analysed(self, background: Any, observed: Observed) -> tuple[Any, Any]:
        """Give the analysis (..., variable), and the minimum of J by the number of values (...).

        With x = xb + B w the cost is J = w' B w + |R^(-1/2) (y - H(x))|^2. Each iteration minimises
        it for the H that is linear around the last x, with conjugate gradients in the space of the
        observations; see :func:`daml.schemes.variational.damped.minimised`. A linear H needs one
        step. Where torch records a gradient, it is that of the minimum.
        """
        if observed.operator.linear:
            return self.actions.analysed(background, observed)
        xp, actions = namespace(background), self.actions
        root = ProductRoot(_Scaled(actions), actions.size)
        cost = _Cost(actions, observed, Control(background, root))
        records = is_recorded(background, observed.values)
        with xp.no_grad() if records else nullcontext():
            v = minimised(cost.at, cost.step, cost.control.zero(), inner=root.inner).control
        square = cost.at(v)[1]  # at the minimum it does not change with v
        if records:
            v = recorded(cost.control, lambda changes: cost.distance(*changes), v)
        return background + root.root(v), per_value(square, observed)

    def innovation_variance(self, forecast: Forecast, observed: Observed) -> Any:
        """Give the diagonal (..., observed) of H B H' + R; see :class:`Actions`."""
        return self.actions.innovation_variance(forecast, observed)


@dataclass(frozen=True)
class _Scaled:
    """B with the factor on it."""

    actions: Actions

    def times(self, x: Any) -> Any:
        """Give B x (..., variable)."""
        return self.actions.factors[0] * self.actions.times(x)


class _Cost(NamedTuple):
    """J of one time."""

    actions: Actions
    observed: Observed
    control: Control

    def at(self, v: Any) -> tuple[Any, Any]:
        """Give the misfits R^(-1/2) (y - H(x)) (..., observed), and J (...)."""
        misfit = self._misfit(self.control.root.root(v))
        return misfit, self.control.inner(v, v) + namespace(v).vecdot(misfit, misfit)

    def distance(self, change: Any) -> Any:
        """Give |R^(-1/2) (y - H(x))|^2 (...) of changes (..., variable) of the background."""
        misfit = self._misfit(change)
        return namespace(misfit).vecdot(misfit, misfit)

    def step(self, v: Any, misfit: Any) -> Any:
        """Give the step (..., control) to the minimum for the H that is linear around v."""
        observed, change = self.observed, self.control.root.root(v)
        x = self.control.start + change
        around = linearised(observed.operator, x)
        distance = observed.values - observed.operator.apply(x) + around.apply(change)
        cross, square = self.actions.seen_around(around, distance)
        weights, _ = self.actions.weights(distance, observed, square)
        aim = around.adjoint(weights), self.actions.factors[0] * cross(weights)
        return namespace(v).concat(aim, axis=-1) - v

    def _misfit(self, change: Any) -> Any:
        observed, x = self.observed, self.control.start + change
        distance = observed.values - observed.operator.apply(x)
        white = observed.whitened(distance[..., None, :])[..., 0, :]
        return white / self.actions.factors[1] ** 0.5
