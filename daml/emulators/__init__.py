"""Emulators: models that learn their step from analyses."""

from daml.emulators.loading import load_emulator
from daml.emulators.lstm import LSTM
from daml.training.parameters import fit_parameters

__all__ = ["LSTM", "fit_parameters", "load_emulator"]
