"""What became of the tensors of a file and of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from omnisource.errors import shortened


@dataclass(frozen=True)
class Mismatch:
    """A tensor that is there on both sides with different shapes."""

    name: str
    given: tuple[int, ...]
    wanted: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}: {list(self.given)} in the file, {list(self.wanted)} in the model"


def mismatches(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> tuple[Mismatch, ...]:
    """Returns the tensors that both have with different shapes, in the order of what is wanted."""
    return tuple(
        Mismatch(name, tuple(given[name].shape), tuple(tensor.shape))
        for name, tensor in wanted.items()
        if name in given and given[name].shape != tensor.shape
    )


@dataclass(frozen=True)
class LoadReport:
    """What became of the tensors of a file and of a model.

    Attributes:
        origin: Where the weights came from.
        loaded: Names that were loaded.
        missing: Names of the model that the file lacks; they keep what they had.
        unexpected: Names of the file that the model lacks.
        mismatched: Names of both with different shapes; the model keeps what it had.
        notes: What else is to be said, a line each.
    """

    origin: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[Mismatch, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every tensor of the file went into the model, and every one of the model came from the file."""
        return not (self.missing or self.unexpected or self.mismatched)

    def describe(self, limit: int = 8) -> str:
        """Returns the report for people: a line a layer, lists of more than `limit` lines cut."""
        wanted = len(self.loaded) + len(self.missing) + len(self.mismatched)
        lines = [f"{self.origin}: {len(self.loaded)} of the model's {wanted} tensors loaded"]
        lines += [f"  {note}" for note in self.notes]
        groups = (
            ("not in the file, left as they were", self.missing, _by_layer(self.missing)),
            ("of other sizes, left as they were", self.mismatched, [str(mismatch) for mismatch in self.mismatched]),
            ("in the file, but not in the model", self.unexpected, _by_layer(self.unexpected)),
        )
        for title, names, group_lines in groups:
            if names:
                lines += [f"  {title} ({len(names)}):", *indented(group_lines, limit=limit)]
        return "\n".join(lines)


def indented(lines: Sequence[str], limit: int) -> list[str]:
    """Returns lines of a longer message, those beyond `limit` counted in the last."""
    return [f"    {line}" for line in shortened(list(lines), limit).split("\n")]


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
