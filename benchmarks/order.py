"""How long it takes to find the items of a batch anywhere in the endless stream of a source, and with how much memory.

The peer is what torch's DistributedSampler does: one permutation of the whole epoch, made again for each epoch.

    python benchmarks/order.py
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc

import numpy as np
import torch

from omnisource.data.loading.order import class_table, drawn_at, items_at

BATCH = 128


def milliseconds(function, repeats: int) -> float:
    """Returns the median time of a call in milliseconds."""
    times = []
    for number in range(repeats):
        started = time.perf_counter()
        function(number)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def peak_bytes(function) -> int:
    """Returns the most memory that a call holds at once, in bytes, as far as Python and NumPy are asked for it."""
    tracemalloc.start()
    function(0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def whole_permutation(count: int, epoch: int) -> torch.Tensor:
    generator = torch.Generator()
    generator.manual_seed(epoch)
    return torch.randperm(count, generator=generator)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=200, help="calls of each, of which the median is printed")
    repeats = parser.parse_args().repeats
    print(f"| items | ours, any batch of {BATCH} | memory | a whole permutation (torch.randperm) | memory |")
    print("| --- | --- | --- | --- | --- |")
    for count in (10**3, 10**6, 10**7, 10**9):

        def seek(number: int, count: int = count) -> None:
            far = (number + 1) * 977_777_777_777 % (1000 * count)  # some position of the first thousand epochs
            items_at(0, f"source of {count}", count, far, BATCH)

        ours, ours_bytes = milliseconds(seek, repeats), peak_bytes(seek)
        if count <= 10**7:
            peer = milliseconds(lambda epoch, count=count: whole_permutation(count, epoch), 5)
            print(f"| {count:,} | {ours:.3f} ms | {ours_bytes:,} B | {peer:.2f} ms | {8 * count:,} B |")
        else:
            print(f"| {count:,} | {ours:.3f} ms | {ours_bytes:,} B | not run | {8 * count:,} B |")

    labels = np.random.default_rng(0).zipf(1.3, 1_000_000).clip(max=400) - 1
    table = class_table(labels, 0.5)
    drawn = milliseconds(lambda number: drawn_at(0, "source", table, number * 977_777_777_777, BATCH), repeats)
    print(
        f"\nclasses drawn by count^0.5 over 1,000,000 items: {drawn:.3f} ms a batch, {table.items.nbytes:,} B of table"
    )


if __name__ == "__main__":
    main()
