"""How time and memory grow with a record, and what the labels cost; each in its own process.

Run it as ``python asv_bench/growth.py``; it takes some five minutes.
"""

import json
import subprocess
import sys
import time
import tracemalloc

import numpy as np
from benchmarks import network, twin

import daml
from daml.arrays import one_core_each
from daml.observing.records import read
from daml.protocols import Forecast, Observed, Run
from daml.segments import NETWORK_WIDTH, Cut, segment_length


def measure(model, steps):
    """Give seconds, and the peak of what an assimilation allocates beside its input, in bytes."""
    observations, scheme = twin(daml.Lorenz63(), steps)
    stepped = network() if model == "LSTM" else daml.Lorenz63()
    daml.assimilate(stepped, observations.isel(time=slice(10_000)), scheme)
    start = time.perf_counter()
    daml.assimilate(stepped, observations, scheme)
    seconds = time.perf_counter() - start
    tracemalloc.start()
    result = daml.assimilate(stepped, observations, scheme)
    allocated = tracemalloc.get_traced_memory()[1]
    return {
        "seconds": seconds,
        "allocated": allocated,
        "size": observations.nbytes + result.nbytes,
    }


def bare_share(steps, rounds=5):
    """Give total seconds of an assimilation, and seconds of its steps and analyses alone."""
    observations, scheme = twin(daml.Lorenz63(), steps)
    model = network()
    seen = read(observations, model.variables, model.dt)
    setting = seen.setting()
    prepared = scheme.prepare(setting)
    cut = Cut(steps, segment_length(steps), 100)

    def bare(group):
        x = np.ones((len(group), 3))
        memory, rows = model.start(x), np.zeros(len(group), dtype=int)
        observed = Observed(np.ones_like(x), rows, setting.noise, setting.operator)
        for age in range(cut.steps):
            run = Run(rows, group, age, frozenset())
            update, _ = scheme.update(Forecast(x), observed, run, prepared)
            x, memory = model.step(update.state, memory)

    totals, alone = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        daml.assimilate(model, observations, scheme)
        totals.append(time.perf_counter() - start)
        groups = cut.groups(NETWORK_WIDTH)
        start = time.perf_counter()
        with one_core_each(len(groups)) as each:
            list(each(bare, groups))
        alone.append(time.perf_counter() - start)
    return {"total": totals, "alone": alone}


def apart(*words):
    """Measure in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, *map(str, words)], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def main():
    """Print all."""
    print("assimilate                steps   us a step  allocated MB   input + output MB")
    for model in ("Lorenz63", "LSTM"):
        for steps in (100_000, 1_000_000, 4_000_000):
            runs = [apart("measure", model, steps) for _ in range(3)]
            step = 1e6 * min(run["seconds"] for run in runs) / steps
            allocated, size = (runs[0][name] / 1e6 for name in ("allocated", "size"))
            print(f"{model:<20}{steps:>11}{step:12.3f}{allocated:14.1f}{size:20.1f}")
    found = apart("bare", 100_000)
    share = [1 - a / t for a, t in zip(found["alone"], found["total"], strict=True)]
    print(
        f"LSTM, 100,000 steps: {np.median(found['total']):.2f} s, of which beside steps and "
        f"analyses {100 * np.median(share):.0f} % (rounds: {np.round(np.multiply(share, 100))})"
    )
    start = {
        name: min(_seconds(words) for _ in range(7))
        for name, words in (
            ("a bare interpreter", ["-c", "pass"]),
            ("import daml", ["-c", "import daml"]),
            ("daml --help", ["-m", "daml", "--help"]),
        )
    }
    print(", ".join(f"{name} {seconds:.3f} s" for name, seconds in start.items()))


def _seconds(words):
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    elif sys.argv[1] == "measure":
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]))))
    else:
        print(json.dumps(bare_share(int(sys.argv[2]))))
