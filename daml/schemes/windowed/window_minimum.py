"""The minimum of the cost of a window, from the background on or stage by stage."""

from __future__ import annotations

from daml.errors import InputError
from daml.schemes.variational.damped import Minimum, minimised
from daml.schemes.windowed.window_cost import WindowCost

ROUGH = 1e-2
"""Length of the last step of a stage that is not the last one."""


def check_search(outer_loops: int, tolerance: float, owner: str) -> None:
    """Refuse a number of outer loops or a tolerance that is none; the text begins with ``owner``.

    Raises
    ------
    InputError
    """
    if outer_loops < 1:
        raise InputError(f"{owner}: 'outer_loops' is {outer_loops}; give 1 or more")
    if not 0 < tolerance < 1:
        raise InputError(f"{owner}: 'tolerance' is {tolerance}; give a number in (0, 1)")


def minimum(
    cost: WindowCost, outer_loops: int, tolerance: float, quasi_static: bool = False
) -> Minimum:
    """Minimise the cost of a window at whose new times something is observed.

    Parameters
    ----------
    cost : WindowCost
    outer_loops : int
        Most iterations, of each stage.
    tolerance : float
        Length of the last step, in standard deviations of the background's errors.
    quasi_static : bool
        Whether the times join one after the other, and each minimum starts from the one before.

    References
    ----------
    Pires, C., Vautard, R. and Talagrand, O. (1996): On extending the limits of variational
    assimilation in nonlinear chaotic systems. Tellus A 48, 96-121.
    """
    v, made, known = cost.control.zero(), 0.0, cost.at_background()
    for count in range(1, len(cost.seen)) if quasi_static else ():
        stage = cost.upto(count)
        found = minimised(
            *(stage.at, stage.step, v),
            at_first=stage.at_background() if count == 1 else None,
            iterations=outer_loops,
            tolerance=max(ROUGH, tolerance),
            inner=cost.control.inner,
        )
        v, made = found.control, made + found.iterations
    if len(cost.seen) > 1 and quasi_static:
        known = cost.at(v)
    last = minimised(
        *(cost.at, cost.step, v),
        at_first=known,
        iterations=outer_loops,
        tolerance=tolerance,
        inner=cost.control.inner,
    )
    return last._replace(iterations=last.iterations + made)
