from __future__ import annotations

import collections
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from omnisource.models.load_weights import load_initial_weights
from omnisource.models.recognizer import Recognizer
from omnisource.models.weights.image_resnet import inflate
from tests.support.weights import image_resnet, perturbed, snapshot

MakeRecognizer = Callable[..., Recognizer]


def test_inflated_kernels_sum_to_the_image_kernels(make_recognizer: MakeRecognizer) -> None:
    recognizer = make_recognizer(50)
    image = image_resnet(recognizer)
    shapes = {name: tensor.shape for name, tensor in recognizer.backbone.state_dict().items()}
    inflated = inflate(image, shapes)
    lengths = set()
    for name, tensor in inflated.items():
        if name in shapes:
            assert tensor.shape == shapes[name], name
        if tensor.ndim == 5:
            lengths.add(tensor.shape[2])
            torch.testing.assert_close(tensor.sum(dim=2), image[name], rtol=1e-6, atol=1e-7)
            assert torch.equal(tensor[:, :, 0], tensor[:, :, -1])
        else:
            assert torch.equal(tensor, image[name])
    assert lengths == {1, 3}


def save_pth(state: dict[str, Tensor], path: Path) -> Path:
    torch.save(state, path.with_suffix(".pth"))
    return path.with_suffix(".pth")


def save_old_pth(state: dict[str, Tensor], path: Path) -> Path:
    ordered = collections.OrderedDict(state)
    torch.save(ordered, path.with_suffix(".pth"), _use_new_zipfile_serialization=False)
    return path.with_suffix(".pth")


def save_wrapped_pth(state: dict[str, Tensor], path: Path) -> Path:
    wrapped = {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}
    torch.save(wrapped, path.with_suffix(".pth.tar"))
    return path.with_suffix(".pth.tar")


def save_safetensors(state: dict[str, Tensor], path: Path) -> Path:
    contiguous = {name: tensor.contiguous() for name, tensor in state.items()}
    safetensors.torch.save_file(contiguous, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


@pytest.mark.parametrize("save", [save_pth, save_old_pth, save_wrapped_pth, save_safetensors])
@pytest.mark.parametrize("depth", [18, 50])
def test_image_checkpoint_inflates_and_gives_the_same_image_features(
    make_recognizer: MakeRecognizer,
    tmp_path: Path,
    depth: int,
    save: Callable[[dict[str, Tensor], Path], Path],
) -> None:
    source = perturbed(make_recognizer(depth)).double().eval()
    target = make_recognizer(depth).double().eval()
    heads_before = {name: tensor for name, tensor in snapshot(target).items() if name.startswith("heads.")}
    report = load_initial_weights(target, save(image_resnet(source), tmp_path / "resnet"))
    assert set(report.loaded) == {name for name in target.state_dict() if name.startswith("backbone.")}
    assert set(report.missing) == set(heads_before)
    assert set(report.unexpected) == {"fc.weight", "fc.bias"}
    assert report.mismatched == ()
    for name, tensor in heads_before.items():
        assert torch.equal(target.state_dict()[name], tensor)
    images = torch.randint(0, 256, (2, 3, 1, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(
            target.features(images, "image"), source.features(images, "image"), rtol=1e-9, atol=0
        )


def test_missing_and_unexpected_keys_of_an_image_checkpoint_are_reported(
    make_recognizer: MakeRecognizer, tmp_path: Path
) -> None:
    state = image_resnet(make_recognizer())
    del state["layer3.0.bn2.running_var"], state["bn1.num_batches_tracked"]
    state["projector.0.weight"] = torch.zeros(3)
    report = load_initial_weights(make_recognizer(), save_pth(state, tmp_path / "resnet"))
    assert {"backbone.layer3.0.bn2.running_var", "backbone.bn1.num_batches_tracked"} < set(report.missing)
    assert set(report.unexpected) == {"backbone.projector.0.weight", "fc.weight", "fc.bias"}
    text = report.describe()
    for name in ("layer3.0.bn2.running_var", "bn1.num_batches_tracked", "projector.0.weight", "fc.{weight, bias}"):
        assert name in text
    assert f"{tmp_path / 'resnet.pth'}: 118 of the model's 136 tensors loaded" in text


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_inflated_in_float32(
    make_recognizer: MakeRecognizer, tmp_path: Path, dtype: torch.dtype
) -> None:
    recognizer, target = make_recognizer(), make_recognizer()
    image = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in image_resnet(recognizer).items()
    }
    load_initial_weights(target, save_pth(image, tmp_path / "half"))
    for name, tensor in target.backbone.state_dict().items():
        if tensor.ndim == 5:  # a third in half precision would be off by a thousandth
            torch.testing.assert_close(tensor.sum(dim=2), image[name].float(), rtol=1e-6, atol=1e-9)
        else:
            assert torch.equal(tensor, image[name].to(tensor.dtype)), name
