"""OmniSource: one recognizer for images and videos, trained jointly on both.

The names below are loaded when they are first used: `import omnisource` alone imports neither torch nor a decoder.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omnisource.data.annotations import Split
    from omnisource.data.augment import ColorJitter, RandAugment, RandomErasing
    from omnisource.data.frames import ClipSampling
    from omnisource.data.mixing import Mixing
    from omnisource.data.shards import TarShards
    from omnisource.data.source import Source
    from omnisource.data.transforms import EvaluationViews, TrainingView
    from omnisource.errors import UnreadableMedia, UserError
    from omnisource.models.recognizer import LabelSpace, Model, Recognizer
    from omnisource.predict import load_recognizer
    from omnisource.recipe import Checkpoints, Recipe, Validation
    from omnisource.training.optimizer import Optimizer, Schedule
    from omnisource.types import Batch, Clip

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Checkpoints",
    "Clip",
    "ClipSampling",
    "ColorJitter",
    "EvaluationViews",
    "LabelSpace",
    "Mixing",
    "Model",
    "Optimizer",
    "RandAugment",
    "RandomErasing",
    "Recipe",
    "Recognizer",
    "Schedule",
    "Source",
    "Split",
    "TarShards",
    "TrainingView",
    "UnreadableMedia",
    "UserError",
    "Validation",
    "__version__",
    "load_recognizer",
]

_HOMES = {
    "Batch": "omnisource.types",
    "Checkpoints": "omnisource.recipe",
    "Clip": "omnisource.types",
    "ClipSampling": "omnisource.data.frames",
    "ColorJitter": "omnisource.data.augment",
    "EvaluationViews": "omnisource.data.transforms",
    "LabelSpace": "omnisource.models.recognizer",
    "Mixing": "omnisource.data.mixing",
    "Model": "omnisource.models.recognizer",
    "Optimizer": "omnisource.training.optimizer",
    "RandAugment": "omnisource.data.augment",
    "RandomErasing": "omnisource.data.augment",
    "Recipe": "omnisource.recipe",
    "Recognizer": "omnisource.models.recognizer",
    "Schedule": "omnisource.training.optimizer",
    "Source": "omnisource.data.source",
    "Split": "omnisource.data.annotations",
    "TarShards": "omnisource.data.shards",
    "TrainingView": "omnisource.data.transforms",
    "UnreadableMedia": "omnisource.errors",
    "UserError": "omnisource.errors",
    "Validation": "omnisource.recipe",
    "load_recognizer": "omnisource.predict",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value  # the next use finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
