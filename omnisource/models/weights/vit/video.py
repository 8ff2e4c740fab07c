"""VideoMAE's own files, and V-JEPA 2: its own, its probes, and those of Hugging Face."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from omnisource.models.weights.vit.content import Given, VitContent, content, fill_biases, join, renamed, without
from omnisource.models.weights.vit.hugging_face import from_config

_PROBE = {
    r"^pooler\.query_tokens$": "pool.latent",
    r"^pooler\.(cross_attention_block|cross_attention_layer)\.(xattn|cross_attn)\.": "pool.",
    r"^pooler\.(cross_attention_block|cross_attention_layer)\.(layer_)?norm": "pool.norm",
    r"^pooler\.(cross_attention_block|cross_attention_layer)\.": "pool.",
    r"^pooler\.(blocks|self_attention_layers)\.": "pool.blocks.",
    r"\.layer_norm([12])\.": r".norm\1.",
    r"\.self_attn\.out_proj\.": ".attn.proj.",
    r"\.self_attn\.": ".attn.",
    r"^(linear|classifier)\.": "head.",
}


def is_video_vit(state: Mapping[str, Any]) -> bool:
    """Returns whether names are those of VideoMAE's or V-JEPA 2's own files: timm's, with patches over time."""
    kernel = state.get("patch_embed.proj.weight")
    return isinstance(kernel, Tensor) and kernel.ndim == 5


def read_video_vit(state: Mapping[str, Tensor], given: Given) -> VitContent:
    """Returns the content of one of VideoMAE's or V-JEPA 2's own files, the latter perhaps with its probe.

    Raises:
        UserError: The tensors are not those of such a ViT.
    """
    is_videomae = any(name.endswith("attn.q_bias") for name in state)
    state, left_out = without(state, r"(encoder_to_decoder|decoder)\..*|mask_token|(.*\.)?pos_embed")
    if is_videomae:
        fill_biases(state)
        traits: dict[str, Any] = {"norm_after_pooling": "norm.weight" not in state}
        return content("videomae", state, given, traits, left_out=left_out)
    state = renamed(state, _PROBE)
    return _vjepa_content(state, given, {}, left_out)


def is_hugging_face_vjepa(state: Mapping[str, Any]) -> bool:
    """Returns whether names are those of Hugging Face's V-JEPA 2."""
    return any(f"{prefix}encoder.embeddings.patch_embeddings.proj.weight" in state for prefix in ("", "vjepa2."))


def read_hugging_face_vjepa(state: Mapping[str, Tensor], given: Given) -> VitContent:
    """Returns the content of a file of Hugging Face's V-JEPA 2; its predictor is left out.

    Raises:
        UserError: The tensors are not those of such a ViT.
    """
    state, left_out = without(state, r"(vjepa2\.)?predictor\..*")
    state = renamed(
        state,
        {
            r"^(vjepa2\.)?encoder\.": "",
            r"^embeddings\.patch_embeddings\.": "patch_embed.",
            r"^layer\.": "blocks.",
            r"\.attention\.": ".attn.",
            r"^layernorm\.": "norm.",
            **_PROBE,
        },
    )
    join(state, "qkv", ("query", "key", "value"))
    join(state, "kv", ("pool.k_proj", "pool.v_proj"))
    state = renamed(state, {r"^kv\.": "pool.kv.", r"^pool\.q_proj\.": "pool.q."})
    join(state, "qkv", ("q_proj", "k_proj", "v_proj"))
    return _vjepa_content(state, given, {"pooling_epsilon": 1e-6, **from_config(given)}, left_out)


def _vjepa_content(state: dict[str, Tensor], given: Given, traits: dict[str, Any], left_out: list[str]) -> VitContent:
    """Returns the content of tensors with the names of our backbone."""
    numbers = {name.split(".")[2] for name in state if name.startswith("pool.blocks.")}
    if "pool.latent" in state:
        traits["probe_blocks"] = len(numbers)
    else:
        traits |= {"pooling": "mean", "probe_blocks": 0}
    return content("vjepa2", state, given, traits, left_out=left_out)
