"""The sizes of SlowOnly ResNets: depth and width, as names and shapes of weights tell them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from omnisource.models.weights.formats import SizeDifferences

Depth = Literal[18, 34, 50, 101, 152]

STEM_CHANNELS = 64
STAGE_PLANES = (64, 128, 256, 512)

BLOCKS: dict[Depth, tuple[Literal["basic", "bottleneck"], tuple[int, int, int, int]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
"""Kind of residual block, and blocks in each of the four stages, by depth."""


def depth_of(weights: Mapping[str, Tensor]) -> Depth | None:
    """Returns the depth of a whole backbone, given with its own names; None if there is no such depth."""
    if "layer1.0.conv1.weight" not in weights:
        return None  # the names of another project
    kind = "bottleneck" if "layer1.0.conv3.weight" in weights else "basic"
    stages = [stage for stage, _ in _blocks_of(weights)]
    counts = tuple(stages.count(stage) for stage in (1, 2, 3, 4))
    return next((depth for depth, blocks in BLOCKS.items() if blocks == (kind, counts)), None)


def width_of(weights: Mapping[str, Tensor]) -> float | None:
    """Returns the width whose rounded channels are those of the stem and of all stages; None if there is none."""
    names = ["conv1.weight", *(f"layer{stage}.0.conv1.weight" for stage in (1, 2, 3, 4))]
    if any(name not in weights for name in names):
        return None
    given = [weights[name].shape[0] for name in names]
    full_and_given = list(zip((STEM_CHANNELS, *STAGE_PLANES), given, strict=True))
    lowest = max((given - 0.5) / full for full, given in full_and_given)
    highest = min((given + 0.5) / full for full, given in full_and_given)
    for width in (full_and_given[-1][1] / STAGE_PLANES[-1], (lowest + highest) / 2):
        if all(round(full * width) == given for full, given in full_and_given):
            return width
    return None


def size_differences(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> SizeDifferences:
    """Returns in what the sizes of two backbones differ, given with their own names: a line a block.

    Weights that lack some tensors may be those of a part of the backbone: then blocks that are only wanted say nothing.

    Args:
        weights: Weights of a file.
        wanted: All tensors of the backbone.
    """
    given_depth, wanted_depth = depth_of(weights), depth_of(wanted)
    lines = [f"backbone.{block}: only in the file" for block in _names(_blocks_of(weights) - _blocks_of(wanted))]
    if given_depth is not None and given_depth != wanted_depth:
        lines += [f"backbone.{block}: only in the model" for block in _names(_blocks_of(wanted) - _blocks_of(weights))]
    if given_depth is None:
        return SizeDifferences(tuple(lines), "; take other weights")
    given_width, wanted_width = width_of(weights), width_of(wanted)
    if given_depth == wanted_depth and given_width == wanted_width:
        return SizeDifferences(tuple(lines), f": both have depth {wanted_depth} and one width, but not the same layers")
    found, keys = [], []
    if given_depth != wanted_depth:
        found.append(f"depth {given_depth} in the file, {wanted_depth or 'unknown'} in the model")
        keys.append(f"model.depth={given_depth}")
    if given_width is None:
        return SizeDifferences(
            tuple(lines), f" ({'; '.join([*found, 'no known width in the file'])}); take other weights"
        )
    if given_width != wanted_width:
        found.append(f"width {given_width:g} in the file, {wanted_width or 'unknown'} in the model")
        keys.append(f"model.width={given_width:g}")
    return SizeDifferences(tuple(lines), f" ({'; '.join(found)}); set {' '.join(keys)}, or take other weights")


def _blocks_of(weights: Mapping[str, Tensor]) -> set[tuple[int, int]]:
    """Returns (stage, block) of every residual block that has a tensor."""
    matches = (re.match(r"layer(\d+)\.(\d+)\.", name) for name in weights)
    return {(int(match[1]), int(match[2])) for match in matches if match}


def _names(blocks: set[tuple[int, int]]) -> list[str]:
    return [f"layer{stage}.{block}" for stage, block in sorted(blocks)]
