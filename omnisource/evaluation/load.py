"""A trained recognizer back from its file, with what the file says about its use."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from omnisource.checkpoints.file import as_checkpoint
from omnisource.data.lists.class_maps import read_class_names
from omnisource.errors import UserError
from omnisource.evaluation.classifier import Classifier
from omnisource.evaluation.precision import Precision, weight_type
from omnisource.evaluation.pretrained import CLASSES, pretrained_vit
from omnisource.evaluation.protocol import Protocol, protocol_of_recipe, published_protocol
from omnisource.files.foreign_files import is_safetensors
from omnisource.files.formats import CHECKPOINT_FORMAT
from omnisource.models.backbones.backbone import Backbone
from omnisource.models.backbones.build import build_backbone
from omnisource.models.load_weights import load_into
from omnisource.models.recognizer import Recognizer
from omnisource.models.weights.families import family_of
from omnisource.models.weights.folder import read_side_files, read_weights
from omnisource.models.weights.image_resnet import IMAGE_RESNET
from omnisource.models.weights.own import OWN, required_average
from omnisource.models.weights.published import PUBLISHED, from_published, sizes_of
from omnisource.models.weights.vit.formats import VIT_FORMATS, VitFormat
from omnisource.models.weights.wrappers import FoundWeights, find_weights
from omnisource.recipe.model import LabelSpace, Model
from omnisource.recipe.plain import from_plain
from omnisource.recipe.recipe import Recipe
from omnisource.types import Media

PUBLISHED_HEADS: Mapping[Media, str] = {"image": "image", "video": "video"}
"""Names that the heads of a published checkpoint get, by their media."""

_NO_HEADS = "a backbone without heads classifies nothing; train from it with model.weights={}"

CPU = torch.device("cpu")


@dataclass(frozen=True)
class ItemLimits:
    """What loading one file may take; the defaults are those of a recipe.

    Attributes:
        timeout_seconds: Wall time.
        processor_seconds: Processor time.
    """

    timeout_seconds: float = Recipe.item_timeout_seconds
    processor_seconds: float = Recipe.item_processor_seconds


@dataclass(frozen=True)
class Loaded:
    """A classifier and what its checkpoint says about its use.

    Attributes:
        classifier: Ready to classify files of the media that the recognizer was trained on.
        class_names: Class names by label space; the indices where the checkpoint has no names.
        limits: What loading a file may take.
        notes: What is to be said of where the weights stood in the file, what was assumed, or is done otherwise.
    """

    classifier: Classifier
    class_names: Mapping[str, tuple[str, ...]]
    limits: ItemLimits
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Content:
    """What a file says: all that is needed to build the recognizer and to use it.

    Attributes:
        model: Its backbone.
        label_spaces: Its heads; none where the file has no classifier.
        weights: With the recognizer's names.
        weights_precision: Their type.
        protocol: As it is tested.
        class_names: As `Loaded.class_names`.
        limits: As `Loaded.limits`.
        notes: As `Loaded.notes`.
    """

    model: Model
    label_spaces: Mapping[str, LabelSpace]
    weights: Mapping[str, Tensor]
    weights_precision: Precision
    protocol: Protocol
    class_names: Mapping[str, tuple[str, ...]]
    limits: ItemLimits
    notes: tuple[str, ...] = ()


def load_recognizer(
    path: str | Path,
    *,
    average: bool = False,
    build_backbone: Callable[[Model], Backbone] = build_backbone,
    **of_vit: Any,
) -> Recognizer:
    """Returns the recognizer of a checkpoint, ready for evaluation, on the CPU.

    Args:
        path: One of our own checkpoints, a published .pth, or a ViT of another project: a file, or a folder in Hugging
            Face's layout. The sizes are read from the weights. A published one has the label spaces "image" and
            "video", a ViT has "classes", or none where the file has no classifier.
        average: Whether to take the moving average of the weights in place of the weights.
        build_backbone: Builds the backbone that the recipe of one of our own checkpoints describes.
        of_vit: Of a ViT of another project, what neither its tensors nor a config.json beside it tell: values of `ViT`,
            such as num_heads=6 or activation="quick_gelu".

    Raises:
        UserError: If the file is missing, truncated, of another format, or names something that could run code; if it
            has no average; if the backbone is not the one of the weights.
    """
    content = read_content(Path(path), average=average, of_vit=of_vit)
    return _recognizer_of(path, content, build_backbone)


def load(
    path: str | Path,
    *,
    average: bool = False,
    device: torch.device = CPU,
    precision: Precision | None = None,
    build_backbone: Callable[[Model], Backbone] = build_backbone,
) -> Loaded:
    """Returns the classifier of a checkpoint, with the views that it is tested with, and its class names.

    Args:
        path: As for `load_recognizer`.
        average: As for `load_recognizer`.
        device: Where it classifies.
        precision: Of the forward pass. None: that of the weights in the file, float32 or float64.
        build_backbone: As for `load_recognizer`.

    Raises:
        UserError: As for `load_recognizer`.
    """
    content = read_content(Path(path), average=average)
    if not content.label_spaces:
        raise UserError(f"{path}: {_NO_HEADS.format(path)}")
    recognizer = _recognizer_of(path, content, build_backbone)
    precision = precision or content.weights_precision
    classifier = Classifier(recognizer, content.protocol, device=device, precision=precision)
    return Loaded(classifier, content.class_names, content.limits, content.notes)


def _recognizer_of(path: str | Path, content: Content, build_backbone: Callable[[Model], Backbone]) -> Recognizer:
    """Returns the recognizer of a file with its weights, ready for evaluation, on the CPU."""
    recognizer = build_recognizer(content.model, content.label_spaces, content.weights_precision, build_backbone)
    load_into(recognizer, content.weights, origin=str(path), strict=True)
    return recognizer.eval()


def with_class_names(loaded: Loaded, path: str) -> Loaded:
    """Returns a classifier with the class names of a class map, for every label space of that many classes.

    Raises:
        UserError: The class map is missing or wrong, or no label space has as many classes.
    """
    names = read_class_names(path)
    counts = {space: len(own) for space, own in loaded.class_names.items()}
    if len(names) not in counts.values():
        found = ", ".join(f"{space} has {count}" for space, count in counts.items())
        raise UserError(f"{path}: has {len(names)} classes, and {found}")
    named = {space: names if count == len(names) else loaded.class_names[space] for space, count in counts.items()}
    return replace(loaded, class_names=named)


def build_recognizer(
    model: Model,
    label_spaces: Mapping[str, LabelSpace],
    precision: Precision,
    build_backbone: Callable[[Model], Backbone] = build_backbone,
) -> Recognizer:
    """Returns a recognizer on the CPU whose weights, still to be loaded, have the type of a precision."""
    return Recognizer(model, label_spaces, backbone=build_backbone(model)).to(weight_type(precision))


def read_content(path: Path, *, average: bool = False, of_vit: Mapping[str, Any] | None = None) -> Content:
    """Returns what a file or a folder says; arguments and errors are those of `load_recognizer`."""
    content = read_weights(path)
    if content.get("format") == CHECKPOINT_FORMAT:
        _refuse_keys(path, of_vit)
        checkpoint = as_checkpoint(content)
        weights = required_average(checkpoint.state, str(path)) if average else checkpoint.state["model"]
        return _own_content(path, checkpoint.recipe, checkpoint.class_names, weights)
    if average:
        required_average(None, str(path))
    if path.is_file() and is_safetensors(path) and "recipe" in (metadata := _metadata(path)):
        _refuse_keys(path, of_vit)
        return _own_content(path, json.loads(metadata["recipe"]), json.loads(metadata["class_names"]), content)
    found = find_weights(content, str(path), (*VIT_FORMATS, IMAGE_RESNET, PUBLISHED, OWN))
    if isinstance(found.format, VitFormat):
        return _vit_content(path, found, of_vit or {})
    _refuse_keys(path, of_vit)
    return _published_content(path, found)


def _refuse_keys(path: Path, of_vit: Mapping[str, Any] | None) -> None:
    """Raises UserError where values of a ViT are given for a file that tells its network itself."""
    if of_vit:
        raise UserError(f"{path}: tells its network itself; leave out {', '.join(of_vit)}")


def _vit_content(path: Path, found: FoundWeights[Any], of_vit: Mapping[str, Any]) -> Content:
    try:
        told = pretrained_vit(found.format, found.state, read_side_files(path), of_vit)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    is_precise = all(tensor.dtype == torch.float64 for tensor in found.state.values() if tensor.is_floating_point())
    count = len(told.class_names)
    return Content(
        model=Model(vit=told.vit),
        label_spaces={CLASSES: LabelSpace(head="linear", num_classes=count)} if count else {},
        weights=told.state,
        weights_precision="float64" if is_precise else "float32",
        protocol=told.protocol,
        class_names={CLASSES: told.class_names} if count else {},
        limits=ItemLimits(),
        notes=(*found.notes, *told.notes),
    )


def _metadata(path: Path) -> dict[str, str]:
    with safetensors.safe_open(path, "pt") as file:
        return file.metadata() or {}


def _own_content(
    path: Path, plain_recipe: Mapping[str, Any], class_names: Mapping[str, Sequence[str]], weights: Mapping[str, Tensor]
) -> Content:
    recipe = from_plain(Recipe, plain_recipe, str(path))
    return Content(
        model=recipe.model,
        label_spaces=recipe.label_spaces,
        weights=weights,
        weights_precision="float64" if recipe.precision == "float64" else "float32",
        protocol=protocol_of_recipe(recipe),
        class_names={space: tuple(names) for space, names in class_names.items()},
        limits=ItemLimits(recipe.item_timeout_seconds, recipe.item_processor_seconds),
    )


def _published_content(path: Path, found: FoundWeights[Any]) -> Content:
    if found.format is IMAGE_RESNET:
        raise UserError(
            f"{path}: an image ResNet without a head of ours classifies nothing here; train from it with "
            f"model.weights={path}"
        )
    weights = from_published(found.state, PUBLISHED_HEADS["image"], PUBLISHED_HEADS["video"])
    try:
        sizes = sizes_of(weights)
    except UserError as error:
        family = family_of(weights)
        raise UserError(f"{path}: {error}{f'; it looks like {family}' if family else ''}") from error
    if not sizes.heads:
        raise UserError(f"{path}: {_NO_HEADS.format(path)}")
    heads = sizes.heads.items()
    return Content(
        model=Model(depth=sizes.depth, width=sizes.width, image_statistics=False),
        label_spaces={name: LabelSpace(head=size.kind, num_classes=size.num_classes) for name, size in heads},
        weights=weights,
        weights_precision="float32",
        protocol=published_protocol({name: size.kind for name, size in heads}),
        class_names={name: tuple(str(index) for index in range(size.num_classes)) for name, size in heads},
        limits=ItemLimits(),
        notes=found.notes,
    )
