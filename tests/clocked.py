"""A model with a memory that holds dates, and records with dates."""

import numpy as np

import daml

MODEL, HOUR = daml.Lorenz63(), np.timedelta64(1, "h")


class Steered:
    """Lorenz 63 with a memory: a clock of dates, and a mean of the states before."""

    variables, dt = MODEL.variables, HOUR

    def start(self, x, time=None):
        return np.array(np.broadcast_to(time, x.shape[:-1])), {"mean": 1.0 * x, "none": None}

    def step(self, x, memory):
        clock, held = memory
        mean = 0.9 * held["mean"] + 0.1 * x
        push = 0.1 * np.sin((clock - np.datetime64("2020-01-01")) / np.timedelta64(1, "h"))
        moved = MODEL.step(x, None)[0] + push[..., None] + 0.001 * mean
        return moved, (clock + self.dt, {"mean": mean, "none": None})


def dated(record, step=HOUR):
    since = np.arange(record.sizes["time"]) * step
    return record.assign_coords(time=np.datetime64("2020-01-01", "s") + since)
