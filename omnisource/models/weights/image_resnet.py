"""Image ResNets with torchvision's names, made into video networks: kernels are repeated along time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from omnisource.models.weights.formats import HeadNames, Shapes, StateDict, Translated, WeightFormat, computable

_TRUNK = ("conv", "bn", "layer", "attnpool")
_TRUNK_KEYS = re.compile(
    r"(layer\d+\.\d+\.)?(conv\d\.weight|bn\d\.(weight|bias|running_mean|running_var|num_batches_tracked))"
    r"|layer\d+\.\d+\.downsample\.(\d\.weight|\d\.(bias|running_mean|running_var|num_batches_tracked))"
)
_OTHER_KINDS = {
    r"^attnpool": "CLIP's ResNet (a stem of three convolutions, attention pooling)",
    r"\.(se|se_module)\.": "a ResNet with channel attention (SE-ResNet or ECA)",
    r"\.bn\d\.(IN|BN)\.": "an IBN-ResNet",
    r"\.conv2\.(bn|fc)\d": "a ResNeSt",
    r"\.convs\.\d": "a Res2Net",
}


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
    return isinstance(stem, Tensor) and stem.ndim == 4 and any(name.startswith("layer1.0.") for name in state)


def _other_network(state: Mapping[str, Tensor]) -> str:
    """Returns which kind of ResNet shares these names and is another network, with the keys that tell; "" if none."""
    surplus = [name for name in state if name.startswith(_TRUNK) and not _TRUNK_KEYS.fullmatch(name)]
    shown = ", ".join(surplus[:4]) + (f" and {len(surplus) - 4} more" if len(surplus) > 4 else "")
    for pattern, kind in _OTHER_KINDS.items():
        if any(re.search(pattern, name) for name in surplus):
            return f"{kind}, which is another network: {shown} have no place in a plain ResNet"
    if any(tensor.ndim == 4 and re.search(r"downsample\.[12]\.weight", name) for name, tensor in state.items()):
        return "a ResNet-D (average pooling in the shortcuts), which is another network than a plain ResNet"
    if surplus:
        return f"a ResNet with other layers than a plain one: {shown}"
    if "bn1.weight" in state and not any(name.endswith(".running_mean") for name in state):
        return (
            "a ResNet without running statistics (no running_mean, no running_var), so its normalization is GroupNorm "
            "or another kind, not BatchNorm"
        )
    second, first = state.get("layer1.0.conv2.weight"), state.get("layer1.0.conv1.weight")
    if first is not None and second is not None and second.shape[1] != first.shape[0]:
        return f"a ResNeXt or the like (grouped convolutions: layer1.0.conv2.weight is {list(second.shape)})"
    last = state.get("layer1.0.conv3.weight")
    if first is not None and last is not None and last.shape[0] != 4 * first.shape[0]:
        return (
            f"a wide ResNet or the like (layer1.0.conv1.weight has {first.shape[0]} channels, a quarter of "
            f"layer1.0.conv3.weight's {last.shape[0]} in a plain one)"
        )
    return ""


def _read(state: Mapping[str, Tensor], shapes: Shapes, heads: HeadNames) -> Translated:
    """Returns the backbone, inflated; the linear layer of the file keeps its name, which the recognizer lacks."""
    ours = {(name if name.startswith("fc.") else f"backbone.{name}"): tensor for name, tensor in state.items()}
    return Translated(inflate(ours, shapes))


IMAGE_RESNET = WeightFormat("torchvision's image ResNets", _is_image_resnet, _read, _other_network)
"""Names `conv1.weight`, `layer1.0.conv1.weight` and so on, 2-D kernels, and a linear layer `fc`, which is left."""
