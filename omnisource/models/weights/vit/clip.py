"""CLIP's image towers, of OpenAI, OpenCLIP and Hugging Face, and Hugging Face's SigLIP and SigLIP 2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from omnisource.errors import UserError
from omnisource.models.weights.vit.content import Given, VitContent, content, join, renamed, without, without_prefix
from omnisource.models.weights.vit.hugging_face import from_config

_BLOCK = {
    r"^(transformer\.resblocks|encoder\.layers)\.": "blocks.",
    r"\.(ln_|layer_norm)([12])\.": r".norm\2.",
    r"\.(attn|self_attn)\.": ".attn.",
    r"attn\.in_proj_": "attn.qkv.",
    r"attn\.out_proj\.": "attn.proj.",
    r"mlp\.c_fc\.": "mlp.fc1.",
    r"mlp\.c_proj\.": "mlp.fc2.",
    r"^(ln_pre|pre_layrnorm)\.": "norm_pre.",
    r"^(ln_post|post_layernorm)\.": "norm.",
}
_OPENAI = {
    r"^conv1\.weight$": "patch_embed.proj.weight",
    r"^class_embedding$": "cls_token",
    r"^positional_embedding$": "pos_embed",
}
_HUGGING_FACE = {
    r"^embeddings\.class_embedding$": "cls_token",
    r"^embeddings\.patch_embedding\.": "patch_embed.proj.",
    r"^embeddings\.position_embedding\.weight$": "pos_embed",
}
_SIGLIP_POOL = {
    r"^head\.probe$": "pool.latent",
    r"^head\.attention\.in_proj_": "pool.qkv.",
    r"^head\.attention\.out_proj\.": "pool.proj.",
    r"^head\.layernorm\.": "pool.norm.",
    r"^head\.mlp\.": "pool.mlp.",
}


def is_clip(state: Mapping[str, Any]) -> bool:
    """Returns whether names are those of the image tower of OpenAI's or OpenCLIP's CLIP."""
    return "visual.class_embedding" in state and "visual.transformer.resblocks.0.ln_1.weight" in state


def read_clip(state: Mapping[str, Tensor], given: Given) -> VitContent:
    """Returns the content of the image tower of a CLIP; the projection to what texts are compared with is left out.

    Raises:
        UserError: The tensors are not those of such a ViT.
    """
    is_half = any(tensor.dtype == torch.float16 for tensor in state.values())
    state, left_out = without_prefix(state, "visual.")
    state, projection = without(renamed(state, {**_OPENAI, **_BLOCK}), "proj")
    _shape_tokens(state)
    # The keys are equal. OpenAI publishes half precision, OpenCLIP its own weights in single precision.
    known = given.config.get("hidden_act")
    text = "quick_gelu, as OpenAI's weights have it" if is_half else "gelu, as OpenCLIP's own weights have it"
    assumed = {} if known else {"activation": text}
    is_openai = known == "quick_gelu" or (known is None and is_half)
    left_out = [*(f"visual.{name}" for name in projection), *left_out]
    return content("clip" if is_openai else "openclip", state, given, {}, left_out=left_out, assumed=assumed)


def is_hugging_face_clip(state: Mapping[str, Any]) -> bool:
    """Returns whether names are those of Hugging Face's CLIP, SigLIP or SigLIP 2."""
    return any(f"{prefix}embeddings.patch_embedding.weight" in state for prefix in ("", "vision_model."))


def read_hugging_face_clip(state: Mapping[str, Tensor], given: Given) -> VitContent:
    """Returns the content of the image tower of Hugging Face's CLIP, SigLIP or SigLIP 2.

    Raises:
        UserError: The tensors are not those of such a ViT: SigLIP 2 of any size, "naflex", has another kind of patches.
    """
    given = replace(given, config={**given.config, **given.config.get("vision_config", {})})
    prefix = "vision_model." if any(name.startswith("vision_model.") for name in state) else ""
    state, left_out = without_prefix(state, prefix)
    state, others = without(state, r"embeddings\.position_ids|(text_model|text_projection|visual_projection)\b.*")
    left_out += [f"{prefix}{name}" for name in others]
    state = renamed(state, {**_HUGGING_FACE, **_BLOCK, **_SIGLIP_POOL})
    if state["patch_embed.proj.weight"].ndim == 2:
        raise UserError("SigLIP 2 of any size (naflex): take one of fixed size, such as siglip2-base-patch16-224")
    join(state, "qkv", ("q_proj", "k_proj", "v_proj"))
    _shape_tokens(state)
    traits = from_config(given)
    if "cls_token" in state:
        known = traits.get("activation")
        assumed = {} if known else {"activation": "quick_gelu, as OpenAI's weights have it"}
        family = "openclip" if known == "gelu" else "clip"
        return content(family, state, given, traits, left_out=left_out, assumed=assumed)
    for part in ("weight", "bias"):
        if f"pool.qkv.{part}" in state:
            joined = state.pop(f"pool.qkv.{part}")
            query = len(joined) // 3
            state[f"pool.q.{part}"], state[f"pool.kv.{part}"] = joined[:query], joined[query:]
    if "pool.latent" not in state:
        traits["pooling"] = "mean"
    state = renamed(state, {r"^classifier\.": "head."})
    return content("siglip", state, given, traits, left_out=left_out)


def _shape_tokens(state: dict[str, Tensor]) -> None:
    """Gives the class token and the positions the dimension of a batch that timm's have."""
    for name in ("cls_token", "pos_embed"):
        if name in state:
            state[name] = state[name].reshape(1, -1, state[name].shape[-1])
