"""Weights are found in what training programs wrap around them, and what is another network is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from omnisource.errors import UserError
from omnisource.evaluation.load import load
from omnisource.models.load_weights import load_all_weights, load_initial_weights
from omnisource.models.recognizer import Recognizer
from tests.support.weights import image_resnet, perturbed, snapshot

MakeRecognizer = Callable[..., Recognizer]
Wrap = Callable[[dict[str, Tensor]], dict[str, Any]]


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def other(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}


WRAPPED: dict[str, tuple[Wrap, str]] = {
    "compiled": (lambda s: under("_orig_mod.", s), "the prefix '_orig_mod.' was removed"),
    "PySlowFast": (lambda s: {"model_state": s, "optimizer_state": {}}, "taken from 'model_state'"),
    "two wrappers": (lambda s: {"checkpoint": {"model": under("module.model.", s)}}, "taken from 'checkpoint.model'"),
    "backbone": (lambda s: under("backbone.", s), "the prefix 'backbone.' was removed"),
    "Lightning": (lambda s: {"state_dict": under("model.encoder.", s), "epoch": 1}, "prefix 'model.encoder.' was"),
    "sequence": (lambda s: under("0.", s), "the prefix '0.' was removed"),
    "MoCo": (
        lambda s: {"state_dict": {**under("module.encoder_k.", other(s)), **under("module.encoder_q.", s)}},
        "left out, since it stands beside the network: module.encoder_k",
    ),
    "DINO": (
        lambda s: {"student": under("module.backbone.", other(s)), "teacher": under("backbone.", s)},
        "not taken, though it would fit: 'student'",
    ),
    "average alone": (lambda s: {"state_dict_ema": s}, "taken from 'state_dict_ema'"),
    "average beside": (lambda s: {"state_dict_ema": other(s), "state_dict": s}, "it would fit: 'state_dict_ema'"),
    "numbers beside": (lambda s: {**s, "epoch": 3}, "left out, since it stands beside the network: epoch"),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers_and_prefixes_are_undone_and_said(make_recognizer: MakeRecognizer, tmp_path: Path, name: str) -> None:
    wrap, note = WRAPPED[name]
    source, target = perturbed(make_recognizer()), make_recognizer()
    torch.save(wrap(image_resnet(source)), tmp_path / "wrapped.pth")
    report = load_initial_weights(target, tmp_path / "wrapped.pth")
    assert len(report.loaded) == len(source.backbone.state_dict())
    assert note in report.describe()
    for key, tensor in source.backbone.state_dict().items():
        torch.testing.assert_close(target.backbone.state_dict()[key].sum(), tensor.sum(), rtol=1e-4, atol=1e-4)


def test_averaged_and_compiled_recognizers_load_whole(make_recognizer: MakeRecognizer, tmp_path: Path) -> None:
    source, target = perturbed(make_recognizer()), make_recognizer()
    path = tmp_path / "averaged.pth"
    torch.save({**under("module._orig_mod.", dict(source.state_dict())), "n_averaged": torch.tensor(3)}, path)
    report = load_all_weights(target, path)
    assert report.is_complete and "n_averaged" in report.describe()
    assert torch.equal(target.backbone.conv1.weight, source.backbone.conv1.weight)


def without_statistics(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if "running" not in name and "batches" not in name}


OF_MMACTION2 = {
    "backbone.conv1.conv.weight": torch.zeros(8, 3, 1, 7, 7),
    "backbone.layer1.0.conv1.conv.weight": torch.zeros(8, 8, 1, 1, 1),
    "backbone.layer1.0.conv3.bn.weight": torch.zeros(32),
    "cls_head.fc_cls.weight": torch.zeros(4, 256),
}

REFUSED: dict[str, tuple[Wrap, str]] = {
    "SE": (
        lambda s: {**s, "layer1.0.se.fc1.weight": torch.zeros(2)},
        r"SE-ResNet or ECA\).*layer1\.0\.se\.fc1\.weight",
    ),
    "GroupNorm": (without_statistics, "no running_mean, no running_var.*GroupNorm"),
    "ResNet-D": (lambda s: {**s, "layer2.0.downsample.1.weight": torch.zeros(16, 8, 1, 1)}, "ResNet-D"),
    "ResNeXt": (lambda s: {**s, "layer1.0.conv2.weight": torch.zeros(8, 4, 3, 3)}, "grouped convolutions"),
    "wide": (
        lambda s: {
            **s,
            "layer1.0.conv1.weight": torch.zeros(16, 8, 1, 1),
            "layer1.0.conv2.weight": torch.zeros(16, 16, 3, 3),
            "layer1.0.conv3.weight": torch.zeros(32, 16, 1, 1),
        },
        r"a wide ResNet or the like \(layer1\.0\.conv1\.weight has 16 channels",
    ),
    "CLIP": (lambda s: {**s, "attnpool.c_proj.bias": torch.zeros(2)}, r"CLIP's ResNet .*attnpool\.c_proj\.bias"),
    "other": (
        lambda s: {**s, "layer1.0.gate.weight": torch.zeros(2)},
        r"other layers than a plain one: layer1\.0\.gate",
    ),
    "two": (lambda s: {**under("left.", s), **under("right.", s)}, r"several networks: 'left\.', 'right\.'"),
    "int8": (lambda s: {**s, "conv1.weight": s["conv1.weight"].to(torch.int8)}, r"conv1\.weight is int8: quantized"),
    "float8": (lambda s: {**s, "bn1.weight": s["bn1.weight"].to(torch.float8_e5m2)}, r"bn1\.weight is float8_e5m2"),
    "ViT": (lambda s: {"blocks.0.attn.qkv.weight": torch.zeros(3, 1)}, "looks like a vision transformer"),
    "mmaction2": (lambda s: {"state_dict": OF_MMACTION2}, "not one tensor of the .*looks like a ResNet of mmaction2"),
    "NaN": (
        lambda s: {**s, "layer2.0.bn1.bias": s["layer2.0.bn1.bias"] + float("nan")},
        r"NaN or infinite, so nothing was loaded(.|\n)*backbone\.layer2\.0\.bn1\.bias: 16 of 16",
    ),
    "infinite": (lambda s: {**s, "conv1.weight": s["conv1.weight"] / 0}, r"backbone\.conv1\.weight: \d+ of"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_another_network_or_no_numbers_is_refused_by_name(
    make_recognizer: MakeRecognizer, tmp_path: Path, name: str
) -> None:
    make, message = REFUSED[name]
    target = make_recognizer()
    before = snapshot(target)
    torch.save(make(image_resnet(make_recognizer())), tmp_path / "other.pth")
    with pytest.raises(UserError, match=message) as refusal:
        load_initial_weights(target, tmp_path / "other.pth")
    assert str(tmp_path / "other.pth") in str(refusal.value) and "model.depth" not in str(refusal.value)
    assert all(torch.equal(tensor, before[key]) for key, tensor in target.state_dict().items())


def test_counts_that_were_cast_to_half_precision_stay_counts(make_recognizer: MakeRecognizer, tmp_path: Path) -> None:
    state, target = {name: tensor.half() for name, tensor in image_resnet(make_recognizer()).items()}, make_recognizer()
    state["bn1.num_batches_tracked"] = torch.tensor(float("inf"), dtype=torch.float16)
    state["layer1.0.bn1.num_batches_tracked"] = torch.tensor(7.0, dtype=torch.float16)
    torch.save(state, tmp_path / "half.pth")
    load_initial_weights(target, tmp_path / "half.pth")
    loaded = target.backbone.state_dict()
    assert (loaded["bn1.num_batches_tracked"], loaded["layer1.0.bn1.num_batches_tracked"]) == (65504, 7)


def test_image_network_and_those_of_other_projects_are_not_taken_for_a_classifier(
    make_recognizer: MakeRecognizer, tmp_path: Path
) -> None:
    torch.save(under("backbone.", image_resnet(make_recognizer())), tmp_path / "image.pth")
    with pytest.raises(UserError, match=r"image ResNet without a head of ours classifies nothing.*train from it with"):
        load(tmp_path / "image.pth")
    torch.save({"state_dict": OF_MMACTION2}, tmp_path / "slow_only.pth")
    with pytest.raises(UserError, match=r"slow_only\.pth: .*it looks like a ResNet of mmaction2"):
        load(tmp_path / "slow_only.pth")


def test_layer_of_the_file_that_is_not_loaded_may_be_nan(make_recognizer: MakeRecognizer, tmp_path: Path) -> None:
    state = image_resnet(make_recognizer())
    state["fc.weight"].fill_(float("nan"))
    torch.save(state, tmp_path / "head.pth")
    assert "fc.weight" in load_initial_weights(make_recognizer(), tmp_path / "head.pth").unexpected
