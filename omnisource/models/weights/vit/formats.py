"""The formats of ViTs that are understood, and how one becomes the weights of a recognizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from omnisource.errors import UserError
from omnisource.models.weights.vit.clip import is_clip, is_hugging_face_clip, read_clip, read_hugging_face_clip
from omnisource.models.weights.vit.content import Given, VitContent
from omnisource.models.weights.vit.dino import (
    is_dino,
    is_hugging_face_dinov2,
    is_hugging_face_dinov3,
    read_dino,
    read_hugging_face_dinov2,
    read_hugging_face_dinov3,
)
from omnisource.models.weights.vit.hugging_face import is_hugging_face_vit, read_hugging_face_vit
from omnisource.models.weights.vit.timm import is_timm, read_timm
from omnisource.models.weights.vit.video import (
    is_hugging_face_vjepa,
    is_video_vit,
    read_hugging_face_vjepa,
    read_video_vit,
)


@dataclass(frozen=True)
class VitFormat:
    """A kind of files that hold a ViT.

    Attributes:
        description: What it is, for people, in the plural.
        is_format_of: Whether a state dict is of this format, told by its names.
        read: Takes a state dict of this format and what is known besides; returns its content. Raises UserError where
            the tensors are not those of such a ViT.
        fault: As `WeightFormat.fault`: reading finds the faults of a ViT.
    """

    description: str
    is_format_of: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Mapping[str, Tensor], Given], VitContent]
    fault: Callable[[Mapping[str, Tensor]], str] | None = None


def read_vit(of_file: VitFormat, state: Mapping[str, Tensor], given: Given) -> VitContent:
    """Returns the content of a file of a format.

    Raises:
        UserError: The tensors are not those of such a ViT, or some are missing.
    """
    try:
        return of_file.read(state, given)
    except KeyError as error:
        raise UserError(f"of the tensors that {of_file.description} have, some are missing, such as {error}") from error


VIT_FORMATS = (
    VitFormat("Hugging Face's ViT, ViTMAE and VideoMAE", is_hugging_face_vit, read_hugging_face_vit),
    VitFormat("Hugging Face's DINOv2", is_hugging_face_dinov2, read_hugging_face_dinov2),
    VitFormat("Hugging Face's DINOv3", is_hugging_face_dinov3, read_hugging_face_dinov3),
    VitFormat("Hugging Face's CLIP, SigLIP and SigLIP 2", is_hugging_face_clip, read_hugging_face_clip),
    VitFormat("Hugging Face's V-JEPA 2", is_hugging_face_vjepa, read_hugging_face_vjepa),
    VitFormat("CLIP of OpenAI and OpenCLIP", is_clip, read_clip),
    VitFormat("Facebook's DINOv2 and DINOv3", is_dino, read_dino),
    VitFormat("VideoMAE and V-JEPA 2", is_video_vit, read_video_vit),
    VitFormat("timm's ViTs, and MAE", is_timm, read_timm),
)
"""The most particular first."""
