"""What an exported file says of itself: all that is needed to use it, as JSON inside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol as Interface

from torch import Tensor

from omnisource.errors import UserError
from omnisource.evaluation.protocol import MediaProtocol, Protocol
from omnisource.recipe.model import LabelSpace
from omnisource.recipe.plain import from_plain, to_plain
from omnisource.types import Media

METADATA_KEY = "omnisource"
"""Under which the description stands in the metadata of a file."""

FORMAT_VERSION = 1

INPUTS: Mapping[Media, str] = {"image": "images", "video": "videos"}
"""Names of the inputs: images [N, 3, H, W] and videos [N, 3, T, H, W]; uint8, 0-255, RGB."""


@dataclass(frozen=True)
class Description:
    """What a file says of itself; that no recipe is needed lets published checkpoints be exported.

    Attributes:
        label_spaces: By name.
        class_names: By label space; the indices where there are no names.
        by_media: How each media is looked at, and by which heads; one that the file does not take is missing.
        views_at_a_time: Views that go through the model at once.
        fixed_sizes: Height and width in pixels by media, where the file takes no other.
        item_timeout_seconds: What loading one file may take, wall time.
        item_processor_seconds: The same in processor time.
        is_average: Whether the weights are the moving average of those of the run.
        is_quantized: Whether the weights are integers of 8 bits.
        format_version: Of this description.
    """

    label_spaces: Mapping[str, LabelSpace]
    class_names: Mapping[str, tuple[str, ...]]
    by_media: Mapping[str, MediaProtocol]
    views_at_a_time: int
    fixed_sizes: Mapping[str, tuple[int, int]]
    item_timeout_seconds: float
    item_processor_seconds: float
    is_average: bool = False
    is_quantized: bool = False
    format_version: int = FORMAT_VERSION

    @property
    def protocol(self) -> Protocol:
        """The views that files are classified by."""
        known: tuple[Media, ...] = ("image", "video")
        by_media: dict[Media, MediaProtocol] = {
            media: self.by_media[media] for media in known if media in self.by_media
        }
        return Protocol(by_media, self.views_at_a_time)

    def to_json(self) -> str:
        """Returns it as JSON."""
        return json.dumps(to_plain(self))

    def check(self, frames: Tensor, media: Media, heads: Sequence[str], origin: str) -> None:
        """Checks that the file can say what is asked.

        Args:
            frames: [N, 3, T, H, W] uint8.
            media: The path that they take.
            heads: Label spaces.
            origin: The file, for messages.

        Raises:
            UserError: It has no such path, or not to these heads, or not for clips of this size or length.
        """
        how = self.by_media.get(media)
        if how is None or not set(heads) <= set(how.heads):
            there = ", ".join(f"{media}s to {', '.join(how.heads)}" for media, how in self.by_media.items())
            raise UserError(f"{origin}: was exported for {there}, not for {media}s to {', '.join(heads)}")
        length, size = frames.shape[2], tuple(frames.shape[3:])
        if media == "video" and length != how.sampling.clip_length:
            raise UserError(f"{origin}: takes clips of {how.sampling.clip_length} frames, not of {length}")
        fixed = self.fixed_sizes.get(media, size)
        if size != tuple(fixed):
            raise UserError(f"{origin}: takes {media}s of {fixed[0]}x{fixed[1]} pixels, not of {size[0]}x{size[1]}")


def output_name(media: Media, head: str) -> str:
    """Returns the name of the output with the scores of a label space: [N, classes] float32, which sum to 1."""
    return f"{media}_scores.{head}"


def read_description(text: str | None, origin: str) -> Description:
    """Returns the description that a file holds.

    Args:
        text: JSON; None where the file has none.
        origin: The file, for messages.

    Raises:
        UserError: It is none, or a newer one.
    """
    if text is None:
        raise UserError(
            f"{origin}: says nothing of classes and views, so it is cut or was not made by omnisource export; "
            "export the checkpoint again"
        )
    try:
        plain = json.loads(text)
    except ValueError as error:
        raise UserError(f"{origin}: damaged: its description is no JSON; export the checkpoint again") from error
    version = plain.get("format_version") if isinstance(plain, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise UserError(f"{origin}: written by a newer omnisource (format {version}); update yours")
    return from_plain(Description, plain, origin)


class ExportedRecognizer(Interface):
    """A recognizer in a file of another program, which runs it."""

    @property
    def description(self) -> Description:
        """What the file says of itself."""
        ...

    def scores(self, frames: Tensor, media: Media, heads: Sequence[str]) -> dict[str, Tensor]:
        """Returns what heads say of each view: by head [N, classes] float32, which sum to 1.

        Args:
            frames: [N, 3, T, H, W] uint8, 0-255, RGB; T = 1 for images.
            media: Which path they take.
            heads: Label spaces.

        Raises:
            UserError: The file was not exported for this.
        """
        ...


def as_input(frames: Tensor, media: Media) -> Tensor:
    """Returns views as an exported path takes them: images without time."""
    return frames.squeeze(2) if media == "image" else frames  # [N, 3, 1, H, W] -> [N, 3, H, W]
