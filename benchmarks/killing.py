"""Kills training runs at random moments, restarts them with --resume auto, and compares them with uninterrupted runs.

Each run has three sources, accumulation, dropout, a moving average of the weights and validations; one of them trains
in bfloat16. The lives of a run take 0, 1 and 3 loading workers in turn. Weights, optimizer, average, losses, gradient
norms and samples of every step must be equal bit for bit; the script ends with exit code 1 where they are not, where a
run was killed fewer times than asked for, and where none died while a checkpoint was being written or in a validation.

    python benchmarks/killing.py --kills 60
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from omnisource.reporting.progress import progress_bar
from tests.support.killing import (
    EPOCH_STEPS,
    LONGEST_LIFE_STEPS,
    RUNS,
    assert_equal_to_uninterrupted,
    assert_killed_enough,
    killed_run,
    uninterrupted_run,
)
from tests.support.tiny_runs import make_data

SETTINGS = ("checkpoints.interval_steps=2", "checkpoints.keep_last=2")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60, help="kills of all runs together")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    arguments = parser.parse_args()
    each = -(-arguments.kills // len(RUNS))
    total, failures, started = Counter[str](), 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder, progress_bar("killing", each * len(RUNS)) as advance:
        data = make_data(Path(folder))
        for name, overrides in RUNS.items():
            # More steps than all the lives together can get on.
            settings = (f"num_epochs={LONGEST_LIFE_STEPS * each // EPOCH_STEPS + 2}", *SETTINGS, *overrides)
            place = Path(folder) / name
            whole = uninterrupted_run(place, data, settings)
            moments = killed_run(place, data, settings, each, arguments.seed, on_kill=lambda moment: advance())
            total += moments
            try:
                assert_killed_enough(moments, each)
                assert_equal_to_uninterrupted(place / "run", whole)
                print(f"{name}: {moments.total()} kills, equal bit for bit", flush=True)
            except AssertionError as fault:
                failures += 1
                print(f"{name}: {moments.total()} kills, NOT as it must be: {fault}", flush=True)
    print("\n| moment of the kill | kills |\n| --- | --- |")
    for moment, count in sorted(total.items()):
        print(f"| {moment} | {count} |")
    print(f"| all | {total.total()} |\n\n{time.monotonic() - started:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
