"""Emulators: models that learn their step from analyses."""

from daml.emulators.lstm import LSTM, load_emulator

__all__ = ["LSTM", "load_emulator"]
