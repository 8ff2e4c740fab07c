"""What weights are, told by their names, where they are of no format that is read: for the refusal."""

from __future__ import annotations

import re
from collections.abc import Iterable

_FAMILIES = {
    r"(^|\.)fast_path\.|(^|\.)pathway1_": "a SlowFast network (two pathways)",
    r"backbone\.(conv1|layer\d\.\d\.conv\d)\.conv\.weight": "a ResNet of mmaction2 (`backbone.conv1.conv.weight`)",
    r"(^|\.)blocks\.\d+\.res_blocks\.": "a ResNet of PyTorchVideo (`blocks.1.res_blocks.0`)",
    r"(^|\.)s\d\.pathway0_": "a ResNet of PySlowFast (`s2.pathway0_res0`)",
    r"^res\d_\d+_branch": "a ResNet of Caffe2 (`res2_0_branch2a_w`)",
    r"layer\d\.\d\.conv1\.0\.": "a video ResNet of torchvision (r3d, mc3, r2plus1d)",
    r"(^|\.)conv1\.0\.weight": "a ResNet with a deep stem (resnet50c, d, s)",
    r"relative_position_bias_table": "a Swin transformer",
    r"(vision_model|text_model)\.encoder\.layers\.": "a CLIP or SigLIP model of Hugging Face",
    r"encoder\.layers?\.\d+\.(attention|layernorm|norm1)": "a transformer of Hugging Face",
    r"resblocks\.\d+\.attn": "a transformer of CLIP",
    r"blocks\.\d+\.attn\.qkv": "a vision transformer (timm, DINO, MAE, VideoMAE)",
    r"(^|\.)features\.\d+": "a network of torchvision with `features` (VGG, MobileNet, EfficientNet, DenseNet)",
    r"stages\.\d+\.(blocks\.)?\d+\.": "a network in stages (ConvNeXt, RegNet)",
}


def family_of(names: Iterable[str]) -> str:
    """Returns what network names of tensors belong to; "" where they are of none that is known here."""
    joined = "\n".join(names)
    return next((kind for pattern, kind in _FAMILIES.items() if re.search(pattern, joined, re.MULTILINE)), "")
