"""A recipe in short, from the plain data that runs and tests write; keys that it has not are left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from omnisource.report.page import Table, described

_OPTIMIZER = ("method", "learning_rate", "weight_decay", "base_batch_size", "momentum")
_SPLITS = ("train", "validation", "test")


def recipe_rows(recipe: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Returns what is most important of a recipe: name and value."""
    optimizer = _group(recipe, "optimizer")
    rows = {
        "model": described(_group(recipe, "model")),
        "heads": "; ".join(f"{name}: {described(space)}" for name, space in _group(recipe, "label_spaces").items()),
        "main source": recipe.get("main_source", ""),
        "length": f"{recipe['num_epochs']} epochs" if "num_epochs" in recipe else "",
        "optimizer": described({key: optimizer[key] for key in _OPTIMIZER if key in optimizer}),
        "schedule": described(_group(recipe, "schedule")),
        "arithmetic": recipe.get("precision", ""),
        "accumulation": recipe.get("accumulation", ""),
        "seed": recipe.get("seed", ""),
        "deterministic": "yes" if recipe.get("deterministic") else "",
    }
    return tuple((name, str(value)) for name, value in rows.items() if value not in ("", None))


def source_table(recipe: Mapping[str, Any]) -> Table | None:
    """Returns a table of the sources; None where the recipe has none."""
    rows = tuple(
        (
            name,
            source.get("media", ""),
            source.get("label_space", ""),
            source.get("batch_size") or "",
            described(source.get("loss_weight", "")),
            _clip(source),
            described(_group(source, "training_view").get("crop_size", "")),
            _views(_group(source, "test_views")),
            "; ".join(f"{split}: {found}" for split in _SPLITS if (found := _split(source, split))),
        )
        for name, source in _group(recipe, "sources").items()
        if isinstance(source, Mapping)
    )
    views = ("frames × interval", "crop", "test views")
    columns = ("source", "media", "classes of", "batch", "loss weight", *views, "items")
    return Table("Sources", columns, rows) if rows else None


def recipe_text(recipe: Mapping[str, Any]) -> str:
    """Returns the whole recipe as indented JSON."""
    return json.dumps(recipe, indent=2, ensure_ascii=False) if recipe else ""


def _group(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = values.get(key)
    return found if isinstance(found, Mapping) else {}


def _clip(source: Mapping[str, Any]) -> str:
    sampling = _group(source, "sampling")
    if source.get("media") != "video" or not sampling:
        return ""
    return f"{sampling.get('clip_length')} × {sampling.get('frame_interval')}"


def _views(views: Mapping[str, Any]) -> str:
    if not views:
        return ""
    count = f"{views.get('num_clips')} × {views.get('num_crops')}"
    return f"{count} of {views.get('crop_size')} px, short side {views.get('short_side')}"


def _split(source: Mapping[str, Any], split: str) -> str:
    described_split = _group(source, split)
    if not described_split:
        return ""
    return str(described_split.get("list") or described_split.get("folder") or described_split.get("shards") or "yes")
