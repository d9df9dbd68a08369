"""Emulators: models that learn their step from analyses."""

from daml.emulators.loading import load_emulator
from daml.emulators.lstm import LSTM

__all__ = ["LSTM", "load_emulator"]
