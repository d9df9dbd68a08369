"""A model alone, and its forecasts."""

import daml

from . import STEPS, network, record


class Simulate:
    """One state, one step after the other."""

    params = [STEPS[:2], ["Lorenz63", "CoupledLorenz63", "Lorenz96"]]
    param_names = ["steps", "model"]
    number, repeat, warmup_time = 1, 3, 0

    def setup(self, steps, model):
        self.model = getattr(daml.models, model)()

    def time_simulate(self, steps, model):
        daml.simulate(self.model, steps=steps)


class Forecast:
    """The forecasts of the model forecast error: four leads from every state."""

    params = [STEPS, ["Lorenz63", "LSTM"]]
    param_names = ["steps", "model"]
    number, repeat, warmup_time = 1, 3, 0
    timeout = 300

    def setup(self, steps, model):
        self.model = network() if model == "LSTM" else daml.Lorenz63()
        self.truth = record(daml.Lorenz63(), steps)

    def time_forecast(self, steps, model):
        daml.forecast(self.model, self.truth, leads=4)

    def peakmem_forecast(self, steps, model):
        daml.forecast(self.model, self.truth, leads=4)
