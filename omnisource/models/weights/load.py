"""Weights of other origin: key formats, inflation, sizes, and loading with a report of what was not loaded.

Understood are our own checkpoints, published checkpoints of mmaction2, and image ResNets with torchvision's names.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from omnisource.errors import UserError, shortened
from omnisource.files.atomic import atomic_write
from omnisource.models.weights.formats import (
    HeadSize,
    Sizes,
    StateDict,
    blocks_of,
    depth_of,
    from_published,
    inflate,
    sizes_of,
    to_published,
)
from omnisource.models.weights.read import read_weights_file

__all__ = [
    "OWN_FORMAT",
    "HeadSize",
    "LoadReport",
    "Mismatch",
    "Sizes",
    "from_published",
    "inflate",
    "load_all_weights",
    "load_initial_weights",
    "load_into",
    "read_weights_file",
    "required_average",
    "save_published",
    "sizes_of",
    "state_dict_in",
    "to_published",
]

OWN_FORMAT = "omnisource-checkpoint"


@dataclass(frozen=True)
class Mismatch:
    """A tensor that is there on both sides with different shapes."""

    name: str
    given: tuple[int, ...]
    wanted: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}: {list(self.given)} in the file, {list(self.wanted)} in the model"


@dataclass(frozen=True)
class LoadReport:
    """What became of the tensors of a file and of a model.

    Attributes:
        origin: Where the weights came from.
        loaded: Names that were loaded.
        missing: Names of the model that the file lacks; they keep what they had.
        unexpected: Names of the file that the model lacks.
        mismatched: Names of both with different shapes; the model keeps what it had.
    """

    origin: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[Mismatch, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every tensor of the file went into the model, and every one of the model came from the file."""
        return not (self.missing or self.unexpected or self.mismatched)

    def describe(self, limit: int = 8) -> str:
        """Returns the report for people: a line a layer, lists of more than `limit` lines cut."""
        wanted = len(self.loaded) + len(self.missing) + len(self.mismatched)
        lines = [f"{self.origin}: {len(self.loaded)} of the model's {wanted} tensors loaded"]
        groups = (
            ("not in the file, left as they were", self.missing, _by_layer(self.missing)),
            ("of other sizes, left as they were", self.mismatched, [str(mismatch) for mismatch in self.mismatched]),
            ("in the file, but not in the model", self.unexpected, _by_layer(self.unexpected)),
        )
        for title, names, group_lines in groups:
            if names:
                lines += [f"  {title} ({len(names)}):", *_indented(group_lines, limit=limit)]
        return "\n".join(lines)


def load_initial_weights(
    module: nn.Module, path: str | Path, image_head: str | None = None, video_head: str | None = None
) -> LoadReport:
    """Loads into a recognizer whatever fits from a file of any kind that is understood, and reports the rest.

    A 2-D image ResNet is inflated. Heads of other names or sizes stay as they are; the backbone must be the file's.

    Args:
        module: The recognizer.
        path: Our own checkpoint, a published .pth, or an image ResNet (.pth or .safetensors).
        image_head: Label space that takes the weights of a published image head. None: no one does.
        video_head: The same for the published video head.

    Raises:
        UserError: The file cannot be read, is of no known kind, or holds a backbone of other sizes.
    """
    state = state_dict_in(read_weights_file(path), str(path))
    if _is_image_resnet(state):
        backbone_shapes = {
            name.removeprefix("backbone."): tensor.shape
            for name, tensor in module.state_dict().items()
            if name.startswith("backbone.")
        }
        inflated = inflate(state, backbone_shapes)
        state = {(name if name.startswith("fc.") else f"backbone.{name}"): inflated[name] for name in inflated}
    else:
        state = from_published(state, image_head, video_head)
    _check_backbone(module, state, str(path))
    return load_into(module, state, origin=str(path))


def load_all_weights(
    module: nn.Module,
    path: str | Path,
    image_head: str | None = None,
    video_head: str | None = None,
    *,
    average: bool = False,
) -> LoadReport:
    """Loads a recognizer's own or published checkpoint, which must fit in every tensor.

    Args:
        module: The recognizer.
        path: Our own checkpoint or a published .pth.
        image_head: Label space that takes the weights of a published image head. None: no one does.
        video_head: The same for the published video head.
        average: Whether to take the moving average of the weights in place of the weights.

    Raises:
        UserError: The file cannot be read, is of no known kind, has no average, or does not fit; nothing was loaded
            then.
    """
    content = read_weights_file(path)
    if average:
        state = required_average(content.get("state"), str(path))
    else:
        state = from_published(state_dict_in(content, str(path)), image_head, video_head)
    return load_into(module, state, origin=str(path), strict=True)


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


def save_published(
    path: str | Path, state: Mapping[str, Tensor], image_head: str | None, video_head: str | None
) -> None:
    """Writes weights as a published checkpoint: a .pth with a state dict of the published names.

    Args:
        path: File to write; it must not exist.
        state: The recognizer's state dict.
        image_head: Label space whose head becomes the published image head. None: there is none.
        video_head: The same for the published video head.

    Raises:
        UserError: The file exists, or there are heads that the published format has no place for.
    """
    path = Path(path)
    if path.exists():
        raise UserError(f"{path}: exists already; choose another name")
    content = {"state_dict": to_published(state, image_head, video_head), "meta": {}, "message_hub": {}}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        with atomic_write(path) as file:
            file.write(buffer.getbuffer())
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error


def load_into(
    module: nn.Module, state: Mapping[str, Tensor], *, origin: str = "the given weights", strict: bool = False
) -> LoadReport:
    """Copies the tensors whose name and shape fit into a module, and reports the rest.

    Args:
        module: Takes the weights; they are cast to its types.
        state: Tensors by the module's names.
        origin: Where they came from, for messages.
        strict: Whether everything must fit.

    Raises:
        UserError: Strict, and something does not fit; nothing was loaded then.
    """
    wanted = module.state_dict()
    common = [name for name in wanted if name in state]
    mismatched = tuple(
        Mismatch(name, tuple(state[name].shape), tuple(wanted[name].shape))
        for name in common
        if state[name].shape != wanted[name].shape
    )
    unfit = {mismatch.name for mismatch in mismatched}
    report = LoadReport(
        origin=origin,
        loaded=tuple(name for name in common if name not in unfit),
        missing=tuple(name for name in wanted if name not in state),
        unexpected=tuple(name for name in state if name not in wanted),
        mismatched=mismatched,
    )
    if strict and not report.is_complete:
        raise UserError(
            "the checkpoint does not fit the model, so nothing was loaded; take the recipe that it was trained with\n"
            + report.describe()
        )
    module.load_state_dict({name: state[name] for name in report.loaded}, strict=False)
    return report


def state_dict_in(content: Mapping[str, Any], origin: str) -> StateDict:
    """Returns the state dict in what `read_weights_file` returned, with the names that the file has.

    Raises:
        UserError: There is none, or it holds something else than tensors.
    """
    state: Any = content
    for key in ("model",) if content.get("format") == OWN_FORMAT else ("state_dict", "model"):
        if isinstance(content.get(key), Mapping):
            state = content[key]
            break
    names = [str(name) for name in state]
    if names and all(name.startswith("module.") for name in names):  # saved from within DistributedDataParallel
        state = {str(name).removeprefix("module."): value for name, value in state.items()}
    odd = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if odd or not (_is_image_resnet(state) or any(str(name).startswith("backbone.") for name in state)):
        shown = ", ".join(odd or names) or "nothing"
        raise UserError(
            f"{origin}: not weights of a known kind: it holds {shown if len(shown) < 200 else shown[:200] + ' ...'}. "
            "Known are our own checkpoints, published ones (backbone.*, cls_head.*) and torchvision's image ResNets"
        )
    return dict(state)


def _check_backbone(module: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Raises UserError unless the backbones have the same sizes; one that lacks some tensors may still fit."""
    wanted = {name: tensor for name, tensor in module.state_dict().items() if name.startswith("backbone.")}
    common = [name for name in wanted if name in state]
    lines = [
        str(Mismatch(name, tuple(state[name].shape), tuple(wanted[name].shape)))
        for name in common
        if state[name].shape != wanted[name].shape
    ]
    lines += [f"backbone.layer{stage}.{block}: only in the file" for stage, block in blocks_of(state, but_of=wanted)]
    given_depth, wanted_depth = depth_of(state), depth_of(wanted)
    if given_depth is not None and given_depth != wanted_depth:
        lines += [
            f"backbone.layer{stage}.{block}: only in the model" for stage, block in blocks_of(wanted, but_of=state)
        ]
    if not common:
        lines.append("not one tensor of the backbone has the name of one in the model")
    if lines:
        raise UserError(
            f"{origin}: the backbone in the file is not of the model's sizes (depth {given_depth or 'unknown'} in the "
            f"file, {wanted_depth or 'unknown'} in the model); change model.depth or model.width, or take other "
            "weights\n" + "\n".join(_indented(lines, limit=12))
        )


def _by_layer(names: Sequence[str]) -> list[str]:
    """Returns one line a layer: "a.bn.{weight, bias}"."""
    layers: dict[str, list[str]] = {}
    for name in sorted(
        names, key=lambda name: name.startswith("backbone.")
    ):  # heads first: they are what one looks for
        layer, _, tensor = name.rpartition(".")
        layers.setdefault(layer, []).append(tensor)
    return [
        f"{layer}.{{{', '.join(tensors)}}}" if len(tensors) > 1 else f"{layer}.{tensors[0]}".lstrip(".")
        for layer, tensors in layers.items()
    ]


def _indented(lines: list[str], limit: int) -> list[str]:
    return [f"    {line}" for line in shortened(lines, limit).split("\n")]


def _is_image_resnet(state: Mapping[str, Any]) -> bool:
    stem = state.get("conv1.weight")
    return isinstance(stem, Tensor) and stem.ndim == 4
