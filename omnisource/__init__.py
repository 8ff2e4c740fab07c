"""OmniSource: one recognizer for images and videos, trained jointly on both.

The names below are loaded when they are first used: `import omnisource` alone imports neither torch nor a decoder.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omnisource.data.loading.clip_sampling import ClipSampling
    from omnisource.data.loading.source import Source
    from omnisource.data.shards.read import TarShards
    from omnisource.data.transforms.augment import ColorJitter, RandAugment, RandomErasing
    from omnisource.data.transforms.mixing import Mixing
    from omnisource.data.transforms.views import EvaluationViews, TrainingView
    from omnisource.errors import UnreadableMedia, UserError
    from omnisource.evaluation.predict import load_recognizer
    from omnisource.models.recognizer import LabelSpace, Model, Recognizer
    from omnisource.recipe.recipe import Checkpoints, Recipe, Validation
    from omnisource.recipe.splits import Split
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
    "Checkpoints": "omnisource.recipe.recipe",
    "Clip": "omnisource.types",
    "ClipSampling": "omnisource.data.loading.clip_sampling",
    "ColorJitter": "omnisource.data.transforms.augment",
    "EvaluationViews": "omnisource.data.transforms.views",
    "LabelSpace": "omnisource.models.recognizer",
    "Mixing": "omnisource.data.transforms.mixing",
    "Model": "omnisource.models.recognizer",
    "Optimizer": "omnisource.training.optimizer",
    "RandAugment": "omnisource.data.transforms.augment",
    "RandomErasing": "omnisource.data.transforms.augment",
    "Recipe": "omnisource.recipe.recipe",
    "Recognizer": "omnisource.models.recognizer",
    "Schedule": "omnisource.training.optimizer",
    "Source": "omnisource.data.loading.source",
    "Split": "omnisource.data.datasets",
    "TarShards": "omnisource.data.shards.read",
    "TrainingView": "omnisource.data.transforms.views",
    "UnreadableMedia": "omnisource.errors",
    "UserError": "omnisource.errors",
    "Validation": "omnisource.recipe.recipe",
    "load_recognizer": "omnisource.evaluation.predict",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value  # the next use finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
