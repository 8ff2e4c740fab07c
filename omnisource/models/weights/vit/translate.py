"""From the content of a file to the weights of the ViT that a recipe describes: what differs, and what is fitted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from torch import Tensor

from omnisource.errors import UserError
from omnisource.models.position_tables import interpolated, resampled
from omnisource.models.weights.formats import HeadNames, Shapes, StateDict, Translated, WeightFormat, computable
from omnisource.models.weights.own import OWN
from omnisource.models.weights.vit.content import Given, VitContent
from omnisource.models.weights.vit.formats import VIT_FORMATS, VitFormat, read_vit
from omnisource.recipe.backbones.vit import ViT

_KERNEL, _TABLE, _TIMES = "backbone.patch_embed.proj.weight", "backbone.pos_embed", "backbone.time_embed"

_NETWORK = ("family", "size", "width", "depth", "num_heads", "mlp_width", "patch")
_NETWORK += ("positions", "class_token", "registers", "pre_norm", "layer_scale")
"""Keys that decide which weights a ViT has before its pooling."""

_ONLY_SAID = ("activation", "norm_epsilon", "pooling_epsilon", "resampling", "pixel_mean", "pixel_std")
"""Traits of a file that a recipe may have otherwise: it is only said. Those of tensors are told by their shapes."""


def formats_of(vit: ViT) -> tuple[WeightFormat, ...]:
    """Returns the formats of weights that a ViT understands, the most particular first."""
    own = WeightFormat(OWN.description, OWN.is_format_of, lambda state, shapes, heads: fitted(state, shapes, vit))
    return (own, *(_for_recipe(one, vit) for one in VIT_FORMATS))


def _for_recipe(of_file: VitFormat, vit: ViT) -> WeightFormat:
    """Returns a format whose weights become those of the ViT of a recipe."""

    def read(state: Mapping[str, Tensor], shapes: Shapes, heads: HeadNames) -> Translated:
        content = read_vit(of_file, state, Given())
        given, wanted = content.vit.sizes(), vit.sizes()
        if (
            given.width == wanted.width and given.num_heads != wanted.num_heads
        ):  # the recipe knows it, the file does not
            content = read_vit(of_file, state, Given({"num_heads": wanted.num_heads}))
        _check_same_network(content.vit, vit)
        ours = fitted({f"backbone.{name}": tensor for name, tensor in content.backbone.items()}, shapes, vit)
        return Translated(
            {**ours.state, **_head_of(content, shapes)},
            (f"read as {of_file.description}", *ours.notes, *_unlike(content, vit)),
            content.left_out,
        )

    return WeightFormat(of_file.description, of_file.is_format_of, read)


def _check_same_network(given: ViT, wanted: ViT) -> None:
    """Raises UserError, with the keys to set, where a file holds another network than a recipe describes."""
    if _network(given) == _network(wanted) and given.tubelet in (1, wanted.tubelet):
        return
    names = [*_NETWORK, *(["tubelet"] if given.tubelet != 1 else [])]
    if (given.activation == "swiglu") != (wanted.activation == "swiglu"):
        names.append("activation")
    if given.width is not None:
        names.remove("size")  # its numbers say all
    keys = {name: getattr(given, name) for name in names if getattr(given, name) != getattr(wanted, name)}
    raise UserError(
        "holds another ViT than model.vit describes; to start from it, set "
        + " ".join(f"model.vit.{name}={value}" for name, value in keys.items())
    )


def _network(vit: ViT) -> tuple[object, ...]:
    """Returns what must be the same of two networks for the weights of one to be those of the other."""
    traits = vit.traits()
    family = "clip" if vit.family == "openclip" else vit.family  # one but for the activation
    of_traits = [getattr(traits, name) for name in _NETWORK if hasattr(traits, name)]
    return family, vit.sizes(), vit.hidden_width(), vit.patch, traits.activation == "swiglu", *of_traits


def fitted(state: Mapping[str, Tensor], shapes: Shapes, vit: ViT) -> Translated:
    """Returns weights with our names whose kernel and positions have the sizes of a ViT, and what was done to them.

    Args:
        state: The weights.
        shapes: Of the tensors of the recognizer.
        vit: The ViT.
    """
    ours, notes = dict(state), []
    kernel, table, times = (ours.get(name) for name in (_KERNEL, _TABLE, _TIMES))
    if kernel is not None and kernel.shape[2] == 1 < vit.tubelet:
        ours[_KERNEL] = (computable(kernel) / vit.tubelet).repeat(1, 1, vit.tubelet, 1, 1)
        notes.append(f"{_KERNEL}: repeated over {vit.tubelet} frames, and divided by their number")
    wanted = shapes.get(_TABLE)
    if table is not None and wanted is not None and table.shape[1] != wanted[1]:
        old, new = math.isqrt(table.shape[1]), math.isqrt(wanted[1])
        grid = computable(table)[0].unflatten(0, (old, old))
        ours[_TABLE] = resampled(grid, new, new, vit.traits().resampling).flatten(0, 1)[None]
        notes.append(f"{_TABLE}: resampled from {old}x{old} to {new}x{new} patches")
    wanted = shapes.get(_TIMES)
    if times is not None and wanted is not None and times.shape[1] != wanted[1]:
        ours[_TIMES] = interpolated(computable(times)[0], wanted[1])[None]
        notes.append(f"{_TIMES}: interpolated from {times.shape[1]} to {wanted[1]} positions in time")
    elif times is None and wanted is not None and kernel is not None:
        ours[_TIMES] = kernel.new_zeros(tuple(wanted))
        notes.append(f"{_TIMES}: zero, since the file has no positions in time")
    return Translated(ours, tuple(notes))


def _head_of(content: VitContent, shapes: Shapes) -> StateDict:
    """Returns the classifier of a file: as the weights of the one linear head of its size, or with its own name."""
    weight = content.head.get("weight")
    places = [
        name.removesuffix("weight")
        for name, shape in shapes.items()
        if name.endswith(".linear.weight") and weight is not None and tuple(shape) == tuple(weight.shape)
    ]
    place = places[0] if len(places) == 1 else "head."
    return {f"{place}{part}": tensor for part, tensor in content.head.items()}


def _unlike(content: VitContent, vit: ViT) -> Iterable[str]:
    """Yields a line for each trait that the recipe decides: no tensor tells it, or a file's family has it otherwise."""
    theirs, ours = content.vit.traits(), vit.traits()
    for name in _ONLY_SAID:
        its, own = getattr(theirs, name), getattr(ours, name)
        if name in content.assumed:
            yield f"model.vit.{name} is {own}, and no tensor tells it; usual is {content.assumed[name]}"
        elif its != own:
            yield f"model.vit.{name} is {own}; such weights were made with {its}"
