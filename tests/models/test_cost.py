from __future__ import annotations

import pytest
import torch

from omnisource.models.cost import cost_rows, count_multiply_adds, count_parameters, count_parameters_after_sum
from omnisource.models.recognizer import LabelSpace, Model, Recognizer


@pytest.fixture(scope="module")
def published() -> Recognizer:
    spaces = {"imagenet": LabelSpace("image", num_classes=1000), "kinetics400": LabelSpace("video", num_classes=400)}
    with torch.device("meta"):
        return Recognizer(Model(depth=50), spaces)


def test_table_of_the_published_recognizer(published: Recognizer) -> None:
    rows = {
        row.part: (round(row.parameters / 1e6, 2), {size: round(n / 1e9, 2) for size, n in row.multiply_adds.items()})
        for row in cost_rows(published)
    }
    assert rows == {
        "whole recognizer": (35.65, {}),
        "backbone, video path": (31.63, {"8x224x224": 41.92, "8x256x256": 54.75}),
        "backbone, image path, kernels summed over time": (23.51, {"224x224": 4.11}),
        "image path to imagenet": (33.69, {"224x224": 4.11}),
        "image path to imagenet, kernels summed over time": (25.56, {"224x224": 4.11}),
        "video path to kinetics400": (33.60, {"8x224x224": 41.92, "8x256x256": 54.75}),
    }


def test_exact_counts_of_the_published_recognizer(published: Recognizer) -> None:
    assert count_parameters(published) == 35_648_792
    assert count_parameters(published.backbone) == 31_634_496
    assert count_parameters_after_sum(published.backbone) == 23_508_032
    assert count_multiply_adds(published, "video", 8, 224) == 41_917_833_216
    assert count_multiply_adds(published, "video", 8, 224, head="kinetics400") - 41_917_833_216 == (
        2048 * 800 + 800 * 400 + 2 * 800  # two linear layers and a BatchNorm of 800 channels
    )


def test_other_sizes_can_be_asked_for(published: Recognizer) -> None:
    sizes = {
        size
        for row in cost_rows(published, clip_sizes=[(4, 112)], image_sizes=[160, 192])
        for size in row.multiply_adds
    }
    assert sizes == {"4x112x112", "160x160", "192x192"}


def test_counting_leaves_the_recognizer_as_it_was() -> None:
    recognizer = Recognizer(Model(depth=18, width=0.125), {"photos": LabelSpace("image", num_classes=2)}).train()
    before = {name: tensor.clone() for name, tensor in recognizer.state_dict().items()}
    cost_rows(recognizer, clip_sizes=[(2, 32)], image_sizes=[32])
    assert recognizer.training and all(module.training for module in recognizer.modules())
    assert all(parameter.device.type == "cpu" and parameter.requires_grad for parameter in recognizer.parameters())
    for name, tensor in recognizer.state_dict().items():
        assert torch.equal(tensor, before[name]), name
