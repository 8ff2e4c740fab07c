"""Checkpoints that nobody trained: a small recognizer with seeded weights, of our own and of the published format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from omnisource import Recipe, Recognizer
from omnisource.checkpoints.file import Checkpoint, save_checkpoint
from omnisource.cli.arguments import load_recipe
from omnisource.models.weights.published import to_published
from omnisource.recipe.plain import to_plain
from tests.support.miniature import PUBLISHED_CONFIG, tiny_overrides

NAMES = {"kinetics400": ["down", "left", "right"], "imagenet": ["red", "grün", "blue"]}


def untrained_recipe(*more: str) -> Recipe:
    """Returns the published recipe with a tiny model; its data is nowhere."""
    return load_recipe(str(PUBLISHED_CONFIG), tiny_overrides(more=more))


def untrained_recognizer(recipe: Recipe) -> Recognizer:
    """Returns a recognizer in training mode, on whose running statistics something depends."""
    torch.manual_seed(3)
    recognizer = Recognizer(recipe.model, recipe.label_spaces)
    for module in recognizer.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.1)
    return recognizer


def save_untrained(recipe: Recipe, recognizer: Recognizer, path: Path, names: Mapping[str, list[str]] = NAMES) -> Path:
    """Writes a checkpoint of ours; returns its path."""
    content = Checkpoint(to_plain(recipe), dict(names), {}, {"model": recognizer.state_dict(), "step": 1})
    save_checkpoint(content, path, keep_last=1)
    return path


def save_both_formats(folder: Path) -> None:
    """Writes `own.pt` and `published.pth` with the same weights."""
    recipe = untrained_recipe()
    recognizer = untrained_recognizer(recipe)
    save_untrained(recipe, recognizer, folder / "own.pt")
    published = to_published(recognizer.state_dict(), "imagenet", "kinetics400")
    torch.save({"state_dict": published, "meta": {"epoch": 3}, "message_hub": {}}, folder / "published.pth")
