"""Smoothing: what later observations say of earlier states, carried back in time.

The states of two times one step apart are jointly Gaussian. With the analysis mean m and covariance
P of the earlier one, the forecast m', P' that follows from it, and their covariance C, what is
learned of the later state moves the earlier one by the gain J = C P'^-1:

    smoothed m = m + J (smoothed m' - m')
    smoothed P = P + J (smoothed P' - P') J'

All covariances are products of deviations (row, variable), A of the analysis and F of the forecast
to which each row of A was stepped: P = A'A, C = A'F and P' = F'F + Q. Those of an ensemble are its
members', from their mean.

With K (variable, factor), for which K'P'K = 1 and P'^-1 = K K', a gain is (A'F K) K'. So what is
learned is carried back in the space of factors, where it never grows, whatever the model does; and
with fewer members than variables no matrix (variable, variable) is made.

An analysis is never less certain than its forecast. Where one is wider, because it was inflated or
analysed locally, what is learned would grow with each step back. So C is divided by the factor of
the standard deviation by which the analysis is wider in any direction, and what such a direction
adds to P' does not count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from daml.labels.datasets import DEVIATIONS, MEMBERS

if TYPE_CHECKING:
    from daml.protocols import Scheme

CUT = 1e-12
"""Part of the largest variance: directions in which the forecasts vary less are left out of P'^-1.

Variables are in units of their own deviations there, so that units do not matter."""

OWN = "deviations"
"""A of the analyses, among the parts that wait."""


class Links(NamedTuple):
    """What connects each time with the one before; the leading axes are times and segments.

    With W = K'(smoothed - forecast), what all later times say of a state, W of a time is
    ``moved + back @ W`` of the next one.
    """

    stepped: np.ndarray
    """F K (..., row, factor), divided as C is: with the A of the time before, A' times this is the
    left part of the gain."""
    back: np.ndarray
    """K'A'F K with the K and the A of the time before (..., factor, factor)."""
    moved: np.ndarray
    """K'(analysis - forecast) of this time (..., factor, 1)."""
    changed: np.ndarray
    """K'(P of the analysis - P')K of this time (..., factor, factor), not above 0."""

    def windows(self, count: int, lag: int) -> tuple[np.ndarray, np.ndarray]:
        """Give W and its covariance for the first ``count`` times, from ``lag`` later ones each."""
        learned, spread = (part[lag : lag + count] for part in (self.moved, self.changed))
        for ahead in range(lag - 1, 0, -1):
            here, after = slice(ahead, ahead + count), slice(ahead + 1, ahead + 1 + count)
            learned = self.moved[here] + self.back[after] @ learned
            spread = self.changed[here] + _congruent(self.back[after], spread)
        return learned, spread

    def to_the_end(self) -> tuple[np.ndarray, np.ndarray]:
        """Give W and its covariance for all times but the last, from all later ones each."""
        learned, spread = self.moved[1:].copy(), self.changed[1:].copy()
        for time in range(len(learned) - 2, -1, -1):
            back = self.back[time + 2]
            learned[time] += back @ learned[time + 1]
            spread[time] += _congruent(back, spread[time + 1])
        return learned, spread


def deviations(members: np.ndarray, weight: float) -> np.ndarray:
    """Give the deviations of members (..., member, variable), whose product is their covariance."""
    return np.asarray((members - members.mean(axis=-2, keepdims=True)) * weight**0.5)


def factors(forecast: np.ndarray, error: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Give K (..., variable, factor) of forecasts, and K'P'K (..., factor): 1, or 0 where cut.

    Parameters
    ----------
    forecast : numpy.ndarray (..., row, variable)
        F.
    error : numpy.ndarray (variable, variable) or None
        Q.
    """
    rows, size = forecast.shape[-2:]
    if error is not None or size < rows:
        covariance = _turned(forecast) @ forecast + (0.0 if error is None else error)
        scale = _scale(np.diagonal(covariance, axis1=-2, axis2=-1))[..., None]
        values, vectors = np.linalg.eigh(np.nan_to_num(covariance / (scale * _turned(scale))))
        power = -0.5
    else:
        scale = _scale(np.sum(forecast**2, axis=-2))[..., None]
        turned = _turned(forecast) / scale
        values, vectors = np.linalg.eigh(np.nan_to_num(_turned(turned) @ turned))
        vectors, power = turned @ vectors, -1.0
    kept = values > CUT * values[..., -1:]
    weight = np.where(kept, np.where(kept, values, 1.0) ** power, 0.0)
    return vectors * weight[..., None, :] / scale, kept.astype(float)


class Smoother:
    """Takes a filter's steps, block after block, and gives them when the later ones are known.

    Parameters
    ----------
    scheme : Scheme
        With ``members``, and ``member_weight`` where that is not that of a sample; or one that
        gives its deviations.
    lag : int
        Later steps that each analysis takes account of.
    error : numpy.ndarray (variable, variable), optional
        Q, which the members of a forecast lack.
    keep_members : bool
        Whether members are smoothed, too.

    References
    ----------
    Raanes, P. N. (2016): On the ensemble Rauch-Tung-Striebel smoother and its equivalence to the
    ensemble Kalman smoother. Q. J. R. Meteorol. Soc. 142, 1259-1264. Rauch, H. E., Tung, F. and
    Striebel, C. T. (1965): Maximum likelihood estimates of linear dynamic systems. AIAA J. 3,
    1445-1450.
    """

    def __init__(
        self, scheme: Scheme, lag: int, error: np.ndarray | None, keep_members: bool
    ) -> None:
        members: int | None = getattr(scheme, "members", None)
        self.weight: float | None = None
        if members is not None:
            self.weight = getattr(scheme, "member_weight", 1 / (members - 1))
        self.lag, self.error, self.keep_members = lag, error, keep_members
        self.done = 0
        """Steps that were given."""
        self.waiting: list[dict[str, np.ndarray]] = []
        """Blocks of what is to be given, with their links."""
        self.last: tuple[np.ndarray, np.ndarray] | None = None
        """Of the last time so far A K, and how much its analysis is wider than its forecast."""

    def after(self, parts: dict[str, np.ndarray], valid: np.ndarray) -> dict[str, np.ndarray]:
        """Give the steps that are ready when a block of the next ones is known.

        Parameters
        ----------
        parts : dict of numpy.ndarray (time, segment, ...)
            The block, with members or deviations; what is not smoothed is given back as it is.
        valid : numpy.ndarray (time, segment) of bool
            Whether a step lies within the record; nothing is learned from others.
        """
        links, analysis = self._linked(parts)
        within = (np.where(valid[..., None, None], part, 0.0) for part in links[1:])
        links = Links(links.stepped, *within)
        kept = {**parts, OWN: analysis}
        for name in DEVIATIONS if self.weight is None else () if self.keep_members else MEMBERS:
            del kept[name]
        self.waiting.append(kept | links._asdict())
        count = sum(len(block[OWN]) for block in self.waiting) - self.lag
        if count <= 0:  # blocks are joined only when they are used
            return {name: part[:0] for name, part in parts.items()}
        links = self._joined()
        return self._given(count, links, *links.windows(count, self.lag))

    def rest(self) -> dict[str, np.ndarray]:
        """Give the steps that still wait, when there are no later ones."""
        links = self._joined()
        return self._given(len(links.back), links, *links.to_the_end())

    def _joined(self) -> Links:
        """Make one block of those that wait; give its links."""
        if len(self.waiting) > 1:
            names = self.waiting[0]
            self.waiting = [
                {n: np.concatenate([block[n] for block in self.waiting]) for n in names}
            ]
        return Links(*(self.waiting[0][name] for name in Links._fields))

    def _linked(self, parts: dict[str, np.ndarray]) -> tuple[Links, np.ndarray]:
        """Connect a block of times; give A (time, segment, row, variable) of the analyses, too."""
        if self.weight is None:
            forecast, analysis = (parts[name] for name in DEVIATIONS)
        else:
            forecast, analysis = (deviations(parts[name], self.weight) for name in MEMBERS)
        found, whole = factors(forecast, self.error)
        seen = analysis @ found
        ratio, vectors = np.linalg.eigh(np.nan_to_num(_turned(seen) @ seen))
        here = seen, np.sqrt(np.maximum(ratio[..., -1:, None], 1.0))
        last, self.last = self.last or (here[0][:1], here[1][:1]), (here[0][-1:], here[1][-1:])
        before, widened = (
            np.concatenate((old, own[:-1])) for old, own in zip(last, here, strict=True)
        )
        stepped = forecast @ found / widened
        back = _turned(before) @ stepped
        increment = (parts["analysis"] - parts["background"])[..., None]
        changed = (vectors * np.minimum(ratio, 1.0)[..., None, :]) @ _turned(vectors)
        diagonal = np.arange(changed.shape[-1])
        changed[..., diagonal, diagonal] -= whole
        return Links(stepped, back, _turned(found) @ increment, changed), analysis

    def _given(
        self, count: int, links: Links, learned: np.ndarray, spread: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Take the first steps from those that wait, and smooth them by what is learned."""
        (whole,) = self.waiting
        self.waiting = [{name: part[count:] for name, part in whole.items()}]
        self.done += count
        found = {n: part[:count] for n, part in whole.items() if n not in Links._fields}
        own, to = found.pop(OWN), slice(0, len(learned))
        stepped = links.stepped[1 : 1 + len(learned)]
        left = _turned(own[to]) @ stepped
        mean, variance = found["analysis"].copy(), np.sum(own**2, axis=-2)
        mean[to] += (left @ learned)[..., 0]
        variance[to] += np.sum((left @ spread) * left, axis=-1)
        if self.keep_members and self.weight is not None:
            widths, turns = np.linalg.eigh(np.nan_to_num(stepped @ spread @ _turned(stepped)))
            root = turns * np.sqrt(np.maximum(1 + widths, 0.0))[..., None, :]
            own[to] = root @ (_turned(turns) @ own[to])
            found["analysis_members"] = mean[..., None, :] + own / self.weight**0.5
        return {**found, "analysis": mean, "spread": np.sqrt(np.maximum(variance, 0.0))}


def _scale(variance: np.ndarray) -> np.ndarray:
    """Give standard deviations, 1 where nothing varies."""
    return np.asarray(np.sqrt(np.where(variance > 0, variance, 1.0)))


def _congruent(back: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return np.asarray(back @ matrix @ _turned(back))


def _turned(matrix: np.ndarray) -> np.ndarray:
    return np.swapaxes(matrix, -1, -2)
