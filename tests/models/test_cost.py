from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from omnisource.models.backbones.backbone import ParameterGroup, group_parameters
from omnisource.models.backbones.slow_only import IMAGENET
from omnisource.models.cost import count_multiply_adds, count_parameters
from omnisource.models.recognizer import Recognizer
from omnisource.models.weights.formats import SizeDifferences
from omnisource.models.weights.own import OWN
from omnisource.recipe.model import LabelSpace, Model
from omnisource.types import Media


@pytest.fixture(scope="module")
def published() -> Recognizer:
    spaces = {"imagenet": LabelSpace("image", num_classes=1000), "kinetics400": LabelSpace("video", num_classes=400)}
    with torch.device("meta"):
        return Recognizer(Model(depth=50), spaces)


def test_table_of_the_published_recognizer(published: Recognizer) -> None:
    backbone, heads = published.backbone, published.heads
    millions = {
        "whole recognizer": count_parameters(published),
        "video path": count_parameters(backbone) + count_parameters(heads["kinetics400"]),
        "image path": count_parameters(backbone) + count_parameters(heads["imagenet"]),
        "image path, summed": backbone.count_image_parameters() + count_parameters(heads["imagenet"]),
    }
    assert {part: round(count / 1e6, 2) for part, count in millions.items()} == {
        "whole recognizer": 35.65,
        "video path": 33.60,
        "image path": 33.69,
        "image path, summed": 25.56,
    }
    billions = [
        count_multiply_adds(published, "video", 8, 224, "kinetics400"),
        count_multiply_adds(published, "video", 8, 256, "kinetics400"),
        count_multiply_adds(published, "image", 1, 224, "imagenet"),
    ]
    assert [round(count / 1e9, 2) for count in billions] == [41.92, 54.75, 4.11]


def test_exact_counts_of_the_published_recognizer(published: Recognizer) -> None:
    assert count_parameters(published) == 35_648_792
    assert count_parameters(published.backbone) == 31_634_496
    assert published.backbone.count_image_parameters() == 23_508_032
    assert count_multiply_adds(published, "video", 8, 224) == 41_917_833_216
    assert count_multiply_adds(published, "video", 8, 224, head="kinetics400") - 41_917_833_216 == (
        2048 * 800 + 800 * 400 + 2 * 800  # two linear layers and a BatchNorm of 800 channels
    )


def test_backbone_costs_the_same_for_every_frame(published: Recognizer) -> None:
    assert 2 * count_multiply_adds(published, "video", 4, 112) == count_multiply_adds(published, "video", 8, 112)


class OneNormalization(nn.Module):
    """The smallest backbone: a normalization of the pixels."""

    out_channels, normalization, weight_formats = 3, IMAGENET, (OWN,)

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor, media: Media) -> Tensor:
        return self.norm(x)

    def parameter_groups(self) -> list[ParameterGroup]:
        return group_parameters(self)

    def count_image_parameters(self) -> int:
        return count_parameters(self)

    def size_differences(self, weights: Mapping[str, Tensor]) -> SizeDifferences:
        return SizeDifferences()


@pytest.mark.parametrize(
    ("norm", "operations"), [(nn.BatchNorm2d(3), 2), (nn.LayerNorm([3, 8, 8]), 5), (nn.GroupNorm(3, 3), 5)]
)
def test_operations_of_normalizations_an_element(norm: nn.Module, operations: int) -> None:
    spaces = {"photos": LabelSpace("image", num_classes=2)}
    recognizer = Recognizer(Model(), spaces, backbone=OneNormalization(norm))
    assert count_multiply_adds(recognizer, "image", 1, 8) == operations * 3 * 8 * 8


def test_counting_leaves_the_recognizer_as_it_was() -> None:
    recognizer = Recognizer(Model(depth=18, width=0.125), {"photos": LabelSpace("image", num_classes=2)}).train()
    before = {name: tensor.clone() for name, tensor in recognizer.state_dict().items()}
    count_multiply_adds(recognizer, "video", 2, 32)
    count_multiply_adds(recognizer, "image", 1, 32, "photos")
    assert recognizer.training and all(module.training for module in recognizer.modules())
    assert all(parameter.device.type == "cpu" and parameter.requires_grad for parameter in recognizer.parameters())
    for name, tensor in recognizer.state_dict().items():
        assert torch.equal(tensor, before[name]), name
