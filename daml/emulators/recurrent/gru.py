"""A network of gated recurrent units that learns a model's step from analyses."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from daml.emulators.networks import Network
from daml.emulators.recurrent.layered import Recurrent


@dataclass(frozen=True)
class GRU(Recurrent):
    """An emulator with a network of gated recurrent units (GRU).

    In each step the network predicts an increment, which is added to the step of the model
    ``base``, or without a base to the last state. Inputs and increments are standardised with the
    means and standard deviations of the record to which the emulator is first fitted. The network
    carries its memory from step to step. Its recurrent layers have a quarter fewer weights than
    those of a :class:`daml.LSTM` with the same number of units.

    Parameters
    ----------
    hidden : int
        Number of units per layer.
    layers : int
        Number of recurrent layers.
    epochs : int, optional
        Number of epochs of a training on analyses. Default: as many as make 500 updates of the
        weights, but at least 16 and at most 500.
    window : int, optional
        Number of last states that the network reads in each step; it then has no memory. At most
        ``sequence_length``. A step and a training take about ``window`` times as long. Default: no
        window; the network carries its memory from step to step.
    base : Model, optional
        Model whose step the network corrects. Default: none; the network then predicts the change
        from the last state. The base is stepped with NumPy arrays. If its ``arrays`` contains
        "torch", as that of a :class:`daml.models.ODE` does, or it has a ``device`` other than the
        CPU, it must also step torch tensors. Training through the cycle takes the gradient of its
        step from torch if it can, and from finite differences otherwise.
    device : str
        Device on which torch computes: "cpu" or "cuda".
    seed : int
        Seed of the initial weights and of the order of the training sequences.
    sequence_length : int
        Number of steps in each training sequence.
    burn_in : int
        Number of steps at the start of each sequence that the loss ignores, while the network
        builds up its memory.
    batch_size : int
        Number of sequences per update of the weights.
    learning_rate : float
        Peak learning rate of the optimiser, Adam. The rate decays to 5 % of it along a cosine, and
        the norm of the gradient is clipped at 1.
    rate_decay : float
        When a fitted emulator is trained again, as in each further pass of a loop, the peak
        learning rate is multiplied by this factor, down to a fifth of ``learning_rate``.
    covariance : {"predicted", "constant"}, optional
        How the background error covariance B of the forecasts is learned in a training through the
        cycle (:meth:`fit_cycle`): "predicted" gives each forecast its own B, which the network
        predicts from its memory; "constant" learns one B for all times. Default: B is not learned.
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

        Its inputs are the variables, and after them the values of the forcings, ``forcing`` in
        number.
        """
        return self.with_layers(torch.nn.GRU, size, forcing)
