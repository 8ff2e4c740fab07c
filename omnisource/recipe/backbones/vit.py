"""A vision transformer (ViT) as a backbone: its sizes, and what the families of such networks differ in.

The tensors of a file do not tell the activation, the epsilons or how pixels are normalized: the family does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from omnisource.recipe.data import Source
from omnisource.recipe.marks import MAY_DIFFER, NonNegativeInt, PositiveFloat, PositiveInt, ShareBelowOne

Family = Literal["vit", "mae", "dinov2", "dinov3", "clip", "openclip", "siglip", "videomae", "vjepa2"]
Positions = Literal["learned", "sincos", "rotary", "sincos_space_time", "rotary_space_time"]
Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "swiglu"]
Pooling = Literal["class_token", "first_patch", "mean", "class_token_and_mean", "attention", "probe"]
Resampling = Literal["antialias", "plain", "scale_factor"]
Color = tuple[float, float, float]
Deviations = tuple[PositiveFloat, PositiveFloat, PositiveFloat]


@dataclass(frozen=True)
class Sizes:
    """The numbers of a ViT.

    Attributes:
        width: Channels of a token.
        depth: Blocks.
        num_heads: Heads of the attention.
    """

    width: int
    depth: int
    num_heads: int


NAMED_SIZES: Mapping[str, Sizes] = {
    "tiny": Sizes(192, 12, 3),
    "small": Sizes(384, 12, 6),
    "base": Sizes(768, 12, 12),
    "large": Sizes(1024, 24, 16),
}


@dataclass(frozen=True)
class Traits:
    """What the families differ in; the fields of `ViT` of the same names say what each is."""

    positions: Positions = "learned"
    class_token: bool = True
    registers: int = 0
    pre_norm: bool = False
    layer_scale: bool = False
    activation: Activation = "gelu"
    pooling: Pooling = "class_token"
    norm_after_pooling: bool = False
    probe_blocks: int = 0
    norm_epsilon: float = 1e-6
    pooling_epsilon: float = 1e-6
    resampling: Resampling = "antialias"
    pixel_mean: Color = (123.675, 116.28, 103.53)
    pixel_std: Color = (58.395, 57.12, 57.375)


_HALF: Color = (127.5, 127.5, 127.5)
_CLIP_MEAN: Color = (122.770938, 116.746013, 104.093736)
_CLIP_STD: Color = (68.500533, 66.632158, 70.323163)
_CLIP: dict[str, Any] = {
    "pre_norm": True,
    "norm_epsilon": 1e-5,
    "pooling_epsilon": 1e-5,
    "pixel_mean": _CLIP_MEAN,
    "pixel_std": _CLIP_STD,
}

FAMILIES: Mapping[Family, Traits] = {
    "vit": Traits(pixel_mean=_HALF, pixel_std=_HALF),
    "mae": Traits(pooling="mean", norm_after_pooling=True),
    "dinov2": Traits(layer_scale=True, resampling="scale_factor"),
    "dinov3": Traits(positions="rotary", registers=4, layer_scale=True, norm_epsilon=1e-5, pooling_epsilon=1e-5),
    "clip": Traits(activation="quick_gelu", **_CLIP),
    "openclip": Traits(**_CLIP),
    "siglip": Traits(class_token=False, activation="gelu_tanh", pooling="attention", pixel_mean=_HALF, pixel_std=_HALF),
    "videomae": Traits(positions="sincos_space_time", class_token=False, pooling="mean", norm_after_pooling=True),
    "vjepa2": Traits(
        positions="rotary_space_time", class_token=False, pooling="probe", probe_blocks=3, pooling_epsilon=1e-5
    ),
}
"""The traits of each family, as its own code has them.

Source: huggingface/pytorch-image-models 1.0.31 `timm/models/vision_transformer.py` and `eva.py`; facebookresearch/mae
efb2a80, dinov2 b8931f7, dinov3 6876159 and vjepa2 c2963a4; openai/CLIP d05afc4; MCG-NJU/VideoMAE 14ef8d8.
"""


@dataclass(frozen=True)
class ViT:
    """A vision transformer: tubes of pixels are tokens that attend to one another over space and time."""

    family: Family = "vit"
    """Published family whose traits it has, where the keys below do not say otherwise; weights of `model.weights` must
    be of this family. "vit" is the plain one (augreg of timm, google/vit-* of Hugging Face)."""

    size: Literal["tiny", "small", "base", "large"] = "base"
    """Width, depth and heads by name: tiny 192, 12, 3; small 384, 12, 6; base 768, 12, 12; large 1024, 24, 16."""

    width: PositiveInt | None = None
    """Channels of a token. None: by the size."""

    depth: PositiveInt | None = None
    """Blocks. None: by the size."""

    num_heads: PositiveInt | None = None
    """Heads of the attention, among which the width is shared out. None: by the size."""

    mlp_width: PositiveInt | None = None
    """Channels between the two linear layers of a block. None: four times the width."""

    patch: PositiveInt = 16
    """Height and width of a patch, in pixels; those of the crops must be multiples of it."""

    tubelet: PositiveInt = 2
    """Frames in a token of a video; clip lengths must be multiples of it. For images the kernel is summed over them."""

    image_size: PositiveInt = 224
    """Height and width, in pixels, that learned positions are for; for other crops they are resampled."""

    clip_length: PositiveInt = 16
    """Frames that the positions in time are for, which are zero at first; for other clips they are interpolated."""

    positions: Positions | None = None
    """Positions of the patches: "learned", "sincos" or "rotary" in space, with learned ones in time; or over space and
    time together, as VideoMAE ("sincos_space_time") and V-JEPA 2 ("rotary_space_time") have them. None: the
    family's."""

    class_token: bool | None = None
    """Whether there is a class token. None: the family's."""

    registers: NonNegativeInt | None = None
    """Number of register tokens. None: the family's."""

    prefix_per_frame: bool = True
    """Whether class token and registers count once for every tubelet of a video among the attended tokens, as if the
    logarithm of their number were added to the scores. Patches are that many times as many as in an image, so only then
    a still video gives the features of an image. False: once."""

    pre_norm: bool | None = None
    """Whether tokens are normalized before the first block. None: the family's."""

    layer_scale: bool | None = None
    """Whether what a block adds has a learned factor for each channel, 1e-5 at first. None: the family's."""

    activation: Activation | None = None
    """Between the two linear layers of a block; "swiglu" gates one half by the other. None: the family's."""

    pooling: Pooling | None = None
    """How tokens become features: the class token, the first patch, the mean of the patches, class token and mean one
    after the other, attention of one learned query (SigLIP), or that after blocks of its own ("probe", V-JEPA 2). None:
    the family's."""

    norm_after_pooling: bool | None = None
    """Whether the last normalization comes after the pooling in place of before it. None: the family's."""

    probe_blocks: NonNegativeInt | None = None
    """Blocks before the attention of pooling "probe". None: the family's."""

    norm_epsilon: PositiveFloat | None = None
    """Added to the variance in every normalization before the pooling. None: the family's."""

    pooling_epsilon: PositiveFloat | None = None
    """The same in the pooling and after it. None: the family's."""

    resampling: Resampling | None = None
    """How learned positions are resampled, bicubically: with antialiasing, without ("plain"), or without at a scale of
    (new number + 0.1) / old number ("scale_factor", DINOv2). None: the family's."""

    pixel_mean: Color | None = None
    """Mean of red, green and blue, of 0-255, that is taken off. None: the family's."""

    pixel_std: Deviations | None = None
    """Standard deviation of red, green and blue that is divided by. None: the family's."""

    stochastic_depth: ShareBelowOne = 0.0
    """Probability that a sample skips the last block in training; it rises from 0 at the first."""

    activation_checkpointing: Annotated[bool, MAY_DIFFER] = False
    """Whether activations within a block are computed again in the backward pass, which saves memory for time."""

    def sizes(self) -> Sizes:
        """Returns the sizes, of which each given number goes before the one of the name."""
        named = NAMED_SIZES[self.size]
        return Sizes(self.width or named.width, self.depth or named.depth, self.num_heads or named.num_heads)

    def hidden_width(self) -> int:
        """Returns the channels between the two linear layers of a block."""
        return self.mlp_width or 4 * self.sizes().width

    def traits(self) -> Traits:
        """Returns the traits: those given, and the family's."""
        family = FAMILIES[self.family]
        given = {field.name: getattr(self, field.name) for field in fields(Traits)}
        return Traits(**{name: getattr(family, name) if value is None else value for name, value in given.items()})


def vit_faults(vit: ViT, sources: Mapping[str, Source]) -> list[str]:
    """Returns what does not fit together in a ViT, and with the views of the sources, a line each."""
    faults = size_faults(vit)
    for name, source in sources.items():
        crops = {
            "training_view": source.training_view.crop_size,
            "validation_views": source.validation_views.crop_size,
            "test_views": source.test_views.crop_size,
        }
        faults += [
            f"sources.{name}.{view}.crop_size={crop}: must be a multiple of model.vit.patch={vit.patch}"
            for view, crop in crops.items()
            if crop % vit.patch
        ]
        length = source.sampling.clip_length
        if source.media == "video" and length % vit.tubelet:
            faults.append(
                f"sources.{name}.sampling.clip_length={length}: must be a multiple of model.vit.tubelet={vit.tubelet}"
            )
    return faults


def size_faults(vit: ViT) -> list[str]:
    """Returns what does not fit together in a ViT itself, a line each."""
    sizes, traits = vit.sizes(), vit.traits()
    faults = []
    if sizes.width % sizes.num_heads:
        faults.append(f"model.vit.num_heads={sizes.num_heads}: does not divide the width, {sizes.width}")
    if vit.image_size % vit.patch:
        faults.append(f"model.vit.image_size={vit.image_size}: must be a multiple of model.vit.patch={vit.patch}")
    if vit.clip_length % vit.tubelet:
        faults.append(f"model.vit.clip_length={vit.clip_length}: must be a multiple of model.vit.tubelet={vit.tubelet}")
    of_head = sizes.width // sizes.num_heads
    left_over = {"sincos": sizes.width % 4, "sincos_space_time": sizes.width % 2}
    left_over |= {"rotary": of_head % 4, "rotary_space_time": of_head % 2}
    if left_over.get(traits.positions):
        faults.append(
            f"model.vit.positions={traits.positions}: wants a width of a multiple of 4"
            f"{' in each head' if 'rotary' in traits.positions else ''}; it is {sizes.width} in {sizes.num_heads} heads"
        )
    if traits.pooling == "class_token_and_mean" and traits.norm_after_pooling:
        faults.append("model.vit.pooling=class_token_and_mean: is normalized before; set norm_after_pooling=False")
    if traits.pooling in ("class_token", "class_token_and_mean") and not traits.class_token:
        faults.append(f"model.vit.pooling={traits.pooling}: there is no class token; set model.vit.class_token=True")
    return faults
