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

SKIP = 60
"""Steps after which analyses are trained on and scored."""
SIZES = {"lorenz96": (40, 400, 4_000), "gyres": (33, 65, 129)}
HEADS = "model       variables   seconds: given  training  network     MB   RMSE: given  network"


def ring(n):
    """Give the model of ``daml run lorenz96``, its truth and observations, filter and epochs."""
    truth = daml.simulate(Damped(n=n), steps=600, spinup=300, seed=0)
    seen = daml.observe(truth, variables=observed(n), seed=1)
    scheme = daml.schemes.LETKF(10, radius=4.0, inflation=1.15)
    return daml.models.Lorenz96(n=n), truth, seen, scheme, 10


def gyres(n):
    """Give the same of an ocean: the model has a friction at the bottom that the truth lacks."""
    how = {"n": n, "dt": 5.0, "substeps": 4, "biharmonic_friction": 2e-11}
    model = daml.models.QuasiGeostrophic(**how, bottom_friction=0.02)
    truth = daml.simulate(daml.models.QuasiGeostrophic(**how), steps=160, spinup=700, seed=0)
    seen = daml.observe(truth, variables=list(model.variables[::5]), error_variance=4.0, seed=1)
    scheme = daml.schemes.LETKF(25, radius=0.142, inflation=1.04)
    return model, truth, seen, scheme, 20


KINDS = {"lorenz96": ring, "gyres": gyres}


def measure(kind, n):
    """Give seconds of the processor of each part of a pass, the peak memory (MB) and the RMSE.

    Those of the network are NaN where it diverges.
    """
    model, truth, seen, scheme, epochs = KINDS[kind](n)
    found = {"size": len(model.variables), "second": np.nan, "network": np.nan}

    def rmse(analysis):
        return float(daml.verification.analysis_error(analysis, truth, skip=SKIP).analysis_rmse)

    start = time.process_time()
    analysis = daml.assimilate(model, seen, scheme)
    found["first"] = time.process_time() - start
    found["given"] = rmse(analysis)
    start = time.process_time()
    examples = analysis.isel(time=slice(SKIP, None))
    emulator = daml.emulators.CNN(base=model, epochs=epochs, batch_size=4).fit(examples)
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
