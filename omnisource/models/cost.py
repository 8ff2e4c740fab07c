"""What a recognizer costs: parameters, and multiply-adds of a path at an input size."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from omnisource.types import Media

if TYPE_CHECKING:
    from omnisource.models.backbones.backbone import Backbone
    from omnisource.models.recognizer import Recognizer


def _batch_norm_operations(input_shape: Sequence[int], *arguments: object, **options: object) -> int:
    return 4 * math.prod(input_shape)  # 2 an element, in the counter's unit of half a multiply-add


def _other_norm_operations(input_shape: Sequence[int], *arguments: object, **options: object) -> int:
    return 10 * math.prod(input_shape)  # 5 an element: its own mean and deviation too


_aten = torch.ops.aten
_NORMALIZATIONS = {
    # Which of the two F.batch_norm becomes is up to the version of torch.
    _aten.native_batch_norm: _batch_norm_operations,
    _aten._native_batch_norm_legit_no_training: _batch_norm_operations,
    _aten.native_layer_norm: _other_norm_operations,
    _aten.native_group_norm: _other_norm_operations,
}


def count_parameters(module: nn.Module | Backbone) -> int:
    """Returns the number of parameters of a module; buffers are not counted."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_multiply_adds(
    recognizer: Recognizer, media: Media, clip_length: int, size: int, head: str | None = None
) -> int:
    """Returns the multiply-adds for one input: those of matrices and convolutions, and what is normalized.

    That is how the tables of the field count: a multiply-add is 1, but BatchNorm is counted as a multiplication
    and an addition an element, other normalizations as 5 operations. Nothing is computed: the shapes alone go
    through a copy of the recognizer on the meta device.

    Source: facebookresearch/fvcore, fvcore/nn/jit_handles.py (batchnorm_flop_jit, norm_flop_counter). So counted, the
    published 54.75 G come out.

    Args:
        recognizer: The recognizer, on any device.
        media: Which path through the backbone.
        clip_length: Frames; 1 for images.
        size: Height and width in pixels.
        head: Label space whose head is counted too. None: the backbone alone.
    """
    on_meta = _copied_to_meta(recognizer)
    clips = torch.empty(1, 3, clip_length, size, size, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=_NORMALIZATIONS) as counter:
        if head is None:
            on_meta.features(clips, media)
        else:
            on_meta.logits(clips, media, head)
    return counter.get_total_flops() // 2  # the counter takes a multiply-add as 2


def _copied_to_meta(recognizer: Recognizer) -> Recognizer:
    """Returns a copy in evaluation mode that shares no memory with the recognizer and takes none for its tensors."""
    memo: dict[int, object] = {}
    for parameter in recognizer.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
    for buffer in recognizer.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(recognizer, memo).eval()
