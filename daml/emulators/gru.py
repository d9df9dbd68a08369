"""A network of gated recurrent units that learns a model's step from analyses."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from daml.emulators.networks import Network
from daml.emulators.recurrent import Recurrent


@dataclass(frozen=True)
class GRU(Recurrent):
    """An emulator with gated recurrent units, which have three gates where an LSTM has four.

    It predicts the increment over a base and carries its memory from step to step, as
    :class:`daml.LSTM` does; with as many units it has a quarter fewer weights.

    Parameters
    ----------
    hidden, layers : int
        Number of units per layer, and of layers.
    epochs : int, optional
        Epochs of a training. Default: 16, or more if these make fewer than 500 updates.
    window : int, optional
        Number of last states that the network sees, instead of a memory; at most
        ``sequence_length``. A step and a training take as many times longer as the window has
        states.
    base : Model, optional
        Model whose step is corrected; default: the last state. It steps NumPy arrays, unless its
        ``arrays`` names torch, as those of a :class:`daml.models.ODE` do, or it has a ``device``.
    device : str
        Device on which torch computes: "cpu" or "cuda".
    seed : int
        Seed of the initial weights and of the order of the sequences.
    sequence_length, burn_in, batch_size, learning_rate
        Steps of a training sequence; steps at its start that the loss leaves out; sequences per
        update; and peak rate of Adam (cosine decay to 5 %, gradient norm clipped at 1).
    rate_decay : float
        Factor by which each further training lowers the rate, down to a fifth of it.
    covariance : {"predicted", "constant"}, optional
        Whether the network also learns the background covariance B of its forecasts, through the
        cycle (:meth:`fit_cycle`): predicted from its memory, or constant in time.
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
        If a setting is out of range.

    References
    ----------
    Cho, K., van Merriënboer, B., Gulcehre, C., Bahdanau, D., Bougares, F., Schwenk, H. and
    Bengio, Y. (2014): Learning phrase representations using RNN encoder-decoder for statistical
    machine translation. Proceedings of EMNLP 2014, 1724-1734.

    Examples
    --------
    >>> import daml
    >>> run = daml.simulate(daml.Lorenz63(), steps=400, spinup=100)
    >>> emulator = daml.emulators.GRU(hidden=8, epochs=2).fit(run)
    >>> emulator.forecast(run, leads=2).sizes["lead"]
    2
    """

    def network(self, size: int, forcing: int = 0) -> Network:
        """Give a network for ``size`` variables, with initial weights drawn from the seed.

        It has as many further inputs as there are columns of forcings.
        """
        return self.with_layers(torch.nn.GRU, size, forcing)
