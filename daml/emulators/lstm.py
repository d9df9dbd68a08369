"""A long short-term memory network that learns a model's step from analyses."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from daml import __version__
from daml.devices import fetch, home
from daml.emulators.examples import Examples
from daml.emulators.fitted import Fitted
from daml.emulators.networks import Memory, Network, Windowed
from daml.emulators.training import Blocks, Plan, SquareError, Tensors, train
from daml.errors import InputError
from daml.files import write
from daml.forecasting import forecast
from daml.html import shown
from daml.labels import describe
from daml.models import ODE
from daml.places import place
from daml.protocols import Checkpoint, Model

LEAST_RATE = 0.2
"""What is left of the learning rate after many trainings, at least."""


@dataclass(frozen=True)
class LSTM:
    """An emulator that predicts the increment over a base and carries its memory.

    Parameters
    ----------
    hidden, layers : int
        Units of a layer, and layers.
    epochs : int, optional
        Passes through the record in a training. Unless given, 16, and more where they make
        fewer than 500 updates.
    window : int, optional
        Look at the last so many states only, in place of a memory.
    base : Model, optional
        Whose step is corrected; unless given, the last state. On another device than the CPU a
        base that is no :class:`daml.models.ODE` and names no ``device`` steps NumPy arrays
        there, too.
    device : str
        Where torch computes: "cpu" or "cuda".
    seed : int
        Of the first weights and of the order of the sequences.
    sequence_length, burn_in, batch_size, learning_rate
        Steps of a training sequence, steps at its head left out of the loss, sequences an
        update, and peak rate of Adam (cosine decay to 5 %, gradient norm clipped at 1).
    rate_decay : float
        Factor on the rate with every further training, down to a fifth: passes of a loop that go
        on from one another differ less and less.

    Raises
    ------
    InputError
        If a setting is out of range.

    References
    ----------
    Hochreiter, S. and Schmidhuber, J. (1997): Long short-term memory. Neural Computation 9,
    1735-1780; as the data-driven model of Goodliff and Miyoshi (2025), egusphere-2025-933.

    Examples
    --------
    >>> import daml
    >>> run = daml.simulate(daml.Lorenz63(), steps=400, spinup=100)
    >>> emulator = daml.LSTM(hidden=8, epochs=2).fit(run)
    >>> emulator.forecast(run, leads=2).sizes["lead"]
    2
    """

    hidden: int = 100
    layers: int = 2
    epochs: int | None = None
    window: int | None = None
    base: Model | None = None
    device: str = "cpu"
    seed: int = 0
    sequence_length: int = 100
    burn_in: int = 10
    batch_size: int = 64
    learning_rate: float = 4e-3
    rate_decay: float = 0.85
    fitted: Fitted | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "epochs", "window", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"LSTM: {name!r} is {value}; give 1 or more")
        if not 0 <= self.burn_in < self.sequence_length:
            raise InputError(
                f"LSTM: 'burn_in' is {self.burn_in}; give less than sequence_length "
                f"({self.sequence_length})"
            )
        if not 0 < self.rate_decay <= 1:
            raise InputError(f"LSTM: 'rate_decay' is {self.rate_decay}; give a factor in (0, 1]")
        if not self.learning_rate > 0:
            raise InputError(f"LSTM: 'learning_rate' is {self.learning_rate}; give a rate > 0")
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise InputError("LSTM: device 'cuda' is not available here; give device='cpu'")

    @property
    def _known(self) -> Fitted:
        if self.fitted is None:
            raise InputError("LSTM: not fitted yet; use the result of lstm.fit(analysis)")
        return self.fitted

    def _repr_html_(self) -> str:
        return shown(self, {"fitted": "no"} if self.fitted is None else self.fitted.told())

    @property
    def variables(self) -> tuple[str, ...]:
        """Names along the last axis of a state."""
        return self._known.variables

    @property
    def dt(self) -> float:
        """Length of a step: of the record that it was fitted to."""
        return self._known.dt

    @property
    def time_unit(self) -> str:
        """What dt counts on datetime64 times."""
        return self._known.time_unit

    @property
    def climate(self) -> np.ndarray:
        """Mean state (variable,) of the record that it was fitted to."""
        return self._known.mean

    @property
    def history(self) -> xr.Dataset:
        """``loss`` (epoch) of the last training, in standard deviations squared."""
        loss = ("epoch", self._known.losses, {"long_name": "training loss", "units": "1"})
        return xr.Dataset({"loss": loss}, coords={"epoch": np.arange(len(self._known.losses))})

    def fit(self, analysis: xr.Dataset, checkpoint: Checkpoint | None = None) -> LSTM:
        """Give the emulator fitted to a record; this one stays as it is.

        A fitted emulator goes on from its weights and keeps its scaling.

        Parameters
        ----------
        analysis : xarray.Dataset
            ``analysis``, or else ``state``, (time, variable) at every model step. Rows where
            ``innovation`` has no value were not observed and are skipped as targets. What is
            opened lazily is read block by block, again in each epoch.
        checkpoint : Checkpoint, optional
            Keeps the epochs that are done, so that the training can go on after an interruption.

        Returns
        -------
        LSTM

        Raises
        ------
        InputError
            If the record breaks the contract or is too short.
        DivergedError
            If the loss leaves the finite numbers.
        """
        examples = Examples(analysis, self.sequence_length, self.base)
        variables, (dt, unit) = examples.variables, examples.step
        network = self.network(len(variables))
        known = self.fitted
        if known is None:
            known = Fitted(variables, dt, unit, *examples.scaling(), network)
        if (known.variables, known.dt) != (variables, dt):
            raise InputError(
                f"LSTM.fit: fitted before to {known.variables} with dt {known.dt}, given "
                f"{variables} with dt {dt}; start from an LSTM that is not fitted"
            )
        network.load_state_dict(known.network.state_dict())

        @lru_cache(maxsize=1)  # a record in one block is put there once
        def tensors(number: int) -> Tensors:
            states, increments, weights = examples[number]
            parts = (
                (states - known.mean) / known.spread,
                (increments - known.increment_mean) / known.increment_spread,
                weights,
            )
            return [torch.as_tensor(p, dtype=torch.float32, device=self.device) for p in parts]

        rate = self.learning_rate * max(self.rate_decay**known.trainings, LEAST_RATE)
        plan = Plan(self.epochs, self.sequence_length, self.batch_size, rate)
        blocks = Blocks(examples.steps, len(examples), tensors)
        objective = SquareError(network, self.burn_in)
        losses = train(network, objective, blocks, plan, (self.seed, known.trainings), checkpoint)
        network.requires_grad_(False)
        return replace(
            self,
            fitted=replace(known, network=network, losses=losses, trainings=known.trainings + 1),
        )

    def network(self, size: int) -> Network:
        """Give a network for so many variables, its first weights drawn from the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            if self.window is not None:
                made: Network = Windowed(size, self.hidden, self.layers, self.window)
            else:
                made = Network(size, self.hidden, self.layers)
        return made.to(self.device)

    def start(self, x: Any, time: Any = None) -> Memory:
        """Give an empty memory, with the base's beside it."""
        return None, None if self.base is None else self.base.start(x, time)

    def step(self, x: Any, memory: Memory = (None, None)) -> tuple[Any, Memory]:
        """Move states (..., variable) by one dt; NumPy or torch, in the states' units.

        With torch tensors gradients pass through it.
        """
        if isinstance(x, np.ndarray):
            with torch.inference_mode():
                moved, memory = self._advance(torch.from_numpy(np.ascontiguousarray(x)), memory, x)
            return moved.numpy(), memory
        return self._advance(x, memory, x)

    def _advance(self, x: torch.Tensor, memory: Memory, given: Any) -> tuple[torch.Tensor, Memory]:
        """Step a tensor; the base steps ``given``, the same in the kind that the caller has."""
        mean, spread, increment_mean, increment_spread = self._known.scaling
        inner, base_memory = memory
        moved = there = x.to(self.device)
        if self.base is not None:
            if self.device != "cpu" and not given.requires_grad and not _takes_tensors(self.base):
                given = fetch(given)
            stepped, base_memory = self.base.step(given, base_memory)
            moved = torch.as_tensor(stepped, device=self.device)
        scaled = ((there - mean) / spread).reshape(-1, x.shape[-1])
        output, inner = self._known.network.advance(scaled.to(torch.float32), inner)
        increment = output.reshape(x.shape) * increment_spread + increment_mean
        return (moved + increment).to(x.device, x.dtype), (inner, base_memory)

    def forecast(self, states: xr.Dataset, *, leads: Any = 4, warmup: int = 100) -> xr.Dataset:
        """Forecast from each state of a record; as :func:`daml.forecast`."""
        return forecast(self, states, leads=leads, warmup=warmup)

    def to_dataset(self) -> xr.Dataset:
        """Give weights, scaling and settings as plain arrays and attrs."""
        result = self._known.to_dataset()
        apart = ("base", "fitted")
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in apart}
        result.attrs |= {
            "emulator": "LSTM",
            "settings": json.dumps(settings),
            "base": json.dumps(None if self.base is None else describe(self.base)),
            "daml_version": __version__,
        }
        return result

    def restored(self, dataset: xr.Dataset) -> LSTM:
        """Give this emulator, fitted, back from what ``to_dataset`` gave.

        Raises
        ------
        InputError
            If the weights are not those of such a network.
        """
        network = self.network(dataset.sizes["variable"])
        return replace(self, fitted=Fitted.from_dataset(dataset, network))

    def save(self, store: str | Path) -> None:
        """Write the fitted emulator to a new Zarr store, for ``load_emulator``.

        Raises
        ------
        InputError
            If the store exists, or the emulator is not fitted.
        """
        where = place(store)
        if where.exists():
            raise InputError(f"{store} exists; give another path, or remove it")
        with where.writing("the emulator"):
            write(self.to_dataset(), where.address)


def _takes_tensors(base: Model) -> bool:
    """Whether a base steps torch's tensors: by the contract one that says so, or one of ours."""
    return isinstance(base, ODE) or home(base) is not None
