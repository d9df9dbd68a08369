"""A record larger than it may be in memory: simulated, observed, assimilated and scored in Zarr.

Run it as ``python asv_bench/stream.py 1000000 10000000``; each length has a process of its own.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import daml


def chain(steps):
    """Give microseconds a step of each part, and the peak of memory in bytes."""
    model, found, start = daml.Lorenz63(), {}, time.perf_counter()

    def done(name):
        nonlocal start
        now = time.perf_counter()
        found[name] = 1e6 * (now - start) / steps
        start = now

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        truth = daml.simulate(model, steps=steps, spinup=1000, store=folder / "truth.zarr")
        done("simulate")
        seen = daml.observe(truth, seed=1, store=folder / "seen.zarr")
        done("observe")
        climate = daml.simulate(model, steps=20_000, spinup=1000, seed=2)
        scheme = daml.ThreeDVar(daml.climatological(climate, max_variance=2))
        start = time.perf_counter()
        analysis = daml.assimilate(model, seen, scheme, store=folder / "analysis.zarr")
        done("assimilate")
        found["rmse"] = float(daml.verification.analysis_error(analysis, truth).analysis_rmse)
        done("score")
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return found


def main(lengths):
    """Print a line a length."""
    parts = ("simulate", "observe", "assimilate", "score")
    print(
        f"{'steps':>10}" + "".join(f"{name:>12}" for name in parts) + "   all, us a step   peak MB"
    )
    for steps in lengths:
        done = subprocess.run(
            [sys.executable, __file__, "one", str(steps)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        found = json.loads(done.stdout.splitlines()[-1])
        line = "".join(f"{found[name]:12.3f}" for name in parts)
        total = sum(found[name] for name in parts)
        print(
            f"{steps:>10}{line}{total:17.3f}{found['peak'] / 1e6:10.0f}   RMSE {found['rmse']:.4f}"
        )


if __name__ == "__main__":
    if sys.argv[1] == "one":
        print(json.dumps(chain(int(sys.argv[2]))))
    else:
        main([int(word) for word in sys.argv[1:]])
