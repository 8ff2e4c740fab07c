"""OmniSource: one recognizer for images and videos, trained jointly on both.

The names below are loaded when they are first used: `import omnisource` alone imports neither torch nor a decoder.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # type checkers know the name; importing `typing` could find a user's file under `python -m`
if TYPE_CHECKING:
    from omnisource.errors import UnreadableMedia, UserError
    from omnisource.evaluation.load import load_recognizer
    from omnisource.models.recognizer import Recognizer
    from omnisource.recipe.backbones.vit import ViT
    from omnisource.recipe.data import (
        ClipSampling,
        ColorJitter,
        EvaluationViews,
        Mixing,
        RandAugment,
        RandomErasing,
        Source,
        Split,
        TarShards,
        TrainingView,
    )
    from omnisource.recipe.loading import load_config
    from omnisource.recipe.model import LabelSpace, Model
    from omnisource.recipe.optimization import Optimizer, Schedule
    from omnisource.recipe.recipe import Checkpoints, Recipe, Validation
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
    "ViT",
    "__version__",
    "load_config",
    "load_recognizer",
]

_HOMES = {
    "Batch": "omnisource.types",
    "Checkpoints": "omnisource.recipe.recipe",
    "Clip": "omnisource.types",
    "ClipSampling": "omnisource.recipe.data",
    "ColorJitter": "omnisource.recipe.data",
    "EvaluationViews": "omnisource.recipe.data",
    "LabelSpace": "omnisource.recipe.model",
    "Mixing": "omnisource.recipe.data",
    "Model": "omnisource.recipe.model",
    "Optimizer": "omnisource.recipe.optimization",
    "RandAugment": "omnisource.recipe.data",
    "RandomErasing": "omnisource.recipe.data",
    "Recipe": "omnisource.recipe.recipe",
    "Recognizer": "omnisource.models.recognizer",
    "Schedule": "omnisource.recipe.optimization",
    "Source": "omnisource.recipe.data",
    "Split": "omnisource.recipe.data",
    "TarShards": "omnisource.recipe.data",
    "TrainingView": "omnisource.recipe.data",
    "UnreadableMedia": "omnisource.errors",
    "UserError": "omnisource.errors",
    "Validation": "omnisource.recipe.recipe",
    "ViT": "omnisource.recipe.backbones.vit",
    "load_config": "omnisource.recipe.loading",
    "load_recognizer": "omnisource.evaluation.load",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value  # the next use finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
