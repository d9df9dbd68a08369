"""What a variational scheme varies in a window: its start, and the errors of its steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from daml.arrays import namespace
from daml.covariances.acting import times
from daml.protocols import Covariance, Window


class Root(Protocol):
    """L of a covariance B = L L', as it acts on batches of controls v, the x = L v."""

    @property
    def control(self) -> int:
        """Number of entries of a control v."""
        ...

    def root(self, v: Any) -> Any:
        """Give L v (..., variable) of controls (..., control)."""
        ...

    def rows(self, rows: Any) -> Any:
        """Give L' g (..., row, control) of each row g of (..., row, variable)."""
        ...

    def inner(self, one: Any, other: Any) -> Any:
        """Give the scalar products (...) of controls, in which B is the identity."""
        ...

    def lifted(self, slope: Any) -> Any:
        """Give the control whose scalar products are those of the entries with ``slope``."""
        ...

    def lowered(self, v: Any) -> Any:
        """Give the slope (..., control) of which a control is the ``lifted``."""
        ...


class _Plain:
    """A root whose controls have the scalar products of their entries."""

    def inner(self, one: Any, other: Any) -> Any:
        """Give the scalar products (...) of controls."""
        return namespace(one).vecdot(one, other)

    def lifted(self, slope: Any) -> Any:
        """Give the control whose scalar products are those of the entries with ``slope``."""
        return slope

    def lowered(self, v: Any) -> Any:
        """Give the slope (..., control) of which a control is the ``lifted``."""
        return v


@dataclass(frozen=True, eq=False)
class MatrixRoot(_Plain):
    """A root that is a matrix L (variable, control), or (..., variable, control): one a state."""

    matrix: Any

    @property
    def control(self) -> int:
        """Number of entries of a control v."""
        return int(self.matrix.shape[-1])

    def root(self, v: Any) -> Any:
        """Give L v (..., variable)."""
        if self.matrix.ndim == 2:
            return v @ self.matrix.T
        return (self.matrix @ v[..., None])[..., 0]

    def rows(self, rows: Any) -> Any:
        """Give L' g (..., row, control)."""
        return rows @ self.matrix


@dataclass(frozen=True, eq=False)
class ActingRoot(_Plain):
    """The root of a covariance that is given by its actions."""

    covariance: Covariance

    @property
    def control(self) -> int:
        """Number of entries of a control v."""
        return int(self.covariance.control)

    def root(self, v: Any) -> Any:
        """Give L v (..., variable)."""
        return self.covariance.root(v)

    def rows(self, rows: Any) -> Any:
        """Give L' g (..., row, control)."""
        return self.covariance.root_adjoint(rows)


@dataclass(frozen=True, eq=False)
class ProductRoot:
    """What stands for the root of a B whose products alone are known: no root is made.

    A control v = L' w is represented by w: then L v = B w, the control L' g of a slope g has w = g,
    and v' v = w' B w, so that conjugate gradients need products with B alone (Derber and Rosati
    1989). A control holds w and x = B w side by side, since sums of such pairs are pairs again; one
    iteration then takes one product. The iterations are those with any root of B.

    References
    ----------
    Derber, J. and Rosati, A. (1989): A global oceanic data assimilation system. J. Phys. Oceanogr.
    19, 1333-1347. Gurol, S., Weaver, A. T., Moore, A. M., Piacentini, A., Arango, H. G. and
    Gratton, S. (2014): B-preconditioned minimization algorithms for variational data assimilation
    with the dual formulation. Q. J. R. Meteorol. Soc. 140, 539-556.
    """

    covariance: Any
    size: int
    """Number of variables."""

    @property
    def control(self) -> int:
        """Number of entries of a control."""
        return 2 * self.size

    def root(self, v: Any) -> Any:
        """Give x (..., variable)."""
        return v[..., self.size :]

    def rows(self, rows: Any) -> Any:
        """Give g and B g (..., row, control)."""
        return namespace(rows).concat((rows, times(self.covariance, rows)), axis=-1)

    def inner(self, one: Any, other: Any) -> Any:
        """Give w' B w (...) of the w of two controls."""
        return namespace(one).vecdot(one[..., : self.size], other[..., self.size :])

    def lifted(self, slope: Any) -> Any:
        """Give the control whose scalar products are those of the x with ``slope``."""
        return self.rows(slope[..., None, self.size :])[..., 0, :]

    def lowered(self, v: Any) -> Any:
        """Give the slope (..., control) by the x of which a control is the ``lifted``."""
        w = v[..., : self.size]
        return namespace(v).concat((0 * w, w), axis=-1)


def root_of(covariance: Any, size: int) -> ActingRoot | ProductRoot:
    """Give the root of a B by its actions, or what stands for it."""
    acting = hasattr(covariance, "root")
    return ActingRoot(covariance) if acting else ProductRoot(covariance, size)


class Control(NamedTuple):
    """How a control v (..., control) becomes the start of a window and the errors of its steps.

    The start is xb + L v_0; with a model error Q = T T' the error after step k is q_k + T v_k. The
    errors q_k and the start xb are those of the background.
    """

    start: Any
    """xb (..., variable)."""
    root: Root
    """L."""
    errors: tuple[Any, ...] = ()
    """q_k (..., variable) for each step; nothing for a model without errors."""
    error_root: Any = None
    """T, symmetric: (variable, variable), or its diagonal (variable,)."""

    @classmethod
    def of(cls, window: Window, root: Root, error_root: Any = None) -> Control:
        """Give the control of a window; of the start alone without an ``error_root``."""
        errors = () if error_root is None else window.errors
        return cls(window.state, root, errors, error_root)

    def zero(self) -> Any:
        """Give the control of the background."""
        xp, size = namespace(self.start), self.start.shape[-1]
        shape = (*self.start.shape[:-1], self.root.control + len(self.errors) * size)
        return xp.zeros(shape, dtype=self.start.dtype, device=self.start.device)

    def moved(self, v: Any) -> tuple[Any, tuple[Any, ...] | None]:
        """Give the start and the errors of a control; None where the model has no errors."""
        start, errors = self.changes(v)
        if errors is None:
            return self.start + start, None
        return self.start + start, tuple(q + e for q, e in zip(self.errors, errors, strict=True))

    def changes(self, v: Any) -> tuple[Any, tuple[Any, ...] | None]:
        """Give L v_0 and T v_k, by which a control moves the start and the errors."""
        first, size = self.root.control, self.start.shape[-1]
        start = self.root.root(v[..., :first])
        if not self.errors:
            return start, None
        firsts = range(first, v.shape[-1], size)
        return start, tuple(self._error(v[..., place : place + size]) for place in firsts)

    def inner(self, one: Any, other: Any) -> Any:
        """Give the scalar products (...) of controls: v' v is how far v is from the background."""
        if not self.errors:
            return self.root.inner(one, other)
        first = self.root.control
        of_start = self.root.inner(one[..., :first], other[..., :first])
        return of_start + namespace(one).vecdot(one[..., first:], other[..., first:])

    def lifted(self, slope: Any) -> Any:
        """Give the control whose scalar products are those of the entries with ``slope``."""
        return self._with_start(slope, self.root.lifted)

    def lowered(self, v: Any) -> Any:
        """Give the slope (..., control) of which a control is the ``lifted``."""
        return self._with_start(v, self.root.lowered)

    def _with_start(self, v: Any, made: Callable[[Any], Any]) -> Any:
        """Give a control with another part for the start."""
        if not self.errors:
            return made(v)
        first = self.root.control
        return namespace(v).concat((made(v[..., :first]), v[..., first:]), axis=-1)

    def adjoint(self, start: Any, errors: Sequence[Any]) -> Any:
        """Give the gradient by the control (..., control) of those by the start and the errors."""
        found = [self.root.rows(start[..., None, :])[..., 0, :]]
        found += [self._error(part) for part in errors]  # T is symmetric
        return found[0] if len(found) == 1 else namespace(start).concat(found, axis=-1)

    def rows(self, by_start: Any, by_errors: Sequence[Any]) -> Any:
        """Give the derivative by the control (..., row, control).

        Parameters
        ----------
        by_start : array (..., row, variable)
            The derivative by the start.
        by_errors : sequence of array (..., row, variable)
            That by the error of each step, of the last rows: the rows before do not depend on it.
        """
        xp = namespace(by_start)
        found = [self.root.rows(by_start)]
        for part in by_errors if self.errors else ():
            head = xp.zeros_like(by_start[..., : by_start.shape[-2] - part.shape[-2], :])
            found.append(xp.concat((head, self._error(part)), axis=-2))
        return found[0] if len(found) == 1 else xp.concat(found, axis=-1)

    def _error(self, v: Any) -> Any:
        root = self.error_root
        return v * root if root.ndim == 1 else v @ root
