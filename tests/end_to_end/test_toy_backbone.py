"""A backbone that has nothing of the ResNet goes the whole way: nothing but the backbone knows which one it is."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import omnisource
from omnisource.checkpoints.file import best_path, checkpoint_path, read_checkpoint
from omnisource.errors import UserError
from omnisource.evaluation import test as testing
from omnisource.evaluation.load import load
from omnisource.evaluation.predict import media_files, predict
from omnisource.evaluation.report import ReportFiles
from omnisource.export.weights import export_checkpoint
from omnisource.models.backbones.backbone import ParameterGroup, group_parameters
from omnisource.models.cost import count_multiply_adds, count_parameters
from omnisource.models.normalize import Normalization
from omnisource.models.recognizer import Recognizer
from omnisource.models.weights.formats import SizeDifferences
from omnisource.models.weights.own import OWN
from omnisource.recipe.model import Model
from omnisource.recipe.recipe import Recipe
from omnisource.signals import Interrupted
from omnisource.training.train import train
from omnisource.types import Media
from tests.support.holding import signal_in_step
from tests.support.tiny_runs import SAVE_EVERY_STEP, STEPS, difference, lines_of, mixed_recipe, validation_lines

CHANNELS, PATCH, PATCHES, BLOCKS = 16, 8, 16, 2  # 16 patches of 8 x 8 pixels are an image of 32 x 32


class Block(nn.Module):
    """Attention between all tokens, and two linear layers on each."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(CHANNELS), nn.LayerNorm(CHANNELS)
        self.qkv, self.out = nn.Linear(CHANNELS, 3 * CHANNELS), nn.Linear(CHANNELS, CHANNELS)
        self.mlp = nn.Sequential(nn.Linear(CHANNELS, 2 * CHANNELS), nn.GELU(), nn.Linear(2 * CHANNELS, CHANNELS))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, 1, CHANNELS)).permute(2, 0, 3, 1, 4)  # each [N, 1, L, C]
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).squeeze(1))
        return x + self.mlp(self.norm2(x))


class PatchTransformer(nn.Module):
    """Patches of all frames are tokens beside a class token, which is the feature; an image is a video of one frame."""

    out_channels = CHANNELS
    normalization = Normalization(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
    weight_formats = (OWN,)

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, CHANNELS, PATCH, stride=PATCH)
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, CHANNELS))
        self.position = nn.Parameter(0.02 * torch.randn(1, 1, PATCHES, CHANNELS))
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.norm = nn.LayerNorm(CHANNELS)

    def forward(self, x: Tensor, media: Media) -> Tensor:
        x = x.unsqueeze(2) if media == "image" else x  # [N, 3, H, W] -> [N, 3, 1, H, W]
        tokens = self.patches(x.transpose(1, 2).flatten(0, 1)).flatten(2).transpose(1, 2)  # -> [N * T, L, C]
        tokens = (tokens.unflatten(0, (len(x), -1)) + self.position).flatten(1, 2)  # -> [N, T * L, C]
        tokens = torch.cat([self.class_token.expand(len(x), -1, -1), tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens[:, 0])  # [N, C]

    def parameter_groups(self) -> list[ParameterGroup]:
        depths = {"blocks.0": 1, "blocks.1": 2, "norm.weight": 2, "norm.bias": 2}
        depth_of = lambda name: depths.get(".".join(name.split(".")[:2]), 0)  # noqa: E731
        return group_parameters(self, depth_of, without_decay=("class_token", "position"))

    def count_image_parameters(self) -> int:
        return count_parameters(self)

    def size_differences(self, weights: Mapping[str, Tensor]) -> SizeDifferences:
        return SizeDifferences()


def toy_recipe(data: Path, *more: str) -> Recipe:
    """Returns two epochs of videos, images and raw frames, 2 microbatches a step, with all that a run can keep."""
    optimizer = ("method=adamw", "learning_rate=0.003", "weight_decay=0.05", "decay_norm_and_bias=false")
    return mixed_recipe(data, *(f"optimizer.{setting}" for setting in optimizer), "ema_decay=0.9", *more)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the work dir of an uninterrupted run. Not to be changed."""
    work_dir = tmp_path_factory.mktemp("toy") / "run"
    train(toy_recipe(data, *SAVE_EVERY_STEP), work_dir, build_backbone=PatchTransformer)
    return work_dir


@pytest.fixture(scope="module")
def exported(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the weights of the last checkpoint alone."""
    target = tmp_path_factory.mktemp("exported") / "toy.safetensors"
    export_checkpoint(checkpoint_path(whole, STEPS), target, build_backbone=PatchTransformer)
    return target


def test_images_and_videos_train_every_parameter_of_another_backbone(whole: Path) -> None:
    first, last = (read_checkpoint(checkpoint_path(whole, step)).state for step in (1, STEPS))
    backbone = {name: tensor for name, tensor in last["model"].items() if name.startswith("backbone.")}
    assert backbone.keys() == {f"backbone.{name}" for name in PatchTransformer(Model()).state_dict()}
    assert not any("running" in name for name in backbone)
    for name, tensor in backbone.items():
        assert tensor.isfinite().all() and not torch.equal(tensor, first["model"][name]), name
    losses = [line["losses"] for line in lines_of(whole) if line["kind"] == "step"]
    assert all(set(of_step) == {"kinetics400", "imagenet", "raw"} for of_step in losses) and len(losses) == STEPS
    assert [line["step"] for line in validation_lines(whole)] == [3, 6]
    decayed, kept = last["optimizer"]["param_groups"]
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.05, 0.0)
    assert len(decayed["params"]) == 1 + 4 * BLOCKS + 3  # the patches, the linear layers, those of the two heads


@pytest.mark.parametrize("num_workers", [0, 2])
def test_stopped_and_resumed_run_of_another_backbone_equals_the_uninterrupted_one(
    whole: Path, data: Path, tmp_path: Path, num_workers: int
) -> None:
    recipe = toy_recipe(data, *SAVE_EVERY_STEP, f"num_workers={num_workers}")
    with signal_in_step(signal.SIGTERM, 2, accumulation=2), pytest.raises(Interrupted):
        train(recipe, tmp_path, build_backbone=PatchTransformer)
    train(toy_recipe(data, *SAVE_EVERY_STEP), tmp_path, resume="auto", build_backbone=PatchTransformer)
    for ours, theirs in (
        (checkpoint_path(tmp_path, STEPS), checkpoint_path(whole, STEPS)),
        (best_path(tmp_path), best_path(whole)),
    ):
        assert difference(read_checkpoint(ours).state, read_checkpoint(theirs).state) == ""
    assert lines_of(tmp_path) == lines_of(whole)


def test_checkpoint_of_another_backbone_is_tested(whole: Path, exported: Path, data: Path, tmp_path: Path) -> None:
    recipe = toy_recipe(data)
    checkpoint = checkpoint_path(whole, STEPS)
    of_run = testing.test(recipe, str(checkpoint), ReportFiles(tmp_path / "run"), build_backbone=PatchTransformer)
    assert set(of_run) == {"kinetics400"} and len(of_run["kinetics400"].keys) == 6
    of_weights = testing.test(recipe, str(exported), ReportFiles(tmp_path / "weights"), build_backbone=PatchTransformer)
    assert torch.equal(of_run["kinetics400"].scores, of_weights["kinetics400"].scores)
    average = testing.test(
        recipe, str(checkpoint), ReportFiles(tmp_path / "ema"), average=True, build_backbone=PatchTransformer
    )
    assert not torch.equal(of_run["kinetics400"].scores, average["kinetics400"].scores)
    assert (tmp_path / "run/kinetics400/metrics.json").exists()


def test_another_backbone_is_exported_and_predicted_with(whole: Path, exported: Path, data: Path) -> None:
    checkpoint = checkpoint_path(whole, STEPS)
    written = safetensors.torch.load_file(exported)
    assert difference(written, dict(read_checkpoint(checkpoint).state["model"])) == ""
    video = str(sorted((data / "kinetics400/videos_val").rglob("*.mp4"))[0])
    image = str(sorted((data / "imagenet").rglob("*.JPEG"))[0])
    of_run, of_weights = (load(path, build_backbone=PatchTransformer) for path in (checkpoint, exported))
    files = media_files([video, image])
    of_files = [list(predict(loaded, files, top=3)) for loaded in (of_run, of_weights)]
    for ours, theirs in zip(*of_files, strict=True):
        assert ours == theirs and len(ours.predictions) > 0
        for prediction in ours.predictions:
            assert sum(score for _, score in prediction.top) == pytest.approx(1, abs=1e-5)

    recognizer = omnisource.load_recognizer(exported, build_backbone=PatchTransformer)
    pixels = torch.randint(0, 256, (2, 3, 2, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        of_bytes, by_hand = recognizer.video_logits(pixels), recognizer.video_logits((pixels.float() - 127.5) / 127.5)
    assert torch.equal(of_bytes, by_hand)  # normalized as the backbone says


def test_weights_of_another_backbone_start_a_run(exported: Path, data: Path, tmp_path: Path) -> None:
    recipe = toy_recipe(data, f"model.weights={exported}", "num_epochs=1", "optimizer.learning_rate=1e-12")
    state = train(recipe, tmp_path, build_backbone=PatchTransformer)
    loaded = safetensors.torch.load_file(exported)
    for name, parameter in state.model.named_parameters():
        torch.testing.assert_close(parameter.detach(), loaded[name], rtol=0, atol=1e-9)


def test_backbones_that_do_not_fit_are_refused_clearly(whole: Path, exported: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the checkpoint does not fit the model, so nothing was loaded"):
        load(exported)  # for the ResNet
    with pytest.raises(UserError, match=r"toy\.safetensors: the backbone in the file is not of the model's sizes"):
        train(toy_recipe(data, f"model.weights={exported}"), tmp_path / "run")
    with pytest.raises(UserError, match=r"toy\.pth: this backbone has no published format; .* \.safetensors"):
        export_checkpoint(checkpoint_path(whole, 1), tmp_path / "toy.pth", build_backbone=PatchTransformer)
    torch.save({"conv1.weight": torch.zeros(4, 3, 7, 7)}, tmp_path / "resnet.pth")
    with pytest.raises(UserError, match=r"not weights of a known kind: .* Known are our own checkpoints$"):
        train(
            toy_recipe(data, f"model.weights={tmp_path / 'resnet.pth'}"),
            tmp_path / "run",
            build_backbone=PatchTransformer,
        )


def test_cost_of_another_backbone_is_counted(data: Path) -> None:
    recipe = toy_recipe(data)
    recognizer = Recognizer(recipe.model, recipe.label_spaces, backbone=PatchTransformer(recipe.model))
    for media, frames in (("image", 1), ("video", 4)):
        tokens = 1 + frames * PATCHES
        linear = tokens * CHANNELS * CHANNELS * (3 + 1 + 2 + 2)
        attention = 2 * tokens * tokens * CHANNELS
        norms = 5 * CHANNELS * (2 * BLOCKS * tokens + 1)
        expected = frames * PATCHES * CHANNELS * 3 * PATCH * PATCH + BLOCKS * (linear + attention) + norms
        assert count_multiply_adds(recognizer, media, frames, 32) == expected
