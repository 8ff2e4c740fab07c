"""Reading one file of a list to its end: whether it decodes, what it holds, and by what copies of it are recognized."""

from __future__ import annotations

import hashlib
import os
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omnisource.data.decoding.images import decode_frame_folder, decode_image
from omnisource.data.decoding.rgb import RgbCollector
from omnisource.data.decoding.video import FewerFrames, VideoFile
from omnisource.data.hashing.picture_hash import PictureHash, image_hash, video_hashes
from omnisource.data.loading.request import SampleRequest
from omnisource.data.loading.sample import content_of
from omnisource.errors import UnreadableMedia

VIDEO_FRAMES = 3
"""Frames of a video that it is compared by: at 1/4, 1/2 and 3/4 of its length."""

VIDEO_HASHES = 2 * VIDEO_FRAMES - 1
"""Hashes of a video: of these frames, and of the changes from each to the next."""

_SHOWN_SIDE = 160  # pixels, and up to twice as many


@dataclass(frozen=True)
class FileReport:
    """What reading a file to its end found.

    Attributes:
        fault: Why it cannot be decoded, "" if it can; all that follows is then empty.
        num_frames: Frames that decode; of a folder of raw frames, those that are there, up to the first gap; 1 for an
            image.
        declared_frames: Frames that a container says it has; None where it does not say, and for images and folders.
        width: Width as displayed, in pixels.
        height: Height as displayed, in pixels.
        digest: BLAKE2b of the bytes, 32 hexadecimal digits; of a folder, that of its frames in their order.
        hashes: Hash of the image, or the `VIDEO_HASHES` of a video, each in 64 hexadecimal digits.
        is_plain: For each, whether noise decides most of its bits.
    """

    fault: str = ""
    num_frames: int = 0
    declared_frames: int | None = None
    width: int = 0
    height: int = 0
    digest: str = ""
    hashes: tuple[str, ...] = ()
    is_plain: tuple[bool, ...] = ()


def examine(request: SampleRequest) -> FileReport:
    """Returns what a request's file holds, having read every byte and decoded every frame of it.

    Raises:
        UnreadableMedia: If the system cannot read it, for a reason that may pass. What is wrong with the file itself
            is returned.
    """
    try:
        if request.media == "image":
            return _examine_image(request)
        if request.num_frames is not None:
            return _examine_folder(request.path, request.frame_template, request.num_frames)
        return _examine_video(request)
    except _Undecodable as error:
        return FileReport(fault=error.fault)


def frame_positions(num_frames: int) -> list[int]:
    """Returns the frames that a video is compared by, 0-based: `VIDEO_FRAMES` of them."""
    return [num_frames * part // (VIDEO_FRAMES + 1) for part in range(1, VIDEO_FRAMES + 1)]


def compared_frames(request: SampleRequest) -> np.ndarray:
    """Returns the image or the frames that a file is compared by, to be looked at: [T, H, W, 3] uint8, RGB, small.

    Raises:
        UnreadableMedia: If they cannot be decoded.
    """
    content = content_of(request)
    if request.media == "image":
        frames = decode_image(request.path, content=content)[None]
    elif request.num_frames is not None:
        readable = min(_count_frames(request.path, request.frame_template), request.num_frames)
        frames = decode_frame_folder(request.path, request.frame_template, frame_positions(readable))
    else:
        with VideoFile(request.path, content) as video:
            frames = _frames_of(video)
    step = max(1, min(frames.shape[1:3]) // _SHOWN_SIDE)
    return np.ascontiguousarray(frames[:, ::step, ::step])


class _Undecodable(Exception):
    """A file that the system can read and the decoder cannot."""

    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self.fault = fault


def _examine_image(request: SampleRequest) -> FileReport:
    content = content_of(request)
    if content is None:
        content = _read_file(request.path)
    try:
        pixels = decode_image(request.path, content=content)
    except UnreadableMedia as error:
        raise _Undecodable(error.reason) from error
    height, width, _ = pixels.shape
    return _file_report(1, None, (height, width), _digest(content), (image_hash(pixels),))


def _examine_video(request: SampleRequest) -> FileReport:
    # A file of its own is read twice, the second time from memory most likely: it can be too large to be held as a
    # whole, and is to be read in the way in which training reads it.
    content = content_of(request)
    digest = _digest_of_file(request.path) if content is None else _digest(content)
    try:
        with VideoFile(request.path, content) as video:
            declared_frames = video.declared_frames
            num_frames, frames = _decode_all(video, video.num_frames)
            if frames is None:
                num_frames, frames = _decode_all(video, num_frames)
    except UnreadableMedia as error:
        raise _Undecodable(error.reason) from error
    assert frames is not None, "the number of frames is known from the first time"
    return _file_report(num_frames, declared_frames, frames.shape[1:3], digest, video_hashes(frames))


def _examine_folder(folder: str, template: str, num_frames: int) -> FileReport:
    """Reads the frames that a list declares, one after the other, as far as they are there."""
    present = _count_frames(folder, template)
    if not present:
        raise _Undecodable(f"{template.format(1)} is not in it, which must be its first frame")
    digest = hashlib.blake2b(digest_size=16)
    readable = min(present, num_frames)
    chosen: dict[int, np.ndarray] = {}
    size: tuple[int, ...] = ()  # height and width
    for index in range(readable):
        name = template.format(index + 1)
        path = os.path.join(folder, name)
        content = _read_file(path)
        digest.update(len(content).to_bytes(8, "little") + content)
        try:
            pixels = decode_image(path, content=content)
        except UnreadableMedia as error:
            raise _Undecodable(f"{name}: {error.reason}") from error
        if size and pixels.shape[:2] != size:
            found, before = (f"{width}x{height}" for height, width in (pixels.shape[:2], size))
            raise _Undecodable(f"{name}: its size {found} is not that of {template.format(index)}, {before}")
        size = pixels.shape[:2]
        if index in frame_positions(readable):
            chosen[index] = pixels
    hashes = video_hashes([chosen[index] for index in frame_positions(readable)])
    return _file_report(present, None, size, digest.hexdigest(), hashes)


def _file_report(
    num_frames: int, declared_frames: int | None, size: tuple[int, ...], digest: str, hashes: tuple[PictureHash, ...]
) -> FileReport:
    return FileReport(
        num_frames=num_frames,
        declared_frames=declared_frames,
        width=size[1],
        height=size[0],
        digest=digest,
        hashes=tuple(one.bits.hex() for one in hashes),
        is_plain=tuple(one.is_plain for one in hashes),
    )


def _decode_all(video: VideoFile, num_frames: int) -> tuple[int, np.ndarray | None]:
    """Decodes a video; returns its number of frames, and those that it is compared by if there are `num_frames`."""
    collected = RgbCollector(video.path, np.array(frame_positions(num_frames)))
    count = 0
    with closing(video.all_frames()) as frames:
        for position, frame in enumerate(frames):
            if position in collected.positions:
                collected.take(position, frame)
            count += 1
    return count, collected.pixels() if count == num_frames else None


def _frames_of(video: VideoFile) -> np.ndarray:
    try:
        return video.frames(frame_positions(video.num_frames))
    except FewerFrames as found:
        return video.frames(frame_positions(found.actual))


def _count_frames(folder: str, template: str) -> int:
    """Returns how many frames a folder has, from the first to the last that no gap precedes."""
    count = 0
    while os.path.isfile(os.path.join(folder, template.format(count + 1))):
        count += 1
    return count


def _read_file(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UnreadableMedia(path, f"cannot be read: {error.strerror}") from error


def _digest_of_file(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise UnreadableMedia(path, f"cannot be read: {error.strerror}") from error


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
