"""A ViT of another project as a classifier: its network, its classes, and the views that its own project takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from omnisource.errors import UserError
from omnisource.evaluation.protocol import MediaProtocol, Protocol
from omnisource.models.backbones.vit import VisionTransformer
from omnisource.models.weights.folder import SideFiles
from omnisource.models.weights.formats import StateDict
from omnisource.models.weights.vit.content import Given
from omnisource.models.weights.vit.formats import VitFormat, read_vit
from omnisource.models.weights.vit.translate import fitted
from omnisource.recipe.backbones.vit import ViT
from omnisource.recipe.data import ClipSampling, EvaluationViews

CLASSES = "classes"
"""Name of the label space of such a file."""

_VIEWS_AT_A_TIME = 8
_CLIPS = {"videomae": 5, "vjepa2": 2}
"""Clips, of three crops each, that videos are tested with; both take every fourth frame.

Source: MCG-NJU/VideoMAE 14ef8d8 `scripts/kinetics`; facebookresearch/vjepa2 c2963a4 `configs/inference/vitl/ssv2.yaml`.
"""
_FRAMES_OF_IMAGE_NETWORK = 10


@dataclass(frozen=True)
class PretrainedViT:
    """All that a file tells of a ViT of another project.

    Attributes:
        vit: The network.
        state: Its tensors with the names of a recognizer.
        class_names: By index; empty where it has no classifier.
        protocol: The views that are averaged.
        notes: What was assumed, left out or is done otherwise, a line each.
    """

    vit: ViT
    state: StateDict
    class_names: tuple[str, ...]
    protocol: Protocol
    notes: tuple[str, ...]


def pretrained_vit(
    of_file: VitFormat, state: Mapping[str, Tensor], beside: SideFiles, keys: Mapping[str, Any]
) -> PretrainedViT:
    """Returns what a file tells.

    Args:
        of_file: Its format.
        state: Its state dict.
        beside: What lies beside it.
        keys: Values of `ViT` that the user gives.

    Raises:
        UserError: The tensors are not those of such a ViT, contradict what lies beside them, or there is no such key.
    """
    known = [field.name for field in fields(ViT)]
    if unknown := sorted(keys.keys() - set(known)):
        raise UserError(f"there is no {', '.join(unknown)} of a ViT; known are {', '.join(known)}")
    given = Given(keys, beside.config, beside.processor)
    content = read_vit(of_file, state, given)
    names = _class_names(len(content.head["weight"]) if content.head else 0, given.config)
    is_of_images = content.vit.tubelet == 1 and "clip_length" not in keys
    vit = replace(content.vit, clip_length=1) if is_of_images else content.vit
    notes = [f"read as {of_file.description}: {vit.family}", *content.assumptions()]
    if content.left_out:
        shown = ", ".join(content.left_out[:3]) + (" ..." if len(content.left_out) > 3 else "")
        notes.append(f"left out: {len(content.left_out)} tensors that are not of the network ({shown})")
    if is_of_images and names:
        notes.append(f"a classifier of images: the scores of {_FRAMES_OF_IMAGE_NETWORK} frames of a video are averaged")
    with torch.device("meta"):
        wanted = {f"backbone.{name}": tensor.shape for name, tensor in VisionTransformer(vit).state_dict().items()}
    ours = fitted({f"backbone.{name}": tensor for name, tensor in content.backbone.items()}, wanted, vit)
    weights = ours.state | {f"heads.{CLASSES}.linear.{part}": tensor for part, tensor in content.head.items()}
    if names:
        weights.setdefault(f"heads.{CLASSES}.linear.bias", torch.zeros(len(names)))
    return PretrainedViT(vit, weights, names, _protocol(vit, given), tuple(notes))


def _class_names(count: int, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the names of the classes in a config.json, of Hugging Face or timm; the indices where there are none."""
    labels = config.get("id2label")
    if isinstance(labels, Mapping) and count:
        try:
            names = tuple(str(labels[str(index)]) for index in range(count))
        except KeyError as error:
            raise UserError(
                f"config.json is of another network (id2label has {len(labels)} classes, without {error}, and the "
                f"tensors have {count}); take the one of these weights"
            ) from None
        if len(labels) == count:
            return names
        raise UserError(
            f"config.json is of another network (id2label has {len(labels)} classes, and the tensors have {count}); "
            "take the one of these weights"
        )
    listed = config.get("label_names")
    if isinstance(listed, list) and len(listed) == count:
        described = config.get("label_descriptions") or {}
        return tuple(str(described.get(name, name)) for name in listed)
    return tuple(str(index) for index in range(count))


def _protocol(vit: ViT, given: Given) -> Protocol:
    """Returns the views of a network, as what lies beside its weights says, and otherwise as its family has them."""
    crop = given.crop_size() or (224 if vit.family == "dinov2" else vit.image_size)
    crop -= crop % vit.patch
    short_side = max(crop, given.short_side() or round(crop / 0.875))
    image = MediaProtocol((CLASSES,), EvaluationViews(1, 1, short_side, crop), ClipSampling())
    if vit.family in _CLIPS:
        views, sampling = EvaluationViews(_CLIPS[vit.family], 3, crop, crop), ClipSampling(vit.clip_length, 4)
    else:
        frames = _FRAMES_OF_IMAGE_NETWORK if vit.clip_length == 1 else 1
        views, sampling = EvaluationViews(frames, 1, short_side, crop), ClipSampling(vit.clip_length, 4)
    return Protocol({"image": image, "video": MediaProtocol((CLASSES,), views, sampling)}, _VIEWS_AT_A_TIME)
