"""How much the demo's figures differ from seed to seed: every variant with many seeds, one run after the other.

Besides, the joint training with BatchNorm as it was fixed before, with the same momentum and statistics as in the
published recipe: that is what a broken run gives. Results are kept after every run, and runs that are there are not
done again.

    nice python benchmarks/demo_seeds.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from omnisource.demo.media import make_demo_media
from omnisource.demo.run import train_variant
from omnisource.demo.variants import Stage, Variant, demo_variants
from omnisource.files.atomic import atomic_write
from omnisource.training.resuming.same_run import processor_name

RESULTS = Path(__file__).parent / "results/demo_seeds.json"
STALE = "joint, published statistics"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="seeds of every variant")
    parser.add_argument("--stale-seeds", type=int, default=3, help="seeds of the joint training with old statistics")
    arguments = parser.parse_args()
    runs = json.loads(RESULTS.read_text())["runs"] if RESULTS.exists() else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_demo_media(folder / "media")
        for seed in range(arguments.seeds):
            variants = demo_variants(folder / "media", seed)
            if seed < arguments.stale_seeds:
                variants[STALE] = stale(variants["joint"])
            for variant, what in variants.items():
                if not any((run["seed"], run["variant"]) == (seed, variant) for run in runs):
                    runs.append({"seed": seed, "variant": variant, **measured(variant, what, folder / f"{seed}")})
                    keep(runs)
    print_table(runs)


def stale(joint: Variant) -> Variant:
    """Returns the joint training with BatchNorm's statistics as in the published recipe."""
    (stage,) = joint.stages
    model = replace(stage.recipe.model, batch_norm_momentum=0.01, image_statistics=False)
    recipe = replace(stage.recipe, model=model, recompute_batch_norm="never")
    return Variant(joint.description, (Stage("stale", recipe, stage.multiply_adds),))


def measured(name: str, variant: Variant, folder: Path) -> dict:
    """Returns what one run of a variant came to."""
    started = time.process_time()
    result = train_variant(name, variant, folder)
    processor_seconds = time.process_time() - started  # of this process; the worker that decodes has its own
    return {
        "top1": result.top1,
        "correct": "".join(map(str, result.correct.astype(int))),
        "multiply_adds": result.multiply_adds,
        "epochs": [stage.recipe.num_epochs for stage in variant.stages],
        "processor_seconds": round(processor_seconds, 1),
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def keep(runs: list[dict]) -> None:
    """Writes all results, whole or not at all."""
    RESULTS.parent.mkdir(exist_ok=True)
    with atomic_write(RESULTS) as file:
        file.write((json.dumps({"runs": runs}, indent=1) + "\n").encode())


def print_table(runs: list[dict]) -> None:
    """Prints mean and spread of each variant, in percent."""
    print("| variant | seeds | mean | deviation | lowest | highest | mean - 3 deviations | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for variant in dict.fromkeys(run["variant"] for run in runs):
        shares = [100 * run["top1"] for run in runs if run["variant"] == variant]
        seconds = statistics.mean(run["training_seconds"] for run in runs if run["variant"] == variant)
        mean, deviation = statistics.mean(shares), statistics.stdev(shares)
        print(
            f"| {variant} | {len(shares)} | {mean:.1f} | {deviation:.1f} | {min(shares):.1f} | {max(shares):.1f} | "
            f"{mean - 3 * deviation:.1f} | {seconds:.0f} |"
        )
    by_seed = {(run["variant"], run["seed"]): run["top1"] for run in runs}
    pairs = [by_seed["joint", run["seed"]] - run["top1"] for run in runs if run["variant"] == "pre-trained"]
    print(
        f"joint - pre-trained: {100 * statistics.mean(pairs):+.1f} points over {len(pairs)} seeds, standard error "
        f"{100 * statistics.stdev(pairs) / len(pairs) ** 0.5:.1f}"
    )


if __name__ == "__main__":
    main()
