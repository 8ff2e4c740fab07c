"""The ViT: what an image and a still video have in common, what is counted, and the numbers of other projects."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from omnisource.errors import UserError
from omnisource.models.backbones.backbone import ParameterGroup
from omnisource.models.backbones.vit import VisionTransformer
from omnisource.models.backbones.vit_layers import StochasticDepth
from omnisource.models.cost import count_multiply_adds, count_parameters
from omnisource.models.recognizer import Recognizer
from omnisource.models.weights.vit.content import Given
from omnisource.models.weights.vit.timm import read_timm
from omnisource.recipe.backbones.vit import Family, ViT
from omnisource.recipe.model import LabelSpace, Model
from tests.support.formats import case

TINY: dict[str, Any] = {"width": 24, "depth": 2, "num_heads": 2, "patch": 8, "image_size": 32, "clip_length": 4}


def tiny_vit(**keys: Any) -> VisionTransformer:
    """Returns a tiny ViT in float64 with weights that all count."""
    torch.manual_seed(0)
    vit = VisionTransformer(ViT(**{**TINY, **keys})).double().eval()
    for name, parameter in vit.named_parameters():
        if name != "time_embed":
            parameter.data += 0.3 * torch.randn_like(parameter)
    return vit


def image(size: tuple[int, int] = (32, 32)) -> Tensor:
    return torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def still(pixels: Tensor, frames: int) -> Tensor:
    return pixels.unsqueeze(2).repeat(1, 1, frames, 1, 1)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"family": "mae"},
        {"family": "dinov2", "registers": 4, "tubelet": 1},
        {"family": "dinov3", "activation": "swiglu"},
        {"family": "clip"},
        {"family": "siglip"},
        {"positions": "sincos", "pooling": "class_token_and_mean"},
    ],
)
def test_still_video_has_the_features_of_its_image(keys: dict[str, Any]) -> None:
    vit, pixels = tiny_vit(**keys), image((48, 32))
    with torch.no_grad():
        features = vit(pixels, "image")
        for frames in (2, 4, 6):
            torch.testing.assert_close(vit(still(pixels, frames), "video"), features, rtol=0, atol=1e-12)
        vit.vit = dataclasses.replace(vit.vit, prefix_per_frame=False)
        difference = (vit(still(pixels, 6), "video") - features).abs().max()
        assert difference < 1e-12 if vit.prefix == 0 else difference > 1e-3
        assert vit.time_embed is not None
        vit.time_embed += torch.randn_like(vit.time_embed)
        assert (vit(still(pixels, 6), "video") - vit(still(pixels, 2), "video")).abs().max() > 1e-3


def test_prefix_counts_as_if_the_logarithm_of_the_frames_were_added_to_its_scores() -> None:
    attention = tiny_vit().blocks[0].attn
    x = torch.randn(2, 3 + 8, 24, dtype=torch.float64)
    q, k, v = attention.qkv(x).unflatten(2, (3, 2, -1)).permute(2, 0, 3, 1, 4)
    added = torch.zeros(3 + 8, 3 + 8, dtype=torch.float64)
    added[:, :3] = math.log(4)
    expected = attention.proj(F.scaled_dot_product_attention(q, k, v, attn_mask=added).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(x, prefix=3, count=4), expected, rtol=0, atol=1e-12)


def test_patches_are_those_of_a_convolution_and_images_take_its_sum_over_time() -> None:
    embedding = tiny_vit().patch_embed
    clips = torch.randn(2, 3, 4, 16, 24, dtype=torch.float64)
    kernel, bias = embedding.proj.weight, embedding.proj.bias
    of_video = F.conv3d(clips, kernel, bias, stride=(2, 8, 8)).permute(0, 2, 3, 4, 1)
    torch.testing.assert_close(embedding(clips, "video"), of_video, rtol=0, atol=1e-12)
    of_image = F.conv2d(clips[:, :, 0], kernel.sum(2), bias, stride=8).permute(0, 2, 3, 1)[:, None]
    torch.testing.assert_close(embedding(clips[:, :, 0], "image"), of_image, rtol=0, atol=1e-12)
    for shape in ((2, 3, 3, 16, 16), (2, 3, 2, 17, 16), (2, 3, 2, 16, 12)):
        with pytest.raises(ValueError, match="do not consist of whole tubes of 2 frames and 8x8 pixels"):
            embedding(torch.zeros(shape, dtype=torch.float64), "video")


@pytest.mark.parametrize("family", ["vit", "mae", "dinov2", "dinov3", "clip", "siglip", "videomae", "vjepa2"])
@pytest.mark.parametrize("media", ["image", "video"])
def test_either_media_alone_trains_every_parameter(family: Family, media: Any) -> None:
    vit = tiny_vit(family=family, size="tiny", probe_blocks=1).train()
    x = image((16, 24))
    vit(x if media == "image" else torch.randn(2, 3, 6, 16, 24, dtype=torch.float64), media).square().sum().backward()
    assert [name for name, parameter in vit.named_parameters() if parameter.grad is None] == []


def test_activations_that_are_computed_again_give_the_same_gradients() -> None:
    clips = torch.randn(3, 3, 4, 16, 16, dtype=torch.float64)
    gradients = []
    for is_saving in (False, True):
        vit = tiny_vit(stochastic_depth=0.5, activation_checkpointing=is_saving, registers=2).train()
        torch.manual_seed(3)
        vit(clips, "video").square().sum().backward()
        gradients.append([parameter.grad for parameter in vit.parameters()])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*gradients, strict=True))


def test_stochastic_depth_skips_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    skip, x = StochasticDepth(0.25), torch.ones(8000, 2, 3)
    kept = skip.train()(x)
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert (kept.amax(dim=(1, 2)) == kept.amin(dim=(1, 2))).all()
    assert kept.mean().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(skip.eval()(x), x)
    assert [block.skip.probability for block in tiny_vit(depth=3, stochastic_depth=0.2).blocks] == [0, 0.1, 0.2]


def test_learned_positions_and_tokens_do_not_decay() -> None:
    vit = tiny_vit(registers=2, pooling="attention", layer_scale=True, pre_norm=True)
    groups = vit.parameter_groups()
    named = {name: group for group in groups for name in group.names}
    assert len(named) == sum(len(group.names) for group in groups) == len(list(vit.named_parameters()))
    kept = {name for name, group in named.items() if not group.decays}
    assert {"cls_token", "reg_token", "pos_embed", "time_embed", "pool.latent", "norm.weight"} <= kept
    assert {"blocks.0.ls1.gamma", "blocks.1.mlp.fc1.bias", "patch_embed.proj.bias"} <= kept
    assert all(vit.get_parameter(name).ndim > 1 and name.endswith("weight") for name in named.keys() - kept)
    depths = {name: named[name].depth for name in ("pos_embed", "norm_pre.weight", "blocks.0.norm1.bias", "norm.bias")}
    assert depths == {"pos_embed": 0, "norm_pre.weight": 0, "blocks.0.norm1.bias": 1, "norm.bias": 2}
    assert all(isinstance(group, ParameterGroup) for group in groups)


# Multiply-adds in G: the papers of VideoMAE and DeiT. Parameters: timm's and VideoMAE's, less their classifiers of 1000
# and 400 classes; ours have biases of keys besides, 8 positions in time, and none for the class token.
@pytest.mark.parametrize(
    ("keys", "frames", "parameters", "multiply_adds"),
    [
        ({"family": "videomae", "size": "small"}, 16, None, 57),
        ({"family": "videomae", "size": "base"}, 16, 86_534_800 - 769 * 400 + 12 * 768, 180),
        ({"family": "videomae", "size": "large"}, 16, None, 597),
        ({"size": "small"}, 1, None, 4.6),
        ({"size": "base"}, 1, 86_567_656 - 769 * 1000 + 7 * 768, 17.6),
    ],
)
def test_sizes_and_cost_are_the_published_ones(
    keys: dict[str, Any], frames: int, parameters: int | None, multiply_adds: float
) -> None:
    with torch.device("meta"):
        recognizer = Recognizer(Model(vit=ViT(**keys)), {"classes": LabelSpace("linear", num_classes=10)})
    media = "image" if frames == 1 else "video"
    counted = count_multiply_adds(recognizer, media, frames, 224) / 1e9
    assert round(counted, 1 if frames == 1 else 0) == multiply_adds
    counts = (recognizer.backbone.count_image_parameters(), count_parameters(recognizer.backbone))
    assert parameters is None or parameters == counts[media == "video"]


def test_sizes_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(UserError, match=r"model\.vit\.num_heads=5: does not divide the width, 24"):
        VisionTransformer(ViT(**{**TINY, "num_heads": 5}))
    with pytest.raises(UserError, match=r"model\.vit\.positions=rotary: wants a width of a multiple of 4 in each head"):
        VisionTransformer(ViT(**{**TINY, "num_heads": 4, "positions": "rotary"}))
    with pytest.raises(UserError, match=r"model\.vit\.pooling=class_token: there is no class token"):
        VisionTransformer(ViT(**{**TINY, "class_token": False}))


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["dinov2_reg4", "siglip_gap", "vit_avg_fcnorm", "vit_avg_fcnorm_no_cls", "vit_cls"])
def test_image_network_over_tubelets_gives_the_handed_numbers(name: str) -> None:
    handed = case(f"inflated_timm_{name}")
    content = read_timm(handed.state, Given({"num_heads": 4}))
    pixels = handed.pixels("image_u8")
    backbone = dict(content.backbone)
    backbone["patch_embed.proj.weight"] = backbone["patch_embed.proj.weight"].repeat(1, 1, 2, 1, 1) / 2

    def logits(x: Tensor, media: Any, *, prefix_per_frame: bool = True) -> Tensor:
        vit = dataclasses.replace(content.vit, tubelet=2, prefix_per_frame=prefix_per_frame)
        network = VisionTransformer(vit).double().eval()
        network.load_state_dict({**network.state_dict(), **backbone})
        with torch.no_grad():
            return F.linear(network(x, media), content.head["weight"], content.head["bias"])

    def check(ours: Tensor, output: str) -> None:
        torch.testing.assert_close(ours, handed.output(output), rtol=0, atol=1e-9)

    check(logits(pixels, "image"), "logits_image")
    check(logits(still(pixels, 2), "video"), "logits_one_still_tubelet")
    check(logits(still(pixels, 6), "video", prefix_per_frame=False), "logits_three_still_tubelets")
    check(logits(still(pixels, 6), "video"), "logits_three_still_tubelets_log_count")
    check(logits(handed.pixels("video_u8"), "video", prefix_per_frame=False), "logits_video")
