"""A small experiment on the miniatures, as a file."""

from __future__ import annotations

from pathlib import Path

EXPERIMENT = """
from pathlib import Path
from omnisource.compare.experiment import Budget, Experiment, Fold
from omnisource.compare.experiment import joint, pretrained, scratch, single_frame, still_clips
from tests.support.tiny_runs import tiny_recipe

experiment = Experiment(
    recipe=tiny_recipe(
        Path("data").absolute(),
        "sources.kinetics400.train.folder=",
        "sources.imagenet.ends_with=",
        "sources.imagenet.batch_size=3",
        OVERRIDE,
    ),
    variants=VARIANTS,
    folds={"one": Fold(train="train.txt", validation="validation.txt", test="test.txt")},
    budgets=BUDGETS,
    seeds=(0,),
    MORE
)
"""


def write_experiment(
    folder: Path,
    override: str = "seed=0",
    *,
    variants: str = '{"pretrained": pretrained(), "joint": joint()}',
    budgets: str = '{"steps": Budget("video_steps", 12)}',
    more: str = "",
) -> Path:
    """Writes experiment.py beside `data`, with its lists; returns its path."""
    root = folder / "data/kinetics400"
    train, held_out = root / "kinetics400_train_list_videos.txt", root / "kinetics400_val_list_videos.txt"
    (root / "train.txt").write_text("".join(f"videos_train/{line}\n" for line in train.read_text().splitlines()))
    lines = [f"videos_val/{line}\n" for line in held_out.read_text().splitlines()]
    (root / "validation.txt").write_text("".join(lines[::2]))
    (root / "test.txt").write_text("".join(lines[1::2]))
    text = EXPERIMENT
    for name, value in {"OVERRIDE": repr(override), "VARIANTS": variants, "BUDGETS": budgets, "MORE": more}.items():
        text = text.replace(name, value)
    path = folder / "experiment.py"
    path.write_text(text)
    return path
