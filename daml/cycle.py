"""The loop: assimilate, fit, replace the model, repeat."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import xarray as xr
from tqdm.auto import tqdm

from daml import __version__
from daml.assimilation import assimilate
from daml.errors import DivergedError, InputError
from daml.keeping import Keeper, TrainingCheckpoint, fingerprint
from daml.labels import describe
from daml.opening import loaded
from daml.protocols import Emulator, Model, Scheme
from daml.store import Store
from daml.verification import innovation_statistics


@dataclass(frozen=True)
class Pass:
    """One pass: a model, the analysis that it gives, and how it was trained."""

    iteration: int
    """0 for LSTM-0; -1 for the imperfect model, which nothing was trained for."""
    model: Model
    analysis: xr.Dataset

    @property
    def group(self) -> str:
        """Where it lives in an experiment."""
        return "imperfect" if self.iteration < 0 else f"iteration/{self.iteration:04d}"

    def datasets(self) -> dict[str, xr.Dataset]:
        """Give what is kept of the pass, by group."""
        kept = {self.group: self.analysis}
        kept[f"{self.group}/scores"] = innovation_statistics(self.analysis)
        if self.iteration >= 0:
            kept[f"{self.group}/emulator"] = cast("Emulator", self.model).to_dataset()
            history = getattr(self.model, "history", None)
            if history is not None:
                kept[f"{self.group}/training"] = history
        return kept


@dataclass(frozen=True)
class Cycle:
    """The loop of Goodliff and Miyoshi (2025): each pass trains on the analyses before it.

    Parameters
    ----------
    model : Model
        The imperfect model to start from.
    scheme : Scheme
        Gives the analyses, the same in all passes.
    emulator : Emulator
        What is trained and replaces the model; not fitted.
    passes : int
        LSTM-0 to LSTM-(passes - 1), each with its own assimilation.
    warm_start : bool
        Each training goes on from the weights before, or starts afresh.

    Raises
    ------
    InputError
        If passes < 1 or the emulator is none.

    References
    ----------
    Goodliff, M. and Miyoshi, T. (2025): Using data assimilation to improve data-driven models.
    EGUsphere, egusphere-2025-933.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> truth = daml.simulate(daml.CoupledLorenz63(), steps=500, spinup=500)
    >>> observations = daml.observe(truth, variables=["x0", "x1", "x2"])
    >>> scheme = daml.ThreeDVar(daml.climatological(truth, max_variance=2))
    >>> cycle = daml.Cycle(model, scheme, daml.LSTM(hidden=8, epochs=1), passes=2)
    >>> sorted(cycle.run(observations)["iteration"].children)
    ['0000', '0001']
    """

    model: Model
    scheme: Scheme
    emulator: Emulator
    passes: int = 30
    warm_start: bool = True

    def __post_init__(self) -> None:
        if self.passes < 1:
            raise InputError(f"Cycle: 'passes' is {self.passes}; give 1 or more")
        for needed in ("fit", "to_dataset"):
            if not hasattr(self.emulator, needed):
                raise InputError(
                    f"Cycle: {type(self.emulator).__name__} is no emulator: it has no {needed!r}"
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
        done = after
        if done is None:
            done = Pass(-1, self.model, assimilate(self.model, observations, self.scheme).load())
            yield done
        for iteration in range(done.iteration + 1, self.passes):
            warm = self.warm_start and done.iteration >= 0
            start = cast("Emulator", done.model) if warm else self.emulator
            try:
                emulator = _fit(start, done.analysis, iteration, store)
                analysis = assimilate(emulator, observations, self.scheme).load()
            except DivergedError as error:
                raise DivergedError(f"pass {iteration}: {error}") from error
            done = Pass(iteration, emulator, analysis)
            yield done

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
        attrs = self.attrs() | {"observations_sha256": fingerprint(observations)}
        keep = Keeper(store, attrs, overwrite=overwrite, resume=resume)
        with keep.open(), tqdm(total=self.passes, desc="improve", unit="pass", disable=None) as bar:
            last = self.last(keep.begun)
            bar.update(0 if last is None else last.iteration + 1)
            for done in self.iterate(observations, last, keep.store):
                given = {"observations": observations} if done.iteration < 0 else {}
                keep(given | done.datasets())
                bar.update(done.iteration >= 0)
                history = getattr(done.model, "history", None)
                if history is not None:
                    bar.set_postfix(loss=f"{float(history.loss[-1]):.4f}")
        return keep.tree()

    def last(self, tree: xr.DataTree | None) -> Pass | None:
        """Give the last pass of an experiment, to go on after it; None where there is none.

        Raises
        ------
        InputError
            If the emulator cannot be restored.
        """
        if tree is None or "imperfect" not in tree.children:
            return None
        passes = sorted(tree["iteration"].children) if "iteration" in tree.children else []
        whole = ("background", "analysis")
        if not passes:
            return Pass(-1, self.model, loaded(tree, "imperfect", whole))
        if not hasattr(self.emulator, "restored"):
            raise InputError(
                f"Cycle: a {type(self.emulator).__name__} cannot be resumed: it has no 'restored'"
            )
        group = f"iteration/{passes[-1]}"
        emulator = self.emulator.restored(loaded(tree, f"{group}/emulator", inherit=True))
        return Pass(int(passes[-1]), emulator, loaded(tree, group, whole))

    def attrs(self) -> dict[str, object]:
        """Give the whole configuration, for an experiment's attrs."""
        return {
            "daml_version": __version__,
            "model": str(describe(self.model)),
            "scheme": str(describe(self.scheme)),
            "emulator": str(describe(self.emulator)),
            "passes": self.passes,
            "warm_start": int(self.warm_start),
        }


def _fit(emulator: Emulator, analysis: xr.Dataset, iteration: int, store: Store | None) -> Emulator:
    """Fit an emulator, with a checkpoint where there is a store and the emulator takes one."""
    if store is None or "checkpoint" not in inspect.signature(emulator.fit).parameters:
        return emulator.fit(analysis)
    checkpoint = TrainingCheckpoint(store, iteration)
    return emulator.fit(analysis, checkpoint)  # type: ignore[call-arg]


def improve(
    model: Model,
    observations: xr.Dataset,
    scheme: Scheme,
    emulator: Emulator,
    *,
    passes: int = 30,
    warm_start: bool = True,
    store: str | Path | None = None,
    resume: bool = False,
) -> xr.DataTree:
    """Improve a data-driven model with observations: the one-line form of :class:`Cycle`.

    Parameters
    ----------
    model, scheme, emulator, passes, warm_start
        As of :class:`Cycle`.
    observations : xarray.Dataset
        As the contract says.
    store : str or path, optional
        A new Zarr store for the passes.
    resume : bool
        Go on with a store where an equal run was interrupted.

    Returns
    -------
    xarray.DataTree
        As :meth:`Cycle.run` gives.

    Raises
    ------
    InputError, DivergedError, StoreError
        As :meth:`Cycle.run`.

    Examples
    --------
    >>> import daml
    >>> truth = daml.simulate(daml.Lorenz63(), steps=300, spinup=500)
    >>> scheme = daml.ThreeDVar(daml.climatological(truth, max_variance=2))
    >>> tree = daml.improve(
    ...     daml.Lorenz63(), daml.observe(truth), scheme, daml.LSTM(hidden=4, epochs=1), passes=1
    ... )
    >>> daml.load_emulator(tree).variables
    ('x0', 'x1', 'x2')
    """
    cycle = Cycle(model, scheme, emulator, passes, warm_start)
    return cycle.run(observations, store, resume=resume)
