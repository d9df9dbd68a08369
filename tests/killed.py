"""A run that is killed at random moments and resumed, again and again; a script for a test.

``python killed.py RECORD FOLDER KILLS SEED`` forks, so that each run starts at once. The stores in
the folder are numbered; at the end it prints the number of the last.
"""

import os
import random
import signal
import sys
import time

import xarray as xr

import daml
from daml.stores import keeper

SETTINGS = {"hidden": 8, "epochs": 6}
PASSES = 3


def run(record, store):
    """Run or resume the loop; a checkpoint after each epoch."""
    keeper.PAUSE = 0.0
    observations = xr.load_dataset(record, engine="h5netcdf")
    scheme = daml.ThreeDVar(daml.climatological(daml.simulate(daml.Lorenz63(), steps=500)))
    emulator = daml.LSTM(**SETTINGS)
    daml.improve(
        daml.Lorenz63(), observations, scheme, emulator, passes=PASSES, store=store, resume=True
    )


def warm_up():
    """Import before the first fork what each run would import again, which takes seconds."""
    daml.LSTM(hidden=2, epochs=1).fit(daml.simulate(daml.Lorenz63(), steps=200))
    assert daml.improve
    assert "zarr" in sys.modules


def forked(record, store, seconds):
    """Run in a process that is killed after so many seconds; say whether it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            run(record, store)
        except BaseException as error:
            print(f"failed: {error!r}", flush=True)
            os._exit(1)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == 0


def main(record, folder, kills, seed):
    """Kill so many runs; after a store that is finished another is begun."""
    warm_up()
    draw = random.Random(seed)
    start = time.monotonic()
    forked(record, f"{folder}/0.zarr", None)
    longest = time.monotonic() - start
    killed, number = 0, 1
    while killed < kills:
        done = forked(record, f"{folder}/{number}.zarr", draw.uniform(0.1, 1.0) * longest)
        number, killed = number + done, killed + (not done)
    print("finished" if forked(record, f"{folder}/{number}.zarr", None) else "broken", number)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
