"""What a file holds of a ViT: the network, told by names and shapes, and its tensors with the names of our backbone.

Every family of formats is one file beside this one. It renames; this file reads the sizes from what comes out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from omnisource.errors import UserError
from omnisource.models.position_tables import rotary_periods
from omnisource.models.weights.formats import StateDict, computable
from omnisource.recipe.backbones.vit import FAMILIES, NAMED_SIZES, Family, Sizes, ViT

HEADS_OF_WIDTH = {1152: 16, 1280: 16, 1408: 16, 1664: 16, 4096: 32}
"""Heads of the widths of which a head has not 64 channels: so400m, huge, giant, bigG, DINOv3's 7B."""

WITH_64_CHANNELS: tuple[tuple[Family, int], ...] = (("dinov3", 1280), ("vjepa2", 1408))
"""Families and widths that are not like the others of these widths."""


@dataclass(frozen=True)
class Given:
    """What is known of a file besides its tensors.

    Attributes:
        keys: Values of `ViT` that the user gives; they go before all that is read or assumed.
        config: What stands in the config.json beside the file.
        processor: What stands in its preprocessor_config.json.
    """

    keys: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    processor: Mapping[str, Any] = field(default_factory=dict)

    def crop_size(self) -> int | None:
        """Returns the height and width that images are cropped to, in pixels; None where nothing says it."""
        of_timm = self.config.get("pretrained_cfg", {}).get("input_size")
        return _side(self.processor.get("crop_size")) or _side(self.processor.get("size")) or _side(of_timm)

    def short_side(self) -> int | None:
        """Returns the short side that images are resized to before, in pixels; None where nothing says it."""
        of_timm = self.config.get("pretrained_cfg", {}).get("crop_pct")
        crop = self.crop_size()
        return round(crop / of_timm) if crop and of_timm else _side(self.processor.get("size"))

    def number(self, name: str) -> int | None:
        """Returns a whole number of the config; None where there is none."""
        value = self.config.get(name)
        return value if type(value) is int else None


@dataclass(frozen=True)
class VitContent:
    """What a file holds of a ViT.

    Attributes:
        vit: The network that it is of.
        backbone: Tensors with the names of our backbone.
        head: Weight [classes, features] and bias [classes] of its linear classifier, by these names; may be empty.
        left_out: Names in the file that have no place.
        assumed: What neither tensors nor config tell, by the key of `ViT`.
    """

    vit: ViT
    backbone: StateDict
    head: StateDict
    left_out: tuple[str, ...] = ()
    assumed: Mapping[str, str] = field(default_factory=dict)

    def assumptions(self) -> list[str]:
        """Returns what was assumed, a line each."""
        return [f"{key}: assumed is {text}" for key, text in self.assumed.items()]


def content(
    family: Family,
    state: Mapping[str, Tensor],
    given: Given,
    traits: Mapping[str, Any],
    *,
    left_out: Iterable[str] = (),
    assumed: Mapping[str, str] | None = None,
) -> VitContent:
    """Returns the content of a file, its sizes read from the tensors.

    Args:
        family: The family.
        state: Tensors with timm's names: those of our backbone, `head.*`, and what has no place.
        given: What is known besides.
        traits: The traits that are not the family's, or may not be.
        left_out: Names in the file that are not in `state` anymore.
        assumed: What was assumed, by the key of `ViT`.

    Raises:
        UserError: The tensors are not those of such a ViT.
    """
    state = dict(state)
    kernel = state.get("patch_embed.proj.weight")
    if kernel is None or kernel.ndim not in (4, 5):
        raise UserError("the kernel of the patches is missing, or not of 2 or 3 dimensions in space and time")
    width, patch = kernel.shape[0], kernel.shape[-1]
    if kernel.ndim == 4:
        state["patch_embed.proj.weight"] = kernel.unsqueeze(2)  # [D, 3, p, p] -> [D, 3, 1, p, p]
    state.setdefault("patch_embed.proj.bias", kernel.new_zeros(width))
    image_size = _fold_positions(state, patch) or given.number("image_size") or given.number("crop_size") or 224
    sizes = _sizes(state, family, given)
    assumed = {"num_heads": f"{sizes.num_heads} heads, as networks of width {width} have"} | dict(assumed or {})
    if given.number("num_attention_heads"):
        del assumed["num_heads"]
    hidden = state["blocks.0.mlp.fc2.weight"].shape[1]
    named = next((name for name, of_name in NAMED_SIZES.items() if of_name == sizes), None)
    vit = ViT(
        family=family,
        size=named or "base",  # pyright: ignore[reportArgumentType]
        width=None if named else sizes.width,
        depth=None if named else sizes.depth,
        num_heads=None if named else sizes.num_heads,
        mlp_width=None if hidden == 4 * sizes.width else hidden,
        patch=patch,
        tubelet=state["patch_embed.proj.weight"].shape[2],
        image_size=image_size,
    )
    given_traits = {"registers": state["reg_token"].shape[1] if "reg_token" in state else 0, **traits}
    of_family = FAMILIES[family]
    vit = replace(vit, **{name: value for name, value in given_traits.items() if value != getattr(of_family, name)})
    if vit.traits().positions == "rotary":
        state.setdefault("rope.periods", rotary_periods(sizes.width // sizes.num_heads))
    frames = given.number("num_frames") or given.number("frames_per_clip")
    if frames and kernel.ndim == 5:
        vit = replace(vit, clip_length=frames)
    _check_config(vit, given)
    head = {part: state.pop(f"head.{part}") for part in ("weight", "bias") if f"head.{part}" in state}
    assumed = {key: text for key, text in assumed.items() if key not in given.keys}
    return VitContent(replace(vit, **given.keys), state, head, tuple(left_out), assumed)


def _side(size: Any) -> int | None:
    """Returns the side in a size: a number, {"shortest_edge": 224}, {"height": 224, "width": 224} or [3, 224, 224]."""
    if isinstance(size, Mapping):
        size = size.get("shortest_edge") or size.get("height")
    if isinstance(size, list) and size:
        size = size[-1]
    return size if type(size) is int and size > 0 else None


def of_255(values: Sequence[float]) -> tuple[float, ...]:
    """Returns numbers on a scale of 0 to 1 on one of 0 to 255, to six digits, as recipes have them."""
    return tuple(round(255 * value, 6) for value in values)


def without_prefix(state: Mapping[str, Tensor], prefix: str) -> tuple[StateDict, list[str]]:
    """Returns the tensors below a prefix, without it, and the names of the others."""
    inside = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    return inside, [name for name in state if not name.startswith(prefix)]


def without(state: Mapping[str, Tensor], pattern: str) -> tuple[StateDict, list[str]]:
    """Returns the tensors whose whole name does not match a pattern, and the names of the others."""
    kept = {name: tensor for name, tensor in state.items() if not re.fullmatch(pattern, name)}
    return kept, [name for name in state if name not in kept]


def renamed(state: Mapping[str, Tensor], patterns: Mapping[str, str]) -> StateDict:
    """Returns tensors with other names: every pattern is replaced where it is found in a name, one after the other."""
    names: StateDict = {}
    for name, tensor in state.items():
        for pattern, replacement in patterns.items():
            name = re.sub(pattern, replacement, name)
        names[name] = tensor
    return names


def join(state: StateDict, target: str, parts: Sequence[str]) -> None:
    """Puts linear layers into one, in every place where they are; a bias that only some have is zero for the others.

    Args:
        state: Is changed.
        target: Name of the layer that they become, below each place: "qkv".
        parts: Names of the layers, in order: ("query", "key", "value").
    """
    first = re.compile(rf"(.*\.|){re.escape(parts[0])}\.weight")
    for place in [found[1] for name in list(state) if (found := first.fullmatch(name))]:
        weights = [state.pop(f"{place}{part}.weight") for part in parts]
        biases = [state.pop(f"{place}{part}.bias", None) for part in parts]
        state[f"{place}{target}.weight"] = torch.cat(weights)
        if any(bias is not None for bias in biases):
            filled = [
                weight.new_zeros(len(weight)) if bias is None else bias
                for weight, bias in zip(weights, biases, strict=True)
            ]
            state[f"{place}{target}.bias"] = torch.cat(filled)


def fill_biases(state: StateDict) -> None:
    """Gives attention in `state` the biases that its family has not, or only for queries and values: zeros."""
    for name in [name for name in state if name.endswith("attn.qkv.weight")]:
        place = name.removesuffix("qkv.weight")
        query, value = (state.pop(f"{place}{part}_bias", None) for part in ("q", "v"))
        zeros = state[name].new_zeros(len(state[name]) // 3)
        if f"{place}qkv.bias" not in state:
            state[f"{place}qkv.bias"] = torch.cat(
                [zeros if query is None else query, zeros, zeros if value is None else value]
            )


def is_gated(state: Mapping[str, Tensor]) -> bool:
    """Returns whether the first linear layer of a block has a gate beside the value."""
    return state["blocks.0.mlp.fc1.weight"].shape[0] == 2 * state["blocks.0.mlp.fc2.weight"].shape[1]


def _fold_positions(state: StateDict, patch: int) -> int | None:
    """Adds what a table of positions has for class token and registers to these; returns the image size of the table.

    Raises:
        UserError: The table is not that of a square image.
    """
    table = state.get("pos_embed")
    if table is None:
        return None
    prefix = [name for name in ("cls_token", "reg_token") if name in state]
    lengths = [state[name].shape[1] for name in prefix]
    extra = next(
        (n for n in (0, *lengths[:1], sum(lengths)) if math.isqrt(table.shape[1] - n) ** 2 == table.shape[1] - n), None
    )
    if extra is None:
        raise UserError(f"pos_embed {list(table.shape)}: not the positions of a square image, with or without others")
    start = 0
    for name, length in zip(prefix, lengths, strict=True):
        if start < extra:
            state[name] = computable(state[name]) + computable(table)[:, start : start + length]
        start += length
    state["pos_embed"] = table[:, extra:]
    return patch * math.isqrt(table.shape[1] - extra)


def _check_config(vit: ViT, given: Given) -> None:
    """Raises UserError where the config says another size than the tensors have."""
    sizes = vit.sizes()
    found = {
        "hidden_size": sizes.width,
        "num_hidden_layers": sizes.depth,
        "intermediate_size": vit.hidden_width(),
        "patch_size": vit.patch,
        "tubelet_size": vit.tubelet,
    }
    wrong = [
        f"{name} is {said}, the tensors have {size}"
        for name, size in found.items()
        if (said := given.number(name)) is not None and said != size
    ]
    if wrong:
        raise UserError(f"config.json is of another network ({'; '.join(wrong)}); take the one of these weights")


def _sizes(state: Mapping[str, Tensor], family: Family, given: Given) -> Sizes:
    """Returns the sizes of a ViT with timm's names, the number of heads as given or as it is for its width.

    Raises:
        UserError: A block is missing.
    """
    width = state["patch_embed.proj.weight"].shape[0]
    blocks = {int(found[1]) for name in state if (found := re.match(r"blocks\.(\d+)\.", name))}
    if not blocks or blocks != set(range(len(blocks))):
        raise UserError(f"its blocks are {sorted(blocks) or 'missing'}, not all from 0 on")
    by_width = {} if (family, width) in WITH_64_CHANNELS else HEADS_OF_WIDTH
    guessed = by_width.get(width, max(1, width // 64))
    heads = given.keys.get("num_heads") or given.number("num_attention_heads") or guessed
    return Sizes(width, len(blocks), heads)
