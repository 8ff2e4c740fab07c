"""What a list of a source is, before it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ListFormat = Literal["path_label", "video_frames_label", "frames_folder", "csv", "folders"]


@dataclass(frozen=True)
class Split:
    """One list of a source: the items it is trained, validated or tested on."""

    folder: str = ""
    """Folder that the paths of the list start from, below the source's root."""

    list: str = ""
    """List file, below the source's root; not read where the format is "folders"."""

    format: ListFormat = "path_label"
    """Form of the list: "path_label" (`path label`), "video_frames_label" (`video_id frames label`, the id without
    suffix and the count ignored), "frames_folder" (`folder num_frames label`), "csv" (with a header) or "folders"
    (no list: one folder a class)."""

    path_column: str = "path"
    """Column of a CSV list that holds the path."""

    label_column: str = "label"
    """Column of a CSV list that holds the label: a class index or, where the classes have names, a name."""

    frame_template: str = "img_{:05d}.jpg"
    """File name of a raw frame, given its number; the first is 1."""
