"""How much the demo's figures differ from seed to seed: every variant with many seeds, one run after the other.

With --published-statistics instead the joint training alone, with BatchNorm's momentum and statistics as in the
published recipe: that is what the demo would be without statistics computed again. Results are kept after every run,
and runs that are there are not done again.

    nice python benchmarks/demo_seeds.py
    nice python benchmarks/demo_seeds.py --published-statistics --seeds 3
"""

from __future__ import annotations

import argparse
import json
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

FOLDER = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="seeds of every variant")
    parser.add_argument("--published-statistics", action="store_true", help="the joint training as it was before")
    arguments = parser.parse_args()
    path = FOLDER / ("demo_published_statistics.json" if arguments.published_statistics else "demo_seeds.json")
    runs = json.loads(path.read_text())["runs"] if path.exists() else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_demo_media(folder / "media")
        for seed in range(arguments.seeds):
            variants = demo_variants(folder / "media", seed)
            if arguments.published_statistics:
                variants = {"joint": stale(variants["joint"])}
            for variant, what in variants.items():
                if not any((run["seed"], run["variant"]) == (seed, variant) for run in runs):
                    runs.append({"seed": seed, "variant": variant, **measured(variant, what, folder / f"{seed}")})
                    keep(runs, path)


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


def keep(runs: list[dict], path: Path) -> None:
    """Writes all results, whole or not at all."""
    with atomic_write(path) as file:
        file.write((json.dumps({"runs": runs}, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
