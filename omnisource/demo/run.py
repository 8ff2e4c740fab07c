"""The demo: makes its media, trains on them in three ways, and shows what came of each, side by side."""

from __future__ import annotations

import itertools
import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from omnisource.checkpoints.file import checkpoint_path
from omnisource.data.classes import resolve_classes
from omnisource.data.datasets import read_split
from omnisource.demo.media import CLIP_CLASSES, make_demo_media
from omnisource.demo.picture import draw_variants
from omnisource.demo.results import VariantResult, sentence
from omnisource.demo.variants import Variant, demo_recipe, demo_variants
from omnisource.evaluation.load import load
from omnisource.evaluation.predict import MediaFile, predict
from omnisource.evaluation.report import ReportFiles, draw_predictions
from omnisource.evaluation.test import test
from omnisource.printing import notice, show
from omnisource.reporting.curves import draw_curves
from omnisource.training.train import train

CHANCE = 1 / len(CLIP_CLASSES)
REQUIRED = 0.60
"""Top-1 of the joint training on held-out clips below which the demo counts as failed."""

CONTACT_SHEET_ITEMS = 24


def train_variant(name: str, variant: Variant, run: Path) -> VariantResult:
    """Trains the stages of a variant, tests the last checkpoint, and returns what came of it.

    Args:
        name: Of the variant.
        variant: What is trained.
        run: Folder of the demo's run; each stage gets a work dir there.
    """
    show(f"\n{name}: {variant.description}, {variant.multiply_adds / 1e9:.0f} G multiply-adds of training")
    started, weights = time.monotonic(), ""
    recipe = variant.stages[-1].recipe
    for stage in variant.stages:
        recipe = replace(stage.recipe, model=replace(stage.recipe.model, weights=weights))
        state = train(recipe, run / stage.name)
        weights = str(checkpoint_path(run / stage.name, state.step))
    seconds = time.monotonic() - started
    # The last, not the best: nothing is chosen on the clips that are tested here.
    evaluation = test(recipe, weights, ReportFiles(run / variant.stages[-1].name / "test"))["clips"]
    return VariantResult(variant.description, evaluation, variant.multiply_adds, seconds)


def run_demo(folder: Path) -> int:
    """Runs the demo and returns its exit code: 1 if the joint training recognizes less than it always does.

    Args:
        folder: Keeps the media, and one folder for each time the demo is run.
    """
    started = time.monotonic()
    torch.set_num_threads(1)  # more are slower with so small a model, and much slower where other programs run
    media = folder / "media"
    notice(f"making images and clips in {media}", sys.stdout)
    make_demo_media(media)
    run = next(path for n in itertools.count(1) if not (path := folder / f"run_{n}").exists())
    variants = demo_variants(media)
    results = {name: train_variant(name, variant, run) for name, variant in variants.items()}

    recipe, names = resolve_classes(demo_recipe(media))
    clips = read_split(recipe, names, "clips", "test")
    assert clips is not None
    interval = math.ceil(len(clips) / CONTACT_SHEET_ITEMS)
    (sheet,) = draw_predictions(results["joint"].evaluation, recipe, clips, run / "predictions", interval)
    picture = draw_variants(results, recipe.sources["clips"], clips, run / "variants.png")
    joint = run / variants["joint"].stages[-1].name
    checkpoint = max((joint / "checkpoints").glob("step_*.pt"))
    (predicted,) = predict(load(checkpoint), [MediaFile(clips[0].path, "video")], top=3)

    lines = [""]
    for prediction in predicted.predictions:
        said = ", ".join(f"{label} {score:.0%}" for label, score in prediction.top)
        lines.append(f"{clips[0].path} ({CLIP_CLASSES[clips[0].label]}): {said}")
    lines += [f"checkpoint:    {checkpoint}", f"curves:        {draw_curves(joint)}"]
    lines += [f"predictions:   {sheet}", f"side by side:  {picture}"]
    for name, result in results.items():
        lines.append(f"{name:12} top-1 {result.top1:6.1%}   {result.description}; trained in {result.seconds:.0f} s")
    lines += [sentence(results), f"{time.monotonic() - started:.0f} s in all"]
    show(*lines)
    top1 = results["joint"].top1
    if top1 < REQUIRED:
        show(f"the demo failed: joint training came to {top1:.1%}, below the {REQUIRED:.0%} that it always reaches")
        return 1
    return 0
