"""What schemes share that localise the covariance of an ensemble between places of variables."""

from __future__ import annotations

from typing import Any

from daml.arrays import alike
from daml.errors import InputError
from daml.observing.operators import check_tangent
from daml.protocols import Setting
from daml.schemes.ensembles.localisation import correlations


class Localised:
    """A scheme with a ``radius``, which may be None."""

    radius: float | None

    @property
    def needs(self) -> frozenset[str]:
        """What is required of the model; see :class:`daml.protocols.Scheme`."""
        return frozenset() if self.radius is None else frozenset({"positions"})

    @property
    def carries(self) -> bool:
        """Whether what members carry moves with them: not if weights differ from place to place."""
        return self.radius is None

    def check_radius(self) -> None:
        """Refuse a radius that is no length."""
        if self.radius is not None and not self.radius > 0:
            raise InputError(
                f"{type(self).__name__}: 'radius' is {self.radius}; give a length > 0, in the unit "
                "of the model's positions, or None for no localisation"
            )

    def tapers(self, setting: Setting, *, seen: bool = False) -> Any:
        """Give the correlations (variable, variable) of the localisation; None without.

        ``seen`` says that there is a covariance, besides that of the members, which H sees.

        Raises
        ------
        InputError
            If there are no positions, or H is not linear and torch cannot differentiate it.
        """
        found = None
        if self.radius is not None:
            found = correlations(setting, self.radius, type(self).__name__)
            found = alike(found, setting.noise.variance)
        if seen or found is not None:
            check_tangent(setting.operator, len(setting.variables))
        return found
