"""A long short-term memory network that learns a model's step from analyses."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import xarray as xr

from daml import __version__, models
from daml.assimilation import check_model, forecast
from daml.emulators.training import Plan, parameters, train
from daml.errors import InputError
from daml.labels import check_values, describe, names, pack, time_axis
from daml.protocols import Model
from daml.store import open_tree, write

Memory = Any


class Network(torch.nn.Module):
    """LSTM layers and a linear head: (batch, time, variable) to the same shape."""

    def __init__(self, size: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(size, hidden, layers, batch_first=True)
        self.head = torch.nn.Linear(hidden, size)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Predict along whole sequences, each from an empty memory."""
        return cast("torch.Tensor", self.head(self.lstm(inputs)[0]))

    def advance(self, x: torch.Tensor, memory: Memory) -> tuple[torch.Tensor, Memory]:
        """Predict from one more input (batch, variable) with the memory so far."""
        output, memory = self.lstm(x[:, None], memory)
        return self.head(output[:, 0]), memory


class Windowed(Network):
    """The same network, looking at a window of inputs and predicting after its last."""

    def __init__(self, size: int, hidden: int, layers: int, window: int) -> None:
        super().__init__(size, hidden, layers)
        self.window = window

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Predict after each step of a sequence, from the window that ends there."""
        padded = torch.cat((inputs[:, :1].expand(-1, self.window - 1, -1), inputs), dim=1)
        windows = padded.unfold(1, self.window, 1).transpose(2, 3)
        flat = windows.reshape(-1, self.window, inputs.shape[-1])
        return cast("torch.Tensor", self.head(self.lstm(flat)[0][:, -1])).view_as(inputs)

    def advance(self, x: torch.Tensor, memory: Memory) -> tuple[torch.Tensor, Memory]:
        """Predict from the window that ends with one more input (batch, variable)."""
        if memory is None:
            memory = x[:, None].expand(-1, self.window, -1)
        memory = torch.cat((memory[:, 1:], x[:, None]), dim=1)
        return self.head(self.lstm(memory)[0][:, -1]), memory


@dataclass(frozen=True)
class Fitted:
    """What a training found: weights, and the scaling of states and increments."""

    variables: tuple[str, ...]
    dt: float
    time_unit: str
    mean: np.ndarray
    spread: np.ndarray
    increment_mean: np.ndarray
    increment_spread: np.ndarray
    network: Network
    losses: np.ndarray
    trainings: int


@dataclass(frozen=True)
class LSTM:
    """An emulator that predicts the increment over a base and carries its memory.

    Parameters
    ----------
    hidden, layers : int
        Units of a layer, and layers.
    epochs : int, optional
        Passes through the record in a training. Unless given, 30, and more where they make
        fewer than 1,000 updates.
    window : int, optional
        Look at the last so many states only, in place of a memory.
    base : Model, optional
        Whose step is corrected; unless given, the last state.
    device : str
        Where torch computes: "cpu" or "cuda".
    seed : int
        Of the first weights and of the order of the sequences.
    sequence_length, burn_in, batch_size, learning_rate
        Steps of a training sequence, steps at its head left out of the loss, sequences an
        update, and peak rate of Adam (cosine decay to 5 %, gradient norm clipped at 1).

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
    batch_size: int = 32
    learning_rate: float = 1e-3
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
        if not self.learning_rate > 0:
            raise InputError(f"LSTM: 'learning_rate' is {self.learning_rate}; give a rate > 0")
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise InputError("LSTM: device 'cuda' is not available here; give device='cpu'")

    @property
    def _known(self) -> Fitted:
        if self.fitted is None:
            raise InputError("LSTM: not fitted yet; use the result of lstm.fit(analysis)")
        return self.fitted

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

    def fit(self, analysis: xr.Dataset) -> LSTM:
        """Give the emulator fitted to a record; this one stays as it is.

        A fitted emulator goes on from its weights and keeps its scaling.

        Parameters
        ----------
        analysis : xarray.Dataset
            ``analysis``, or else ``state``, (time, variable) at every model step. Rows where
            ``innovation`` has no value were not observed and are skipped as targets.

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
        name = "analysis" if "analysis" in analysis else "state"
        states, layout = pack(analysis, name)
        variables = names(analysis)
        if layout.packed != ("time", "variable"):
            raise InputError(f"LSTM.fit: {name!r} has {layout.dims}; give (time, variable)")
        check_values(states, name, variables)
        if len(states) <= self.sequence_length:
            raise InputError(
                f"LSTM.fit: a record of {len(states)} steps is too short to train on; give more "
                f"than sequence_length ({self.sequence_length}), or shorten that"
            )
        if np.isnan(states).any():
            raise InputError(
                f"LSTM.fit: {name!r} has missing values; give an analysis of all steps"
            )
        dt, unit = _step(analysis, name)
        weights = np.ones(len(states))
        if "innovation" in analysis:
            weights = analysis["innovation"].notnull().any("observed").values.astype(float)
        if not weights[1:].any():
            raise InputError("LSTM.fit: no row of 'innovation' has a value: nothing to learn from")
        increments = states[1:] - self._base_step(states, variables, analysis["time"].values)
        known = self.fitted or self._untrained(variables, dt, unit, states, increments)
        if (known.variables, known.dt) != (variables, dt):
            raise InputError(
                f"LSTM.fit: fitted before to {known.variables} with dt {known.dt}, given "
                f"{variables} with dt {dt}; start from an LSTM that is not fitted"
            )
        network = self._network(len(variables))
        network.load_state_dict(known.network.state_dict())
        random = np.random.default_rng([self.seed, known.trainings])

        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(array, dtype=torch.float32, device=self.device)

        losses = train(
            network,
            tensor((states[:-1] - known.mean) / known.spread),
            tensor((increments - known.increment_mean) / known.increment_spread),
            tensor(weights[1:]),
            Plan(
                self.epochs,
                self.sequence_length,
                self.burn_in,
                self.batch_size,
                self.learning_rate,
            ),
            random,
        )
        network.requires_grad_(False)
        return replace(
            self,
            fitted=replace(known, network=network, losses=losses, trainings=known.trainings + 1),
        )

    def _base_step(
        self, states: np.ndarray, variables: tuple[str, ...], times: np.ndarray
    ) -> np.ndarray:
        """Give what the base makes of every state but the last (time, variable)."""
        if self.base is None:
            return states[:-1]
        check_model(self.base)
        if tuple(self.base.variables) != variables:
            raise InputError(
                f"LSTM: the base steps {tuple(self.base.variables)}, the analysis has {variables}"
            )
        return np.asarray(self.base.step(states[:-1], self.base.start(states[:-1], times[:-1]))[0])

    def _untrained(
        self,
        variables: tuple[str, ...],
        dt: float,
        unit: str,
        states: np.ndarray,
        increments: np.ndarray,
    ) -> Fitted:
        def spread(array: np.ndarray) -> np.ndarray:
            found = array.std(axis=0)
            return np.where(found > 0, found, 1.0)

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = self._network(len(variables))
        return Fitted(
            variables,
            dt,
            unit,
            states.mean(axis=0),
            spread(states),
            increments.mean(axis=0),
            spread(increments),
            network,
            np.empty(0),
            0,
        )

    def _network(self, size: int) -> Network:
        if self.window is not None:
            return Windowed(size, self.hidden, self.layers, self.window).to(self.device)
        return Network(size, self.hidden, self.layers).to(self.device)

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
            return moved.cpu().numpy(), memory
        return self._advance(x, memory, x)

    def _advance(self, x: torch.Tensor, memory: Memory, given: Any) -> tuple[torch.Tensor, Memory]:
        known = self._known
        inner, base_memory = memory
        based = x
        if self.base is not None:
            moved, base_memory = self.base.step(given, base_memory)
            based = torch.as_tensor(moved)
        flat = x.reshape(-1, x.shape[-1])
        scaled = (flat - flat.new_tensor(known.mean)) / flat.new_tensor(known.spread)
        output, inner = known.network.advance(scaled.to(self.device, torch.float32), inner)
        increment = output.to(x.device, x.dtype) * x.new_tensor(known.increment_spread)
        increment = (increment + x.new_tensor(known.increment_mean)).reshape(x.shape)
        return based + increment, (inner, base_memory)

    def forecast(self, states: xr.Dataset, *, leads: Any = 4, warmup: int = 100) -> xr.Dataset:
        """Forecast from each state of a record; as :func:`daml.forecast`."""
        return forecast(self, states, leads=leads, warmup=warmup)

    def to_dataset(self) -> xr.Dataset:
        """Give weights, scaling and settings as plain arrays and attrs."""
        known = self._known
        arrays = {
            name: (("variable",), getattr(known, name))
            for name in ("mean", "spread", "increment_mean", "increment_spread")
        }
        result = xr.Dataset(arrays, coords={"variable": list(known.variables)})
        for key, value in parameters(known.network).items():
            name = f"weights.{key}"
            result[name] = ([f"{name}.{i}" for i in range(value.ndim)], value)
        for array in result.data_vars.values():
            array.attrs = {"long_name": str(array.name), "units": "1"}
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _APART}
        result.attrs = {
            "emulator": "LSTM",
            "settings": json.dumps(settings),
            "base": json.dumps(None if self.base is None else describe(self.base)),
            "dt": known.dt,
            "time_unit": known.time_unit,
            "trainings": known.trainings,
            "daml_version": __version__,
        }
        return result

    def save(self, store: str | Path) -> None:
        """Write the fitted emulator to a new Zarr store, for ``load_emulator``.

        Raises
        ------
        InputError
            If the store exists, or the emulator is not fitted.
        """
        if Path(store).exists():
            raise InputError(f"{store} exists; give another path, or remove it")
        write(self.to_dataset(), store)


_APART = ("base", "fitted")


def _step(analysis: xr.Dataset, name: str) -> tuple[float, str]:
    """Give the step of a record, and what it counts; refuse a record with gaps."""
    times = analysis["time"].values if "time" in analysis.coords else np.empty(0)
    if len(times) < 2:
        raise InputError(f"LSTM.fit: {name!r} needs a coordinate 'time' of two entries or more")
    if times.dtype.kind == "M":
        dt = float(np.median(np.diff(times) / np.timedelta64(1, "ns"))) * 1e-9
    else:
        dt = float(np.round((times[-1] - times[0]) / (len(times) - 1), 12))
    axis = time_axis(analysis, name, dt)
    if axis.length != len(times):
        raise InputError(f"LSTM.fit: {name!r} has gaps in time; give a row for every step")
    return dt, "s"


def load_emulator(
    source: xr.DataTree | xr.Dataset | str | Path, iteration: int = -1, base: Model | None = None
) -> LSTM:
    """Give a fitted emulator back from an experiment or from where it was saved.

    Parameters
    ----------
    source : xarray.DataTree, xarray.Dataset, str or path
        An experiment (tree or store), or what ``save`` wrote.
    iteration : int
        Which LSTM-n of an experiment; -1 is the last.
    base : Model, optional
        The model that it corrects, where that is not one of daml's own.

    Returns
    -------
    LSTM
        Fitted: a Model ready for assimilate and forecast.

    Raises
    ------
    InputError
        If the source holds no such emulator.
    StoreError
        If it cannot be read.

    Examples
    --------
    >>> import daml
    >>> run = daml.simulate(daml.Lorenz63(), steps=200)
    >>> emulator = daml.LSTM(hidden=4, epochs=1).fit(run)
    >>> load_emulator(emulator.to_dataset()).variables
    ('x0', 'x1', 'x2')
    """
    if isinstance(source, (str, Path)):
        source = open_tree(source)
    if isinstance(source, xr.DataTree):
        passes = sorted(source["iteration"].children) if "iteration" in source.children else []
        if passes:
            if not -len(passes) <= iteration < len(passes):
                raise InputError(
                    f"load_emulator: iteration {iteration} is not there; the experiment has "
                    f"{len(passes)}"
                )
            source = cast("xr.DataTree", source[f"iteration/{passes[iteration]}/emulator"])
        source = source.to_dataset()
    if source.attrs.get("emulator") != "LSTM":
        raise InputError("load_emulator: no emulator is there; give an experiment or a saved LSTM")
    settings = json.loads(source.attrs["settings"])
    told = json.loads(source.attrs["base"])
    if told is not None and base is None:
        kind = getattr(models, told.pop("class"), None)
        if kind is None:
            raise InputError("load_emulator: it corrects a model of your own; give it as 'base'")
        base = kind(**told)
    if settings["device"].startswith("cuda") and not torch.cuda.is_available():
        settings["device"] = "cpu"
    plain = LSTM(**settings, base=base)
    network = plain._network(source.sizes["variable"])
    weights = {
        str(k).removeprefix("weights."): torch.as_tensor(v.values)
        for k, v in source.data_vars.items()
        if str(k).startswith("weights.")
    }
    network.load_state_dict(weights)
    network.requires_grad_(False)
    scaling = {
        n: source[n].values for n in ("mean", "spread", "increment_mean", "increment_spread")
    }
    return replace(
        plain,
        fitted=Fitted(
            variables=names(source),
            dt=float(source.attrs["dt"]),
            time_unit=source.attrs["time_unit"],
            **scaling,
            network=network,
            losses=np.empty(0),
            trainings=int(source.attrs["trainings"]),
        ),
    )
