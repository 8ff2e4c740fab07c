"""Formats of weights: the published names, image networks made into video networks, and sizes read from weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from omnisource.errors import UserError

StateDict = dict[str, Tensor]
Depth = Literal[18, 34, 50, 101, 152]

_PUBLISHED_IMAGE_HEAD = {"cls_head.fc2d.2.": "bn.", "cls_head.fc2d.4.": "fc."}
_PUBLISHED_VIDEO_HEAD = {"cls_head.fc3d.2.": "fc1.", "cls_head.fc3d.3.": "bn.", "cls_head.fc3d.6.": "fc2."}

_DEPTHS: dict[tuple[str, tuple[int, int, int, int]], Depth] = {
    ("basic", (2, 2, 2, 2)): 18,
    ("basic", (3, 4, 6, 3)): 34,
    ("bottleneck", (3, 4, 6, 3)): 50,
    ("bottleneck", (3, 4, 23, 3)): 101,
    ("bottleneck", (3, 8, 36, 3)): 152,
}


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

    Args:
        state_dict: Names `backbone.*` and `heads.<label space>.*`.
        image_head: Label space whose head becomes the published image head. None: there is none.
        video_head: The same for the published video head.

    Raises:
        UserError: There are heads that the published format has no place for.
    """
    published_of = _head_layers(image_head, video_head)
    order = ("backbone.", *published_of)
    place = {name: next((i for i, p in enumerate(order) if name.startswith(p)), None) for name in state_dict}
    homeless = sorted({".".join(name.split(".")[:2]) for name in state_dict if place[name] is None})
    if homeless:
        raise UserError(
            f"the published format has one image head and one video head; no place for {', '.join(homeless)}"
        )
    in_order = sorted(state_dict, key=lambda name: place[name] or 0)
    return {_renamed(name, published_of): state_dict[name] for name in in_order}


def inflate(state_dict_2d: Mapping[str, Tensor], target_shapes: Mapping[str, Sequence[int]]) -> StateDict:
    """Returns the weights of an image network for a video network of the same names.

    The 2-D kernels are repeated along time and divided by the temporal length, so that their sum over time, which
    the image path uses, is the 2-D kernel again.

    Args:
        state_dict_2d: Kernels [O, I, H, W] and other tensors.
        target_shapes: Shapes in the video network by the same names, [O, I, T, H, W] for kernels.
    """
    inflated: StateDict = {}
    for name, tensor in state_dict_2d.items():
        target = target_shapes.get(name, ())
        if tensor.ndim == 4 and len(target) == 5:
            length = target[2]
            tensor = (tensor / length).unsqueeze(2).repeat(1, 1, length, 1, 1)  # [O, I, H, W] -> [O, I, T, H, W]
        inflated[name] = tensor
    return inflated


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
    depth, width = depth_of(state), _width_of(state)
    if depth is None or width is None:
        raise UserError("the weights are not those of a SlowOnly ResNet of depth 18, 34, 50, 101 or 152")
    return Sizes(depth, width, heads)


def depth_of(state: Mapping[str, Tensor]) -> Depth | None:
    """Returns the depth of the whole backbone in a state dict with our names; None if there is no such depth."""
    kind = "bottleneck" if "backbone.layer1.0.conv3.weight" in state else "basic"
    stages = [stage for stage, _ in blocks_of(state)]
    return _DEPTHS.get((kind, (stages.count(1), stages.count(2), stages.count(3), stages.count(4))))


def blocks_of(state: Mapping[str, Tensor], but_of: Mapping[str, Tensor] | None = None) -> list[tuple[int, int]]:
    """Returns (stage, block) of every residual block with a tensor in one state dict and none in the other."""
    here, there = (
        {
            tuple(map(int, match.groups()))
            for name in names
            if (match := re.match(r"backbone\.layer(\d+)\.(\d+)\.", name))
        }
        for names in (state, but_of or {})
    )
    return sorted((stage, block) for stage, block in here - there)


def _width_of(state: Mapping[str, Tensor]) -> float | None:
    """Returns the width whose rounded channels are those of the stem and of all stages."""
    names = ["backbone.conv1.weight", *(f"backbone.layer{stage}.0.conv1.weight" for stage in (1, 2, 3, 4))]
    if any(name not in state for name in names):
        return None
    full_and_given = list(zip((64, 64, 128, 256, 512), (state[name].shape[0] for name in names), strict=True))
    lowest = max((given - 0.5) / full for full, given in full_and_given)
    highest = min((given + 0.5) / full for full, given in full_and_given)
    for width in (full_and_given[-1][1] / 512, (lowest + highest) / 2):
        if all(round(full * width) == given for full, given in full_and_given):
            return width
    return None


def _head_layers(image_head: str | None, video_head: str | None) -> dict[str, str]:
    """Returns the published prefix of every layer of the two heads by ours, in the published order."""
    heads = ((image_head, _PUBLISHED_IMAGE_HEAD), (video_head, _PUBLISHED_VIDEO_HEAD))
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
