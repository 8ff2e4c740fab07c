"""The demo: makes its media, trains on them jointly, tests, predicts, and prints where the results are."""

from __future__ import annotations

import itertools
import math
import sys
import time
from dataclasses import replace
from pathlib import Path

from omnisource.checkpoints.file import checkpoint_path
from omnisource.data.classes import resolve_classes
from omnisource.data.datasets import read_split
from omnisource.demo.media import CLIP_CLASSES, make_demo_media
from omnisource.evaluation.load import load
from omnisource.evaluation.predict import MediaFile, predict
from omnisource.evaluation.report import ReportFiles, draw_predictions
from omnisource.evaluation.test import test
from omnisource.printing import notice, show
from omnisource.recipe.data import ClipSampling, EvaluationViews, Source, Split, TrainingView
from omnisource.recipe.model import LabelSpace, Model
from omnisource.recipe.optimization import Optimizer, Schedule
from omnisource.recipe.recipe import Checkpoints, Recipe, Validation
from omnisource.reporting.curves import draw_curves
from omnisource.training.train import train

CHANCE = 1 / len(CLIP_CLASSES)
REQUIRED = 3 * CHANCE
"""Top-1 on held-out clips below which the demo counts as failed: three times chance."""

CONTACT_SHEET_ITEMS = 24


def demo_recipe(media: Path) -> Recipe:
    """Returns the recipe of the demo: 120 labeled clips of 20 classes, and images of the ten digits."""
    size = 64
    center = EvaluationViews(num_clips=1, num_crops=1, short_side=size, crop_size=size)
    view = TrainingView(crop_size=size, min_area=0.6, flip_probability=0.0)  # a flip would turn left into right
    return Recipe(
        model=Model(depth=18, width=0.25),
        label_spaces={
            "digit_and_motion": LabelSpace(head="video", dropout=0.3),
            "digit": LabelSpace(head="image", dropout=0.2),
        },
        sources={
            "clips": Source(
                media="video",
                label_space="digit_and_motion",
                root=str(media / "clips"),
                train=Split(list="train.txt"),
                validation=Split(list="held_out.txt"),
                classes="classes.txt",
                batch_size=20,
                sampling=ClipSampling(clip_length=8, frame_interval=3),
                training_view=view,
                validation_views=center,
                test_views=replace(center, num_crops=3),
            ),
            "images": Source(
                media="image",
                label_space="digit",
                root=str(media / "images"),
                train=Split(list="train.txt"),
                validation=Split(list="held_out.txt"),
                classes="classes.txt",
                batch_size=60,
                training_view=view,
                validation_views=center,
                test_views=center,
            ),
        },
        main_source="clips",
        num_epochs=60,
        optimizer=Optimizer(learning_rate=0.1, base_batch_size=20, weight_decay=5e-4),
        schedule=Schedule(warmup_epochs=3),
        validation=Validation(interval_epochs=20),
        checkpoints=Checkpoints(interval_epochs=20, keep_last=2),
        num_workers=2,
    )


def run_demo(folder: Path) -> int:
    """Runs the demo and returns its exit code: 1 if the recognizer is not clearly better than chance.

    Args:
        folder: Keeps the media, and one folder for each time the demo is run.
    """
    started = time.monotonic()
    media = folder / "media"
    notice(f"making images and clips in {media}", sys.stdout)
    make_demo_media(media)
    recipe = demo_recipe(media)
    run = next(path for n in itertools.count(1) if not (path := folder / f"run_{n}").exists())
    state = train(recipe, run)
    # The last, not the best: the best is chosen on the clips that are tested here.
    checkpoint = checkpoint_path(run, state.step)
    evaluations = test(recipe, str(checkpoint), ReportFiles(run / "test"))

    loaded = load(checkpoint)
    resolved, names = resolve_classes(recipe)
    sheets, lines = {}, []
    for name, source in recipe.sources.items():
        items = read_split(resolved, names, name, "test")
        assert items is not None
        interval = math.ceil(len(items) / CONTACT_SHEET_ITEMS)
        labels = names[source.label_space]
        sheets[name] = draw_predictions(evaluations[name], recipe, items, run / "predictions" / name, interval)
        item = items[0]
        (result,) = predict(loaded, [MediaFile(item.path, source.media)], top=3)
        for prediction in result.predictions:
            said = ", ".join(f"{label} {score:.0%}" for label, score in prediction.top)
            lines.append(f"{item.path} ({labels[item.label]}): {said}")

    top1 = evaluations["clips"].metrics.top1
    lines += [f"checkpoint:     {checkpoint}", f"curves:         {draw_curves(run)}"]
    lines += [f"contact sheet:  {paths[0]} ({name})" for name, paths in sheets.items()]
    lines.append(f"held-out clips: top-1 {top1:.1%}, chance {CHANCE:.0%}; {time.monotonic() - started:.0f} s in all")
    if top1 < REQUIRED:
        lines.append(f"the demo failed: top-1 {top1:.1%} is below {REQUIRED:.0%}, three times chance")
    show(*lines)
    return 1 if top1 < REQUIRED else 0
