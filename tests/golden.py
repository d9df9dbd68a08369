"""Print a checksum of every array of a few runs, to compare before and after a move in the code.

``python tests/golden.py > before.txt``; change; ``python tests/golden.py | diff before.txt -``.
Bits hold on one machine and one version of torch only, so this is a tool and not a test.
"""

import hashlib
import logging
import warnings

import numpy as np
import torch
import xarray as xr

import daml

EXCEPT = ("seconds",)
"""Names of what differs between two runs of the same code."""


def shown(name: str, tree: xr.DataTree) -> None:
    """Print a line for each array of an experiment."""
    for node in sorted(tree.subtree, key=lambda n: n.path):
        dataset = node.to_dataset(inherit=False)
        for key in sorted(map(str, dataset.variables)):
            values = dataset[key].values
            if key not in EXCEPT:
                content = (
                    values.astype(str).tobytes() if values.dtype == object else values.tobytes()
                )
                print(f"{hashlib.sha256(content).hexdigest()[:16]} {name}{node.path}/{key}")
    for key in ("chosen", "observations_sha256"):
        if key in tree.attrs:
            print(f"{tree.attrs[key]} {name}: {key}")


def record(steps: int) -> xr.Dataset:
    """Give observations of two of three variables, a fifth of them missing."""
    truth = daml.simulate(daml.CoupledLorenz63(), steps=steps, spinup=500, seed=1)
    seen = daml.observe(truth, variables=["x0", "x2"], seed=2)
    missing = np.random.default_rng(3).random(seen.observation.shape) < 0.2
    return seen.assign(observation=seen.observation.where(~missing))


def main() -> None:
    """Run the paper's experiment at its smallest, and both ways of training on a partial record."""
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    shown("paper", daml.paper.run("smoke", passes=2))
    model, seen = daml.Lorenz63(), record(3000)
    emulator = daml.LSTM(base=model, hidden=16, epochs=5, cycle_epochs=3, covariance="predicted")
    shown("cycle", daml.improve(model, seen, emulator=emulator, passes=1, training="cycle"))
    emulator = daml.LSTM(hidden=16, epochs=5)
    shown("analyses", daml.improve(model, seen, emulator=emulator, passes=2))


if __name__ == "__main__":
    main()
