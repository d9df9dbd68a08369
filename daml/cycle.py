"""The loop: assimilate, fit, replace the model, repeat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import xarray as xr
from tqdm.auto import tqdm

from daml import __version__
from daml.arguments import check_fields, checked
from daml.emulators import LSTM
from daml.emulators.bases import check_differentiable
from daml.errors import DivergedError, InputError
from daml.heldout import chosen, settled
from daml.judging import SQUARES
from daml.keeping import Keeper, fingerprint
from daml.labels import describe
from daml.opening import loaded
from daml.pairing import check_loop
from daml.passes import TRAININGS, Assimilator, Pass, restored
from daml.protocols import Emulator, Model, Scheme
from daml.schemes import ThreeDVar
from daml.store import Store

MOST = 30
"""Passes of a loop that ends by itself, at most."""


@dataclass(frozen=True)
class Cycle:
    """The loop of Goodliff and Miyoshi (2025): each pass trains on the analyses before it.

    Parameters
    ----------
    model : Model
        The imperfect model to start from.
    scheme : Scheme
        Gives the analyses. What it leaves open is estimated: the "climatological" B once, for the
        model given, that from "innovations" anew in each pass.
    emulator : Emulator
        What is trained and replaces the model; not fitted.
    training : {"analyses", "cycle"}
        On the analyses of the pass before, as in the paper; or, after a short training on those,
        through the assimilation cycle on the innovations (:meth:`daml.LSTM.fit_cycle`), with
        which one pass does.
    passes : int or "auto"
        LSTM-0 to LSTM-(passes - 1), each with its own assimilation. "auto": until three passes
        brought no significant gain on the held-out observations, 30 at most; through the cycle
        one, as its training itself ends by them.
    warm_start : bool
        Each training goes on from the weights before, or starts afresh.
    held_out : float
        Part of the record, in blocks of time, that is assimilated but not trained on: it
        estimates B, judges each pass and chooses one. 0: none.

    Raises
    ------
    InputError
        If an argument is out of range or the emulator is none.

    References
    ----------
    Goodliff, M. and Miyoshi, T. (2025): Using data assimilation to improve data-driven models.
    EGUsphere, egusphere-2025-933.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> truth = daml.simulate(daml.CoupledLorenz63(), steps=1000, spinup=500)
    >>> observations = daml.observe(truth, variables=["x0", "x1", "x2"])
    >>> scheme = daml.ThreeDVar(daml.climatological(truth, max_variance=2))
    >>> cycle = daml.Cycle(model, scheme, daml.LSTM(hidden=8, epochs=1), passes=2)
    >>> sorted(cycle.run(observations)["iteration"].children)
    ['0000', '0001']
    """

    model: Model
    scheme: Scheme
    emulator: Emulator
    passes: int | str = 30
    warm_start: bool = True
    held_out: float = 0.1
    training: str = "analyses"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.passes != "auto" and (isinstance(self.passes, str) or self.passes < 1):
            raise InputError(f"Cycle: 'passes' is {self.passes!r}; give 1 or more, or 'auto'")
        if self.passes == "auto" and not self.held_out:
            raise InputError("Cycle: passes='auto' judges by what is held out; give held_out > 0")
        for needed in ("fit", "to_dataset"):
            if not hasattr(self.emulator, needed):
                raise InputError(
                    f"Cycle: {type(self.emulator).__name__} is no emulator: it has no {needed!r}"
                )
        if self.training not in TRAININGS:
            raise InputError(f"Cycle: 'training' is {self.training!r}; give one of {TRAININGS}")
        if self.training == "cycle" and not hasattr(self.emulator, "fit_cycle"):
            raise InputError(
                f"Cycle: a {type(self.emulator).__name__} cannot be trained through the cycle: it "
                "has no 'fit_cycle'; give training='analyses'"
            )
        base = getattr(self.emulator, "base", None)
        if self.training == "cycle" and base is not None:
            check_differentiable(base)
        asks = isinstance(self.scheme, ThreeDVar) and self.scheme.asks_model
        knows = self.training == "cycle" and getattr(self.emulator, "covariance", "") is not None
        if asks and not knows:
            raise InputError(
                "Cycle: ThreeDVar('model') asks an emulator for B that learns none; give "
                "training='cycle' and LSTM(covariance='predicted'), or ThreeDVar('innovations')"
            )

    def iterate(
        self, observations: xr.Dataset, after: Pass | None = None, store: Store | None = None
    ) -> Iterator[Pass]:
        """Yield the imperfect model's pass, then LSTM-0, LSTM-1, ... as they are done.

        Parameters
        ----------
        observations : xarray.Dataset
            As the contract says.
        after : Pass, optional
            The last pass that is done already: go on with the next.
        store : Store, optional
            Keeps how far a training is.

        Raises
        ------
        InputError
            If the observations break the contract.
        DivergedError
            If a training or a cycle leaves the finite numbers; it names the pass.
        """
        check_loop(self.model, self.scheme, observations)
        settings = self.scheme, self.held_out, self.training
        make = Assimilator.of(self.model, observations, *settings)
        done = make.first(self.model) if after is None else after
        if after is None:
            yield done
        for iteration in range(done.iteration + 1, self.most):
            if self.passes == "auto" and done.errors is not None and settled(done.errors):
                return
            warm = self.warm_start and done.iteration >= 0
            start = cast("Emulator", done.model) if warm else self.emulator
            try:
                emulator = make.trained(start, done, store)
                done = make.after(done, emulator)
            except DivergedError as error:
                raise DivergedError(f"pass {iteration}: {error}") from error
            yield done

    @property
    def most(self) -> int:
        """How many passes there are at most."""
        if isinstance(self.passes, str):
            return MOST if self.training == "analyses" else 1
        return self.passes

    @checked
    def run(
        self,
        observations: xr.Dataset,
        store: str | Path | None = None,
        *,
        overwrite: bool = False,
        resume: bool = False,
    ) -> xr.DataTree:
        """Run the loop and collect its passes.

        Parameters
        ----------
        observations : xarray.Dataset
            As the contract says.
        store : str or path, optional
            A Zarr store that takes each pass as it is done; in memory, unless given.
        overwrite : bool
            Whether a store of daml's that exists may go.
        resume : bool
            Go on with a store where an equal run was interrupted: after its last whole pass, and
            in the middle of a training. The result is that of a run in one go, bit for bit.

        Returns
        -------
        xarray.DataTree
            ``/observations``, ``/imperfect``, ``/iteration/0000``, ...; opened lazily from the
            store where there is one.

        Raises
        ------
        InputError, DivergedError, StoreError
            The finished passes stay readable in the store.
        """
        check_loop(self.model, self.scheme, observations)
        attrs = self.attrs() | {"observations_sha256": fingerprint(observations)}
        keep = Keeper(store, attrs, overwrite=overwrite, resume=resume)
        with keep.open(), tqdm(total=self.most, desc="improve", unit="pass", disable=None) as bar:
            last = done = self.last(keep.begun)
            bar.update(0 if last is None else last.iteration + 1)
            for done in self.iterate(observations, last, keep.store):
                given = {"observations": observations} if done.iteration < 0 else {}
                keep(given | done.datasets())
                bar.update(done.iteration >= 0)
                if done.iteration >= 0:
                    bar.set_postfix(done.told())
            self.conclude(done, keep)
        return keep.tree()

    def conclude(self, last: Pass | None, keep: Keeper) -> None:
        """Say which pass is the best by what was held out, after the last one."""
        if last is not None and last.errors is not None:
            imperfect = loaded(keep.tree(), "imperfect/scores")[SQUARES]
            keep.tell(chosen(last.errors, imperfect))

    def last(self, tree: xr.DataTree | None) -> Pass | None:
        """Give the last pass of an experiment, to go on after it; None where there is none.

        Raises
        ------
        InputError
            If the emulator cannot be restored.
        """
        if tree is None:
            return None
        return restored(tree, self.model, self.scheme, self.emulator)

    def attrs(self) -> dict[str, object]:
        """Give the whole configuration, for an experiment's attrs."""
        return {
            "daml_version": __version__,
            "model": str(describe(self.model)),
            "scheme": str(describe(self.scheme)),
            "emulator": str(describe(self.emulator)),
            "passes": self.passes,
            "warm_start": int(self.warm_start),
            "held_out": self.held_out,
            "training": self.training,
        }


@checked
def improve(
    model: Model,
    observations: xr.Dataset,
    scheme: Scheme | None = None,
    emulator: Emulator | None = None,
    *,
    passes: int | str = "auto",
    warm_start: bool = True,
    held_out: float = 0.1,
    training: str = "analyses",
    store: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> xr.DataTree:
    """Improve a data-driven model with observations: the one-line form of :class:`Cycle`.

    Parameters
    ----------
    model, passes, warm_start, held_out, training
        As of :class:`Cycle`.
    observations : xarray.Dataset
        As the contract says.
    scheme : Scheme, optional
        ``ThreeDVar("innovations")``, unless given; "model" where the training is by the "cycle".
    emulator : Emulator, optional
        ``LSTM(base=model)``, which corrects the model's step, unless given; by the "cycle" with
        ``covariance="predicted"``.
    store, overwrite, resume
        As of :meth:`Cycle.run`.

    Returns
    -------
    xarray.DataTree
        As :meth:`Cycle.run` gives. Its attrs say which pass was ``chosen`` and why;
        ``load_emulator(tree)`` gives that one.

    Raises
    ------
    InputError, DivergedError, StoreError
        As :meth:`Cycle.run`.

    Examples
    --------
    >>> import daml
    >>> truth = daml.simulate(daml.Lorenz63(), steps=1000, spinup=500)
    >>> tree = daml.improve(
    ...     daml.Lorenz63(), daml.observe(truth), emulator=daml.LSTM(hidden=4, epochs=1), passes=1
    ... )
    >>> daml.load_emulator(tree).variables
    ('x0', 'x1', 'x2')
    """
    through = training == "cycle"
    if emulator is None:
        emulator = LSTM(base=model, covariance="predicted" if through else None)
    if scheme is None:
        knows = through and getattr(emulator, "covariance", None) is not None
        scheme = ThreeDVar("model" if knows else "innovations")
    cycle = Cycle(model, scheme, emulator, passes, warm_start, held_out, training)
    return cycle.run(observations, store, overwrite=overwrite, resume=resume)
