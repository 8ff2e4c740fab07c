"""Videos of which a reader sees the first video stream alone, for where it stumbles over what lies beside that.

Nothing is moved: names of boxes and kinds of streams are overwritten in memory, so that readers pass over them.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from typing import NamedTuple

# Top-level boxes of mp4 and mov in which frames are stored, or found.
_WITH_FRAMES = (b"ftyp", b"moov", b"mdat", b"moof", b"styp", b"sidx")
_METADATA = (b"udta", b"meta", b"uuid", b"tref", b"iods")
_HIDDEN = b"free"

# Kinds of streams in avi that are no video: sound, text, music.
_OTHER_STREAMS = (b"auds", b"txts", b"mids")
_ANY_DATA = b"dats"

Content = bytearray | mmap.mmap


class Box(NamedTuple):
    """A box of mp4: where its name stands, its name, and where its content begins and ends."""

    name_start: int
    name: bytes
    start: int
    end: int


class MaskedVideo:
    """A file as FFmpeg reads it: it may be asked for places behind the end, which a mapped file does not bear.

    Args:
        content: What is read.
    """

    def __init__(self, content: Content) -> None:
        self.name = ""
        self._content = content
        self._position = 0

    def read(self, size: int) -> bytes:
        """Returns the next bytes, at most `size`."""
        part = bytes(self._content[self._position : self._position + size])
        self._position += len(part)
        return part

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Goes to a place, which it returns."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: len(self._content)}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        """Returns the place of the next byte."""
        return self._position


def masked_video(path: str, content: bytes | None) -> MaskedVideo | None:
    """Returns a video of which the other streams and the metadata are hidden, or None where that cannot be had.

    Args:
        path: The file.
        content: Its bytes, where they do not lie at `path`. They stay as they are.
    """
    masked: Content
    try:
        if content is not None:
            masked = bytearray(content)
        else:
            with open(path, "rb") as file:
                masked = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # the file stays as it is
    except (OSError, ValueError):  # whoever opened it says what is wrong; an empty file cannot be mapped
        return None
    return MaskedVideo(masked) if _mask(masked) else None


def _mask(video: Content) -> bool:
    """Returns whether the video is of a container that is known here, whose other streams are hidden now."""
    if video[4:8] in _WITH_FRAMES:
        _mask_mp4(video)
        return True
    if video[:4] == b"RIFF" and video[8:12] == b"AVI ":
        _mask_avi(video)
        return True
    return False


def _mask_mp4(video: Content) -> None:
    has_video = False
    for box in _boxes(video, 0, len(video)):
        if box.name not in _WITH_FRAMES:
            _hide(video, box)
        for part in _boxes(video, box.start, box.end) if box.name == b"moov" else ():
            is_video = not has_video and part.name == b"trak" and _is_video(video, part)
            has_video |= is_video
            if part.name in _METADATA or (part.name == b"trak" and not is_video):
                _hide(video, part)
            for detail in _boxes(video, part.start, part.end) if is_video else ():
                if detail.name in _METADATA:
                    _hide(video, detail)


def _is_video(video: Content, track: Box) -> bool:
    return any(
        part.name == b"hdlr" and video[part.start + 8 : part.start + 12] == b"vide"
        for media in _boxes(video, track.start, track.end)
        if media.name == b"mdia"
        for part in _boxes(video, media.start, media.end)
    )


def _boxes(video: Content, start: int, end: int) -> Iterator[Box]:
    """Yields the boxes between two places; the last is taken to end there if it says that it ends later."""
    while start + 8 <= end:
        size, name, header = int.from_bytes(video[start : start + 4], "big"), bytes(video[start + 4 : start + 8]), 8
        if size == 1:
            size, header = int.from_bytes(video[start + 8 : start + 16], "big"), 16
        if size < header:  # 0: up to the end
            size = end - start
        yield Box(start + 4, name, start + header, min(start + size, end))
        start += size


def _hide(video: Content, box: Box) -> None:
    video[box.name_start : box.name_start + 4] = _HIDDEN


def _mask_avi(video: Content) -> None:
    end = 20 + int.from_bytes(video[16:20], "little")  # of the list of headers, the first in the file
    place = 0
    while (place := video.find(b"strh", place, end)) >= 0:
        if video[place + 8 : place + 12] in _OTHER_STREAMS:
            video[place + 8 : place + 12] = _ANY_DATA
        place += 4
