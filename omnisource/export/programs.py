"""The paths of a recognizer as programs of torch.export: uint8 in, scores out."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from omnisource.evaluation.protocol import MediaProtocol, Protocol
from omnisource.export.folding import fold
from omnisource.models.recognizer import Recognizer
from omnisource.types import Media

_EXAMPLES = 2  # a batch of one would be fixed


@dataclass(frozen=True)
class ExportedPath:
    """The path of one media.

    Attributes:
        module: Takes images [N, 3, H, W] or videos [N, 3, T, H, W], uint8, 0-255, RGB; returns the scores of each head,
            [N, classes] float32, which sum to 1, by its name.
        example: Such an input.
        dynamic: The dimensions of the input that may have any size.
    """

    module: nn.Module
    example: Tensor
    dynamic: tuple[int, ...]

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """Height and width in pixels, where there is no other."""
        height, width = self.example.shape[-2:]
        return None if len(self.dynamic) > 1 else (height, width)

    @property
    def dynamic_shapes(self) -> dict[int, Any]:
        """The dimensions as torch.export wants them."""
        return dict.fromkeys(self.dynamic, Dim.DYNAMIC)


class _Path(nn.Module):
    """What of a recognizer one media needs."""

    def __init__(self, recognizer: Recognizer, media: Media, heads: Sequence[str]) -> None:
        super().__init__()
        self.recognizer = recognizer
        self.media: Media = media
        self.head_names = tuple(heads)

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        clips = frames.unsqueeze(2) if self.media == "image" else frames  # [N, 3, H, W] -> [N, 3, 1, H, W]
        features = self.recognizer.features(clips, self.media)
        logits = {name: self.recognizer.heads[name](features, self.media) for name in self.head_names}
        return {name: values.softmax(dim=1).float() for name, values in logits.items()}


class _AllPaths(nn.Module):
    """All paths of a recognizer beside one another."""

    def __init__(self, paths: Mapping[Media, ExportedPath]) -> None:
        super().__init__()
        self.paths = nn.ModuleList(path.module for path in paths.values())

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        return [scores for path, x in zip(self.paths, inputs, strict=True) for scores in path(x).values()]


def export_paths(recognizer: Recognizer, protocol: Protocol) -> dict[Media, ExportedPath]:
    """Returns the folded path of each media of a protocol.

    Any number of views goes through a path at a time. They have any height and width where the backbone allows it, and
    otherwise those of the protocol; videos have its number of frames.

    Args:
        recognizer: On the CPU, in evaluation mode.
        protocol: Its views and heads.
    """
    return {media: _export_path(recognizer, media, how) for media, how in protocol.by_media.items()}


def path_program(path: ExportedPath) -> ExportedProgram:
    """Returns the program of one path."""
    return _traced(path.module, (path.example,), (path.dynamic_shapes,))


def joined_program(paths: Mapping[Media, ExportedPath]) -> ExportedProgram:
    """Returns a program that takes the input of each path, and returns the scores of all their heads, in that order."""
    examples = tuple(path.example for path in paths.values())
    shapes = tuple(path.dynamic_shapes for path in paths.values())
    return _traced(_AllPaths(paths), examples, (shapes,))


def _export_path(recognizer: Recognizer, media: Media, how: MediaProtocol) -> ExportedPath:
    path = _Path(recognizer, media, how.heads)
    side = how.views.crop_size
    try:
        # Larger than any view, and of unlike sides: torch takes sizes that are equal, or become 1, for always so.
        return _folded(path, _example(media, how, 2 * side, 3 * side), has_any_size=True)
    except Exception:  # torch has no common class for sizes that a model fixes
        return _folded(path, _example(media, how, side, side), has_any_size=False)


def _example(media: Media, how: MediaProtocol, height: int, width: int) -> Tensor:
    length = () if media == "image" else (how.sampling.clip_length,)
    return torch.zeros((_EXAMPLES, 3, *length, height, width), dtype=torch.uint8)


def _folded(path: _Path, example: Tensor, *, has_any_size: bool) -> ExportedPath:
    dynamic = (0, example.ndim - 2, example.ndim - 1) if has_any_size else (0,)
    module = _traced(path, (example,), (dict.fromkeys(dynamic, Dim.DYNAMIC),)).module(check_guards=False)
    fold(module)  # type: ignore[arg-type]
    return ExportedPath(module, example, dynamic)


def _traced(module: nn.Module, examples: tuple[Tensor, ...], shapes: Any) -> ExportedProgram:
    with torch.no_grad(), warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")  # of torch, about its own insides
        return torch.export.export(module, examples, dynamic_shapes=shapes)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps libraries from telling their own developers, on the screen of a user, how they export."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
