"""An emulator whose network convolves the grid on which the variables lie."""

from daml.emulators.convolutional.cnn import CNN

__all__ = ["CNN"]
