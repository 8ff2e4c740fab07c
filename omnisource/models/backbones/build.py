"""The backbone that a recipe describes."""

from __future__ import annotations

import functools

from omnisource.models.backbones.backbone import Backbone
from omnisource.models.backbones.slow_only import MediaBatchNorm, slow_only
from omnisource.models.backbones.vit import VisionTransformer
from omnisource.recipe.model import Model


def build_backbone(model: Model) -> Backbone:
    """Returns the backbone with random weights.

    Raises:
        UserError: The model has an impossible size.
    """
    if model.vit is not None:
        return VisionTransformer(model.vit)
    norm = functools.partial(
        MediaBatchNorm, momentum=model.batch_norm_momentum, has_image_statistics=model.image_statistics
    )
    return slow_only(model.depth, model.width, norm)
