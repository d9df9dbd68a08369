"""A training and a whole pass of the loop."""

import daml

from . import STEPS, record, twin


class Training:
    """One epoch of the paper's LSTM over a record."""

    params = STEPS
    param_names = ["steps"]
    number, repeat, warmup_time = 1, 3, 0
    timeout = 300

    def setup(self, steps):
        self.analysis = record(daml.Lorenz63(), steps)

    def time_epoch(self, steps):
        daml.LSTM(epochs=1).fit(self.analysis)

    def peakmem_epoch(self, steps):
        daml.LSTM(epochs=1).fit(self.analysis)


class ThroughCycle:
    """One epoch through the cycle, of an LSTM that corrects a model and predicts B."""

    params = STEPS[:2]
    param_names = ["steps"]
    number, repeat, warmup_time = 1, 3, 0
    timeout = 300

    def setup(self, steps):
        self.observations, self.scheme = twin(daml.Lorenz63(), steps)
        network = daml.LSTM(epochs=1, cycle_epochs=1, base=daml.Lorenz63(), covariance="predicted")
        self.network = network.fit(record(daml.Lorenz63(), 1000))

    def time_epoch(self, steps):
        self.network.fit_cycle(self.observations, self.scheme, held_out=0.0)


class Pass:
    """Assimilate, train for 20 epochs, assimilate again."""

    params = STEPS[:2]
    param_names = ["steps"]
    number, repeat, warmup_time = 1, 1, 0
    timeout = 300

    def setup(self, steps):
        self.observations, self.scheme = twin(daml.Lorenz63(), steps)

    def _run(self):
        loop = daml.Loop(daml.Lorenz63(), self.scheme, daml.LSTM(epochs=20), passes=1)
        list(loop.iterate(self.observations))

    def time_pass(self, steps):
        self._run()

    def peakmem_pass(self, steps):
        self._run()
