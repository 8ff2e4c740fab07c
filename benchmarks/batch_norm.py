"""What it costs a training step to hold BatchNorm's running statistics still and to move them at its end.

The peer is torch's own way on the same model, which moves them in the forward. Both take turns, step by step. Processor
time is measured, which other work on the machine changes less than wall time.

    python benchmarks/batch_norm.py
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from omnisource.models.backbones.slow_only import slow_only
from omnisource.models.batch_norm import RunningStatistics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20, help="steps of each kind, of which the medians are printed")
    pairs = parser.parse_args().pairs
    torch.manual_seed(0)
    model = slow_only(50).train()
    running = RunningStatistics(model)
    clips = torch.randn(2, 3, 8, 112, 112)

    def train() -> None:
        model.zero_grad(set_to_none=True)
        model(clips, "video").square().mean().backward()

    def train_recorded() -> None:
        with running.recording():
            train()
        running.combine()

    def record_nothing() -> None:  # what is added to a step
        with running.recording():
            pass
        running.combine()

    ways = {"torch": train, "ours": train_recorded, "added": record_nothing}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(pairs + 1):
        for name, step in ways.items():
            started = time.process_time()
            step()
            seconds[name].append(time.process_time() - started)
    torchs, ours, added = (statistics.median(times[1:]) for times in seconds.values())  # the first warms up
    ratio = statistics.median(b / a for a, b in zip(seconds["torch"][1:], seconds["ours"][1:], strict=True))
    print(f"ResNet-50, 2 clips of 8 x 112 x 112, {torch.get_num_threads()} threads, median of {pairs} pairs of steps")
    print(f"torch's own update {torchs:.3f} s a step, ours {ours:.3f} s, median ratio within a pair {ratio:.4f}")
    print(f"recording and combining without a batch: {1000 * added:.2f} ms")


if __name__ == "__main__":
    main()
