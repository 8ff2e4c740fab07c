"""What a worker does with one file: prepare it under a temporary name, and return what was written."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from omnisource.data.decoding.video import VideoFile
from omnisource.errors import UnreadableMedia, with_path
from omnisource.prepare.encode import prepare_video
from omnisource.prepare.shrink import Encoded, shrink_image
from omnisource.types import Media


@dataclass(frozen=True)
class PrepareRequest:
    """All that decides one prepared file.

    Attributes:
        media: "image" or "video".
        path: The original.
        target: File to write.
        suffix: Suffix that the file will have.
        short_side: Short side, in pixels.
        keyframe_interval: Frames from one keyframe to the next.
    """

    media: Media
    path: str
    target: str
    suffix: str
    short_side: int
    keyframe_interval: int


@dataclass(frozen=True)
class Written:
    """A file that was written to the disk.

    Attributes:
        encoded: Its frames and its size in pixels.
        declared_frames: Frames that the container of the original says it has; None where it does not, and for images.
        size: Bytes.
        sha256: Of the bytes, in hexadecimal digits.
        original_size: Bytes of the original.
        original_modified_ns: When the original was last modified, in nanoseconds since 1970.
    """

    encoded: Encoded
    declared_frames: int | None
    size: int
    sha256: str
    original_size: int
    original_modified_ns: int


def prepare_file(request: PrepareRequest) -> Written | OSError:
    """Writes the prepared file; returns what it is, or why nothing can be written: then no file can be prepared.

    Raises:
        UnreadableMedia: If the original cannot be decoded, or changed meanwhile.
    """
    target = Path(request.target)
    try:
        before = _state(request.path)
        declared_frames = None
        if request.media == "image":
            encoded = shrink_image(request.path, target, request.short_side, request.suffix)
        else:
            encoded = prepare_video(request.path, target, request.short_side, request.keyframe_interval)
            with VideoFile(request.path) as video:
                declared_frames = video.declared_frames
        if _state(request.path) != before:
            raise UnreadableMedia(request.path, "it was changed while it was read")
        return Written(encoded, declared_frames, target.stat().st_size, _synced_digest(target), *before)
    except UnreadableMedia:
        target.unlink(missing_ok=True)
        raise
    except OSError as error:
        return _of_target(error, target)


def _of_target(error: OSError, target: Path) -> OSError:
    """Returns the error with the path of the file that cannot be written: copying puts the original before it."""
    if error.filename2 is not None:
        return OSError(error.errno, error.strerror, error.filename2)
    return with_path(error, target)


def _state(path: str) -> tuple[int, int]:
    """Returns bytes and time of modification in nanoseconds."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise UnreadableMedia(path, f"cannot be read: {error.strerror}") from error
    return found.st_size, found.st_mtime_ns


def _synced_digest(path: Path) -> str:
    """Returns the SHA-256 of a file that is on the disk, whatever happens to the machine from now on."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()
