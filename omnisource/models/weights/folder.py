"""Weights with what lies beside them: a file, or a folder in Hugging Face's layout, perhaps of several shards."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnisource.errors import UserError
from omnisource.models.weights.read import read_weights_file

_FILES = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin")
_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_PROCESSORS = ("preprocessor_config.json", "video_preprocessor_config.json")


@dataclass(frozen=True)
class SideFiles:
    """What the files beside weights say.

    Attributes:
        config: The config.json; empty where there is none.
        processor: The preprocessor_config.json, likewise.
    """

    config: dict[str, Any]
    processor: dict[str, Any]


def read_weights(path: str | Path) -> dict[str, Any]:
    """Returns what a file of weights holds, or a folder in Hugging Face's layout.

    Raises:
        UserError: There are no weights in the folder, or a shard is missing; as for `read_weights_file`.
    """
    path = Path(path)
    return _content_of_folder(path) if path.is_dir() else read_weights_file(path)


def read_side_files(path: str | Path) -> SideFiles:
    """Returns what stands beside a file of weights, or in a folder of them.

    Raises:
        UserError: One of the files cannot be read.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    processor: dict[str, Any] = {}
    for name in _PROCESSORS:
        processor |= _json(folder / name)
    return SideFiles(_json(folder / "config.json"), processor)


def _content_of_folder(folder: Path) -> dict[str, Any]:
    for name in _FILES:
        if (folder / name).is_file():
            return read_weights_file(folder / name)
    for name in _INDICES:
        if not (folder / name).is_file():
            continue
        places = _json(folder / name).get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(shard, str) for shard in places.values()):
            raise UserError(f"{folder / name}: has no weight_map from names to files")
        shards = sorted(set(places.values()))
        if missing := [shard for shard in shards if not (folder / shard).is_file()]:
            raise UserError(f"{folder}: {len(missing)} of its {len(shards)} shards are missing: {', '.join(missing)}")
        content: dict[str, Any] = {}
        for shard in shards:
            content |= read_weights_file(folder / shard)
        if lacking := sorted(places.keys() - content.keys()):
            raise UserError(f"{folder}: its shards lack {len(lacking)} tensors of the index, such as {lacking[0]}")
        return content
    raise UserError(f"{folder}: a folder without weights: it has none of {', '.join((*_FILES, *_INDICES))}")


def _json(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file; empty where there is no file."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, not an object of settings by name")
    return content
