"""How long a checkpoint holds up the training thread: written on that thread, or by a thread beside it as runs do it.

The state is that of the published recipe: SlowOnly ResNet-50, 400 video and 1,000 image classes, SGD with momentum.
Real steps are trained in rounds of six, without a checkpoint and with one of each kind in turn. Two things are measured
by the clock: how long the call that saves takes, and how much longer the whole round takes, which has in it what the
writing thread takes away from the later steps. A round stands for checkpoints that are far apart, by steps or by
minutes. Then a checkpoint is saved after every step, so that each waits for the one before it.

At last the newest checkpoint is read as a run does that goes on from it, verified, and then its header alone. Seconds
of the processor are those of this process: other work on the machine does not count.

    OMP_NUM_THREADS=1 python benchmarks/checkpoint_cost.py
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from omnisource import LabelSpace, Model, Optimizer, Recognizer
from omnisource.checkpoints.file import (
    Checkpoint,
    checkpoint_path,
    read_checkpoint,
    read_header,
    save_checkpoint,
    saved_checkpoints,
)
from omnisource.checkpoints.writer import CheckpointWriter
from omnisource.training.optimizer import build_optimizer
from omnisource.training.state import TrainState
from omnisource.types import Batch

ROUND_STEPS = 6
INTERVAL_MINUTES = 10
KEEP_LAST = 2


class Training:
    """Steps of the recipe's model on two small clips, and a place for its checkpoints."""

    def __init__(self, work_dir: Path) -> None:
        torch.manual_seed(0)
        spaces = {
            "kinetics400": LabelSpace("video", num_classes=400),
            "imagenet": LabelSpace("image", num_classes=1000),
        }
        model = Recognizer(Model(depth=50), spaces)
        self.state = TrainState(model, build_optimizer(Optimizer(), model))
        clips, images = (torch.randint(0, 256, (2, 1, 3, length, 96, 96), dtype=torch.uint8) for length in (8, 1))
        labels = torch.tensor([0, 1])
        self.batches = [
            Batch("videos", "video", "kinetics400", clips, labels, ("a", "b")),
            Batch("images", "image", "imagenet", images, labels, ("a", "b")),
        ]
        self.work_dir = work_dir
        self.writer = CheckpointWriter()

    def step(self) -> None:
        self.state.optimizer.zero_grad(set_to_none=True)
        losses: dict[str, torch.Tensor] = self.state.model(self.batches)
        sum(losses.values(), torch.zeros(())).backward()
        self.state.optimizer.step()
        self.state.step += 1

    def save_here(self) -> None:
        save_checkpoint(self._checkpoint(), checkpoint_path(self.work_dir, self.state.step), KEEP_LAST)

    def save_beside(self) -> None:
        self.writer.write(self._checkpoint(), checkpoint_path(self.work_dir, self.state.step), KEEP_LAST)

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint({}, {}, {}, self.state.state_dict())

    def round(self, save: Callable[[], None]) -> tuple[float, float]:
        """Returns the seconds of a round, and of the call that saves after its first step."""
        started = time.perf_counter()
        self.step()
        saved_at = time.perf_counter()
        save()
        held = time.perf_counter() - saved_at
        for _ in range(ROUND_STEPS - 1):
            self.step()
        whole = time.perf_counter() - started
        self.writer.wait()  # the next round begins with an idle disk
        return whole, held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each kind, of which the medians are printed")
    parser.add_argument("--folder", type=Path, help="where the checkpoints go (the folder for temporary files)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        measure(Training(Path(folder)), arguments.rounds)


def measure(training: Training, rounds: int) -> None:
    ways: dict[str, Callable[[], None]] = {
        "none": lambda: None,
        "on the training thread": training.save_here,
        "beside it": training.save_beside,
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, save in ways.items():
            found[name].append(training.round(save))
    rows = {name: list(zip(*times[1:], strict=True)) for name, times in found.items()}  # the first warms up
    alone = rows["none"][0]
    megabytes = sum(path.stat().st_size for path in training.work_dir.rglob("*.pt")) / KEEP_LAST / 1e6
    step_seconds = statistics.median(alone) / ROUND_STEPS
    print(f"{megabytes:.0f} MB a checkpoint, steps of {step_seconds:.2f} s, medians of {rounds} rounds in turn\n")
    print(
        f"| checkpoint written | the call takes | a round takes longer by | share, every {INTERVAL_MINUTES} minutes |"
    )
    print("| --- | --- | --- | --- |")
    costs = {}
    for name in list(ways)[1:]:
        held = statistics.median(rows[name][1])
        costs[name] = held, statistics.median(ours - none for ours, none in zip(rows[name][0], alone, strict=True))
        share = costs[name][1] / (60 * INTERVAL_MINUTES)
        print(f"| {name} | {held:.3f} s | {costs[name][1]:.2f} s | {share:.3%} |")
    (here, here_longer), (beside, beside_longer) = costs.values()
    print(f"| ratio | {here / beside:.1f} | {here_longer / beside_longer:.1f} | |")
    print()
    for name in list(ways)[1:]:
        calls = [after_every_step(training, ways[name]) for _ in range(2 * rounds + 1)]
        training.writer.wait()
        print(f"after every step, {name}: the call takes {statistics.median(calls[1:]):.3f} s")
    print()
    newest = saved_checkpoints(training.work_dir)[-1]
    print_seconds("read into the run, verified", lambda: training.state.load_state_dict(read_checkpoint(newest).state))
    print_seconds("its header alone", lambda: read_header(newest))


def print_seconds(name: str, read: Callable[[], object]) -> None:
    found: list[tuple[float, float]] = []
    for _ in range(6):
        started, processor_started = time.perf_counter(), time.process_time()
        read()
        found.append((time.perf_counter() - started, time.process_time() - processor_started))
    by_clock, by_processor = (statistics.median(times) for times in zip(*found[1:], strict=True))
    print(f"{name}: {by_clock:.3f} s, of the processor {by_processor:.3f} s")


def after_every_step(training: Training, save: Callable[[], None]) -> float:
    training.step()
    started = time.perf_counter()
    save()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
