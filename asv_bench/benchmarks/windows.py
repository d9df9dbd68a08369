"""4DVar by products alone: time and memory as the state grows."""

import daml
from daml.covariance import Stationary
from daml.schemes import FourDVar


class FourDVarOfManyVariables:
    """Five windows of four steps on Lorenz 96, observed everywhere at their ends."""

    params = [[100, 1_000, 10_000], [0.0, 1e-3]]
    param_names = ("variables", "model_error")
    timeout = 300

    def setup(self, variables, model_error):
        self.model = daml.models.Lorenz96(n=variables)
        truth = daml.simulate(self.model, steps=21, spinup=100, seed=1)
        self.seen = daml.observe(truth, every=4, error_variance=1.0, seed=2)
        self.start = truth[["state"]].isel(time=0) + 0.4
        B = Stationary(variables, variance=0.2, length=0.5)
        self.scheme = FourDVar(B, window=4, method="cg", model_error=model_error)

    def time_assimilate(self, variables, model_error):
        daml.assimilate(self.model, self.seen, self.scheme, initial=self.start)

    def peakmem_assimilate(self, variables, model_error):
        daml.assimilate(self.model, self.seen, self.scheme, initial=self.start)
