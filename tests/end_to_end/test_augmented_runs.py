"""Runs with every augmentation and both kinds of mixing on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from omnisource import ColorJitter, LabelSpace, Mixing, RandAugment, RandomErasing, Recipe
from omnisource.checkpoints.file import checkpoint_path, read_checkpoint, save_checkpoint
from omnisource.data.classes import resolve_classes
from omnisource.data.datasets import read_splits
from omnisource.data.loading.loader import Loader
from omnisource.data.loading.stream import Stream
from omnisource.data.loading.unreadable import UnreadableLog
from omnisource.data.loading.workers import WorkerPool
from omnisource.data.transforms.mixing import mix_batches
from omnisource.errors import UserError
from omnisource.recipe.overrides import apply_overrides
from omnisource.training.plan import make_plan
from omnisource.training.train import train
from omnisource.types import Batch
from tests.end_to_end.processes.test_failures import broken_weights
from tests.support.miniature import PUBLISHED_CONFIG, tiny_overrides
from tests.support.tiny_runs import PROJECT, difference, lines_of, roots, step_lines, tiny_recipe, torchrun

STEPS = 6


def augmented_recipe(data: Path, *more: str) -> Recipe:
    """Returns a recipe of videos and images in one label space: all augmentations, images mixed into the videos."""
    recipe = tiny_recipe(data, "accumulation=2", "deterministic=True", "checkpoints.interval_steps=1", "num_epochs=2")
    video, image = recipe.sources["kinetics400"], recipe.sources["imagenet"]
    view = dataclasses.replace(
        video.training_view,
        rand_augment=RandAugment(num_operations=3, probability=1.0),
        color_jitter=ColorJitter(hue=0.1),
        random_erasing=RandomErasing(probability=0.5, fill="noise"),
    )
    sources = {
        "kinetics400": dataclasses.replace(
            video, training_view=view, mixing=Mixing(mixup_alpha=0.8, cutmix_alpha=1.0, partner="imagenet")
        ),
        "imagenet": dataclasses.replace(
            image, label_space="kinetics400", training_view=view, mixing=Mixing(mixup_alpha=0.2), classes=""
        ),
    }
    spaces = {"kinetics400": LabelSpace("video", num_classes=3, dropout=0.5, label_smoothing=0.1)}
    recipe = dataclasses.replace(recipe, label_spaces=spaces, sources=sources)
    return apply_overrides(recipe, more)


@pytest.fixture(scope="module")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work_dir = tmp_path_factory.mktemp("augmented") / "run"
    train(augmented_recipe(data, "checkpoints.keep_last=9"), work_dir)
    return work_dir


@pytest.mark.parametrize(("stopped", "num_workers"), [(1, 2), (4, 0)])
def test_augmented_run_that_is_resumed_equals_the_uninterrupted_one(
    uninterrupted: Path, data: Path, tmp_path: Path, stopped: int, num_workers: int
) -> None:
    recipe = augmented_recipe(data, f"num_workers={num_workers}")
    train(recipe, tmp_path, resume=str(checkpoint_path(uninterrupted, stopped)))
    ours, theirs = (read_checkpoint(checkpoint_path(folder, STEPS)).state for folder in (tmp_path, uninterrupted))
    assert difference(ours, theirs) == ""
    assert step_lines(tmp_path) == step_lines(uninterrupted)[stopped:]


def test_augmentation_and_mixing_reach_the_losses(uninterrupted: Path, data: Path, tmp_path: Path) -> None:
    first = step_lines(uninterrupted)[0]["losses"]
    for number, override in enumerate(
        (
            "sources.kinetics400.mixing=None",
            "sources.kinetics400.mixing.switch_probability=1",
            "sources.kinetics400.training_view.rand_augment=None",
            "sources.kinetics400.training_view.color_jitter=None",
            "sources.kinetics400.training_view.random_erasing.fill=mean",
        )
    ):
        folder = tmp_path / str(number)
        train(augmented_recipe(data, override, "num_epochs=1", "validation.interval_epochs=0"), folder)
        losses = step_lines(folder)[0]["losses"]
        assert losses["kinetics400"] != first["kinetics400"], override
        assert losses["imagenet"] == first["imagenet"], override  # the images have draws of their own


def test_batch_that_is_kept_for_inspection_is_what_the_model_saw(
    uninterrupted: Path, data: Path, tmp_path: Path
) -> None:
    broken, recipe = broken_weights(uninterrupted, 2, tmp_path / "step_000000002.pt"), augmented_recipe(data)
    with pytest.raises(UserError, match="step 3: the loss of source kinetics400 is not finite"):
        train(recipe, tmp_path / "run", resume=str(broken))
    kept = torch.load(tmp_path / "run/not_finite/step_000000003_process_0.pt", weights_only=True)
    seen = [batch for batches in mixed_batches_of_step(recipe, 2) for batch in batches]
    assert len(kept) == len(seen) == 4  # two microbatches of videos and images, which share a head
    for ours, batch in zip(kept, seen, strict=True):
        assert (ours["source"], ours["keys"]) == (batch.source, list(batch.keys))
        assert torch.equal(ours["clips"], batch.clips) and torch.equal(ours["labels"], batch.labels)
    assert any(" + " in key for batch in kept for key in batch["keys"])


def mixed_batches_of_step(recipe: Recipe, step: int) -> list[list[Batch]]:
    """Returns the batches of a 0-based step of a run of one process, mixed, by microbatch."""
    recipe, names = resolve_classes(recipe)
    items = read_splits(recipe, names, "train")
    plan = make_plan(recipe, {name: len(of_source) for name, of_source in items.items()}, 1)
    streams = [
        Stream(name, source, items[name], plan.batch_sizes[name], recipe.seed)
        for name, source in recipe.sources.items()
    ]
    with WorkerPool(0, 60) as workers:
        count = plan.microbatches
        loader = Loader(streams, workers, count, range(count), UnreadableLog(0, {}, print, {}))
        loader.seek(step)
        mixing = recipe.mixings(), recipe.class_counts(), recipe.seed
        return [mix_batches(batches, *mixing, step, position) for position, batches in enumerate(next(loader))]


def test_resuming_with_another_augmentation_is_refused(uninterrupted: Path, data: Path, tmp_path: Path) -> None:
    recipe = augmented_recipe(data, "sources.imagenet.mixing=None")
    with pytest.raises(UserError, match=r"sources\.imagenet\.mixing\.mixup_alpha: 0\.2 in the checkpoint, None now"):
        train(recipe, tmp_path, resume=str(checkpoint_path(uninterrupted, 2)))


def test_checkpoint_from_before_there_was_augmentation_goes_on(data: Path, tmp_path: Path) -> None:
    settings = ("num_epochs=1", "checkpoints.interval_steps=1", "checkpoints.keep_last=9", "deterministic=True")
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    train(tiny_recipe(data, *settings), whole)
    old = read_checkpoint(checkpoint_path(whole, 3))
    for source in old.recipe["sources"].values():
        del source["mixing"]
        for name in ("rand_augment", "color_jitter", "random_erasing"):
            del source["training_view"][name]
    path = tmp_path / "old/checkpoints/step_000000003.pt"
    path.parent.mkdir(parents=True)
    save_checkpoint(old, path, keep_last=1)
    train(tiny_recipe(data, *settings), resumed, resume=str(path))
    ours, theirs = (read_checkpoint(checkpoint_path(folder, STEPS)).state for folder in (resumed, whole))
    assert difference(ours, theirs) == ""
    assert lines_of(resumed)[-1] == lines_of(whole)[-1]
    assert all(torch.isfinite(torch.tensor(line["total_loss"])) for line in step_lines(resumed))


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed package")
def test_two_processes_augment_and_mix_as_one_with_two_microbatches(data: Path, tmp_path: Path) -> None:
    settings = [
        "sources.kinetics400.training_view.rand_augment.probability=1",
        "sources.kinetics400.mixing.mixup_alpha=0.8",
        "sources.kinetics400.mixing.cutmix_alpha=1",
        "sources.imagenet.mixing.mixup_alpha=0.8",
        "validation.interval_epochs=0",
    ]
    options = ["--launcher", "pytorch", "--work-dir", str(tmp_path / "two")]
    overrides = tiny_overrides(more=[*roots(data), *settings])
    result = torchrun(PROJECT / "tools/train.py", str(PUBLISHED_CONFIG), *options, "--cfg-options", *overrides)
    assert result.returncode == 0, result.stderr
    train(tiny_recipe(data, "accumulation=2", *settings), tmp_path / "one")
    two, one = step_lines(tmp_path / "two"), step_lines(tmp_path / "one")
    assert two[0]["losses"] == pytest.approx(one[0]["losses"], rel=1e-5)
    train(tiny_recipe(data, "accumulation=2", *settings, "sources.imagenet.mixing=None"), tmp_path / "unmixed")
    assert step_lines(tmp_path / "unmixed")[0]["losses"]["imagenet"] != one[0]["losses"]["imagenet"]
