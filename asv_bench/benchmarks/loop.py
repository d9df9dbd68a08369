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


class Pass:
    """Assimilate, train for 20 epochs, assimilate again."""

    params = STEPS[:2]
    param_names = ["steps"]
    number, repeat, warmup_time = 1, 1, 0
    timeout = 300

    def setup(self, steps):
        self.observations, self.scheme = twin(daml.Lorenz63(), steps)

    def _run(self):
        cycle = daml.Cycle(daml.Lorenz63(), self.scheme, daml.LSTM(epochs=20), passes=1)
        list(cycle.iterate(self.observations))

    def time_pass(self, steps):
        self._run()

    def peakmem_pass(self, steps):
        self._run()
