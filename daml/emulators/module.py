"""A network of a user's own, a torch module, that learns a model's step from analyses."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import cast

import torch

from daml.emulators.networks import Gain, Memory, Network, moved_on, windows
from daml.emulators.neural import Neural
from daml.errors import InputError, first_line
from daml.protocols import Model


@dataclass(frozen=True)
class _Given:
    module: torch.nn.Module
    base: Model | None = None
    window: int | None = None


@dataclass(frozen=True)
class Module(Neural, _Given):  # the fields of the last class come first
    """An emulator that predicts the increment over a base with a torch module of your own.

    The module maps standardised states (batch, variable), or with ``window`` the last states
    (batch, window, variable), the newest at the end, to standardised increments (batch, variable).
    Forcings that :meth:`fit` is given stand after the variables of each state.
    Its output is multiplied by a gain for each variable, and a bias is added; both are trained with
    it. With a ``base`` the gain starts at 0, so that training starts from the mean increment.

    A copy of the module is trained and stepped, in single precision and in evaluation mode: dropout
    is off and batch normalisation uses its running statistics, so that each state is treated on its
    own. The module that is given is never changed; training starts from its weights.

    Parameters
    ----------
    module : torch.nn.Module
        The network. A store holds its weights and not the network itself: give it again on loading,
        ``load_emulator(store, emulator=Module(module))``, with any weights.
    base : Model, optional
        Model whose step is corrected; default: the last state. It steps NumPy arrays, unless its
        ``arrays`` names torch, as those of a :class:`daml.models.ODE` do, or it has a ``device``.
    window : int, optional
        Number of last states that the module sees; at most ``sequence_length``. Default: the last
        state alone.
    epochs : int, optional
        Epochs of a training. Default: 16, or more if these make fewer than 500 updates.
    device : str
        Device on which torch computes: "cpu" or "cuda".
    seed : int
        Seed of the order of the sequences.
    sequence_length, burn_in, batch_size, learning_rate
        Steps of a training sequence; steps at its start that the loss leaves out; sequences per
        update; and peak rate of Adam (cosine decay to 5 %, gradient norm clipped at 1).
    rate_decay : float
        Factor by which each further training lowers the rate, down to a fifth of it.
    covariance : {"constant"}, optional
        Whether a background covariance B that is constant in time is also learned, through the
        cycle (:meth:`fit_cycle`).
    cycle_epochs : int, optional
        Epochs of a training through the cycle. Default: 1,200 updates (800 with a base), at most
        800 epochs.
    variance_floor : float, optional
        Weights each target of a training on analyses by 1 / (s^2 + variance_floor), where s is the
        ``spread`` of the analysis; a target whose s is NaN does not count. In units of the
        variables squared. Default: all count alike.

    Raises
    ------
    InputError
        If a setting is out of range; in ``fit``, before the training, if the module gives another
        shape or fails.

    References
    ----------
    Bachlechner, T., Majumder, B. P., Mao, H., Cottrell, G. and McAuley, J. (2021): ReZero is all
    you need: fast convergence at large depth. Proceedings of UAI 2021, 1352-1361 (the gain that
    starts at 0).

    Examples
    --------
    >>> import daml, torch
    >>> run = daml.simulate(daml.Lorenz63(), steps=400, spinup=100)
    >>> layers = torch.nn.Linear(3, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3)
    >>> emulator = daml.emulators.Module(torch.nn.Sequential(*layers), epochs=2).fit(run)
    >>> emulator.forecast(run, leads=2).sizes["lead"]
    2
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.module, torch.nn.Module):
            raise InputError(
                f"Module: 'module' is a {type(self.module).__name__}; give a torch.nn.Module"
            )

    def network(self, size: int, forcing: int = 0) -> Network:
        """Give a copy of the module as a network for ``size`` variables, and forcings after them.

        Raises
        ------
        InputError
            If it does not give increments of the right shape, or fails.
        """
        made = _Wrapped(self.module, size, self.window, self.covariance)
        rows = 3 if size != 3 else 4  # no number of variables is taken for that of states
        window = () if self.window is None else (self.window,)
        shape = (rows, *window, size + forcing)
        with torch.no_grad():
            found = made.called(torch.zeros(shape))
        tensor = isinstance(found, torch.Tensor)
        if not tensor or found.shape != (rows, size) or found.is_complex():
            what = f"a {type(found).__name__}"
            if tensor:
                kind = " of complex numbers" if found.is_complex() else ""
                what = f"shape {tuple(found.shape)}{kind}"
            raise InputError(
                f"Module: {type(self.module).__name__} turned standardised states of shape "
                f"{shape} into {what}; it must return increments (batch, variable), here real "
                f"numbers of shape {(rows, size)}"
            )
        _check_weights(made.module)
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.manual_seed(0)
            _check_rows(made, torch.randn(shape))
            _check_gradient(made, torch.randn(shape))
        return made


def _check_weights(module: torch.nn.Module) -> None:
    """Refuse weights that cannot be trained, and those that no store can hold."""
    name = type(module).__name__
    for key, part in module.state_dict(keep_vars=True).items():
        if not isinstance(part, torch.Tensor) or part.is_complex() or not part.is_leaf:
            what = f"a {type(part).__name__}"
            if isinstance(part, torch.Tensor):
                what = "complex" if part.is_complex() else "the result of an operation"
            raise InputError(
                f"Module: {key!r} of {name} is {what}; a network's weights and buffers must be "
                "tensors of real numbers, which are trained and stored (of a scripted module give "
                "the one that was scripted)"
            )


def _check_rows(made: _Wrapped, states: torch.Tensor) -> None:
    """Refuse a module that mixes the states (batch, ...) that it is given."""
    with torch.no_grad():
        together, again = made.called(states.clone()), made.called(states.clone())
        alone = torch.cat([made.called(state[None].clone()) for state in states])

    def same(other: torch.Tensor) -> bool:
        return torch.allclose(together, other, rtol=1e-3, atol=1e-4, equal_nan=True)

    if same(again) and not same(alone):
        raise InputError(
            f"Module: {type(made.module).__name__} gives another result for a state alone than "
            "beside others, so that it mixes the states of a batch; work along the axes after the "
            "first, and let batch normalisation track its running statistics"
        )


def _check_gradient(made: _Wrapped, states: torch.Tensor) -> None:
    """Refuse a module that cannot be trained; a copy of it is tried as in a training."""
    tried = copy.deepcopy(made).train()
    with torch.enable_grad():
        found = tried.head(tried.called(states))
    try:
        found.sum().backward()
    except Exception as error:
        raise InputError(
            f"Module: the gradient of {type(made.module).__name__} failed "
            f"({type(error).__name__}: {first_line(error)}); compute with torch's functions, and "
            "write into no tensor"
        ) from error


class _Wrapped(Network):
    """A copy of a module of a user's: (batch, time, variable) to the same shape."""

    def __init__(
        self, module: torch.nn.Module, size: int, window: int | None, covariance: str | None
    ) -> None:
        super().__init__(covariance)
        self.module = copy.deepcopy(module).float().cpu().eval()
        self.window = window
        self.head = Gain(size)
        self.add_factor(size)

    def called(self, seen: torch.Tensor) -> torch.Tensor:
        """Call the module on standardised states (batch, ...); an error of its own is one line."""
        try:
            return cast("torch.Tensor", self.module(seen))
        except Exception as error:
            raise InputError(
                f"Module: {type(self.module).__name__} failed on standardised states of shape "
                f"{tuple(seen.shape)} ({type(error).__name__}: {first_line(error)}); it must "
                "return increments (batch, variable)"
            ) from error

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Predict after each step of a sequence."""
        seen = inputs if self.window is None else windows(inputs, self.window)
        found = cast("torch.Tensor", self.head(self.called(seen.flatten(0, 1))))
        return found.view(*inputs.shape[:2], -1)

    def advance(self, x: torch.Tensor, memory: Memory) -> tuple[torch.Tensor, Memory]:
        """Predict from one more input (batch, variable), and the window before it."""
        if self.window is None:
            return self.head(self.called(x)), None
        memory = moved_on(memory, x, self.window)
        return self.head(self.called(memory)), memory
