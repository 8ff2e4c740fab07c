"""Weights for people: whose they are, the network, its classes, what it expects, and what it costs."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import torch

from omnisource.evaluation.load import Content, build_recognizer, read_content
from omnisource.models.cost import count_multiply_adds, count_parameters
from omnisource.models.recognizer import Recognizer
from omnisource.printing import printable_name, show
from omnisource.recipe.backbones.vit import ViT
from omnisource.recipe.model import Model
from omnisource.reporting.tables import print_table


def print_weights(path: Path) -> None:
    """Prints what a file of weights or a folder of them holds; the weights are read, and not computed with.

    Raises:
        UserError: It cannot be read, or is of no known kind.
    """
    content = read_content(path)
    with torch.device("meta"):
        recognizer = build_recognizer(content.model, content.label_spaces, "float32")
    normalization = recognizer.backbone.normalization
    colors = [", ".join(f"{value:.5g}" for value in values) for values in (normalization.mean, normalization.std)]
    rows = [
        ["network", _network(content.model)],
        *([f"classes of {space}", _classes(names)] for space, names in content.class_names.items()),
        *([] if content.class_names else [["classes", "none: a backbone without a classifier"]]),
        ["normalization", f"mean {colors[0]}; deviation {colors[1]}; of 0 to 255"],
        ["parameters", f"{count_parameters(recognizer) / 1e6:.2f} M"],
        *_views(content, recognizer),
    ]
    print_table(printable_name(str(path)), ["what", "value"], rows)
    show(*content.notes)
    if content.model.vit is not None and content.notes:
        show(f"start a run from it: omnisource train CONFIG model.weights={path} {' '.join(_keys(content.model.vit))}")


def _network(model: Model) -> str:
    vit = model.vit
    if vit is None:
        return f"SlowOnly ResNet-{model.depth}, width {model.width:g}"
    sizes = vit.sizes()
    name = f"ViT ({vit.family})" if vit.width else f"ViT-{vit.size} ({vit.family})"
    return (
        f"{name}: width {sizes.width}, depth {sizes.depth}, {sizes.num_heads} heads, patches of {vit.patch} pixels, "
        f"{vit.tubelet} frames a token"
    )


def _keys(vit: ViT) -> list[str]:
    """Returns the overrides with which a recipe describes a ViT; a run chooses the sizes of clips and images itself."""
    always = ["family", "size"] if vit.width is None else ["family", "width", "depth", "num_heads"]
    of_run = ["tubelet", "image_size", "clip_length"]
    others = [field.name for field in fields(ViT) if field.name not in (*always, "size", *of_run)]
    changed = [name for name in others if getattr(vit, name) != getattr(ViT, name)]
    texts = {name: str(getattr(vit, name)).strip("()").replace(" ", "") for name in (*always, *changed)}
    return [f"model.vit.{name}={text}" for name, text in texts.items()]


def _classes(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)}: {shown}"


def _views(content: Content, recognizer: Recognizer) -> list[list[str]]:
    """Returns, for each media, the views that are averaged, and what one of them costs without the heads."""
    rows = []
    for media, how in content.protocol.by_media.items():
        views, frames = how.views, how.sampling.clip_length if media == "video" else 1
        of_frame = f"{views.crop_size}x{views.crop_size}"
        number, size = f"{views.num_crops}", of_frame
        if media == "video":
            number, size = f"{views.num_clips} x {views.num_crops}", f"{frames}x{of_frame}"
        every = f", one frame in {how.sampling.frame_interval}" if frames > 1 else ""
        cost = count_multiply_adds(recognizer, media, frames, views.crop_size)
        rows.append([f"views of {media}s", f"{number} of {size}{every}, short side {views.short_side}"])
        rows.append([f"multiply-adds of one, {media}", f"{cost / 1e9:.2f} G" if cost >= 1e7 else f"{cost / 1e6:.2f} M"])
    return rows
