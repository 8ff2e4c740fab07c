"""The published format of OmniSource: the backbone, an image head and a video head with mmaction2's names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from omnisource.errors import UserError
from omnisource.models.weights.formats import HeadNames, Shapes, StateDict, Translated, WeightFormat
from omnisource.models.weights.media_statistics import without_image_statistics
from omnisource.models.weights.slow_only_sizes import Depth, depth_of, width_of

_IMAGE_HEAD = {"cls_head.fc2d.2.": "bn.", "cls_head.fc2d.4.": "fc."}
_VIDEO_HEAD = {"cls_head.fc3d.2.": "fc1.", "cls_head.fc3d.3.": "bn.", "cls_head.fc3d.6.": "fc2."}


@dataclass(frozen=True)
class HeadSize:
    """The kind of a head and its number of classes."""

    kind: Literal["image", "video"]
    num_classes: int


@dataclass(frozen=True)
class Sizes:
    """All that is needed to build the recognizer that some weights belong to.

    Attributes:
        depth: Depth of the backbone.
        width: Factor on the channels of the backbone.
        heads: The heads by the name of their label space.
    """

    depth: Depth
    width: float
    heads: Mapping[str, HeadSize]


def from_published(state_dict: Mapping[str, Tensor], image_head: str | None, video_head: str | None) -> StateDict:
    """Returns a published state dict with our names; names that have no place here stay as they are.

    Args:
        state_dict: Names `backbone.*`, `cls_head.fc2d.*` and `cls_head.fc3d.*`.
        image_head: Label space that takes the weights of the published image head. None: no one does.
        video_head: The same for the published video head.
    """
    ours_of = {published: ours for ours, published in _head_layers(image_head, video_head).items()}
    return {_renamed(name, ours_of): tensor for name, tensor in state_dict.items()}


def to_published(state_dict: Mapping[str, Tensor], image_head: str | None, video_head: str | None) -> StateDict:
    """Returns our state dict with the published names, in the published order.

    It has one kind of statistics, so those that images have of their own are left out.

    Args:
        state_dict: Names `backbone.*` and `heads.<label space>.*`.
        image_head: Label space whose head becomes the published image head. None: there is none.
        video_head: The same for the published video head.

    Raises:
        UserError: There are heads that the published format has no place for.
    """
    state_dict = without_image_statistics(state_dict)
    published_of = _head_layers(image_head, video_head)
    order = ("backbone.", *published_of)
    position = {name: next((i for i, p in enumerate(order) if name.startswith(p)), None) for name in state_dict}
    homeless = sorted({".".join(name.split(".")[:2]) for name in state_dict if position[name] is None})
    if homeless:
        raise UserError(
            f"the published format has one image head and one video head; no place for {', '.join(homeless)}"
        )
    in_order = sorted(state_dict, key=lambda name: position[name] or 0)
    return {_renamed(name, published_of): state_dict[name] for name in in_order}


def sizes_of(state_dict: Mapping[str, Tensor], image_head: str = "image", video_head: str = "video") -> Sizes:
    """Returns the sizes of the recognizer that a state dict belongs to.

    Args:
        state_dict: With our own or the published names.
        image_head: Name for the published image head.
        video_head: Name for the published video head.

    Raises:
        UserError: The weights are not those of a recognizer of a known depth.
    """
    state = from_published(state_dict, image_head, video_head)
    heads: dict[str, HeadSize] = {}
    for name, tensor in state.items():
        found = re.fullmatch(r"heads\.([^.]+)\.(fc|fc2)\.weight", name)
        if found:
            heads[found[1]] = HeadSize("image" if found[2] == "fc" else "video", tensor.shape[0])
    backbone = {name.removeprefix("backbone."): t for name, t in state.items() if name.startswith("backbone.")}
    depth, width = depth_of(backbone), width_of(backbone)
    if depth is None or width is None:
        raise UserError("the weights are not those of a SlowOnly ResNet of depth 18, 34, 50, 101 or 152")
    return Sizes(depth, width, heads)


def _head_layers(image_head: str | None, video_head: str | None) -> dict[str, str]:
    """Returns the published prefix of every layer of the two heads by ours, in the published order."""
    heads = ((image_head, _IMAGE_HEAD), (video_head, _VIDEO_HEAD))
    return {
        f"heads.{head}.{ours}": published
        for head, layers in heads
        if head is not None
        for published, ours in layers.items()
    }


def _renamed(name: str, prefixes: Mapping[str, str]) -> str:
    for old, new in prefixes.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def _has_published_head(state: Mapping[str, Any]) -> bool:
    names = [str(name) for name in state]
    return any(name.startswith("backbone.") for name in names) and any(name.startswith("cls_head.") for name in names)


def _read(state: Mapping[str, Tensor], shapes: Shapes, heads: HeadNames) -> Translated:
    return Translated(from_published(state, heads.image, heads.video))


def _write(state: Mapping[str, Tensor], heads: HeadNames) -> dict[str, Any]:
    return {"state_dict": to_published(state, heads.image, heads.video), "meta": {}, "message_hub": {}}


PUBLISHED = WeightFormat("published ones (backbone.*, cls_head.*)", _has_published_head, _read, write=_write)
"""The backbone has our names; one without heads reads as our own."""
