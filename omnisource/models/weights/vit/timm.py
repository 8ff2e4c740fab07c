"""ViTs with timm's names: plain ones, MAE's own files, and other families as timm keeps them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from omnisource.errors import UserError
from omnisource.models.position_tables import sines_in_space
from omnisource.models.weights.formats import StateDict, computable
from omnisource.models.weights.vit.content import (
    Given,
    VitContent,
    content,
    fill_biases,
    is_gated,
    of_255,
    renamed,
    without,
)
from omnisource.recipe.backbones.vit import Family

_MAE_LEFT_OUT = r"decoder_.*|mask_token"


def is_timm(state: Mapping[str, Any]) -> bool:
    """Returns whether names are those of timm's ViTs over the patches of images."""
    kernel = state.get("patch_embed.proj.weight")
    return isinstance(kernel, Tensor) and kernel.ndim == 4 and "blocks.0.attn.qkv.weight" in state


def read_timm(state: Mapping[str, Tensor], given: Given) -> VitContent:
    """Returns the content of a file with timm's names.

    The family is told by what there is: a normalization before the blocks, factors of channels, rotary positions, a
    pooling that attends, MAE's decoder or its fixed positions.

    Raises:
        UserError: The tensors are not those of such a ViT.
    """
    has_timms_rotary_names = "blocks.0.gamma_1" in state
    state, left_out = without(state, _MAE_LEFT_OUT)
    state = renamed(state, {r"^attn_pool\.": "pool.", r"\.gamma_([12])$": r".ls\1.gamma"})
    _join_gates(state)
    fill_biases(state)
    family, assumed = _family_of(state, given, has_decoder=bool(left_out))
    traits: dict[str, Any] = {"class_token": "cls_token" in state, "resampling": "antialias", **_pixels(given)}
    if is_gated(state):
        traits["activation"] = "swiglu"
    elif family == "siglip":
        traits["activation"] = "gelu"
        assumed["activation"] = "gelu, as most of timm's SigLIPs have it; so400m_patch16 and others have gelu_tanh"
    is_mean = given.config.get("global_pool", "avg" if has_timms_rotary_names else "token") == "avg"
    if "pool.latent" in state:
        traits["pooling"] = "attention"
    elif "fc_norm.weight" in state or "cls_token" not in state or is_mean:
        traits["pooling"] = "mean"
    else:
        traits["pooling"] = "class_token"
    traits["norm_after_pooling"] = "norm.weight" not in state
    return content(family, state, given, traits, left_out=left_out, assumed=assumed)


def _join_gates(state: StateDict) -> None:
    """Puts the two halves of gated layers, gate and value, into one."""
    for name in [name for name in state if ".fc1_g." in name]:
        gate, value = state.pop(name), state.pop(name.replace("fc1_g", "fc1_x"))
        state[name.replace("fc1_g", "fc1")] = torch.cat([gate, value])


def _family_of(state: Mapping[str, Tensor], given: Given, *, has_decoder: bool) -> tuple[Family, dict[str, str]]:
    """Returns the family of a file with timm's names, and what was assumed for it, by key.

    Raises:
        UserError: Its positions are of an unknown kind.
    """
    name = str(given.config.get("architecture", ""))
    if "pos_embed" not in state:
        if "reg_token" not in state or "blocks.0.ls1.gamma" not in state:
            raise UserError("has no table of positions, and is not DINOv3, whose positions are known without one")
        return "dinov3", {}
    if "blocks.0.ls1.gamma" in state:
        return "dinov2", {}
    if "norm_pre.weight" in state:
        if name:
            return ("clip" if "quickgelu" in name else "openclip"), {}
        return "openclip", {"activation": "gelu, as OpenCLIP's own weights have it; those of OpenAI have quick_gelu"}
    if has_decoder or "fc_norm.weight" in state or _has_fixed_positions(state["pos_embed"]):
        return "mae", {}
    if "cls_token" not in state:
        return "siglip", {}
    known = {"pixel_mean": "0.5 of 0 to 1, and pixel_std the same, as timm's plain ViTs have it"}
    return "vit", {} if name else known


def _has_fixed_positions(table: Tensor) -> bool:
    """Returns whether positions, [1, 1 + patches, C], are MAE's sines: its pre-trained files may lack the decoder."""
    side, width = math.isqrt(table.shape[1] - 1), table.shape[2]
    if side * side != table.shape[1] - 1 or width % 4:
        return False
    sines = sines_in_space(side, side, width, table.device).flatten(0, 1)
    return torch.allclose(computable(table)[0, 1:].to(sines), sines, atol=1e-2)  # in half precision too


def _pixels(given: Given) -> dict[str, Any]:
    """Returns the normalization of pixels that timm's config.json has."""
    config = given.config.get("pretrained_cfg", {})
    names = {"pixel_mean": "mean", "pixel_std": "std"}
    return {ours: of_255(config[name]) for ours, name in names.items() if config.get(name)}
