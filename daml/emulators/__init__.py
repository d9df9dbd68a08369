"""Emulators: models that learn their step from analyses."""

from daml.emulators.convolutional import CNN
from daml.emulators.hidden import Augmented
from daml.emulators.loading import load_emulator
from daml.emulators.module import Module
from daml.emulators.recurrent import GRU, LSTM, RNN
from daml.emulators.regression import Regression
from daml.training.parameters import fit_parameters

__all__ = [
    "CNN",
    "LSTM",
    "RNN",
    "Augmented",
    "GRU",
    "Module",
    "Regression",
    "fit_parameters",
    "load_emulator",
]
