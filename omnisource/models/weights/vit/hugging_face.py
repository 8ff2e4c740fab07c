"""Hugging Face's ViT, ViTMAE and VideoMAE, whose names DINOv2 shares; and what its config and processor tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from omnisource.models.weights.formats import StateDict
from omnisource.models.weights.vit.content import (
    Given,
    VitContent,
    content,
    fill_biases,
    join,
    of_255,
    renamed,
    without,
)
from omnisource.recipe.backbones.vit import Family

_NAMES = {
    r"^embeddings\.cls_token$": "cls_token",
    r"^embeddings\.register_tokens$": "reg_token",
    r"^embeddings\.position_embeddings$": "pos_embed",
    r"^embeddings\.patch_embeddings\.projection\.": "patch_embed.proj.",
    r"^encoder\.layer\.": "blocks.",
    r"attention\.attention\.": "attn.",
    r"attention\.output\.dense\.": "attn.proj.",
    r"layernorm_before\.": "norm1.",
    r"layernorm_after\.": "norm2.",
    r"intermediate\.dense\.": "mlp.fc1.",
    r"output\.dense\.": "mlp.fc2.",
    r"layer_scale([12])\.lambda1$": r"ls\1.gamma",
    r"^layernorm\.": "norm.",
    r"^classifier\.": "head.",
}
_ACTIVATIONS = {"gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh", "quick_gelu": "quick_gelu"}

_HALF = ("ViT", "VideoMAE", "Siglip")
"""Kinds of processors whose own mean and deviation are 0.5."""


def with_timms_names(state: Mapping[str, Tensor], prefix: str) -> StateDict:
    """Returns the tensors of Hugging Face's ViT and its kin with timm's names.

    Args:
        state: The tensors.
        prefix: A pattern of what goes before the names of the backbone where there is a classifier.
    """
    named = renamed(state, {prefix: "", **_NAMES})
    join(named, "qkv", ("query", "key", "value"))
    return named


def from_config(given: Given) -> dict[str, Any]:
    """Returns the traits that config.json and preprocessor_config.json tell."""
    config, traits = given.config, {}
    if config.get("hidden_act") in _ACTIVATIONS:
        traits["activation"] = _ACTIVATIONS[config["hidden_act"]]
    if "layer_norm_eps" in config:
        traits |= {"norm_epsilon": config["layer_norm_eps"], "pooling_epsilon": config["layer_norm_eps"]}
    return traits | pixels(given)


def pixels(given: Given) -> dict[str, Any]:
    """Returns the normalization of pixels that a processor has."""
    processor = given.processor
    if processor.get("do_normalize") is False:
        return {"pixel_mean": (0.0, 0.0, 0.0), "pixel_std": (255.0, 255.0, 255.0)}
    found: dict[str, Any] = {}
    for ours, name in (("pixel_mean", "image_mean"), ("pixel_std", "image_std")):
        if processor.get(name):
            found[ours] = of_255(processor[name])
        elif str(processor.get("image_processor_type", processor.get("feature_extractor_type", ""))).startswith(_HALF):
            found[ours] = (127.5, 127.5, 127.5)  # what the class has where its file says nothing
    return found


def is_hugging_face_vit(state: Mapping[str, Any]) -> bool:
    """Returns whether names are those of Hugging Face's ViT, ViTMAE or VideoMAE."""
    return any(f"{prefix}encoder.layer.0.layernorm_before.weight" in state for prefix in ("", "vit.", "videomae."))


def read_hugging_face_vit(state: Mapping[str, Tensor], given: Given) -> VitContent:
    """Returns the content of a file of Hugging Face's ViT, ViTMAE or VideoMAE.

    Raises:
        UserError: The tensors are not those of such a ViT.
    """
    is_mae = any(name.startswith("decoder.") for name in state) or given.config.get("model_type") == "vit_mae"
    state, left_out = without(state, r"(.*\.)?(mask_token|pooler\..*)|decoder\..*|encoder_to_decoder\..*")
    state = with_timms_names(state, r"^(vit|videomae)\.")
    fill_biases(state)
    is_video = state["patch_embed.proj.weight"].ndim == 5
    family: Family = "videomae" if is_video else "mae" if is_mae else "vit"
    traits: dict[str, Any] = {"norm_epsilon": 1e-12, "pooling_epsilon": 1e-12, **from_config(given)}
    traits["norm_after_pooling"] = "fc_norm.weight" in state
    if is_video:
        if traits["norm_after_pooling"]:
            traits["pooling_epsilon"] = 1e-5  # its last normalization has torch's default, whatever the config says
        traits["pooling"] = "mean" if traits["norm_after_pooling"] or "head.weight" not in state else "first_patch"
    else:
        traits["pooling"] = "class_token"
    return content(family, state, given, traits, left_out=left_out)
