"""The recognizer: one backbone for images and videos, and a head for every label space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnisource.errors import UserError
from omnisource.models.backbones.backbone import Backbone, ParameterGroup, group_parameters
from omnisource.models.backbones.build import build_backbone
from omnisource.models.heads import ImageHead, LinearHead, VideoHead
from omnisource.models.normalize import Normalize
from omnisource.recipe.model import LabelSpace, Model, label_space_name_fault
from omnisource.types import Batch, Media


class Recognizer(nn.Module):
    """Classifies images and videos with one backbone, and any number of heads.

    Example:
        recognizer.eval()
        recognizer.image_logits(images)  # [N, 3, H, W] uint8, 0-255, RGB -> [N, classes]
        recognizer.video_logits(clips)  # [N, 3, T, H, W] uint8, 0-255, RGB -> [N, classes]

    Args:
        model: Describes the backbone, and whether images have statistics of their own. Its `weights` are not read here.
        label_spaces: The label spaces by name; each gets a head of the same name. All class counts must be known.
        backbone: Takes the place of the backbone that `model` describes. Only such a recognizer may have no label
            space; then it makes features alone.

    Attributes:
        label_spaces: The label spaces by name.
        normalize: Maps frames of 0-255 to what the backbone expects.
        backbone: Makes the features.
        heads: The heads by the name of their label space.

    Raises:
        UserError: A label space has a name that no head can bear, or the model has an impossible size.
        ValueError: There is no label space, or the number of classes of one is not known.
    """

    def __init__(
        self, model: Model, label_spaces: Mapping[str, LabelSpace], *, backbone: Backbone | None = None
    ) -> None:
        super().__init__()
        if not label_spaces and backbone is None:
            raise ValueError("a recognizer needs at least one label space")
        for name in label_spaces:
            _check_head_name(name)
        self.label_spaces = dict(label_spaces)
        backbone = build_backbone(model) if backbone is None else backbone
        self.normalize = Normalize(backbone.normalization)
        self.backbone = backbone
        self.heads = nn.ModuleDict(
            {name: _head(name, space, self.backbone.out_channels, model) for name, space in label_spaces.items()}
        )

    def forward(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Returns the loss of every source: the mean cross entropy over its samples, a scalar.

        All sources go through one forward, in the order given, so that under DistributedDataParallel every
        parameter takes part in every step. All V views of a clip bear its label. Label smoothing is that of the
        batch's label space. Dropout draws from torch's global generator of the device.

        Args:
            batches: One batch a source, on the recognizer's device.

        Raises:
            ValueError: Two batches of one source, a head that is not there, or labels that do not fit the head.
        """
        losses: dict[str, Tensor] = {}
        for batch in batches:
            if batch.source in losses:
                raise ValueError(f"source {batch.source!r} came with two batches in one forward")
            losses[batch.source] = self._loss(batch)
        return losses

    def features(self, clips: Tensor, media: Media) -> Tensor:
        """Returns the pooled features of clips, [N, backbone.out_channels].

        Args:
            clips: [N, 3, T, H, W], T = 1 for images; uint8, 0-255, RGB, or floating point, already normalized.
            media: Which path through the backbone the clips take.

        Raises:
            ValueError: The clips have another shape or type.
        """
        _check_clips(clips, media)
        x = clips if clips.is_floating_point() else self.normalize(clips)
        x = x.to(next(self.backbone.parameters()).dtype)
        if media == "image":
            x = x.squeeze(2)  # [N, 3, 1, H, W] -> [N, 3, H, W]
        features = self.backbone(x, media)
        return features.flatten(2).mean(dim=2) if features.ndim > 2 else features  # [N, C, ...] -> [N, C]

    def logits(self, clips: Tensor, media: Media, head: str) -> Tensor:
        """Returns the scores of a label space before softmax, [N, classes].

        Args:
            clips: As for `features`.
            media: Which path through the backbone the clips take; any head takes either.
            head: Name of the label space.

        Raises:
            ValueError: There is no such head, or the clips have another shape or type.
        """
        if head not in self.heads:
            raise ValueError(f"there is no head {head!r}; the heads are {', '.join(self.heads)}")
        return self.heads[head](self.features(clips, media), media)

    def image_logits(self, images: Tensor, head: str | None = None) -> Tensor:
        """Returns the scores of images before softmax, [N, classes].

        Args:
            images: [N, 3, H, W]; uint8, 0-255, RGB, or floating point, already normalized.
            head: Name of the label space. None: the only one whose head is an image head, or else a linear one.

        Raises:
            ValueError: The head must be named, is not there, or the images have another shape or type.
        """
        if images.ndim != 4:
            raise ValueError(f"images must be [N, 3, H, W], got {list(images.shape)}")
        return self.logits(images.unsqueeze(2), "image", head or self._only_head("image"))

    def video_logits(self, clips: Tensor, head: str | None = None) -> Tensor:
        """Returns the scores of clips before softmax, [N, classes].

        Args:
            clips: [N, 3, T, H, W]; uint8, 0-255, RGB, or floating point, already normalized.
            head: Name of the label space. None: the only one whose head is a video head, or else a linear one.

        Raises:
            ValueError: The head must be named, is not there, or the clips have another shape or type.
        """
        return self.logits(clips, "video", head or self._only_head("video"))

    def parameter_groups(self) -> list[ParameterGroup]:
        """Returns every parameter once, by decay and depth: those of the backbone, and then the heads."""
        groups = [replace(group, names=_prefixed("backbone", group)) for group in self.backbone.parameter_groups()]
        last = 1 + max(group.depth for group in groups)
        of_heads = group_parameters(self.heads, depth_of=lambda name: last)
        return [*groups, *(replace(group, names=_prefixed("heads", group)) for group in of_heads)]

    def _loss(self, batch: Batch) -> Tensor:
        views = batch.clips.shape[1]
        clips = batch.clips.flatten(0, 1)  # [N, V, 3, T, H, W] -> [N * V, 3, T, H, W]
        logits = self.logits(clips, batch.media, batch.head)
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()  # a sum over many classes needs more digits than the weights
        labels = batch.labels.repeat_interleave(views, dim=0)
        if labels.is_floating_point():
            if labels.shape != logits.shape:
                raise ValueError(
                    f"source {batch.source!r}: soft labels {list(batch.labels.shape)} do not fit head {batch.head!r} "
                    f"of {logits.shape[1]} classes"
                )
            labels = labels.to(logits.dtype)
        return F.cross_entropy(logits, labels, label_smoothing=self.label_spaces[batch.head].label_smoothing)

    def _only_head(self, kind: Literal["image", "video"]) -> str:
        of_kind = [name for name, space in self.label_spaces.items() if space.head == kind]
        of_kind = of_kind or [name for name, space in self.label_spaces.items() if space.head == "linear"]
        if len(of_kind) == 1:
            return of_kind[0]
        heads = ", ".join(f"{name} ({space.head})" for name, space in self.label_spaces.items())
        raise ValueError(f"name the head: {len(of_kind)} {kind} heads are there, not one; the heads are {heads}")


def _prefixed(module: str, group: ParameterGroup) -> tuple[str, ...]:
    return tuple(f"{module}.{name}" for name in group.names)


def _check_head_name(name: str) -> None:
    if fault := label_space_name_fault(name):
        raise UserError(fault)
    if hasattr(nn.ModuleDict(), name):
        raise UserError(f"label space {name!r}: torch uses this name itself; take another one, such as {name}_classes")


def _head(name: str, space: LabelSpace, in_channels: int, model: Model) -> ImageHead | LinearHead | VideoHead:
    if space.num_classes is None or space.num_classes < 1:
        raise ValueError(f"label space {name!r}: num_classes is {space.num_classes}, not a known number of classes")
    if space.head == "linear":
        return LinearHead(in_channels, space.num_classes, space.dropout)
    head = ImageHead if space.head == "image" else VideoHead
    return head(in_channels, space.num_classes, space.dropout, has_image_statistics=model.image_statistics)


def _check_clips(clips: Tensor, media: Media) -> None:
    of_known_type = clips.dtype == torch.uint8 or clips.is_floating_point()
    if clips.ndim != 5 or clips.shape[1] != 3 or not of_known_type:
        raise ValueError(
            f"clips must be [N, 3, T, H, W], uint8 or floating point and normalized, "
            f"got {list(clips.shape)} {str(clips.dtype).removeprefix('torch.')}"
        )
    if media == "image" and clips.shape[2] != 1:
        raise ValueError(f"an image is a clip [N, 3, T, H, W] with T = 1, got {list(clips.shape)}")
