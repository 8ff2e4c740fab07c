"""The recognizer gives the numbers of the published system, in float64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from omnisource.models.recognizer import Recognizer
from omnisource.types import Batch

# Sums in another order differ in the last digits of float64; 1e-6 leaves room for other processors and torch versions.
RELATIVE = 1e-6


@pytest.fixture
def numbers(project: Path) -> dict[str, Any]:
    return json.loads((project / "tests/reference/tiny_recognizer.json").read_text())


@pytest.mark.shared_data
def test_numbers_equal_those_of_the_published_system_on_its_inputs(
    tiny_recognizer: Recognizer, numbers: dict[str, Any], shared: Path
) -> None:
    with np.load(shared / "reference/tiny_recognizer.npz") as file:
        inputs = {name: torch.from_numpy(file[name]) for name in file if file[name].ndim > 0}
        for name, stored in numbers["published_inputs"].items():
            np.testing.assert_array_equal(file[name], stored, err_msg=f"our copy of {name} is not the published one")
    check(tiny_recognizer, inputs, numbers["published_inputs"])


def test_numbers_equal_the_stored_ones_on_inputs_made_by_rule(
    tiny_recognizer: Recognizer, numbers: dict[str, Any]
) -> None:
    check(tiny_recognizer, inputs_by_rule(), numbers["inputs_by_rule"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_gpu_gives_the_stored_numbers(tiny_recognizer: Recognizer, numbers: dict[str, Any]) -> None:
    inputs = {name: tensor.cuda() for name, tensor in inputs_by_rule().items()}
    check(tiny_recognizer.cuda(), inputs, numbers["inputs_by_rule"])


def inputs_by_rule() -> dict[str, torch.Tensor]:
    random = np.random.RandomState(20200707)
    inputs = {
        "image_u8": random.randint(0, 256, (2, 3, 48, 64)).astype(np.uint8),
        "video_u8": random.randint(0, 256, (2, 3, 6, 48, 64)).astype(np.uint8),
        "train_image_u8": random.randint(0, 256, (5, 3, 64, 48)).astype(np.uint8),
        "train_video_u8": random.randint(0, 256, (3, 3, 4, 64, 48)).astype(np.uint8),
        "train_image_labels": np.array([0, 4, 2, 2, 3]),
        "train_video_labels": np.array([3, 0, 1]),
    }
    return {name: torch.from_numpy(array) for name, array in inputs.items()}


def check(recognizer: Recognizer, inputs: dict[str, torch.Tensor], expected: dict[str, Any]) -> None:
    computed = compute(recognizer, inputs)
    assert set(computed) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(computed[name], value, rtol=RELATIVE, err_msg=name)


def compute(recognizer: Recognizer, inputs: dict[str, torch.Tensor]) -> dict[str, Any]:
    recognizer.eval()
    with torch.no_grad():
        image_logits = recognizer.image_logits(inputs["image_u8"])
        video_logits = recognizer.video_logits(inputs["video_u8"])
    recognizer.train()
    losses = recognizer([training_batch("video", "videos", inputs), training_batch("image", "images", inputs)])
    torch.stack(list(losses.values())).sum().backward()
    gradients = [parameter.grad for parameter in recognizer.parameters() if parameter.grad is not None]
    return {
        "image_logits": image_logits.tolist(),
        "video_logits": video_logits.tolist(),
        "train_video_loss": losses["video"].item(),
        "train_image_loss": losses["image"].item(),
        "train_grad_norm": torch.linalg.vector_norm(torch.cat([gradient.flatten() for gradient in gradients])).item(),
    }


def training_batch(media: Any, head: str, inputs: dict[str, torch.Tensor]) -> Batch:
    clips = inputs[f"train_{media}_u8"]
    if media == "image":
        clips = clips.unsqueeze(2)
    labels = inputs[f"train_{media}_labels"]
    return Batch(media, media, head, clips.unsqueeze(1), labels, tuple(map(str, range(len(labels)))))
