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
    """An emulator with a torch module of your own as its network.

    In each step the module predicts an increment, which is added to the step of the model ``base``,
    or without a base to the last state. It maps standardised states (batch, variable) to
    standardised increments (batch, variable). With ``window`` its input is the last states (batch,
    window, variable), the newest at the end. If :meth:`fit` is given forcings, their values follow
    the variables along the last axis. The output of the module is multiplied by a gain for each
    variable, and a bias is added. Gain and bias are trained together with the module. With a
    ``base`` the gain starts at 0, so that the first prediction is the mean increment.

    The emulator trains and steps a copy of the module, in single precision and in evaluation mode:
    dropout is off and batch normalisation uses its running statistics, so that the result for a
    state does not depend on the other states of a batch. Training starts from the weights of the
    module, which itself is never changed.

    Parameters
    ----------
    module : torch.nn.Module
        The network. A store holds its weights and not the network itself. To load the emulator,
        give the module again, with any weights: ``load_emulator(store, emulator=Module(module))``.
    base : Model, optional
        Model whose step the network corrects. Default: none; the network then predicts the change
        from the last state. The base is stepped with NumPy arrays. If its ``arrays`` contains
        "torch", as that of a :class:`daml.models.ODE` does, or it has a ``device`` other than the
        CPU, it must also step torch tensors. Training through the cycle takes the gradient of its
        step from torch if it can, and from finite differences otherwise.
    window : int, optional
        Number of last states that the module reads in each step, at most ``sequence_length``.
        Default: its input is the last state, without a dimension for the window.
    epochs : int, optional
        Number of epochs of a training on analyses. Default: as many as make 500 updates of the
        weights, but at least 16 and at most 500.
    device : str
        Device on which torch computes: "cpu" or "cuda".
    seed : int
        Seed of the order of the training sequences.
    sequence_length : int
        Number of steps in each training sequence.
    burn_in : int
        Number of steps at the start of each sequence that the loss ignores.
    batch_size : int
        Number of sequences per update of the weights.
    learning_rate : float
        Peak learning rate of the optimiser, Adam. The rate decays to 5 % of it along a cosine, and
        the norm of the gradient is clipped at 1.
    rate_decay : float
        When a fitted emulator is trained again, as in each further pass of a loop, the peak
        learning rate is multiplied by this factor, down to a fifth of ``learning_rate``.
    covariance : {"constant"}, optional
        "constant" also learns the background error covariance B of the forecasts, one for all
        times, in a training through the cycle (:meth:`fit_cycle`). Default: B is not learned.
    cycle_epochs : int, optional
        Number of epochs of a training through the cycle. Default: as many as make 1,200 updates of
        the weights (800 with a base), but at least 16 and at most 800.
    variance_floor : float, optional
        Gives each target of a training on analyses the weight 1 / (s^2 + variance_floor), where s
        is the ``spread`` of the analysis, which the record must have. The unit is that of the
        variables, squared. Targets with a missing s (NaN) are ignored. Default: all targets have
        the same weight.

    Raises
    ------
    InputError
        If a setting is out of range. ``fit`` raises it before the training if the module fails or
        returns increments of a wrong shape.

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
        """Give a copy of the module as a network for ``size`` variables and ``forcing`` forcings.

        Raises
        ------
        InputError
            If the module fails or does not return increments of the right shape.
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
                f"Module: {key!r} of {name} is {what}; the weights and buffers of a network "
                "must be tensors of real numbers, which can be trained and stored (if the "
                "module is scripted, give the one from which it was scripted)"
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
            f"Module: {type(made.module).__name__} gives a different result for a state alone "
            "than for the same state beside others, so that it mixes the states of a batch; "
            "work along the axes after the first, and let batch normalisation track its "
            "running statistics"
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
            f"({type(error).__name__}: {first_line(error)}); compute with torch's functions, "
            "and do not change tensors in place"
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
