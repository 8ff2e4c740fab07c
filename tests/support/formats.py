"""The handed cases of other projects' formats: tiny networks whose weights follow from their names."""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FORMATS = Path(__file__).resolve().parents[3] / "shared/reference/formats"

_TABLES = ("cls_token", "mask_token", "pos_embed", "reg_token", "register_tokens", "storage_tokens")
_TABLES += ("position_embeddings", "positional_embedding", "latent", "probe", "query_tokens")


@dataclass(frozen=True)
class Case:
    """A network of a format as its own project ran it.

    Attributes:
        config: Its sizes, under the names of the library.
        state: Its weights, under their names in the file.
        arrays: Inputs and float64 outputs.
    """

    config: dict[str, Any]
    state: dict[str, Tensor]
    arrays: dict[str, np.ndarray]

    def pixels(self, name: str) -> Tensor:
        """Returns an input normalized as that project does, float64."""
        mean, std = (self.arrays[part].reshape(3, *[1] * (self.arrays[name].ndim - 2)) for part in ("mean", "std"))
        return torch.from_numpy((self.arrays[name].astype(np.float64) / 255 - mean) / std)

    def output(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])


def case(name: str) -> Case:
    """Returns a handed case."""
    with np.load(FORMATS / "tiny" / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    shapes = [tuple(json.loads(shape)) for shape in arrays["shapes"].tolist()]
    names = arrays["names"].tolist()
    state = {
        key: torch.from_numpy(arrays[f"tensor:{key}"]).double()
        if f"tensor:{key}" in arrays
        else by_rule(key.rpartition("/")[2], shape, int(arrays["seed"]))
        for key, shape in zip(names, shapes, strict=True)
    }
    return Case(json.loads(str(arrays["config"])), state, arrays)


def by_rule(name: str, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Returns the weights of a name, float32 values as float64."""
    random = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    last = name.rpartition(".")[2]
    if last == "num_batches_tracked":
        return torch.tensor(7)
    if last == "running_var":
        values = random.uniform(0.5, 1.5, shape)
    elif last == "running_mean" or last.endswith("bias"):
        values = random.normal(0, 0.1, shape)
    elif len(shape) == 1:
        values = random.uniform(0.5, 1.5, shape)
    elif last in _TABLES or "position_embedding" in name:
        values = random.normal(0, 0.5, shape)
    else:
        values = random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    return torch.from_numpy(values.astype(np.float32)).double()


def key_table(name: str) -> dict[str, tuple[int, ...]]:
    """Returns name and shape of every tensor of a real-size network."""
    lines = (FORMATS / "keys" / f"{name}.txt").read_text().splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return {key: tuple(int(number) for number in re.findall(r"\d+", shape)) for key, shape, *_ in rows}
