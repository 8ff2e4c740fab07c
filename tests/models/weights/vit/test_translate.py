"""Weights of other projects start a ViT that a recipe describes: what is fitted, left out, said and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from omnisource.errors import UserError
from omnisource.models.backbones.vit import VisionTransformer
from omnisource.models.load_weights import load_all_weights, load_initial_weights
from omnisource.models.position_tables import resampled
from omnisource.models.recognizer import Recognizer
from omnisource.recipe.backbones.vit import ViT
from omnisource.recipe.model import LabelSpace, Model

SIZES: dict[str, Any] = {"width": 24, "depth": 2, "num_heads": 2, "patch": 8, "image_size": 32, "clip_length": 4}


def recognizer_of(classes: int = 5, **keys: Any) -> Recognizer:
    torch.manual_seed(0)
    spaces = {"actions": LabelSpace("linear", num_classes=classes), "photos": LabelSpace("image", num_classes=5)}
    return Recognizer(Model(vit=ViT(**{**SIZES, **keys})), spaces)


def timm_file(
    path: Path, *, side: int = 4, classes: int = 5, patch: int = 8, **more: Tensor
) -> tuple[Path, dict[str, Tensor]]:
    """Writes a tiny plain ViT with timm's names."""
    generator = torch.Generator().manual_seed(1)
    state = {
        name: torch.randn(tensor.shape, generator=generator)
        for name, tensor in recognizer_of().backbone.state_dict().items()
        if name not in ("time_embed", "patch_embed.proj.weight", "pos_embed")
    }
    state["patch_embed.proj.weight"] = torch.randn(24, 3, patch, patch, generator=generator)
    state["pos_embed"] = torch.randn(1, side * side + 1, 24, generator=generator)
    state |= {"head.weight": torch.randn(classes, 24), "head.bias": torch.randn(classes), **more}
    torch.save({"model": state}, path)
    return path, state


def test_kernel_is_spread_over_time_and_positions_are_folded(tmp_path: Path) -> None:
    path, state = timm_file(tmp_path / "vit.pth")
    recognizer = recognizer_of()
    report = load_initial_weights(recognizer, path)
    loaded = recognizer.state_dict()
    kernel = loaded["backbone.patch_embed.proj.weight"]
    torch.testing.assert_close(kernel.sum(2), state["patch_embed.proj.weight"])
    assert torch.equal(kernel[:, :, 0], kernel[:, :, 1])
    assert torch.equal(loaded["backbone.pos_embed"], state["pos_embed"][:, 1:])
    assert torch.equal(loaded["backbone.cls_token"], state["cls_token"] + state["pos_embed"][:, :1])
    assert torch.equal(loaded["heads.actions.linear.weight"], state["head.weight"])
    assert not loaded["backbone.time_embed"].any()
    text = report.describe(limit=100)
    assert (
        "read as timm's ViTs, and MAE" in text
        and "model.vit.pixel_mean is (127.5, 127.5, 127.5), and no tensor tells it; usual is 0.5" in text
    )
    assert "backbone.patch_embed.proj.weight: repeated over 2 frames" in text
    assert "backbone.time_embed: zero" in text and "heads.photos" in text  # the latter is left as it was


def test_positions_of_another_grid_and_heads_of_other_classes_are_said(tmp_path: Path) -> None:
    path, state = timm_file(tmp_path / "vit.pth", side=6, classes=7)
    recognizer = recognizer_of()
    before = recognizer.heads["actions"].linear.weight.clone()
    text = load_initial_weights(recognizer, path).describe(limit=100)
    grid = state["pos_embed"][0, 1:].unflatten(0, (6, 6))
    expected = resampled(grid, 4, 4, "antialias").flatten(0, 1)
    torch.testing.assert_close(recognizer.state_dict()["backbone.pos_embed"][0], expected)
    assert "backbone.pos_embed: resampled from 6x6 to 4x4 patches" in text
    assert "in the file, but not in the model (2)" in text and "head.{weight, bias}" in text
    assert torch.equal(recognizer.heads["actions"].linear.weight, before)


def test_whole_network_of_a_file_is_tested_with(tmp_path: Path) -> None:
    path, state = timm_file(tmp_path / "vit.pth")
    spaces = {"actions": LabelSpace("linear", num_classes=5)}
    recognizer = Recognizer(Model(vit=ViT(**SIZES)), spaces)
    assert load_all_weights(recognizer, path).is_complete
    assert torch.equal(recognizer.state_dict()["heads.actions.linear.bias"], state["head.bias"])
    assert not recognizer.state_dict()["backbone.time_embed"].any()
    path, _ = timm_file(tmp_path / "seven.pth", classes=7)
    with pytest.raises(UserError, match="the checkpoint does not fit the model, so nothing was loaded"):
        load_all_weights(recognizer, path)


def test_keys_to_set_name_the_size_and_heads_of_the_file(tmp_path: Path) -> None:
    with torch.device("meta"):
        small = VisionTransformer(ViT(size="small", tubelet=1)).state_dict()
    state = {name: torch.zeros(tensor.shape) for name, tensor in small.items() if name != "time_embed"}
    state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"][:, :, 0]
    torch.save(state, tmp_path / "small.pth")
    with torch.device("meta"):
        base = Recognizer(Model(vit=ViT(size="base")), {"actions": LabelSpace("linear", num_classes=5)})
    with pytest.raises(UserError, match=r"to start from it, set model\.vit\.size=small$"):
        load_initial_weights(base, tmp_path / "small.pth")


@pytest.mark.parametrize(
    ("keys", "advice"),
    [
        ({"patch": 4}, "model.vit.patch=8"),
        ({"depth": 3}, "model.vit.depth=2"),
        ({"width": 32}, "model.vit.width=24"),
        (
            {"size": "small", "width": None, "depth": None, "num_heads": None, "patch": 16},
            "set model.vit.width=24 model.vit.depth=2",
        ),
        ({"mlp_width": 8}, "model.vit.mlp_width=None"),
        ({"family": "dinov2"}, "model.vit.family=vit"),
        ({"family": "clip", "registers": 2}, "model.vit.family=vit model.vit.registers=None"),
        ({"class_token": False, "pooling": "mean"}, "model.vit.class_token=None"),
        ({"activation": "swiglu"}, "model.vit.activation=None"),
        ({"positions": "sincos"}, "model.vit.positions=None"),
    ],
)
def test_weights_of_another_network_are_refused_with_the_keys_to_set(
    tmp_path: Path, keys: dict[str, Any], advice: str
) -> None:
    path, _ = timm_file(tmp_path / "vit.pth")
    with pytest.raises(UserError) as caught:
        load_initial_weights(recognizer_of(**keys), path)
    assert f"{path}: holds another ViT than model.vit describes; to start from it, set " in str(caught.value)
    assert advice in str(caught.value)


def test_traits_that_no_tensor_tells_are_said(tmp_path: Path) -> None:
    path, _ = timm_file(tmp_path / "vit.pth")
    recognizer = recognizer_of(activation="gelu_tanh", norm_epsilon=1e-5)
    text = load_initial_weights(recognizer, path).describe()
    assert "model.vit.activation is gelu_tanh; such weights were made with gelu" in text
    assert "model.vit.norm_epsilon is 1e-05; such weights were made with 1e-06" in text


def test_own_weights_of_other_grids_are_resampled_in_space_and_time(tmp_path: Path) -> None:
    recognizer = recognizer_of(image_size=48, clip_length=8)
    torch.nn.init.normal_(recognizer.backbone.time_embed)  # type: ignore[arg-type]
    torch.save({"model": recognizer.state_dict()}, tmp_path / "own.pth")
    ours = recognizer_of()
    text = load_initial_weights(ours, tmp_path / "own.pth").describe()
    assert "backbone.pos_embed: resampled from 6x6 to 4x4 patches" in text
    assert "backbone.time_embed: interpolated from 4 to 2 positions in time" in text
    given, taken = (model.state_dict()["backbone.time_embed"][0] for model in (recognizer, ours))
    torch.testing.assert_close(taken, given.unflatten(0, (2, 2)).mean(1))


def test_weights_of_another_kind_are_refused_with_the_kinds_that_are_known(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(4, 3, 7, 7)}, tmp_path / "resnet.pth")
    with pytest.raises(UserError, match=r"not weights of a known kind: .* Known are timm's ViTs, and MAE, VideoMAE"):
        load_initial_weights(recognizer_of(), tmp_path / "resnet.pth")
