"""What a plain sequential decode makes of a file: the measure that damaged files are held against.

Nothing of `omnisource.data.decoding.video` is used: this is the loop of PyAV's documentation, which takes note of every
complaint of FFmpeg's on its way. It runs as the load function of a `WorkerPool`, since damaged files may crash it.

A file in which one can seek has a second measure: what a decoder that is started at a keyframe gives, until it
complains. Where damage goes unnoticed, that can be something else than what it gives having decoded what comes before.

Damaged bytes can make FFmpeg's decoders read buffers that they have not written since they last used them. What they
return then depends, in every program, on how long their caller keeps the frames and on what they decoded before. So
every video is decoded by callers that keep more and fewer of them, and a second time by the same decoder: what comes
out differently is nothing that one could be held to.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.sidedata.sidedata import SideDataContainer
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image, ImageOps

if TYPE_CHECKING:
    from omnisource.data.loading.request import SampleRequest

NUM_KEPT = (1, 2, 200)
"""Frames that the callers keep while they decode on."""

LARGEST_KEPT_BYTES = 2**27
"""Pixels of one file that are handed on; of larger ones the digests only."""

LARGEST_PICTURE = 2**26
"""Pixels of a picture that is decoded: a damaged size is refused rather than written into memory."""

DECODING_ERRORS = (FFmpegError, ValueError, IndexError, MemoryError)
"""What PyAV raises for damaged files: besides FFmpeg's errors, of values that it knows no name for (ValueError), and of
a stream that shows up late (IndexError)."""

SEEKABLE = ("mov", "matroska", "flv")
"""First of FFmpeg's names of the containers that give every packet its timestamp: mp4, mov and 3gp; mkv and webm."""

SYMMETRIES = {
    (1, 0, 0, 1): lambda pixels: pixels,
    (-1, 0, 0, 1): lambda pixels: pixels[:, ::-1],
    (1, 0, 0, -1): lambda pixels: pixels[::-1],
    (-1, 0, 0, -1): lambda pixels: pixels[::-1, ::-1],
    (0, 1, 1, 0): lambda pixels: pixels.transpose(1, 0, 2),
    (0, 1, -1, 0): lambda pixels: pixels.transpose(1, 0, 2)[:, ::-1],
    (0, -1, 1, 0): lambda pixels: pixels.transpose(1, 0, 2)[::-1],
    (0, -1, -1, 0): lambda pixels: pixels.transpose(1, 0, 2)[::-1, ::-1],
}
"""What is done to pixels [H, W, 3] whose column p and row q are shown at column a*p + c*q and row b*p + d*q, by
(a, b, c, d)."""


@dataclass(frozen=True)
class SequentialDecode:
    """What came out of one file.

    Attributes:
        digests: One for each frame, in order, up to the first error.
        pixels: The different pictures [H, W, 3] uint8 by their digests; None where there were too many.
        first_notice: Frames from this one on are not to be trusted; None where nothing was noticed.
        notice: What was noticed there.
        first_unstable: Frames from this one on depend on what the decoder's buffers held before; None where none does.
        from_keyframes: For each frame that the packets promise, in the order of their timestamps, what decoders make of
            it that start at a keyframe before it; empty where one cannot seek.
    """

    digests: tuple[str, ...]
    pixels: dict[str, np.ndarray] | None = None
    first_notice: int | None = None
    notice: str = ""
    first_unstable: int | None = None
    from_keyframes: tuple[frozenset[str], ...] = ()

    @property
    def num_trusted(self) -> int:
        """Frames before the first notice."""
        return len(self.digests) if self.first_notice is None else self.first_notice

    def elsewhere(self, index: int) -> frozenset[str]:
        """Returns the digests that frame `index` may also have, when decoding does not start with the file.

        There are some only where nothing was noticed up to it: no file is read from behind a damage.
        """
        return self.from_keyframes[index] if index < min(self.num_trusted, len(self.from_keyframes)) else frozenset()


def decode_in_order(request: SampleRequest) -> SequentialDecode:
    """Returns what decoding a request's file in order gives. Runs in the workers."""
    pictures = _Pictures()
    if request.media == "image":
        image = _decoded_image(request.path, pictures)
        return SequentialDecode(tuple(image.digests), pictures.kept(), *image.first_notice())
    plain, *others = [_decoded_video(request.path, pictures, num_kept) for num_kept in NUM_KEPT]
    first_notice, notice = plain.first_notice()
    others.append(_decoded_again(request.path, pictures))
    differences = [first_difference(plain.digests, other.digests) for other in others]
    return SequentialDecode(
        tuple(plain.digests),
        first_notice=first_notice,
        notice=notice,
        first_unstable=min((position for position in differences if position is not None), default=None),
        from_keyframes=_decoded_from_keyframes(request.path, pictures),
        pixels=pictures.kept(),
    )


def digest(pixels: np.ndarray) -> str:
    """Returns what stands for one frame [H, W, 3] uint8: equal for equal pixels only."""
    height, width, _ = pixels.shape
    return f"{width}x{height} {hashlib.blake2b(pixels.tobytes(), digest_size=12).hexdigest()}"


def first_difference(one: Sequence[str], two: Sequence[str]) -> int | None:
    """Returns the first place where two sequences are not the same; None where they are the same."""
    if one == two:
        return None
    return next(
        (position for position, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two))
    )


class _Pictures:
    """The different pictures of one file."""

    def __init__(self) -> None:
        self._pixels: dict[str, np.ndarray] = {}
        self._num_bytes = 0

    def add(self, pixels: np.ndarray) -> str:
        one = digest(pixels)
        if one not in self._pixels:
            self._num_bytes += pixels.nbytes
            if self._num_bytes <= LARGEST_KEPT_BYTES:
                self._pixels[one] = np.ascontiguousarray(pixels)
        return one

    def kept(self) -> dict[str, np.ndarray] | None:
        return self._pixels if self._num_bytes <= LARGEST_KEPT_BYTES else None


@dataclass
class _Decoded:
    digests: list[str] = field(default_factory=list)
    notices: list[tuple[int, str]] = field(default_factory=list)

    def note(self, notice: str) -> None:
        self.notices.append((len(self.digests), notice))

    def first_notice(self) -> tuple[int | None, str]:
        return min(self.notices, default=(None, ""))


def _decoded_video(path: str, pictures: _Pictures, num_kept: int) -> _Decoded:
    decoded = _Decoded()
    kept: deque[VideoFrame] = deque(maxlen=num_kept)
    corrupt_timestamps: set[int] = set()
    try:
        with _opened(path) as container:
            for packet in _packets(container, _video_stream(container)):
                if packet.size and packet.is_corrupt:
                    if packet.pts is None:
                        decoded.note("corrupt packet without a timestamp")
                    else:
                        corrupt_timestamps.add(packet.pts)
                for frame in _given_away(packet.decode()):
                    if frame.is_corrupt:  # its flag, or its decode_error_flags
                        decoded.note("corrupt frame")
                    if frame.pts in corrupt_timestamps:
                        decoded.note("frame of a corrupt packet")
                    decoded.digests.append(pictures.add(_pixels(frame)))
                    kept.append(frame)
    except DECODING_ERRORS as error:
        decoded.note(f"{type(error).__name__}: {error}")
    return decoded


def _decoded_again(path: str, pictures: _Pictures) -> _Decoded:
    """Returns what a decoder makes of a video that it has decoded before, up to the first error."""
    decoded = _Decoded()
    with suppress(*DECODING_ERRORS), _opened(path) as container:
        stream = _video_stream(container)
        packets = [packet for packet in _packets(container, stream) if packet.size]
        for _ in range(2):
            decoded.digests.clear()
            with suppress(*DECODING_ERRORS):
                for packet in (*packets, None):
                    decoded.digests += [pictures.add(_pixels(frame)) for frame in stream.codec_context.decode(packet)]
            stream.codec_context.flush_buffers()
    return decoded


def _decoded_from_keyframes(path: str, pictures: _Pictures) -> tuple[frozenset[str], ...]:
    """Returns what each frame, in the order of timestamps, is for the decoders that start at the keyframes."""
    made: dict[int, set[str]] = {}
    with suppress(*DECODING_ERRORS):  # the sequential decode has met them too
        with _opened(path) as container:
            stream = _video_stream(container)
            if container.format.name.split(",")[0] not in SEEKABLE:
                return ()
            packets = [packet for packet in _packets(container, stream) if packet.size]
        for packet in packets:
            if not packet.is_discard:
                if packet.pts is None or packet.pts in made:
                    return ()
                made[packet.pts] = set()
        for start, packet in enumerate(packets):
            if packet.is_keyframe and packet.pts is not None:
                for timestamp, pixels in _decoded_from(path, start, packet.pts):
                    if timestamp in made:
                        made[timestamp].add(pictures.add(pixels))
    return tuple(frozenset(made[timestamp]) for timestamp in sorted(made))


def _decoded_from(path: str, start: int, first_timestamp: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (timestamp, pixels [H, W, 3] uint8) of the frames from packet number `start` on, up to a complaint."""
    with _opened(path) as container, suppress(*DECODING_ERRORS):
        stream = _video_stream(container)
        for number, packet in enumerate(_packets(container, stream)):
            if number < start:
                continue
            is_good = not packet.is_corrupt
            try:
                frames = stream.codec_context.decode(packet if packet.size and is_good else None)
            except FFmpegError:
                is_good = False
                frames = stream.codec_context.decode(None)  # those that were held back, and are whole
            for frame in frames:
                if frame.pts is None or frame.pts < first_timestamp:
                    continue  # it leads up to the keyframe
                if frame.is_corrupt or (frame.pts == first_timestamp and not frame.key_frame):
                    return
                yield frame.pts, _pixels(frame)
            if not is_good:
                return


def _opened(path: str) -> InputContainer:
    return av.open(f"file:{path}", metadata_errors="replace")


def _video_stream(container: InputContainer) -> VideoStream:
    still = Disposition.attached_pic | Disposition.timed_thumbnails
    stream = next((stream for stream in container.streams.video if not stream.disposition & still), None)
    if stream is None or stream.codec_context is None:
        raise ValueError("no video")
    stream.codec_context.thread_count = 1
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all  # as the ffmpeg command does with streams that nobody wants
    return stream


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """Yields the packets in their order, and at the end an empty one that empties the decoder."""
    for packet in container.demux(stream):
        yield packet
        if not packet.size and packet.dts is None:
            return


def _given_away(frames: list[VideoFrame]) -> Iterator[VideoFrame]:
    """Yields frames without keeping them."""
    frames.reverse()
    while frames:
        yield frames.pop()


def _pixels(frame: VideoFrame) -> np.ndarray:
    """Returns a frame [H, W, 3] uint8, RGB, upright."""
    if frame.width * frame.height > LARGEST_PICTURE:
        raise ValueError(f"a picture of {frame.width}x{frame.height}")
    return _upright(frame.to_ndarray(format="rgb24", threads=1), frame)


def _upright(pixels: np.ndarray, frame: VideoFrame) -> np.ndarray:
    """Returns pixels [H, W, 3] turned and mirrored as the display matrix says, to the nearest quarter turn.

    Source: libavutil/display.h of FFmpeg 8.
    """
    try:
        # Not `frame.side_data`: that ties the frame into a circle, which only the garbage collector would free.
        beside = list(cast("Any", SideDataContainer)(frame))
    except ValueError:  # PyAV has no name for something that lies beside the frame
        return np.rot90(pixels, round(frame.rotation / 90))
    matrices = [bytes(data) for data in beside if data.type.name == "DISPLAYMATRIX"]
    if not matrices:
        return pixels
    entries = np.frombuffer(matrices[0], dtype=np.int32)[[0, 1, 3, 4]].astype(np.int64)
    return SYMMETRIES[max(SYMMETRIES, key=lambda symmetry: int(entries @ np.array(symmetry)))](pixels)


def _decoded_image(path: str, pictures: _Pictures) -> _Decoded:
    decoded = _Decoded()
    try:
        with Image.open(path) as image:
            if image.width * image.height > LARGEST_PICTURE:
                raise ValueError(f"a picture of {image.width}x{image.height}")
            image.load()
            decoded.digests.append(pictures.add(_rgb(_turned(image))))
    except Exception as error:  # Pillow's readers raise anything
        decoded.note(f"{type(error).__name__}: {error}")
    return decoded


def _turned(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the notes beside the picture are damaged, the picture is not
        return image


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16"):
        return np.repeat((np.asarray(image).astype(int) // 256).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    return np.asarray(image.convert("RGB"))
