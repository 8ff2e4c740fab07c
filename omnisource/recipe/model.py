"""The backbone and the heads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt, Le

from omnisource.recipe.backbones.vit import ViT, vit_faults
from omnisource.recipe.data import Source
from omnisource.recipe.marks import MAY_DIFFER, PATH, Formerly, PositiveInt, ShareBelowOne


@dataclass(frozen=True)
class Model:
    """The backbone, with a video and an image path over one set of weights: a SlowOnly ResNet, or a ViT."""

    depth: Literal[18, 34, 50, 101, 152] = 50
    """Depth of the ResNet; 18 and 34 have basic blocks, the others bottlenecks."""

    width: Annotated[float, Gt(0), Le(64)] = 1.0  # beyond it a layer would have more weights than any memory holds
    """Factor on the channels of every layer of the backbone."""

    weights: Annotated[str, MAY_DIFFER, PATH] = ""
    """Checkpoint that the run starts from: our own, a published .pth, or an image ResNet (.pth or .safetensors) that
    is inflated; with a ViT, one of another project (docs/weights.md). Empty: random weights."""

    vit: ViT | None = None
    """A vision transformer in place of the ResNet; model.vit.size=small and the like set it. None: the ResNet."""

    batch_norm_momentum: Annotated[float, Gt(0), Le(1)] = 0.01
    """Share of BatchNorm's running statistics that one batch replaces in the backbone; 0.01 in the published recipe. In
    short runs they follow the weights too slowly with it: see recompute_batch_norm."""

    image_statistics: Annotated[bool, Formerly(False)] = True
    """Whether images have running statistics of their own in every BatchNorm, with which they are evaluated. False, as
    in the published recipe: only videos move those of the backbone, and images are evaluated with them."""


@dataclass(frozen=True)
class LabelSpace:
    """A set of classes, and the head that tells them apart."""

    head: Literal["image", "video", "linear"]
    """Kind of head: "image" (BatchNorm, dropout, linear), "video" (linear, BatchNorm, ReLU, dropout, linear) or
    "linear" (dropout, linear), which is what most other projects have."""

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


def model_faults(model: Model, sources: Mapping[str, Source]) -> list[str]:
    """Returns what does not fit together in a model, and with the views of the sources, a line each."""
    if model.vit is None:
        return []
    faults = vit_faults(model.vit, sources)
    for key in ("depth", "width"):
        if getattr(model, key) != getattr(Model, key):
            faults.append(f"model.{key}={getattr(model, key)}: is of the ResNet; the ViT has model.vit.{key}")
    if model.batch_norm_momentum != Model.batch_norm_momentum:
        faults.append(
            f"model.batch_norm_momentum={model.batch_norm_momentum:g}: is of the ResNet; a ViT has no BatchNorm"
        )
    return faults
