"""Which packets of H.264 and H.265 hold non-reference frames, which no other frame needs, read from their headers.

Such packets can be left out of decoding. Their headers are read here rather than by FFmpeg's `skip_frame`, which hides
the errors of the packets that it meets, and believes a damaged header that calls a needed frame a non-reference one.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import NamedTuple


def non_reference_packets(codec: str, extradata: bytes | None, packets: Iterable[bytes]) -> frozenset[int]:
    """Returns the numbers (0-based) of the packets of non-reference frames among these; none where it is not sure.

    Args:
        codec: FFmpeg's name of the codec.
        extradata: What the container stores of the stream's own headers.
        packets: Whole packets in the order of decoding, the first a keyframe's.
    """
    try:
        if codec == "h264":
            found = _find_in_h264(_h264_headers(extradata or b""), packets)
        elif codec == "hevc":
            found = _find_in_h265(extradata or b"", packets)
        else:
            return frozenset()
    except _Unsure:
        return frozenset()
    return found if 0 not in found else frozenset()


class _Unsure(Exception):
    """The headers are of another kind than is read here, contradict one another, or are cut off."""


# Kinds of units. Source: ITU-T Rec. H.264 (08/2021), table 7-1.
H264_SLICE, H264_RESTART = 1, 5
H264_BESIDES = (6, 9, 12)  # messages, delimiters, filler
H264_PARAMETER_SETS = (7, 8)
# The fields of a slice header that are read fit into this many bytes.
HEADER_BYTES = 16
# Profiles whose sequence headers tell the color format, section 7.3.2.1.1.
H264_HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)


class _H264Frame(NamedTuple):
    is_restart: bool
    is_non_reference: bool
    number: int


def _find_in_h264(headers: _H264Headers, packets: Iterable[bytes]) -> frozenset[int]:
    """Returns the packets of non-reference frames, after checking that the numbers of all frames agree with that.

    Each frame has the number after the last reference frame. So a reference frame that a damaged header calls a
    non-reference one, or the other way round, shows by the numbers that follow.
    """
    held = list(packets)
    if not any(headers.claims_non_reference(data) for data in held):
        return frozenset()  # as of videos without B-frames, whose numbers need not be read
    found = set()
    last_reference: int | None = None
    for number, data in enumerate(held):
        frame = headers.read_frame(data)
        if frame.is_restart:
            expected = 0
        else:
            expected = frame.number if last_reference is None else (last_reference + 1) % headers.numbers
        if frame.number != expected:
            raise _Unsure
        if frame.is_non_reference:
            found.add(number)
        else:
            last_reference = frame.number
    return frozenset(found)


@functools.lru_cache(maxsize=16)  # one clip asks for those of one file again and again
def _h264_headers(extradata: bytes) -> _H264Headers:
    return _H264Headers(extradata)


class _H264Headers:
    """Reads H.264 of whole frames (not fields) with one sequence header, as mp4, mov, mkv and flv store it."""

    def __init__(self, extradata: bytes) -> None:
        if len(extradata) < 7 or extradata[0] != 1 or extradata[5] & 31 != 1:
            raise _Unsure
        self._length_bytes = (extradata[4] & 3) + 1
        sequences, end = _parameter_sets(extradata, 6, 1)
        frames, _ = _parameter_sets(extradata, end + 1, int.from_bytes(extradata[end : end + 1], "big"))
        self._parameter_sets = {*sequences, *frames}
        self.numbers = 1 << self._read_sequence_header(sequences[0])

    def claims_non_reference(self, data: bytes) -> bool:
        """Returns whether a part of the packet says that it is of a non-reference frame."""
        units = _units(data, self._length_bytes)
        return any(data[start] & 31 == H264_SLICE and not data[start] >> 5 for start, _ in units)

    def read_frame(self, data: bytes) -> _H264Frame:
        frame: _H264Frame | None = None
        for start, end in _units(data, self._length_bytes):
            kind, is_non_reference = data[start] & 31, not data[start] >> 5
            if kind in (H264_SLICE, H264_RESTART):
                if frame is None:
                    header = data[start + 1 : min(end, start + 1 + HEADER_BYTES)]
                    frame = self._read_slice_header(header, kind == H264_RESTART, is_non_reference)
                elif frame[:2] != (kind == H264_RESTART, is_non_reference):
                    raise _Unsure
            elif kind not in H264_BESIDES and not (
                kind in H264_PARAMETER_SETS and data[start:end] in self._parameter_sets
            ):
                raise _Unsure
        if frame is None or (frame.is_restart and frame.is_non_reference):
            raise _Unsure
        return frame

    def _read_slice_header(self, data: bytes, is_restart: bool, is_non_reference: bool) -> _H264Frame:
        """Source: section 7.3.3."""
        bits = _Bits(data)
        if bits.count() != 0:  # the first slice starts at the first block of the frame
            raise _Unsure
        bits.count()  # kind of slice
        bits.count()  # frame header
        return _H264Frame(is_restart, is_non_reference, bits.take(self.numbers.bit_length() - 1))

    def _read_sequence_header(self, unit: bytes) -> int:
        """Returns how many bits the number of a frame has. Source: section 7.3.2.1.1."""
        bits = _Bits(unit[1:])
        profile = bits.take(8)
        bits.take(16)  # constraints and level
        bits.count()  # its own number
        if profile in H264_HIGH_PROFILES:
            _skip_color_format(bits)
        number_bits = bits.count() + 4
        order_kind = bits.count()
        if order_kind == 0:
            bits.count()
        elif order_kind != 2:
            raise _Unsure
        bits.count()  # reference frames
        has_gaps = bits.take(1)
        bits.count()  # width
        bits.count()  # height
        is_of_frames = bits.take(1)
        if has_gaps or not is_of_frames:
            raise _Unsure
        return number_bits


def _skip_color_format(bits: _Bits) -> None:
    color_format = bits.count()
    if color_format == 3 and bits.take(1):
        raise _Unsure  # each color is a frame of its own
    bits.count()  # bits of brightness
    bits.count()  # bits of color
    bits.take(1)
    if bits.take(1):  # tables of quantization follow
        for table in range(8 if color_format != 3 else 12):
            if bits.take(1):
                _skip_quantization(bits, 16 if table < 6 else 64)


def _skip_quantization(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed_count()) % 256
        last = following or last


# Kinds of units. Source: ITU-T Rec. H.265 (08/2021), table 7-1.
H265_HIGHEST_ORDINARY = 9  # of which the even ones are non-reference, in their temporal layer
H265_KEYFRAMES = range(16, 22)
H265_BESIDES = (35, 38, 39, 40)  # delimiters, filler, messages
H265_PARAMETER_SETS = (32, 33, 34)  # in packets of keyframes only, which others need


def _find_in_h265(extradata: bytes, packets: Iterable[bytes]) -> frozenset[int]:
    """Returns the packets of non-reference frames. The decoder itself misses what others do need: it leaves it out."""
    if len(extradata) < 23 or extradata[0] != 1:
        raise _Unsure
    length_bytes = (extradata[21] & 3) + 1
    frames = [_read_h265_frame(data, length_bytes) for data in packets]
    # Frames of a higher temporal layer may need those that are non-reference in their own.
    highest = max((layer for _, layer in frames), default=0)
    return frozenset(
        number
        for number, (kind, layer) in enumerate(frames)
        if kind <= H265_HIGHEST_ORDINARY and kind % 2 == 0 and layer == highest
    )


def _read_h265_frame(data: bytes, length_bytes: int) -> tuple[int, int]:
    """Returns the kind of a packet's frame and its temporal layer. Source: section 7.3.1.2."""
    frames = set()
    is_keyframe = any(data[start] >> 1 in H265_KEYFRAMES for start, _ in _units(data, length_bytes))
    for start, end in _units(data, length_bytes):
        if end - start < 3 or data[start] & 1 or data[start + 1] >> 3:
            raise _Unsure  # another layer of space or quality
        kind = data[start] >> 1
        if kind <= H265_HIGHEST_ORDINARY or kind in H265_KEYFRAMES:
            frames.add((kind, data[start + 1] & 7))
        elif kind not in H265_BESIDES and not (kind in H265_PARAMETER_SETS and is_keyframe):
            raise _Unsure
    if len(frames) != 1:
        raise _Unsure
    return frames.pop()


class _Bits:
    """Bits of a header, most significant first, without the bytes that protect them."""

    def __init__(self, data: bytes) -> None:
        # A byte 3 behind two of 0 only keeps them from looking like the start of a unit.
        data = data.replace(b"\0\0\3", b"\0\0")
        self._bits = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}"
        self._position = 0

    def take(self, count: int) -> int:
        """Returns the next `count` bits, at least one, as a number."""
        start = self._position
        self._position = start + count
        if self._position > len(self._bits):
            raise _Unsure
        return int(self._bits[start : self._position], 2)

    def count(self) -> int:
        """Returns the next number in Exp-Golomb code."""
        first = self._bits.find("1", self._position)
        if first < 0:
            raise _Unsure
        length = first - self._position + 1
        self._position = first
        return self.take(length) - 1

    def signed_count(self) -> int:
        """Returns the next signed number in Exp-Golomb code."""
        code = self.count()
        return (code + 1) // 2 if code % 2 else -(code // 2)


def _units(data: bytes, length_bytes: int) -> Iterator[tuple[int, int]]:
    """Yields where the units of a packet start and end. Each stands behind its length; together they fill it."""
    position, size = 0, len(data)
    while position < size:
        start = position + length_bytes
        position = start + int.from_bytes(data[position:start], "big")
        if position > size or position == start or data[start] & 0x80:
            raise _Unsure
        yield start, position


def _parameter_sets(extradata: bytes, position: int, count: int) -> tuple[list[bytes], int]:
    """Returns `count` headers, each stored behind its length in 16 bits, and where they end."""
    units = []
    for _ in range(count):
        end = position + 2 + int.from_bytes(extradata[position : position + 2], "big")
        if position + 3 > end or end > len(extradata):
            raise _Unsure
        units.append(extradata[position + 2 : end])
        position = end
    return units, position
