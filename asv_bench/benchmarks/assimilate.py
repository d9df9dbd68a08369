"""The cycle in time."""

import daml

from . import STEPS, network, twin


class Assimilate:
    """Lorenz 63 and the LSTM through a record, in memory and in chunks."""

    params = [STEPS, ["Lorenz63", "LSTM"], ["numpy", "dask"]]
    param_names = ["steps", "model", "backing"]
    number, repeat, warmup_time = 1, 3, 0
    timeout = 300

    def setup(self, steps, model, backing):
        self.model = network() if model == "LSTM" else daml.Lorenz63()
        self.observations, self.scheme = twin(daml.Lorenz63(), steps)
        if backing == "dask":
            self.observations = self.observations.chunk(time=10_000)

    def time_assimilate(self, steps, model, backing):
        daml.assimilate(self.model, self.observations, self.scheme)

    def peakmem_assimilate(self, steps, model, backing):
        daml.assimilate(self.model, self.observations, self.scheme)


class Sequential:
    """One segment: every step waits for the one before."""

    params = ["Lorenz63", "LSTM"]
    param_names = ["model"]
    number, repeat, warmup_time = 1, 3, 0

    def setup(self, model):
        self.model = network() if model == "LSTM" else daml.Lorenz63()
        self.observations, self.scheme = twin(daml.Lorenz63(), 5_000)

    def time_assimilate(self, model):
        daml.assimilate(self.model, self.observations, self.scheme, segments=1)


class StateSize:
    """How the cost of a cycle of 10,000 steps grows with the state."""

    params = [4, 40, 400]
    param_names = ["size"]
    number, repeat, warmup_time = 1, 3, 0

    def setup(self, size):
        self.model = daml.models.Lorenz96(n=size)
        self.observations, self.scheme = twin(self.model, 10_000)

    def time_assimilate(self, size):
        daml.assimilate(self.model, self.observations, self.scheme, tolerance=1e9)

    def peakmem_assimilate(self, size):
        daml.assimilate(self.model, self.observations, self.scheme, tolerance=1e9)
