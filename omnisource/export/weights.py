"""A checkpoint for people and for other programs: what it holds, and its weights alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from omnisource.checkpoints.file import Checkpoint, read_checkpoint
from omnisource.errors import UserError
from omnisource.files.atomic import atomic_write
from omnisource.models.backbones.backbone import Backbone
from omnisource.models.backbones.build import build_backbone
from omnisource.models.load_weights import save_published
from omnisource.models.weights.formats import HeadNames
from omnisource.models.weights.media_statistics import is_image_statistic
from omnisource.models.weights.own import required_average
from omnisource.models.weights.slow_only_sizes import depth_of
from omnisource.printing import show
from omnisource.recipe.model import Model
from omnisource.recipe.plain import from_plain
from omnisource.recipe.recipe import Recipe
from omnisource.reporting.tables import print_table

SUFFIXES = (".safetensors", ".pth")


def describe_checkpoint(path: Path) -> dict[str, Any]:
    """Returns what a checkpoint of ours holds, as plain data; it is verified.

    Raises:
        UserError: If it is missing, damaged, or of another format.
    """
    return _described(read_checkpoint(path), path)


def _described(checkpoint: Checkpoint, path: Path) -> dict[str, Any]:
    state = checkpoint.state
    tensors: Mapping[str, Tensor] = state["model"]
    return {
        "path": str(path),
        "bytes": path.stat().st_size,
        "step": state["step"],
        "best_score": state["best_score"],
        "best_step": state["best_step"],
        "validated_step": state["validated_step"],
        "samples_seen": state["samples_seen"],
        "unreadable": state["unreadable"],
        "skipped_steps": state.get("skipped_steps", []),
        "tensors": len(tensors),
        "parameters": sum(tensor.numel() for tensor in tensors.values() if tensor.is_floating_point()),
        "has_ema": state.get("ema") is not None,
        "recomputed_steps": (state.get("running_statistics") or {}).get("steps", 0),
        "label_spaces": {space: len(names) for space, names in checkpoint.class_names.items()},
        "facts": checkpoint.facts,
        "recipe": checkpoint.recipe,
    }


def print_checkpoint(path: Path) -> None:
    """Prints what a checkpoint of ours holds; its recipe in full is `describe_checkpoint`'s.

    Raises:
        UserError: If it is missing, damaged, or of another format.
    """
    checkpoint = read_checkpoint(path)
    found = _described(checkpoint, path)
    recipe, facts = found["recipe"], found["facts"]
    best = "none yet" if found["best_score"] is None else f"{found['best_score']:.4f} at step {found['best_step']}"
    rows = [
        ["file", f"{path}, {found['bytes'] / 2**20:.1f} MiB, verified"],
        ["step", f"{found['step']}, seed {recipe['seed']}, {facts['microbatches']} microbatches a step"],
        ["best validation top-1", best],
        ["model", f"{_model_of(recipe['model'], checkpoint.state['model'])}, {found['tensors']} tensors"],
        ["numbers in them", f"{found['parameters'] / 1e6:.2f} M" + (", and their average" if found["has_ema"] else "")],
        ["BatchNorm's statistics", _origin_of_statistics(found["recomputed_steps"])],
        *(["classes of " + space, str(count)] for space, count in found["label_spaces"].items()),
        *(["samples seen of " + name, f"{count:,}"] for name, count in found["samples_seen"].items()),
        ["unreadable files", str(len(found["unreadable"]))],
        ["steps left out", str(len(found["skipped_steps"]))],
        ["made with", ", ".join(f"{name} {version}" for name, version in facts["versions"].items())],
        ["on", f"{facts.get('processor', 'a processor not noted')}, {facts['threads']} threads"],
        ["decoder", facts.get("decoder", "not noted")],
        ["resampling", facts["resampling"]],
    ]
    print_table("Checkpoint", ["what", "value"], rows)


def _origin_of_statistics(num_steps: int) -> str:
    """Returns which of BatchNorm's statistics the weights hold."""
    return f"computed again over the last {num_steps} steps" if num_steps else "running averages"


def _model_of(model: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Returns what a recipe says of the model; what these values mean to another backbone, only that one knows."""
    if vit := model.get("vit"):
        size = vit["size"] if vit["width"] is None else f"of width {vit['width']}"
        return f"ViT {size}, {vit['family']}, patches of {vit['patch']}, {vit['tubelet']} frames a token"
    prefix = "backbone."
    backbone = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    family = f"ResNet-{model['depth']}" if depth_of(backbone) == model["depth"] else f"depth {model['depth']}"
    return f"{family}, width {model['width']:g}"


def export_checkpoint(
    path: Path,
    target: Path,
    *,
    average: bool = False,
    build_backbone: Callable[[Model], Backbone] = build_backbone,
) -> None:
    """Writes the weights of a checkpoint alone: `.safetensors` with our names, `.pth` in the published format.

    The .safetensors file carries the recipe and the class names as JSON in its metadata.

    Args:
        path: The checkpoint.
        target: File to write; must not exist.
        average: Whether to take the moving average of the weights in place of the weights.
        build_backbone: Builds the backbone that the recipe describes, whose published format a .pth has.

    Raises:
        UserError: If the checkpoint cannot be read, has no average, or has heads that the published format has no
            place for; if the backbone has no published format; if the target exists or has another suffix.
    """
    if target.suffix not in SUFFIXES:
        raise UserError(f"{target}: the file must end in {' (our names) or '.join(SUFFIXES)} (the published format)")
    if target.exists():
        raise UserError(f"{target}: exists already; choose another name")
    checkpoint = read_checkpoint(path)
    state = required_average(checkpoint.state, str(path)) if average else checkpoint.state["model"]
    if target.suffix == ".pth":
        recipe = from_plain(Recipe, checkpoint.recipe, str(path))
        with torch.device("meta"):
            formats = build_backbone(recipe.model).weight_formats
        save_published(target, state, formats, HeadNames(recipe.only_head("image"), recipe.only_head("video")))
        if any(is_image_statistic(name) for name in state):
            show("the published format has one kind of BatchNorm statistics: those of the images were left out")
    else:
        _save_safetensors(state, checkpoint, target)


def _save_safetensors(state: Mapping[str, Tensor], checkpoint: Checkpoint, target: Path) -> None:
    metadata = {
        "format": "pt",
        "recipe": json.dumps(checkpoint.recipe),
        "class_names": json.dumps(checkpoint.class_names),
    }
    tensors = {name: tensor.contiguous() for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as file:
            file.write(safetensors.torch.save(tensors, metadata))
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror or error}") from error
