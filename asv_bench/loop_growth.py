"""How the loop grows with the state, and what one pass gains: LETKF and CNN.

Run it as ``OMP_NUM_THREADS=1 python asv_bench/loop_growth.py``; ``lorenz96 40 400`` or ``gyres 33``
after it are these sizes alone. Each size has a process of its own.
"""

import json
import resource
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np

import daml
from daml.experiments.lorenz96_loop import Damped, observed

MEMBERS, SKIP = 10, 50
SIZES = {"lorenz96": (40, 400, 4_000), "gyres": (33, 65, 129)}
HEADS = "model       variables   seconds: given  training  network     MB   RMSE: given  network"


def ring(n):
    """Give the two models of ``daml run lorenz96``, a filter, and observations of its truth."""
    truth = daml.simulate(Damped(n=n), steps=600, spinup=300, seed=0)
    seen = daml.observe(truth, variables=observed(n), seed=1)
    scheme = daml.schemes.LETKF(MEMBERS, radius=4.0, inflation=1.15)
    return daml.models.Lorenz96(n=n), truth, seen, scheme


def gyres(n):
    """Give an ocean with a weaker wind than the true one, a filter, and observations."""
    how = {"n": n, "dt": 5.0, "substeps": 4, "biharmonic_friction": 2e-11 * (33 / n) ** 2}
    model = daml.models.QuasiGeostrophic(**how, forcing=0.8)
    truth = daml.simulate(daml.models.QuasiGeostrophic(**how), steps=200, spinup=400, seed=0)
    seen = daml.observe(truth, variables=list(model.variables[::5]), error_variance=4.0, seed=1)
    return model, truth, seen, daml.schemes.LETKF(MEMBERS, radius=0.1, inflation=1.1)


KINDS = {"lorenz96": ring, "gyres": gyres}


def measure(kind, n):
    """Give seconds of the processor of each part of a pass, the peak memory (MB) and the RMSE.

    Those of the network are NaN where it diverges.
    """
    model, truth, seen, scheme = KINDS[kind](n)
    found = {"size": len(model.variables), "second": np.nan, "network": np.nan}

    def rmse(analysis):
        return float(daml.verification.analysis_error(analysis, truth, skip=SKIP).analysis_rmse)

    start = time.process_time()
    analysis = daml.assimilate(model, seen, scheme)
    found["first"] = time.process_time() - start
    found["given"] = rmse(analysis)
    start = time.process_time()
    emulator = daml.emulators.CNN(base=model, epochs=10, batch_size=4).fit(analysis)
    found["training"] = time.process_time() - start
    start = time.process_time()
    with suppress(daml.errors.DivergedError):
        improved = daml.assimilate(emulator, seen, scheme)
        found["second"] = time.process_time() - start
        found["network"] = rmse(improved)
    found["mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def main(words):
    """Print a line for each size."""
    print(HEADS)
    given = [int(word) for word in words if word.isdecimal()]
    for kind in [word for word in words if word in SIZES] or SIZES:
        for n in given or SIZES[kind]:
            command = [sys.executable, __file__, kind, str(n), "apart"]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            f = json.loads(done.stdout.splitlines()[-1])
            seconds = f"{f['first']:>15.1f}{f['training']:>10.1f}{f['second']:>9.1f}"
            rmse = f"{f['given']:>14.3f}{f['network']:>9.3f}"
            print(f"{kind:<12}{f['size']:>9}  {seconds}{f['mb']:>7.0f}{rmse}", flush=True)


if __name__ == "__main__":
    if sys.argv[-1] == "apart":
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
    else:
        main(sys.argv[1:])
