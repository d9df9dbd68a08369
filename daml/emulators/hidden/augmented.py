"""A model with hidden variables, which its base lacks and no observation shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, Self, cast

import numpy as np
import torch
import xarray as xr

from daml.arrays import fetch
from daml.emulators.hidden.corrections import Correction
from daml.emulators.hidden.first_steps import begun, fitted_to_steps
from daml.emulators.hidden.learning import through_cycle
from daml.emulators.hidden.local import LocalCorrection
from daml.emulators.hidden.refusals import check_settings
from daml.emulators.hidden.shared_places import Places, places_of
from daml.emulators.hidden.taught import Taught, hidden_of
from daml.emulators.learned import Learned
from daml.errors import InputError
from daml.labels.arguments import checked
from daml.labels.datasets import HIDDEN
from daml.labels.forcings import Forcings
from daml.models.forced import check_given, names_of
from daml.observing.functions import Given
from daml.protocols import Checkpoint, Memory, Model, Scheme
from daml.schemes import SigmaPoint
from daml.stores.opening import check_whole
from daml.training.bases import base_step, differentiable


@dataclass(frozen=True)
class Augmented(Learned):
    """A model with hidden variables that its base lacks, learned from the innovations.

    The state is that of the base and the hidden variables z, u = (x, z). A step is half a
    correction g(u) / 2, a step of the base, and half a correction again, where g is the sum of a
    network and a linear map. A scheme that carries a covariance estimates z together with x,
    although z is never observed: if two variables are correlated, an observation of one informs
    about the other. :meth:`fit_cycle` learns g and the covariance Q of the model error from the
    innovations of that scheme alone.

    Parameters
    ----------
    hidden_variables : int or "auto"
        Number of hidden variables. "auto" tries 0, 1, 2, ... with short trainings and chooses the
        smallest number whose held-out likelihood is within its standard error of the best;
        ``numbers`` has the scores.
    units, layers : int
        Number of units per layer of g, and of layers.
    reach : int, optional
        For a base whose variables lie along a line or evenly around a ring (its ``positions`` and
        ``period``), with the same number at each place. g then has the same weights at all places
        and depends on the variables within ``reach`` places on either side, Q is local, too, and
        ``hidden_variables`` is their number at each place. Their names are "hidden0_0",
        "hidden0_1", ..., with the number of the place last. Default: g is dense.
    updates : int, optional
        Number of updates of the weights in a training. Default: 1,140, in three stages.
    base : Model, optional
        The model that is corrected; it needs only a step. None: the whole step is learned, which
        takes more ``units``; call :meth:`begin` first.
    device : str
        Device of the network: "cpu", "cuda", ...
    seed : int
        Seed of the initial weights and of the sequences of a training.

    Raises
    ------
    InputError
        If a setting is out of range, or a variable of the base has the name of a hidden one.

    References
    ----------
    Chen, Y., Sanz-Alonso, D. and Willett, R. (2022): Autodifferentiable ensemble Kalman filters.
    SIAM J. Math. Data Sci. 4, 801-833, has trainings through a filter. Halves of a correction
    before and after the base's step are the splitting of Strang, G. (1968): On the construction
    and comparison of difference schemes. SIAM Journal on Numerical Analysis 5, 506-517.

    Examples
    --------
    >>> import daml
    >>> model, filtering = daml.Lorenz63(), daml.schemes.SigmaPoint()
    >>> truth = daml.simulate(daml.CoupledLorenz63(), steps=500, spinup=500)
    >>> seen = daml.observe(truth, variables=["x0", "x1", "x2"])
    >>> analysis = daml.assimilate(model, seen, daml.schemes.SigmaPoint(model_error=0.3))
    >>> emulator = daml.emulators.Augmented(2, base=model, updates=3).begin(analysis)
    >>> emulator = emulator.fit_cycle(seen, filtering, held_out=0)
    >>> daml.assimilate(emulator, seen, filtering).sizes["variable"]
    5
    """

    hidden_variables: int | Literal["auto"] = "auto"
    units: int = 32
    layers: int = 1
    updates: int | None = None
    reach: int | None = None
    _: KW_ONLY
    base: Model | None = None
    device: str = "cpu"
    seed: int = 0
    fitted: Taught | None = field(default=None, repr=False, compare=False)

    arrays: ClassVar[tuple[str, ...]] = ("numpy", "torch")
    trainings: ClassVar[tuple[str, ...]] = ("cycle",)
    learns_model_error: ClassVar[bool] = True

    @property
    def scheme(self) -> Scheme:
        """The scheme that a loop takes for it by default."""
        return SigmaPoint(model_error="innovations")

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def history(self) -> xr.Dataset:
        """Scores (epoch) of the last training."""
        return cast("xr.Dataset", self.known.history)

    @property
    def climate(self) -> np.ndarray:
        """Mean (variable,) of the analyses of the training."""
        return cast("np.ndarray", self.known.climate)

    @property
    def climate_spread(self) -> np.ndarray:
        """Standard deviation (variable,) of the analyses of the training."""
        return cast("np.ndarray", self.known.climate_spread)

    @property
    def model_error(self) -> Any:
        """Q (variable, variable), the covariance of the error of a step; a tensor in training."""
        found = self.known.model_error()
        return found if found.requires_grad else found.detach().cpu().numpy()

    @property
    def numbers(self) -> xr.Dataset | None:
        """Scores of the numbers of hidden variables that were tried, for "auto".

        Variables ``number_loss``, ``number_difference`` and ``number_error`` (number), and
        the attribute ``chosen``; :func:`daml.figures.hidden_numbers` draws them. None if the number
        was given.
        """
        return cast("xr.Dataset | None", self.known.numbers)

    @cached_property
    def places(self) -> Places | None:
        """The places of the base's variables, where the network is local; else None."""
        if self.reach is None:
            return None
        return places_of(self.base, self.reach, type(self).__name__)

    def names_of(self, hidden: int) -> tuple[str, ...]:
        """Give the names of so many hidden variables, or of so many at each place."""
        if self.places is not None:
            return self.places.named(HIDDEN, hidden)
        return tuple(f"{HIDDEN}{number}" for number in range(hidden))

    @property
    def hidden_names(self) -> tuple[str, ...]:
        """Names of the hidden variables, the last ones of ``variables``."""
        return self.variables[self.shown :]

    @property
    def positions(self) -> Any:
        """Where the variables lie, the hidden ones included; None if these lie nowhere."""
        given = super().positions
        hidden = 0 if self.fitted is None else self.known.hidden
        if given is None or not hidden:
            return given
        if self.places is None:
            return None
        added = np.tile(self.places.positions, hidden // len(self.places.positions))
        return np.concatenate((np.reshape(given, -1), added))

    @property
    def period(self) -> Any:
        """Lengths after which the space repeats itself, where there are positions."""
        return None if self.positions is None else super().period

    def network(self, size: int, hidden: int) -> Correction:
        """Give a network for ``size`` variables, of which some are hidden, with first weights."""
        places = self.places
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.manual_seed(self.seed)
            if self.reach is None or places is None:
                made = Correction(size, hidden, self.units, self.layers)
            else:
                each = hidden // len(places.positions)
                made = LocalCorrection(places, each, self.units, self.layers, self.reach)
        return made.to(self.device)

    @property
    def shown(self) -> int:
        """Number of variables that are not hidden."""
        return len(self.variables) - cast("int", self.known.hidden)

    def start(self, x: Any, time: Any = None) -> Memory:
        """Give the memory of the base."""
        return None if self.base is None else self.base.start(x[..., : self.shown], time)

    def step(self, x: Any, memory: Memory = None, forcing: Any = None) -> tuple[Any, Memory]:
        """Move states (..., variable) by one dt; NumPy or torch, in the states' units.

        With torch tensors gradients pass through it. ``forcing`` (..., forcing) are the base's.
        """
        further = () if forcing is None else (forcing,)
        if isinstance(x, np.ndarray):
            with torch.inference_mode():
                given = torch.from_numpy(np.ascontiguousarray(x)).to(self.device)
                moved, memory = self._advance(given, memory, self.base, fetch, *further)
            return fetch(moved), memory
        return self._advance(x, memory, self._differentiable, lambda part: part, *further)

    def _advance(
        self,
        u: torch.Tensor,
        memory: Memory,
        base: Any,
        kind: Callable[[torch.Tensor], Any],
        *forcing: Any,
    ) -> tuple[torch.Tensor, Memory]:
        """Step a tensor; the base steps what ``kind`` makes of its part of the state."""
        u = u + 0.5 * self._increment(u)
        if base is not None:
            shown = self.shown
            given = kind(u[..., :shown])
            x, memory = base_step(base, given, memory, self.device, *forcing)
            u = torch.cat((x.to(u.dtype), u[..., shown:]), dim=-1)
        return u + 0.5 * self._increment(u), memory

    def _increment(self, u: torch.Tensor) -> torch.Tensor:
        return cast("torch.Tensor", self.known.increment(u, None)[0])

    @cached_property
    def _differentiable(self) -> Any:
        """The base for torch tensors; its differences, if any, suit the training's states."""
        if self.base is None:
            return None
        known, shown = self.known, self.shown
        drawn = np.random.default_rng(0).standard_normal((16, shown))
        states = known.mean[:shown] + drawn * known.spread[:shown]
        return differentiable(self.base, states, self.device, self.typical_forcing)

    def _of_base(self, forcings: xr.Dataset | None) -> Forcings | None:
        """Give the forcings that the base takes, which is all that sees them."""
        names = names_of(self.base)
        if forcings is None:
            check_given(self)
        return Forcings.read(forcings, names) if names and forcings is not None else None

    @checked
    def begin(
        self,
        analysis: xr.Dataset,
        *,
        forcings: xr.Dataset | None = None,
        held_out: float = 0.0,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        """Give a copy without hidden variables, from which :meth:`fit_cycle` starts.

        With a base it adds the mean increment to the base's step. Without one it is fitted to
        single steps of the analyses; smoothed ones have less noise.

        Parameters
        ----------
        analysis : xarray.Dataset
            ``analysis``, or else ``state``, (time, variable) at every step. Rows where
            ``innovation`` has no value are skipped as targets.
        forcings : xarray.Dataset, optional
            Known inputs in time of a base that takes some; see :func:`daml.models.forced`.
        held_out : float
            Fraction of the record, in blocks of time, that is left out. Without a base the fit
            stops when it no longer gains there. 0: none.
        checkpoint : Checkpoint, optional
            Stores the epochs of a fit that are done.

        Raises
        ------
        InputError
            If the record lacks a variable, has wrong dims or values, or is too short.
        """
        known = begun(self, analysis, held_out, self._of_base(forcings))
        if self.base is None:
            known = fitted_to_steps(self, known, analysis, held_out, checkpoint)
        return replace(self, fitted=known)

    @checked
    def fit(
        self,
        analysis: xr.Dataset,
        *,
        forcings: xr.Dataset | None = None,
        held_out: float = 0.0,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        """Fit a model without a base to single steps of analyses; see :meth:`begin`.

        Raises
        ------
        InputError
            If there is a base: analyses do not show what it lacks.
        """
        if self.base is not None:
            raise InputError(
                f"{type(self).__name__}: analyses do not show hidden variables; train it through "
                "the cycle: begin(analysis).fit_cycle(observations, daml.schemes.SigmaPoint()), or "
                "daml.improve(..., training='cycle')"
            )
        how: dict[str, Any] = {"held_out": held_out, "checkpoint": checkpoint}
        return self.begin(analysis, forcings=forcings, **how)

    @checked
    def fit_cycle(
        self,
        observations: xr.Dataset,
        scheme: Scheme,
        *,
        forcings: xr.Dataset | None = None,
        held_out: float = 0.1,
        operator: Given | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        """Learn the hidden variables through the assimilation cycle, from the innovations.

        Up to 200 cycles run side by side along the record. Each is continued from update to update
        with its covariance, so that the hidden variables need not be estimated again. Gradients
        pass through 40 to 60 steps at a time. As these leave Q too large, its size is fitted at the
        end by the likelihood of whole cycles. Training of an emulator that is already trained
        continues from its weights, at the learning rates of the later stages.

        Parameters
        ----------
        observations : xarray.Dataset
            ``observation`` (time, variable) and its ``error_variance`` (variable), of 400 model
            steps at least. With a dimension ``trajectory``, of 100 steps or more each, a cycle
            that comes to the end of one starts again in another.
        scheme : Scheme
            Carries a covariance and gives the likelihood of innovations, by operations that torch
            can differentiate: :class:`daml.schemes.SigmaPoint`, or for more than about 50 variables
            an ensemble such as :class:`daml.schemes.ETKF`.
        forcings : xarray.Dataset, optional
            Known inputs in time of a base that takes some; see :func:`daml.models.forced`.
        held_out : float
            Fraction of the record, in blocks of time, that is not trained on. The likelihood there
            selects the weights and ends the training. 0: none.
        operator : callable, optional
            H as a function of states (..., variable) of the base to what is observed (...,
            observed), in place of the ``operator`` of the observations.
        checkpoint : Checkpoint, optional
            Stores the training, so that it can be resumed.

        Returns
        -------
        Augmented
            Fitted; ``variables`` has the hidden ones last.

        Raises
        ------
        InputError
            If :meth:`begin` was not called, the scheme cannot be used to train, or the observations
            lack a variable, have wrong dims or values, or are too few.
        DivergedError
            If the trained filter does not follow the observations.
        """
        how: dict[str, Any] = {"held_out": held_out, "operator": operator}
        how["forcings"] = self._of_base(forcings)
        fitted = through_cycle(self, observations, scheme, checkpoint=checkpoint, **how)
        return replace(self, fitted=fitted)

    def restored(self, dataset: xr.Dataset) -> Self:
        """Give the fitted emulator whose ``to_dataset`` is given, with the settings stored there.

        Raises
        ------
        InputError
            If the weights do not fit a network of these settings.
        """
        made, name = self.with_settings(dataset), type(self).__name__
        check_whole(dataset, ("variable",), name)
        network = made.network(dataset.sizes["variable"], hidden_of(dataset))
        return replace(made, fitted=Taught.from_dataset(dataset, network, name))
