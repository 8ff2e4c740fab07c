"""What a format of weights is: a backbone lists those that it can be given, and loading asks it for them.

A family of formats is one file beside this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

StateDict = dict[str, Tensor]
Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class HeadNames:
    """Which heads of a recognizer stand for those of a format that has one of each kind.

    Attributes:
        image: Label space of the image head. None: there is none.
        video: The same for the video head.
    """

    image: str | None = None
    video: str | None = None


@dataclass(frozen=True)
class Translated:
    """Weights of a file with the recognizer's names.

    Attributes:
        state: The tensors. What has no place in the recognizer has a name that it lacks.
        notes: What was changed or assumed, a line each.
        left_out: Names in the file of what is no part of such a backbone or its heads.
    """

    state: StateDict
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class WeightFormat:
    """A kind of weights that a backbone understands.

    Attributes:
        description: What it is, for people, in the plural.
        is_format_of: Whether a state dict is of this format, told by its names.
        read: Takes a state dict of this format, the shapes of the recognizer's tensors, and its heads; returns the
            weights with the recognizer's names. Raises UserError where they are not those of such a backbone.
        fault: Takes a state dict of these names; returns how it goes on after "the file holds" where it is another
            network in spite of them, or "". None: the names prove it.
        write: Takes a state dict with the recognizer's names, and its heads; returns what a .pth of this format holds.
            Raises UserError where the format has no place for something. None: the format is only read.
    """

    description: str
    is_format_of: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Mapping[str, Tensor], Shapes, HeadNames], Translated]
    fault: Callable[[Mapping[str, Tensor]], str] | None = None
    write: Callable[[Mapping[str, Tensor], HeadNames], dict[str, Any]] | None = None


class Findable(Protocol):
    """What finding weights in a file needs of a format, of whatever kind."""

    @property
    def description(self) -> str:
        """As `WeightFormat.description`."""
        ...

    @property
    def is_format_of(self) -> Callable[[Mapping[str, Any]], bool]:
        """As `WeightFormat.is_format_of`."""
        ...

    @property
    def fault(self) -> Callable[[Mapping[str, Tensor]], str] | None:
        """As `WeightFormat.fault`."""
        ...


@dataclass(frozen=True)
class SizeDifferences:
    """What tells, besides the shapes of tensors, that weights are those of a backbone of other sizes.

    Attributes:
        lines: A line for each thing that differs; none where nothing does.
        advice: Goes on after "the backbone in the file is not of the model's sizes": which sizes, and what to change.
    """

    lines: tuple[str, ...] = ()
    advice: str = "; take other weights"


def computable(tensor: Tensor) -> Tensor:
    """Returns a tensor in float32, or in float64 where it has that: half precision is for keeping weights.

    Whatever computes with the weights of a file starts from this.
    """
    return tensor if tensor.dtype == torch.float64 else tensor.to(torch.float32)
