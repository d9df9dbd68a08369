"""How time and memory of one analysis grow with the state; each in its own process.

Run it as ``python asv_bench/large_states.py``; it takes a minute. Set ``OMP_NUM_THREADS=1`` for
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


def measure(scheme, size):
    """Give seconds of what is prepared and of an analysis, by the clock and of the processor.

    And MB beside their input.
    """
    case = Analysis()
    case.setup(scheme, 1_000)
    case.update()  # what is loaded and made once
    case.setup(scheme, size)
    del case.prepared
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {name: [] for name in ("prepare", "update", "prepare_cpu", "update_cpu")}
    for _ in range(ROUNDS):
        clocks = [(time.perf_counter(), time.process_time())]
        case.prepared = case.scheme.prepare(case.setting)
        clocks.append((time.perf_counter(), time.process_time()))
        case.update()
        clocks.append((time.perf_counter(), time.process_time()))
        for number, name in enumerate(("prepare", "update")):
            for kind, suffix in enumerate(("", "_cpu")):
                found[name + suffix].append(clocks[number + 1][kind] - clocks[number][kind])
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {n: min(v) for n, v in found.items()} | {"mb": (after - before) / 1024}


def main():
    """Print the table."""
    print(f"{cores()} cores; the least of {ROUNDS} rounds")
    print("scheme      variables  observed  prepare s (processor)  analysis s (processor)    MB")
    for scheme in SCHEMES:
        for size in (1_000, 10_000, 100_000):
            words = [sys.executable, __file__, scheme, str(size)]
            done = subprocess.run(words, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout)
            print(
                f"{scheme:<12}{size:>9}{size // 10:>10}"
                f"{found['prepare']:13.3f}{found['prepare_cpu']:8.3f}"
                f"{found['update']:16.3f}{found['update_cpu']:8.3f}{found['mb']:10.0f}"
            )


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
