"""Small recognizers whose weights follow a rule, so that the numbers they give can be written down."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch

from omnisource.models.backbones.slow_only import Bottleneck, SlowOnly
from omnisource.models.load_weights import load_into
from omnisource.models.recognizer import Recognizer
from omnisource.models.weights.published import from_published, to_published
from omnisource.recipe.model import LabelSpace, Model


def _by_rule(name: str, shape: torch.Size) -> torch.Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    random = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith(("running_mean", "bias")):
        values = random.normal(0, 0.1, shape)
    elif len(shape) == 1:
        values = random.uniform(0.5, 1.5, shape)
    else:
        values = random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    return torch.from_numpy(values.astype(np.float32)).double()


@pytest.fixture
def tiny_recognizer() -> Recognizer:
    """Returns a recognizer of one bottleneck a stage in float64: 5 image classes, 4 video classes, no dropout.

    Every weight is drawn by a generator seeded with the weight's published name.
    """
    spaces = {
        "images": LabelSpace("image", num_classes=5, dropout=0.0),
        "videos": LabelSpace("video", num_classes=4, dropout=0.0),
    }
    recognizer = Recognizer(Model(), spaces, backbone=SlowOnly(Bottleneck, (1, 1, 1, 1))).double()
    published = to_published(recognizer.state_dict(), "images", "videos")
    state = {name: _by_rule(name, tensor.shape) for name, tensor in published.items()}
    load_into(recognizer, from_published(state, "images", "videos"), strict=True)
    return recognizer


@pytest.fixture
def make_recognizer() -> Callable[..., Recognizer]:
    """Returns a function that makes a small recognizer of the published kind with seeded weights, in float32."""

    def make(
        depth: int = 18,
        width: float = 0.125,
        image_classes: int = 3,
        video_classes: int = 4,
        dropout: float = 0.0,
        image_statistics: bool = False,
    ) -> Recognizer:
        spaces = {
            "photos": LabelSpace("image", num_classes=image_classes, dropout=dropout),
            "actions": LabelSpace("video", num_classes=video_classes, dropout=dropout),
        }
        torch.manual_seed(0)
        model = Model(depth=depth, width=width, image_statistics=image_statistics)  # pyright: ignore[reportArgumentType]
        return Recognizer(model, spaces)

    return make
