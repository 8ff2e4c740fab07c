"""Every format of a ViT gives the numbers that its own project gave, from a file with that project's names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from omnisource.errors import UserError
from omnisource.models.backbones.vit import VisionTransformer
from omnisource.models.weights.vit.content import Given, VitContent
from omnisource.models.weights.vit.formats import VIT_FORMATS, read_vit
from omnisource.models.weights.wrappers import find_weights
from omnisource.recipe.backbones.vit import ViT
from tests.support.formats import FORMATS, Case, case, key_table

CASES = sorted(
    path.stem
    for path in (FORMATS / "tiny").glob("*.npz")
    if "resnet" not in path.stem and not path.stem.startswith(("inflated", "mmaction2", "py"))
)
"""None where there are no handed cases: then nothing is tested here."""

WITH_FLOAT32_INSIDE = ("hf_dinov3", "timm_dinov3", "dinov3_original")


def read_file(state: Mapping[str, Tensor], given: Given) -> VitContent:
    """Reads a state dict as it stands in a file, with its prefixes."""
    found = find_weights(state, "a file", VIT_FORMATS)
    return read_vit(found.format, found.state, given)


def config_of(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what would stand in a config.json beside such a file."""
    if name.startswith("hf_"):
        return dict(config)
    known = {"architecture": f"tiny_{name}", **config} if name.startswith("timm_") else {}
    return {key: value for key, value in known.items() if key in ("architecture", "global_pool")}


def read(name: str, handed: Case) -> VitContent:
    heads = next(handed.config[key] for key in ("num_attention_heads", "num_heads", "h") if key in handed.config)
    # V-JEPA 2 keeps the encoder in one file and the probe in another: here they are one.
    state = {re.sub(r"^(encoder/module\.backbone\.|classifier/module\.)", "", k): t for k, t in handed.state.items()}
    if name == "openai_clip_visual":
        state["visual.proj"] = state["visual.proj"].half()  # as OpenAI publishes all of it; this one is left out
    return read_file(state, Given({"num_heads": heads}, config_of(name, handed.config)))


def network_of(content: VitContent) -> VisionTransformer:
    network = VisionTransformer(content.vit).double().eval()
    own = {"time_embed", "rope.periods"}  # an image network has no positions in time; some files no periods
    assert set(content.backbone) | own == network.state_dict().keys() | own
    network.load_state_dict(content.backbone, strict=False)
    return network


@pytest.mark.shared_data
@pytest.mark.parametrize("name", CASES)
def test_network_of_a_format_gives_the_handed_numbers(name: str) -> None:
    handed = case(name)
    content = read(name, handed)
    network = network_of(content)
    compared = []
    for suffix in ("", "_other_size"):
        for media in ("image", "video"):
            if (given := f"{media}{suffix}_u8") not in handed.arrays:
                continue
            with torch.no_grad():
                outputs = {"tokens": network.tokens(handed.pixels(given), media)}
                outputs["features"] = network(handed.pixels(given), media)
            if content.head:
                outputs["logits"] = F.linear(outputs["features"], content.head["weight"], content.head["bias"])
            if name == "hf_clip_vision":
                del outputs["tokens"]  # the handed ones are those before the last normalization
            for output, ours in outputs.items():
                if f"{output}{suffix}" in handed.arrays:
                    expected = handed.output(f"{output}{suffix}")
                    bound = 2e-6 if suffix or name.startswith(WITH_FLOAT32_INSIDE) else 1e-9
                    assert (ours - expected).abs().max() <= bound * expected.abs().max(), f"{output}{suffix}"
                    compared.append(output)
    assert compared or name == "hf_clip_vision_projection"
    traits = content.vit.traits()
    for ours, theirs in ((traits.pixel_mean, "mean"), (traits.pixel_std, "std")):
        assert [value / 255 for value in ours] == pytest.approx(handed.arrays[theirs].tolist())


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["dinov3_original", "dinov3_original_plus"])
def test_rounded_periods_of_a_published_file_are_used(name: str) -> None:
    handed = case(name)
    state = {**handed.state, "rope_embed.periods": handed.state["rope_embed.periods"].bfloat16().double()}
    network = network_of(read_file(state, Given({"num_heads": 4})))
    with torch.no_grad():
        features = network(handed.pixels("image_u8"), "image")
    torch.testing.assert_close(features, handed.output("features_with_bfloat16_periods"), rtol=0, atol=1e-9)


def table_state(name: str) -> dict[str, Tensor]:
    """Returns the state dict of a real size, of which only tokens and positions take memory."""

    def tensor(key: str, shape: tuple[int, ...]) -> Tensor:
        is_real = any(word in key for word in ("token", "pos", "class_embedding"))
        return torch.zeros(shape, device="cpu" if is_real else "meta")

    return {key: tensor(key, shape) for key, shape in key_table(name).items()}


SMALL_DINOV2 = ViT("dinov2", "small", tubelet=1, patch=14, image_size=518)
SMALL_DINOV3 = ViT("dinov3", "small", tubelet=1)
OF_TIMM: dict[str, Any] = {"resampling": "antialias"}
GIANT: dict[str, Any] = {"size": "base", "width": 1536, "depth": 40, "num_heads": 24, "mlp_width": 4096}
PRECISE: dict[str, Any] = {"norm_epsilon": 1e-12, "pooling_epsilon": 1e-12}
REAL_SIZES: dict[str, ViT] = {
    "timm_vit_small_patch16_224": ViT(size="small", tubelet=1),
    "timm_vit_base_patch16_224": ViT(size="base", tubelet=1),
    "timm_vit_base_patch16_clip_224": ViT("openclip", tubelet=1),
    "timm_vit_base_patch16_siglip_224": ViT("siglip", tubelet=1, activation="gelu"),
    "timm_vit_base_patch16_siglip_gap_224": ViT("siglip", tubelet=1, activation="gelu", pooling="mean"),
    "timm_vit_small_patch14_dinov2": replace(SMALL_DINOV2, **OF_TIMM),
    "timm_vit_small_patch14_reg4_dinov2": replace(SMALL_DINOV2, registers=4, **OF_TIMM),
    "timm_vit_giant_patch14_dinov2": replace(SMALL_DINOV2, activation="swiglu", **GIANT, **OF_TIMM),
    "timm_vit_small_patch16_dinov3": replace(SMALL_DINOV3, pooling="mean"),
    "timm_vit_small_patch16_dinov3_qkvb": replace(SMALL_DINOV3, pooling="mean"),
    "timm_vit_small_plus_patch16_dinov3": replace(SMALL_DINOV3, pooling="mean", activation="swiglu"),
    "dinov2_hub_vits14": SMALL_DINOV2,
    "dinov2_hub_vits14_reg4": replace(SMALL_DINOV2, registers=4, resampling="antialias"),
    "dinov3_original_vits16": SMALL_DINOV3,
    "hf_dinov2_small": replace(SMALL_DINOV2, resampling="plain"),
    "hf_dinov2_with_registers_small": replace(SMALL_DINOV2, registers=4, resampling="antialias"),
    "hf_dinov3_vits16": SMALL_DINOV3,
    "hf_clip_vision_base_patch16": ViT("clip", tubelet=1),
    "hf_siglip_vision_base_patch16_224": ViT("siglip", tubelet=1),
    "hf_vit_base_patch16_224": ViT(tubelet=1, **PRECISE),
    "hf_vit_mae_base": ViT("mae", tubelet=1, pooling="class_token", norm_after_pooling=False, **PRECISE),
    "hf_videomae_base_finetuned_kinetics": ViT("videomae", norm_epsilon=1e-12, pooling_epsilon=1e-5),
    "videomae_original_finetune_vit_base": ViT("videomae"),
    "videomae_original_pretrain_vit_base": ViT("videomae", norm_after_pooling=False),
    "openai_clip_visual_vit_b16": ViT("openclip", tubelet=1),
    "hf_vjepa2_vitl_fpc16_256_ssv2": ViT("vjepa2", "large", pooling_epsilon=1e-6),
    "vjepa2_original_encoder_vitl": ViT("vjepa2", "large", pooling="mean", probe_blocks=0),
}
"""What the handed tables of keys are of, by their names."""


@pytest.mark.shared_data
@pytest.mark.parametrize("name", REAL_SIZES)
def test_real_sizes_are_read_from_names_and_shapes(name: str) -> None:
    state = table_state(name)
    content = read_file(state, Given())
    assert content.vit == REAL_SIZES[name]
    with torch.device("meta"):
        wanted = VisionTransformer(content.vit).state_dict()
    left = {key: list(tensor.shape) for key, tensor in wanted.items() if key not in ("time_embed", "rope.periods")}
    left |= {"rope.periods": list(content.backbone["rope.periods"].shape)} if "rope.periods" in content.backbone else {}
    assert {key: list(tensor.shape) for key, tensor in content.backbone.items()} == left


def test_positions_of_an_unknown_kind_are_refused() -> None:
    state = {"patch_embed.proj.weight": torch.zeros(8, 3, 4, 4), "blocks.0.attn.qkv.weight": torch.zeros(24, 8)}
    state |= {"blocks.0.mlp.fc1.weight": torch.zeros(32, 8), "blocks.0.mlp.fc2.weight": torch.zeros(8, 32)}
    with pytest.raises(UserError, match="has no table of positions, and is not DINOv3"):
        read_file(state, Given())
    state["pos_embed"] = torch.zeros(1, 12, 8)
    with pytest.raises(UserError, match="not the positions of a square image"):
        read_file(state, Given())


@pytest.mark.shared_data
@pytest.mark.parametrize("lacking", ["mlp.fc2.weight", "norm.weight", "key.weight", "blocks.0.", "patch_embed.proj"])
@pytest.mark.parametrize("name", ["timm_vit_cls", "dinov2_hub", "hf_vit", "videomae_original"])
def test_file_that_lacks_tensors_is_refused(name: str, lacking: str) -> None:
    state = {key: tensor for key, tensor in case(name).state.items() if lacking not in key}
    try:
        content = read_file(state, Given())
    except UserError:
        return
    whole = VisionTransformer(content.vit).state_dict().keys() - {"time_embed"}
    assert whole == content.backbone.keys() or lacking == "norm.weight"  # then the model tells what it lacks


@pytest.mark.shared_data
def test_siglip_of_any_size_is_refused() -> None:
    state = table_state("hf_siglip2_naflex_vision_base_patch16")
    with pytest.raises(UserError, match=r"SigLIP 2 of any size \(naflex\): take one of fixed size"):
        read_file(state, Given())
