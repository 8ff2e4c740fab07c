"""The backbone and the heads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt, Le

from omnisource.recipe.marks import MAY_DIFFER, PATH, Formerly, PositiveInt, ShareBelowOne


@dataclass(frozen=True)
class Model:
    """The backbone: a SlowOnly ResNet with a video and an image path over one set of weights."""

    depth: Literal[18, 34, 50, 101, 152] = 50
    """Depth of the ResNet; 18 and 34 have basic blocks, the others bottlenecks."""

    width: Annotated[float, Gt(0), Le(64)] = 1.0  # beyond it a layer would have more weights than any memory holds
    """Factor on the channels of every layer of the backbone."""

    weights: Annotated[str, MAY_DIFFER, PATH] = ""
    """Checkpoint that the run starts from: our own, a published .pth, or an image ResNet (.pth or .safetensors) that
    is inflated. Empty: random weights."""

    batch_norm_momentum: Annotated[float, Gt(0), Le(1)] = 0.01
    """Share of BatchNorm's running statistics that one batch replaces in the backbone; 0.01 in the published recipe. In
    short runs they follow the weights too slowly with it: see recompute_batch_norm."""

    image_statistics: Annotated[bool, Formerly(False)] = True
    """Whether images have running statistics of their own in every BatchNorm, with which they are evaluated. False, as
    in the published recipe: only videos move those of the backbone, and images are evaluated with them."""


@dataclass(frozen=True)
class LabelSpace:
    """A set of classes, and the head that tells them apart."""

    head: Literal["image", "video"]
    """Kind of head: "image" (BatchNorm, dropout, linear) or "video" (linear, BatchNorm, ReLU, dropout, linear)."""

    num_classes: PositiveInt | None = None
    """Number of classes. None: counted from the class names of a source."""

    dropout: ShareBelowOne = 0.5
    """Probability of dropout in the head."""

    label_smoothing: ShareBelowOne = 0.0
    """Share of the target that is spread evenly over all classes."""


def label_space_name_fault(name: str) -> str | None:
    """Returns why a head cannot bear this name, which becomes a part of the names of its weights; None if it can."""
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name):
        return None
    return f"label space {name!r}: the name must begin with a letter or _ and go on with letters, digits, _ and - only"
