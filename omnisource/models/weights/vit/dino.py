"""DINOv2 and DINOv3: Facebook's own files, and those of Hugging Face."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from omnisource.models.weights.formats import StateDict
from omnisource.models.weights.vit.content import (
    Given,
    VitContent,
    content,
    fill_biases,
    is_gated,
    join,
    renamed,
    without,
)
from omnisource.models.weights.vit.hugging_face import pixels, with_timms_names

_DINOV2_PREFIXES = ("", "dinov2.", "dinov2_with_registers.")
_LEFT_OUT = r"mask_token|.*\.bias_mask|local_cls_norm\..*|(ibot_|dino_)head\..*"


def is_dino(state: Mapping[str, Any]) -> bool:
    """Returns whether names are those of Facebook's DINOv2 or DINOv3."""
    has_own_names = "mask_token" in state or "register_tokens" in state or "storage_tokens" in state
    return (
        has_own_names
        and any(name.endswith("attn.qkv.weight") for name in state)
        and "cls_token" in state
        and (any(name.endswith(".ls1.gamma") for name in state))
    )


def read_dino(state: Mapping[str, Tensor], given: Given) -> VitContent:
    """Returns the content of a file of Facebook's DINOv2 or DINOv3.

    Raises:
        UserError: The tensors are not those of such a ViT.
    """
    masked = [name for name in state if name.endswith("attn.qkv.bias_mask")]
    has_rotary = "rope_embed.periods" in state or "pos_embed" not in state
    state, left_out = without(state, _LEFT_OUT)
    state = renamed(
        state,
        {
            r"^blocks\.\d+\.(\d+\.)": r"blocks.\1",  # in training checkpoints blocks lie in chunks
            r"^(register|storage)_tokens$": "reg_token",
            r"^rope_embed\.": "rope.",
            r"mlp\.w12\.": "mlp.fc1.",
        },
    )
    if has_rotary:
        join(state, "fc1", ("w1", "w2"))
    state = renamed(state, {r"mlp\.w3\.": "mlp.fc2."})
    if masked:
        _zero_key_biases(state)
    return _dino_content(state, given, "dinov3" if has_rotary else "dinov2", left_out, is_hugging_face=False)


def is_hugging_face_dinov3(state: Mapping[str, Any]) -> bool:
    """Returns whether names are those of Hugging Face's DINOv3."""
    return any(f"{prefix}layer.0.attention.o_proj.weight" in state for prefix in ("", "model.", "dinov3_vit."))


def read_hugging_face_dinov3(state: Mapping[str, Tensor], given: Given) -> VitContent:
    """Returns the content of a file of Hugging Face's DINOv3; the keys have no bias.

    Raises:
        UserError: The tensors are not those of such a ViT.
    """
    state, left_out = without(state, r"(.*\.)?mask_token")
    state = renamed(
        state,
        {
            r"^(dinov3_vit|model)\.": "",
            r"^(model\.)?layer\.": "blocks.",
            r"^embeddings\.register_tokens$": "reg_token",
            r"^embeddings\.cls_token$": "cls_token",
            r"^embeddings\.patch_embeddings\.": "patch_embed.proj.",
            r"attention\.": "attn.",
            r"attn\.o_proj\.": "attn.proj.",
            r"layer_scale([12])\.lambda1$": r"ls\1.gamma",
            r"mlp\.down_proj\.": "mlp.fc2.",
        },
    )
    join(state, "qkv", ("q_proj", "k_proj", "v_proj"))
    join(state, "fc1", ("gate_proj", "up_proj"))
    state = renamed(state, {r"mlp\.up_proj\.": "mlp.fc1."})
    return _dino_content(state, given, "dinov3", left_out, is_hugging_face=True)


def is_hugging_face_dinov2(state: Mapping[str, Any]) -> bool:
    """Returns whether names are those of Hugging Face's DINOv2."""
    return any(f"{prefix}encoder.layer.0.layer_scale1.lambda1" in state for prefix in _DINOV2_PREFIXES)


def read_hugging_face_dinov2(state: Mapping[str, Tensor], given: Given) -> VitContent:
    """Returns the content of a file of Hugging Face's DINOv2, whose classifier takes class token and mean.

    Raises:
        UserError: The tensors are not those of such a ViT.
    """
    state, left_out = without(state, r"(.*\.)?mask_token")
    state = with_timms_names(state, r"^(dinov2|dinov2_with_registers)\.")
    state = renamed(state, {r"mlp\.weights_in\.": "mlp.fc1.", r"mlp\.weights_out\.": "mlp.fc2."})
    return _dino_content(state, given, "dinov2", left_out, is_hugging_face=True)


def _dino_content(
    state: StateDict, given: Given, family: Any, left_out: list[str], *, is_hugging_face: bool
) -> VitContent:
    """Returns the content of tensors with timm's names."""
    fill_biases(state)
    traits: dict[str, Any] = pixels(given) if is_hugging_face else {}
    if is_gated(state):
        traits["activation"] = "swiglu"
    if family == "dinov2":
        # Facebook resamples by size, with antialiasing, since there are registers; Hugging Face never by a scale.
        without_registers = "plain" if is_hugging_face else "scale_factor"
        traits["resampling"] = "antialias" if "reg_token" in state else without_registers
    width = state["norm.weight"].shape[0]
    if "head.weight" in state and state["head.weight"].shape[1] == 2 * width:
        traits["pooling"] = "class_token_and_mean"
    return content(family, state, given, traits, left_out=left_out)


def _zero_key_biases(state: StateDict) -> None:
    """Makes the biases of keys zero, as the mask beside them says: rotated, they would count."""
    for name in [name for name in state if name.endswith("attn.qkv.bias")]:
        query, _, value = state[name].chunk(3)
        state[name] = torch.cat([query, torch.zeros_like(query), value])
