"""Image ResNets with torchvision's names, made into video networks: kernels are repeated along time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from omnisource.models.weights.formats import HeadNames, Shapes, StateDict, Translated, WeightFormat, computable


def inflate(state_dict_2d: Mapping[str, Tensor], target_shapes: Shapes) -> StateDict:
    """Returns the weights of an image network for a video network of the same names.

    The 2-D kernels are repeated along time and divided by the temporal length, so that their sum over time, which
    the image path uses, is the 2-D kernel again. What is divided comes in float32 or float64.

    Args:
        state_dict_2d: Kernels [O, I, H, W] and other tensors.
        target_shapes: Shapes in the video network by the same names, [O, I, T, H, W] for kernels.
    """
    inflated: StateDict = {}
    for name, tensor in state_dict_2d.items():
        target = target_shapes.get(name, ())
        if tensor.ndim == 4 and len(target) == 5:
            length = target[2]
            tensor = (computable(tensor) / length).unsqueeze(2).repeat(1, 1, length, 1, 1)  # -> [O, I, T, H, W]
        inflated[name] = tensor
    return inflated


def _is_image_resnet(state: Mapping[str, Any]) -> bool:
    stem = state.get("conv1.weight")
    return isinstance(stem, Tensor) and stem.ndim == 4


def _read(state: Mapping[str, Tensor], shapes: Shapes, heads: HeadNames) -> Translated:
    """Returns the backbone, inflated; the linear layer of the file keeps its name, which the recognizer lacks."""
    ours = {(name if name.startswith("fc.") else f"backbone.{name}"): tensor for name, tensor in state.items()}
    return Translated(inflate(ours, shapes))


IMAGE_RESNET = WeightFormat("torchvision's image ResNets", _is_image_resnet, _read)
"""Names `conv1.weight`, `layer1.0.conv1.weight` and so on, 2-D kernels, and a linear layer `fc`, which is left."""
