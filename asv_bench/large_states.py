"""How time and memory of one analysis grow with the state; each in its own process.

Run it as ``python asv_bench/large_states.py``; it takes some minutes. Set ``OMP_NUM_THREADS=1`` for
one core.
"""

import json
import resource
import subprocess
import sys
import time

from benchmarks.large import SCHEMES, Analysis

from daml.arrays import cores

ROUNDS = 5
LONGEST = 60.0
"""Seconds after which no further round begins."""


def measure(scheme, size):
    """Give seconds of what is made once and of an analysis, by the clock and of the processor.

    And MB beside their input. What is made once is all that a first analysis takes longer.
    """
    case = Analysis()
    case.setup(scheme, 1_000)
    case.update()  # what is loaded and made once
    case.place(scheme, size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {name: [] for name in ("first", "next", "first_cpu", "next_cpu")}
    start = time.perf_counter()
    for _ in range(ROUNDS):
        if time.perf_counter() - start > LONGEST:
            break
        case.renew()
        clocks = [(time.perf_counter(), time.process_time())]
        case.prepare()
        case.update()
        clocks.append((time.perf_counter(), time.process_time()))
        case.update()
        clocks.append((time.perf_counter(), time.process_time()))
        for number, name in enumerate(("first", "next")):
            for kind, suffix in enumerate(("", "_cpu")):
                found[name + suffix].append(clocks[number + 1][kind] - clocks[number][kind])
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    least = {name: min(values) for name, values in found.items()}
    once = {"once" + s: max(least["first" + s] - least["next" + s], 0.0) for s in ("", "_cpu")}
    return least | once | {"mb": (after - before) / 1024}


def main():
    """Print the table."""
    print(f"{cores()} cores; the least of up to {ROUNDS} rounds")
    print(
        f"{'scheme':<22}variables  observed     once s (processor)  each time s (processor)    MB"
    )
    for scheme in SCHEMES:
        for size in (1_000, 10_000, 100_000):
            words = [sys.executable, __file__, scheme, str(size)]
            done = subprocess.run(words, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout)
            print(
                f"{scheme:<22}{size:>9}{size // 10:>10}"
                f"{found['once']:11.3f}{found['once_cpu']:12.3f}"
                f"{found['next']:13.3f}{found['next_cpu']:12.3f}{found['mb']:6.0f}",
                flush=True,
            )


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
