"""Emulators whose network has recurrent layers."""

from daml.emulators.recurrent.gru import GRU
from daml.emulators.recurrent.lstm import LSTM
from daml.emulators.recurrent.rnn import RNN

__all__ = ["GRU", "LSTM", "RNN"]
