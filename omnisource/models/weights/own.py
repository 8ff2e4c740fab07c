"""Our own weights: those of a checkpoint, its moving average, and what `checkpoint export` writes as .safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from omnisource.errors import UserError
from omnisource.models.weights.formats import HeadNames, Shapes, Translated, WeightFormat


def required_average(state: object, origin: str) -> Mapping[str, Tensor]:
    """Returns the moving average of the weights in the state that one of our checkpoints holds.

    Args:
        state: That state; anything else where the file is no checkpoint of ours.
        origin: The file, for messages.

    Raises:
        UserError: There is no average.
    """
    average = state.get("ema") if isinstance(state, Mapping) else None
    if average is None:
        raise UserError(
            f"{origin}: holds no moving average of the weights: only checkpoints of runs with ema_decay=0.9999 or so "
            "do. Leave --ema away to take the weights of the file"
        )
    return average


def _has_backbone(state: Mapping[str, Any]) -> bool:
    return any(str(name).startswith("backbone.") for name in state)


def _as_it_is(state: Mapping[str, Tensor], shapes: Shapes, heads: HeadNames) -> Translated:
    return Translated(dict(state))


OWN = WeightFormat("our own checkpoints", _has_backbone, _as_it_is)
"""Names `backbone.*` and `heads.<label space>.*`, which are the recognizer's."""
