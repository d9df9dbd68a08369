"""daml beside DAPPER on one task, and beside what the machine can do; all in one run.

Lorenz 63, dt 0.05, three observed variables, R = I, the same truth, observations and B. The
rounds alternate, so that a change of the machine's speed meets all alike; a line gives minimum,
median and maximum over the rounds. Needs the extra ``bench``; ``python asv_bench/peers.py``.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import xarray as xr
from benchmarks import record, twin

import daml
from daml.covariance import labelled

os.environ["MPLBACKEND"] = "agg"
warnings.filterwarnings("ignore")
BURN_IN = 100
"""Cycles at a record's head that the RMSE leaves out."""
LONG = 1_000_000
"""Cycles of the record that daml runs with segments; DAPPER's rate does not depend on length."""


def rmse(states, truth):
    """Give the mean over time of the root mean square over variables, as DAPPER counts it."""
    error = np.asarray(states)[BURN_IN:] - np.asarray(truth)[BURN_IN:]
    return float(np.sqrt((error**2).mean(axis=1)).mean())


class Dapper:
    """DAPPER's own twin experiment; its truth and observations are daml's, too."""

    def __init__(self, cycles):
        import dapper as dpr
        import dapper.mods as modelling
        from dapper.mods import Lorenz63 as lorenz
        from dapper.tools import progressbar

        progressbar.disable_progbar = True
        time_line = modelling.Chronology(0.05, dko=1, Ko=cycles - 1, BurnIn=BURN_IN * 0.05)
        dynamics = {"M": 3, "model": lorenz.step, "linear": lorenz.dstep_dx, "noise": 0}
        observing = modelling.partial_Id_Obs(3, np.arange(3))
        observing["noise"] = 1
        start = modelling.GaussRV(C=2, mu=lorenz.x0)
        dpr.set_seed(3)
        self.hmm = modelling.HiddenMarkovModel(dynamics, observing, time_line, start)
        self.states, seen = self.hmm.simulate()
        self.seen = np.array(list(seen))
        covariance = np.cov(self.states.T)
        self.covariance = covariance * (2 / covariance.diagonal().max())
        self.cycles = cycles

    def run(self, scheme):
        """Give cycles per second and the analysis RMSE."""
        start = time.perf_counter()
        scheme.assimilate(self.hmm, self.states, self.seen, liveplots=False)
        rate = self.cycles / (time.perf_counter() - start)
        return rate, float(scheme.stats.err.rms.a[BURN_IN:].mean())

    def schemes(self):
        """Give its 3DVar, and its EnKF of 20 members (which daml has no peer of yet)."""
        from dapper.da_methods import EnKF, Var3D

        return Var3D(B=self.covariance), EnKF("Sqrt", N=20, infl=1.02)

    def datasets(self):
        """Give daml's truth, observations and 3DVar: the same numbers, labelled."""
        names = ["x0", "x1", "x2"]
        coords = {"time": np.arange(self.cycles) * 0.05, "variable": names}
        dims = ("time", "variable")
        truth = xr.Dataset({"state": (dims, self.states[1:])}, coords)
        seen = {"observation": (dims, self.seen), "error_variance": ("variable", np.ones(3))}
        scheme = daml.ThreeDVar(labelled(self.covariance, names))
        return truth, xr.Dataset(seen, coords), scheme


def cycled(observations, scheme, truth, **settings):
    """Give daml's cycles per second and the analysis RMSE."""
    start = time.perf_counter()
    result = daml.assimilate(daml.Lorenz63(), observations, scheme, **settings)
    rate = result.sizes["time"] / (time.perf_counter() - start)
    return rate, rmse(result.analysis, truth.state)


def limits():
    """Give what the machine can do, in a process of its own: DAPPER sets BLAS to one core."""
    script = Path(__file__).with_name("limits.py")
    done = subprocess.run([sys.executable, script], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def report(name, values, unit, scale=1.0):
    """Print minimum, median and maximum."""
    low, middle, high = np.array([min(values), np.median(values), max(values)]) / scale
    print(f"{name:<58}{low:11.4g}{middle:11.4g}{high:11.4g}  {unit}")


def ratios(first, second):
    """Give the ratio round by round."""
    return [a / b for a, b in zip(first, second, strict=True)]


def main(rounds, cycles):
    """Run all rounds and print."""
    peer = Dapper(cycles)
    truth, observations, scheme = peer.datasets()
    long, _ = twin(daml.Lorenz63(), LONG)
    long_truth = record(daml.Lorenz63(), LONG)
    cycled(long, scheme, long_truth)
    found = {}

    def keep(name, value):
        found.setdefault(name, []).append(value)

    for _ in range(rounds):
        var3d, enkf = peer.schemes()
        keep("dapper var3d", peer.run(var3d))
        keep("daml sequential", cycled(observations, scheme, truth, segments=1))
        keep("daml same record", cycled(observations, scheme, truth))
        keep("daml segments", cycled(long, scheme, long_truth))
        keep("dapper enkf", peer.run(enkf))
        for name, value in limits().items():
            keep(name, value)
    rate, error = {}, {}
    for name, values in found.items():
        if isinstance(values[0], tuple):
            rate[name], errors = zip(*values, strict=True)
            error[name] = errors[0]
    print(f"{rounds} rounds{'':<50}{'minimum':>11}{'median':>11}{'maximum':>11}")
    report(f"DAPPER Var3D, {cycles} cycles", rate["dapper var3d"], "cycles/s")
    report(f"DAPPER EnKF, 20 members, {cycles} cycles", rate["dapper enkf"], "cycles/s")
    report(f"daml 3DVar, segments=1, {cycles} cycles", rate["daml sequential"], "cycles/s")
    report(f"daml 3DVar, {LONG} cycles", rate["daml segments"], "cycles/s")
    for name in ("daml sequential", "daml segments"):
        report(f"{name} / DAPPER Var3D", ratios(rate[name], rate["dapper var3d"]), "")
    report("float32 matrix product (2048)", found["product"], "Gflop/s", 1e9)
    report("memory, copy", found["bandwidth"], "GB/s", 1e9)
    report("LSTM training (2 x 100, 100,000 steps)", found["training"], "Gflop/s", 1e9)
    report("LSTM training / matrix product", ratios(found["training"], found["product"]), "")
    print("RMSE of the analysis (daml segments: its long record; all others: DAPPER's record):")
    print(", ".join(f"{name} {value:.4f}" for name, value in error.items()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cycles", type=int, default=4000)
    options = parser.parse_args()
    main(options.rounds, options.cycles)
