"""A ViT goes the whole way of a run: joint training in bfloat16, resuming, testing, predicting, exporting, showing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from omnisource.checkpoints.file import checkpoint_path, read_checkpoint
from omnisource.errors import UserError
from omnisource.evaluation import test as testing
from omnisource.evaluation.load import load, load_recognizer
from omnisource.evaluation.predict import media_files, predict
from omnisource.evaluation.report import ReportFiles
from omnisource.export.weights import export_checkpoint, print_checkpoint
from omnisource.models.backbones.vit import VisionTransformer
from omnisource.models.weights.read import read_weights_file
from omnisource.recipe.recipe import Recipe
from omnisource.show.show import print_recipe
from omnisource.training.train import train
from tests.support.tiny_runs import SAVE_EVERY_STEP, STEPS, difference, lines_of, mixed_recipe

VIT = {
    "model": ("depth=50", "width=1"),
    "model.vit": (
        "family=dinov2",
        "registers=2",
        "width=24",
        "depth=2",
        "num_heads=2",
        "patch=8",
        "image_size=48",
        "clip_length=8",
        "stochastic_depth=0.3",
        "activation_checkpointing=true",
    ),
    "optimizer": (
        "method=adamw",
        "learning_rate=0.003",
        "weight_decay=0.05",
        "decay_norm_and_bias=false",
        "layer_decay=0.75",
    ),
    "label_spaces": ("imagenet.head=linear", "kinetics400.head=linear"),
    "sources": ("kinetics400.sampling.clip_length=4",),
}


def vit_recipe(data: Path, *more: str) -> Recipe:
    of_vit = [f"{group}.{setting}" for group, settings in VIT.items() for setting in settings]
    return mixed_recipe(data, *of_vit, "precision=bfloat16", "ema_decay=0.9", *more)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the work dir of an uninterrupted run. Not to be changed."""
    work_dir = tmp_path_factory.mktemp("vit") / "run"
    train(vit_recipe(data, *SAVE_EVERY_STEP), work_dir)
    return work_dir


def test_images_and_videos_train_every_parameter(whole: Path) -> None:
    first, last = (read_checkpoint(checkpoint_path(whole, step)).state for step in (1, STEPS))
    for name, tensor in last["model"].items():
        assert tensor.isfinite().all() and not torch.equal(tensor, first["model"][name]), name
        assert tensor.dtype == torch.float32 or "tracked" in name
    groups = last["optimizer"]["param_groups"]
    decayed = [len(group["params"]) for group in groups if group["weight_decay"]]
    assert decayed == [1, 4, 4, 2]  # the kernel, the linear layers of two blocks, those of the heads
    assert [group["lr"] / groups[-1]["lr"] for group in groups[::2]] == pytest.approx([0.75**3, 0.75**2, 0.75, 1])


def test_resumed_run_equals_the_uninterrupted_one(whole: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    for step in range(4, STEPS + 1):
        checkpoint_path(tmp_path / "run", step).unlink()
    train(
        vit_recipe(data, *SAVE_EVERY_STEP, "model.vit.activation_checkpointing=false"), tmp_path / "run", resume="auto"
    )
    ours, theirs = (read_checkpoint(checkpoint_path(run, STEPS)).state for run in (tmp_path / "run", whole))
    assert difference(ours, theirs) == ""
    assert lines_of(tmp_path / "run") == lines_of(whole)


def test_checkpoint_is_tested_exported_and_predicted_with(whole: Path, data: Path, tmp_path: Path) -> None:
    checkpoint, exported = checkpoint_path(whole, STEPS), tmp_path / "vit.safetensors"
    export_checkpoint(checkpoint, exported)
    of_run = testing.test(vit_recipe(data), str(checkpoint), ReportFiles(tmp_path / "of_run"))
    of_weights = testing.test(vit_recipe(data), str(exported), ReportFiles(tmp_path / "of_weights"))
    assert torch.equal(of_run["kinetics400"].scores, of_weights["kinetics400"].scores)

    video = str(sorted((data / "kinetics400/videos_val").rglob("*.mp4"))[0])
    image = str(sorted((data / "imagenet").rglob("*.JPEG"))[0])
    loaded = load(exported)
    assert isinstance(loaded.classifier.recognizer.backbone, VisionTransformer)
    results = list(predict(loaded, media_files([video, image]), top=3))
    for result, space in zip(results, ("kinetics400", "imagenet"), strict=True):
        assert [prediction.head for prediction in result.predictions] == [space]
        assert sum(score for _, score in result.predictions[0].top) == pytest.approx(1, abs=1e-5)


def test_keys_are_refused_where_the_checkpoint_tells_its_network(whole: Path) -> None:
    with pytest.raises(UserError, match="tells its network itself; leave out num_heads"):
        load_recognizer(checkpoint_path(whole, 1), num_heads=3)


def test_checkpoint_starts_another_run(whole: Path, data: Path, tmp_path: Path) -> None:
    checkpoint = checkpoint_path(whole, STEPS)
    more = (f"model.weights={checkpoint}", "num_epochs=1", "optimizer.learning_rate=1e-12", "precision=float32")
    state = train(vit_recipe(data, *more), tmp_path)
    start = read_weights_file(checkpoint)["model"]
    for name, parameter in state.model.named_parameters():
        torch.testing.assert_close(parameter.detach(), start[name], rtol=0, atol=1e-9)


def test_recipe_and_checkpoint_say_which_vit_it_is(whole: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_checkpoint(checkpoint_path(whole, STEPS))
    assert "ViT of width 24, dinov2, patches of 8, 2 frames a token" in " ".join(capsys.readouterr().out.split())
    print_recipe(vit_recipe(data))
    text = capsys.readouterr().out
    assert "video path, head kinetics400" in text and "with the kernels summed over time" in text
