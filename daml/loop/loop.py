"""The loop: assimilate, train an emulator, put it in the model's place, repeat."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import cast

import xarray as xr

from daml import __version__
from daml.errors import DivergedError, InputError, warn
from daml.labels.arguments import check_fields, checked
from daml.labels.datasets import first_time
from daml.labels.descriptions import description
from daml.labels.doors import flat_record
from daml.labels.forcings import Forcings
from daml.labels.ranges import whole
from daml.loop.assimilator import Assimilator
from daml.loop.choosing import chosen, settled, too_short
from daml.loop.defaults import emulator_for, scheme_for
from daml.loop.judging import SQUARES
from daml.loop.known_inputs import forcings_of
from daml.loop.passes import (
    Pass,
    Scored,
    check_passes,
    given_to,
    reported,
    restored,
)
from daml.loop.preconditions import check_emulator, check_loop, check_targets
from daml.models.forced import lent
from daml.observing.functions import Given, Through, seen_through
from daml.progress import Progress
from daml.protocols import Emulator, Model, Scheme
from daml.running.checks import check_model, typical
from daml.stores.attributes import asked
from daml.stores.keeper import Keeper, check_given, fingerprint, keeper
from daml.stores.opening import loaded
from daml.stores.store import Store
from daml.training.held_out import HeldOut, fraction

MOST = 30
"""Maximum number of passes with ``passes="auto"``."""


@dataclass(frozen=True)
class Loop:
    """The loop of Goodliff and Miyoshi (2025): each pass trains on the previous analyses.

    Parameters
    ----------
    model : Model
        The imperfect model to start from.
    scheme : Scheme
        Computes the analyses. What it leaves open (:class:`daml.protocols.Tunable`) is tuned for
        each model by its innovations. For a :class:`daml.ThreeDVar` this is B if it is
        "innovations"; if "climatological", B is estimated once, for the model given.
    emulator : Emulator
        The emulator, not fitted yet, that is trained and replaces the model.
    training : {"analyses", "cycle"}
        "analyses" trains on the analyses of the previous pass, as in the paper. "cycle" trains
        through the assimilation cycle on the innovations (:meth:`daml.LSTM.fit_cycle`). It starts
        from the mean increment if the emulator has a base, otherwise from a training on analyses;
        one pass is enough. A :class:`daml.emulators.Augmented` takes "cycle" alone.
    passes : int or "auto"
        Number of passes, each of which trains one emulator and assimilates with it. Reports call
        the emulators by their class, for example LSTM-0 to LSTM-(passes - 1). "auto" stops when
        three passes gained nothing significant on the held-out observations, and after at most 30
        passes; with ``training="cycle"`` it makes one pass, as the training itself stops by the
        held-out observations.
    warm_start : bool
        Whether each training starts from the weights of the previous pass.
    held_out : float
        Fraction of the record, in blocks of time or in whole trajectories where these are short,
        that is assimilated but not trained on. It is used to estimate the B of an emulator, to end
        each training, to score each pass and to choose one, or the model given where no pass
        is significantly better. 0 holds nothing out.
    targets : {"analyses", "smoothed"}
        Whether an emulator is trained on the analyses themselves, or on the same record smoothed
        (:func:`daml.smooth`), which needs a scheme that carries a covariance, such as an ensemble.
        Passes are judged by the analyses in both cases.
    lag : int, optional
        Model steps of later observations in a smoothed record; default: all that follow.
    operator : callable, optional
        H as a function of states (..., variable) of the model to what is observed (..., observed),
        linear or not, in place of the ``operator`` of the observations.
    forcings : xarray.Dataset, optional
        Known inputs in time, a data variable (time, ...) for each: the model takes those that it
        names as its ``forcings`` (:func:`daml.models.forced`), and emulators are given all.

    Raises
    ------
    InputError
        If an argument is out of range, or the emulator cannot be trained.

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
    >>> loop = daml.Loop(model, scheme, daml.LSTM(hidden=8, epochs=1), passes=2)
    >>> sorted(loop.run(observations)["iteration"].children)
    ['0000', '0001']
    """

    model: Model
    scheme: Scheme
    emulator: Emulator
    passes: int | str = 30
    warm_start: bool = True
    held_out: float = 0.1
    training: str = "analyses"
    targets: str = "analyses"
    lag: int | None = None
    operator: Given | None = None
    forcings: xr.Dataset | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.passes != "auto":
            passes = whole(self.passes, "Loop: 'passes'", also=", or 'auto'")
            object.__setattr__(self, "passes", passes)
        object.__setattr__(self, "held_out", fraction(self.held_out))
        if self.passes == "auto" and not self.held_out:
            raise InputError("Loop: passes='auto' needs held-out observations; give held_out > 0")
        check_emulator(self.emulator, self.training, self.scheme, self._table)
        check_targets(self.targets, self.lag, self.training, self.scheme)

    def iterate(
        self, observations: xr.Dataset, after: Pass | None = None, store: Store | None = None
    ) -> Iterator[Pass]:
        """Yield the pass of the imperfect model, then that of each emulator when it is done.

        Parameters
        ----------
        observations : xarray.Dataset
            ``observation`` (time, variable) and its ``error_variance`` (variable).
        after : Pass, optional
            The last pass that was made before; the passes after it are yielded.
        store : Store, optional
            Receives checkpoints of the trainings.

        Raises
        ------
        InputError
            If the observations lack a variable or have wrong dims or values, or a method of the
            emulator raises; the message names the pass.
        DivergedError
            If a training or an assimilation gives numbers that are not finite; the message names
            the pass.
        """
        observations, function = self._seen(observations)
        check_loop(lent(self.model, self._table), self.scheme, observations, function)
        settings = self.scheme, self.emulator, self.held_out, self.training
        targets = self.targets == "smoothed", self.lag
        further = self.forcings, self._table
        make = Assimilator.of(self.model, observations, *settings, *targets, function, *further)
        done = make.first(self.model) if after is None else make.resumed(after, self.model)
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
            except (DivergedError, InputError) as error:
                kind = DivergedError if isinstance(error, DivergedError) else InputError
                raise kind(f"pass {iteration}: {error}") from error.__cause__ or error
            yield done

    @cached_property
    def _table(self) -> Forcings | None:
        """The forcings, read once."""
        return forcings_of(self.model, self.emulator, self.forcings)

    def _seen(self, observations: xr.Dataset) -> tuple[xr.Dataset, Through | None]:
        """Give the observations with H as a matrix, if it is one; else H beside them."""
        observations = flat_record(observations, self.model)
        if self.operator is None:
            return observations, None
        check_model(lent(self.model, self._table), first_time(observations))
        given = tuple(self.model.variables), typical(self.model), "improve"
        seen, function = seen_through(observations, self.operator, *given)
        learns = self.training == "cycle" and getattr(self.emulator, "covariance", None) is not None
        if function is not None and learns:
            raise InputError(
                "improve: the emulator learns B through a matrix H, and 'operator' is not linear; "
                "give an emulator with covariance=None, e.g. daml.LSTM(base=model)"
            )
        return seen, function

    @property
    def most(self) -> int:
        """Maximum number of passes."""
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
        """Run the loop and return all of its passes.

        Parameters
        ----------
        observations : xarray.Dataset
            ``observation`` (time, variable) and its ``error_variance`` (variable).
        store : str or path, optional
            Zarr store to which each pass is written when it is done; default: in memory.
        overwrite : bool
            Whether to replace an existing store, if daml wrote it.
        resume : bool
            Whether to resume the run in the store, after its last complete pass or in the middle
            of a training. The configuration must be the same, except for ``passes``: it may be
            raised, or lowered to the number of passes that were made. The result equals that of a
            run in one go, bit for bit.

        Returns
        -------
        xarray.DataTree
            ``/observations``, ``/imperfect``, ``/iteration/0000``, ...; opened lazily from the
            store, if one is given.

        Raises
        ------
        InputError, DivergedError, StoreError
            If an argument is wrong, a pass gives numbers that are not finite, or the store cannot
            be read or written. Passes in the store stay readable.
        """
        check_given(store, given_to(observations, self.scheme), resume)
        observations, function = self._seen(observations)
        check_loop(lent(self.model, self._table), self.scheme, observations, function)
        attrs = self.attrs(exact=store is not None)
        attrs |= {"observations_sha256": fingerprint(observations)}
        if self.forcings is not None:
            attrs |= {"forcings_sha256": fingerprint(self.forcings)}
        if function is not None:
            exact = store is not None
            attrs |= {"operator": description(function, "operator", exact=exact)}
        keep = keeper(store, attrs, overwrite=overwrite, resume=resume, may_change=("passes",))

        def scored(done: Pass, seconds: float, progress: Progress) -> Scored:
            given = {"observations": observations} if done.iteration < 0 else {}
            return Scored(given | done.datasets(), done.summary())

        with keep.open():
            self.go_through(observations, keep, "improve", scored)
        return keep.tree()

    def go_through(
        self,
        observations: xr.Dataset,
        keep: Keeper,
        title: str,
        scored: Callable[[Pass, float, Progress], Scored],
    ) -> None:
        """Make the passes that remain, and keep each with its scores when it is done.

        Parameters
        ----------
        observations : xarray.Dataset
        keep : Keeper
            Where the passes are kept; it is open.
        title : str
            The title of the progress report.
        scored : callable
            Called with a pass, the seconds that it took and the progress report; gives the
            Datasets to keep and the scores to report.
        """
        last = done = self.last(keep)
        with reported(title, self.most, last, self.passes == "auto") as progress:
            start = time.perf_counter()
            for done in self.iterate(observations, last, keep.store):
                kept, summary = scored(done, time.perf_counter() - start, progress)
                keep(kept)
                done.report(progress, summary)
                start = time.perf_counter()
        self.conclude(done, keep)

    def conclude(self, last: Pass | None, keep: Keeper) -> None:
        """Choose a pass or the model given, by the held-out observations, after the last pass.

        Warns
        -----
        UserWarning
            If no pass is significantly better than the model given.
        """
        if last is None or last.errors is None:
            return
        given = loaded(keep.tree(), "imperfect/scores", needed=(SQUARES,))[SQUARES]
        name = type(last.model).__name__
        choice = chosen(last.errors, given, name)
        keep.tell(choice)
        if choice["chosen"] == "given":
            held_out = HeldOut.of(last.analysis, self.held_out)
            advice = too_short(last.errors, held_out) or (
                "try a longer record, or training='cycle'"
                if self.training == "analyses"
                else "try a longer record"
            )
            warn(
                "improve: no pass is significantly better than the model given, which is "
                f"therefore chosen ({choice['chosen_because']}); {advice}; load_emulator(..., "
                f"iteration=n) still loads {name}-n",
            )

    def last(self, keep: Keeper) -> Pass | None:
        """Give the last pass of the run that is resumed; None for a new run.

        Raises
        ------
        InputError
            If the emulator or the scheme cannot be restored, or the store holds more passes than
            the run would make.
        """
        if keep.begun is None:
            return None
        done = restored(keep.begun, self.model, self.scheme, self.emulator)
        if asked(keep.begun) != self.passes:
            check_passes(done, self.passes, self.most)
            keep.tell({"passes": self.passes})
        return done

    def attrs(self, exact: bool = True) -> dict[str, object]:
        """Give the whole configuration.

        If ``exact``, a part that cannot be described raises `InputError`; otherwise its type
        stands in its place.
        """
        parts = {"model": self.model, "scheme": self.scheme, "emulator": self.emulator}
        descriptions = {name: description(part, name, exact=exact) for name, part in parts.items()}
        return {
            "daml_version": __version__,
            **descriptions,
            "passes": self.passes,
            "warm_start": int(self.warm_start),
            "held_out": self.held_out,
            "training": self.training,
            **self._smoothing(),
        }

    def _smoothing(self) -> dict[str, object]:
        """Give what the configuration says of smoothed targets, if there are any.

        The training has another name then: a run on analyses does not go on with it.
        """
        if self.targets == "analyses":
            return {}
        lag = "all" if self.lag is None else self.lag
        return {"training": "smoothed analyses", "targets": self.targets, "lag": lag}


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
    targets: str = "analyses",
    lag: int | None = None,
    operator: Given | None = None,
    forcings: xr.Dataset | None = None,
    store: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> xr.DataTree:
    """Improve a model with observations.

    It assimilates the observations with the model, trains an emulator on the analyses, assimilates
    with the emulator in the model's place, trains again, and so on; then it chooses the pass that
    forecasts held-out observations best, or the model given. It is the one-line form of
    :class:`daml.Loop`.

    Parameters
    ----------
    model : Model
        The imperfect model to start from (:class:`daml.protocols.Model`).
    observations : xarray.Dataset
        ``observation`` (time, variable), NaN where a value is missing, and its ``error_variance``
        (variable) or (time, variable), or ``error_covariance`` (variable, covariable). ``operator``
        (variable, model_variable) is H if the model's variables are not observed directly. With a
        dimension ``trajectory``, each trajectory starts afresh, and analyses have it, too.
    scheme : Scheme, optional
        Computes the analyses; what it leaves open, such as B, is tuned for each model. Default:
        ``ThreeDVar("innovations")``; with ``training="cycle"``, ``ThreeDVar("model")`` if the
        emulator learns a covariance, and ``SigmaPoint(model_error="innovations")`` if it is an
        :class:`daml.emulators.Augmented`.
    emulator : Emulator, optional
        The emulator, not fitted yet, that is trained and takes the model's place. Default:
        ``LSTM(base=model)``, which corrects the model's step. With ``training="cycle"``,
        ``Augmented(base=model)``, which adds hidden variables to the state, if the model has up to
        12 variables, no ``positions`` and no memory of the states before, or if the scheme given is
        a filter for small models (``SigmaPoint``, ``ExtendedKalman``); otherwise, with a scheme
        with a B, ``LSTM(base=model, covariance="predicted")``.
    passes : int or "auto"
        Number of passes, each of which trains one emulator and assimilates with it. "auto" stops
        when three passes gained nothing significant on the held-out observations, and after at
        most 30 passes; with ``training="cycle"`` it makes one pass.
    warm_start : bool
        Whether each training starts from the weights of the previous pass.
    held_out : float
        Fraction of the record, in blocks of time or in whole trajectories where these are short,
        that is assimilated but not trained on. It is used to tune the scheme for an emulator, to
        end each training, to score each pass and to choose one. 0 holds nothing out; then
        no pass is chosen, and ``passes`` must be a number.
    training : {"analyses", "cycle"}
        "analyses" trains on the analyses of the previous pass. "cycle" trains through the
        assimilation cycle, on how far each forecast is from the next observations. The result
        belongs to its filter: :func:`daml.load_emulator` gives the model and
        :func:`daml.load_scheme` the scheme, with which new observations are assimilated.
    targets : {"analyses", "smoothed"}
        Whether an emulator is trained on the analyses themselves, or on the same record smoothed
        (:func:`daml.smooth`), which needs a scheme such as ``daml.schemes.ETKF(20)``.
    lag : int, optional
        Model steps of later observations in a smoothed record; default: all that follow.
    operator : callable, optional
        H as a function of states (..., variable) of the model to what is observed (..., observed),
        linear or not, in place of the ``operator`` of the observations. With one that is not
        linear no B can be estimated: give a scheme that needs none, or has one.
    forcings : xarray.Dataset, optional
        Known inputs in time, a data variable (time, ...) for each: the model takes those that it
        names as its ``forcings`` (:func:`daml.models.forced`). Emulators are given all, as further
        inputs of the network, also where the model takes none; ``dataset[["wind"]]`` gives some.
    store : str or path, optional
        Zarr store to which each pass is written when it is done; default: in memory.
    overwrite : bool
        Whether to replace an existing store, if daml wrote it.
    resume : bool
        Whether to resume the run in the store, after its last complete pass or in the middle of a
        training. All arguments must be the same, except for ``passes``: it may be raised, or
        lowered to the number of passes that were made. The result equals that of a run in one go,
        bit for bit.

    Returns
    -------
    xarray.DataTree
        ``/observations``; ``/imperfect``, the analysis by the model given; ``/iteration/0000``,
        ``/iteration/0001``, ..., those by each emulator, with the groups ``scores``, ``scheme``,
        ``emulator`` and ``training`` where there is something to keep. It is opened lazily from
        the store, if one is given. The attribute ``chosen`` is the number of the pass that was
        chosen, or "given"; ``chosen_because`` is the reason. ``load_emulator(tree)`` gives the
        chosen emulator.

    Raises
    ------
    InputError
        If an argument is wrong or does not fit the others, or the record is too short.
    DivergedError
        If a training or an assimilation gives numbers that are not finite; the message names the
        pass.
    StoreError
        If the store cannot be read or written. Passes in the store stay readable.

    Warns
    -----
    UserWarning
        If no pass is significantly better than the model given, which is then chosen.

    See Also
    --------
    daml.Loop : The same with one object, which can also yield one pass after the other.
    daml.load_emulator : Gives a fitted emulator back.

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
    observations = flat_record(observations, model)
    if emulator is None:
        emulator = emulator_for(model, observations, scheme, training, forcings=forcings)
    if scheme is None:
        scheme = scheme_for(emulator, training)
    settings = passes, warm_start, held_out, training, targets, lag, operator, forcings
    loop = Loop(model, scheme, emulator, *settings)
    return loop.run(observations, store, overwrite=overwrite, resume=resume)
