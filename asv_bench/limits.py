"""The limits of the machine, and how near a training comes to them; printed as JSON."""

import json
import time

import torch
from benchmarks import record

import daml


def product_rate(size=2048, repeats=8):
    """Give torch's float32 matrix-product rate, in flop/s."""
    a, out = torch.randn(size, size), torch.empty(size, size)
    start = time.perf_counter()
    for _ in range(repeats):
        torch.mm(a, a, out=out)
    return repeats * 2 * size**3 / (time.perf_counter() - start)


def bandwidth(megabytes=512, repeats=4):
    """Give the memory bandwidth of a copy, in byte/s: each byte is read and written."""
    a = torch.ones(megabytes << 18)
    out = torch.empty_like(a)
    out.copy_(a)
    start = time.perf_counter()
    for _ in range(repeats):
        out.copy_(a)
    return repeats * 2 * a.nbytes / (time.perf_counter() - start)


def training_rate(analysis, epochs):
    """Give the flop/s of a training: 2 a multiply-add, forward once and backward twice."""
    emulator = daml.LSTM(epochs=epochs)
    hidden, size = emulator.hidden, analysis.sizes["variable"]
    adds = 4 * hidden * (size + hidden) + 4 * hidden * 2 * hidden + hidden * size
    start = time.perf_counter()
    emulator.fit(analysis)
    steps = epochs * (analysis.sizes["time"] // emulator.sequence_length - 1)
    return 6 * adds * steps * emulator.sequence_length / (time.perf_counter() - start)


def main(epochs=3):
    """Measure, the products before and after the training."""
    analysis = record(daml.Lorenz63(), 100_000)
    training_rate(analysis, epochs=1)
    before = product_rate()
    training = training_rate(analysis, epochs)
    found = {"training": training, "product": (before + product_rate()) / 2}
    print(json.dumps(found | {"bandwidth": bandwidth()}))


if __name__ == "__main__":
    main()
