"""daml's ensembles beside DAPPER's on the same truths and observations; all in one run.

Each task is run by DAPPER as it is, by DAPPER with its statistics of each cycle left out ("bare"),
by daml in segments on a record that is 50 times as long, and by daml in one segment on DAPPER's
record. The rounds alternate, so that a change of the machine's speed meets all alike. Needs the
extra ``bench``; ``OMP_NUM_THREADS=1 python asv_bench/ensemble_peers.py``.
"""

import argparse
import os
import time
import warnings
from contextlib import nullcontext
from functools import partial
from unittest import mock

import numpy as np

import daml
from daml.schemes import ETKF, LETKF, IEnKS, half_width

os.environ["MPLBACKEND"] = "agg"
warnings.filterwarnings("ignore")
BURN_IN, LONGER = 400, 50
"""Cycles at a record's head that the RMSE leaves out; length of daml's record by DAPPER's."""
ETKF_20, ETKF_24 = (
    {"N": 20, "infl": 1.02, "rot": True},
    {"N": 24, "infl": 1.013, "rot": True},
)
LETKF_7 = {"N": 7, "infl": 1.04, "rot": True, "loc_rad": 4}
IENKS_10 = {"N": 10, "Lag": 1, "infl": 1.02, "rot": True, "wtol": 1e-5}
IENKS_24 = {"N": 24, "Lag": 2, "infl": 1.013, "rot": True, "wtol": 1e-5}
TASKS = {
    "Lorenz 63, ETKF 20": (daml.Lorenz63(), ETKF(20, inflation=1.02, rotate=True), ETKF_20),
    "Lorenz 96, ETKF 24": (
        daml.models.Lorenz96(),
        ETKF(24, inflation=1.013, rotate=True),
        ETKF_24,
    ),
    "Lorenz 96, LETKF 7": (
        daml.models.Lorenz96(),
        LETKF(7, radius=half_width(loc_rad=4), inflation=1.04, rotate=True),
        LETKF_7,
    ),
    "Lorenz 63, IEnKS 10": (daml.Lorenz63(), IEnKS(10, 1, inflation=1.02, rotate=True), IENKS_10),
    "Lorenz 96, IEnKS 24": (
        daml.models.Lorenz96(),
        IEnKS(24, window=2, shift=1, inflation=1.013, rotate=True),
        IENKS_24,
    ),
}


class Dapper:
    """DAPPER's twin experiment of a model: all variables observed at each step, R = I."""

    def __init__(self, model, cycles):
        import dapper as dpr
        import dapper.mods as modelling
        from dapper.mods import Lorenz63, Lorenz96
        from dapper.tools import progressbar
        from dapper.tools.localization import nd_Id_localization

        progressbar.disable_progbar = True
        size = len(model.variables)
        peer = Lorenz63 if size == 3 else Lorenz96
        start = Lorenz63.x0 if size == 3 else Lorenz96.x0(size)
        timing = modelling.Chronology(model.dt, dko=1, Ko=cycles - 1, BurnIn=BURN_IN * model.dt)
        dynamics = {"M": size, "model": peer.step, "linear": peer.dstep_dx, "noise": 0}
        observing = modelling.partial_Id_Obs(size, np.arange(size))
        observing["noise"] = 1
        observing["localizer"] = nd_Id_localization((size,), (2,))
        first = modelling.GaussRV(C=0.1, mu=start)
        dpr.set_seed(3)
        self.task = modelling.HiddenMarkovModel(dynamics, observing, timing, first)
        self.states, seen = self.task.simulate()
        self.seen = np.array(list(seen))
        self.cycles = cycles

    def run(self, method, settings, bare):
        """Give cycles per second, and the RMSE of the analysis (NaN where it is bare)."""
        import dapper.da_methods as methods
        from dapper.stats import Stats

        makes = {
            "ETKF": partial(methods.EnKF, "Sqrt"),
            "LETKF": methods.LETKF,
            "IEnKS": partial(methods.iEnKS, "Sqrt"),
        }
        scheme = makes[method](**settings)
        silent = mock.patch.object(Stats, "assess", return_value=None)
        with silent if bare else nullcontext():
            start = time.perf_counter()
            scheme.assimilate(self.task, self.states, self.seen, liveplots=False)
            rate = self.cycles / (time.perf_counter() - start)
        return rate, np.nan if bare else float(scheme.stats.err.rms.a[BURN_IN:].mean())


def cycled(model, scheme, truth, seen, **settings):
    """Give daml's cycles per second, and the RMSE of the analysis of what is not lost."""
    start = time.perf_counter()
    result = daml.assimilate(model, seen, scheme, **settings)
    rate = result.sizes["time"] / (time.perf_counter() - start)
    errors = np.sqrt(((result.analysis - truth.state) ** 2).mean("variable"))
    return rate, float(errors.where(result.lost == 0)[BURN_IN:].mean())


def datasets(model, states, seen):
    """Give daml's truth and observations of arrays."""
    coords = {"time": np.arange(len(seen)) * model.dt, "variable": list(model.variables)}
    dims, size = ("time", "variable"), len(model.variables)
    errors = {"error_variance": ("variable", np.ones(size))}
    import xarray as xr

    truth = xr.Dataset({"state": (dims, states[1:])}, coords)
    return truth, xr.Dataset({"observation": (dims, seen), **errors}, coords)


def measured(model, scheme, settings, rounds, cycles):
    """Give cycles per second and RMSE of each run, by name."""
    peer, method = Dapper(model, cycles), type(scheme).__name__
    truth = daml.simulate(model, steps=LONGER * cycles, spinup=500, seed=1)
    long = truth, daml.observe(truth, seed=2)
    short = datasets(model, peer.states, peer.seen)
    runs = {
        "DAPPER": lambda: peer.run(method, settings, bare=False),
        "DAPPER, bare": lambda: peer.run(method, settings, bare=True),
        "daml, one segment": lambda: cycled(model, scheme, *short, segments=1),
        "daml": lambda: cycled(model, scheme, *long),
    }
    found = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            found[name].append(run())
    return found


def main(rounds, cycles, only):
    """Run the tasks and print."""
    print(f"{rounds} rounds{'':<42}{'minimum':>11}{'median':>11}{'maximum':>11}{'RMSE':>9}")
    for name, task in TASKS.items():
        if only not in name:
            continue
        found = measured(*task, rounds, cycles)
        rates = {key: np.array([rate for rate, _ in values]) for key, values in found.items()}
        for key, values in found.items():
            report(f"{name}: {key}", rates[key], "cycles/s", values[-1][1])
        for ours in ("daml", "daml, one segment"):
            for theirs in ("DAPPER", "DAPPER, bare"):
                report(f"{name}: {ours} / {theirs}", rates[ours] / rates[theirs], "")


def report(name, values, unit, error=np.nan):
    """Print minimum, median and maximum."""
    line = "".join(f"{value:11.4g}" for value in (values.min(), np.median(values), values.max()))
    print(f"{name:<50}{line}{'' if np.isnan(error) else f'{error:9.3f}'}  {unit}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cycles", type=int, default=3000)
    parser.add_argument("--only", default="", help="a part of the names of the tasks to run")
    options = parser.parse_args()
    main(options.rounds, options.cycles, options.only)
