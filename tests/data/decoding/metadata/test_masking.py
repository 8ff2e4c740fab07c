from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from av.container import OutputContainer

from omnisource.data.decoding.metadata.masking import masked_video
from omnisource.data.decoding.video import VideoFile
from tests.support.media import numbered_frames, read_numbers, write_video

NUM_FRAMES = 12
FRAMES = numbered_frames(NUM_FRAMES, first=1)


@pytest.fixture(scope="module")
def sound_videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Returns videos with sound, by the suffix of their names."""
    folder = tmp_path_factory.mktemp("sound")
    codecs = {"mp4": "libx264", "mov": "libx264", "avi": "mpeg4"}
    return {
        suffix: write_video(folder / f"video.{suffix}", FRAMES, codec, with_audio=True).read_bytes()
        for suffix, codec in codecs.items()
    }


def overwritten(name: bytes, offset: int, new: bytes, behind: bytes) -> Callable[[bytes], bytes]:
    """Returns what writes over the first box of a name behind another one, from an offset to the name on."""

    def overwrite(content: bytes) -> bytes:
        place = content.index(name, content.index(behind)) + offset
        return content[:place] + new + content[place + len(new) :]

    return overwrite


def with_keys(content: bytes) -> bytes:
    """Returns an mp4 with a damaged list of names of metadata, in the last box of the table."""
    broken = struct.pack(">I", 60) + b"meta" + struct.pack(">I", 52) + b"keys" + b"\xff" * 44
    start = content.index(b"moov") - 4
    (size,) = struct.unpack_from(">I", content, start)
    table = struct.pack(">I", size + 60) + content[start + 4 : start + size] + broken
    return content[:start] + table + content[start + size :]


DAMAGED = {
    "mp4: the codec of the sound": ("mp4", overwritten(b"stsd", 4, b"\xff" * 20, b"soun")),
    "mov: the sizes of the sound": ("mov", overwritten(b"stsz", 12, b"\x7f\xff\xff\xff", b"soun")),
    "mp4: the times of the sound": ("mp4", overwritten(b"stts", 8, b"\x7f\xff\xff\xff" * 2, b"soun")),
    "mp4: the chunks of the sound": ("mp4", overwritten(b"stsc", 8, b"\x7f\xff\xff\xff" * 3, b"soun")),
    "mp4: the names of metadata": ("mp4", with_keys),
    "mp4: a box at the end that is cut off": ("mp4", lambda content: content + b"\x7f\xff\xff\xffuuidxx"),
    "avi: the format of the sound": ("avi", overwritten(b"strf", 8, b"\xff" * 18, b"auds")),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_trouble_beside_the_video_is_none_of_the_video(what: str, sound_videos: dict[str, bytes], tmp_path: Path):
    suffix, damage = DAMAGED[what]
    path = tmp_path / f"damaged.{suffix}"
    path.write_bytes(damage(sound_videos[suffix]))
    content = path.read_bytes()
    for _ in range(2):  # the first visit, and a later one
        for of_content in (None, content):
            with VideoFile(path, of_content) as video:
                assert video.num_frames == NUM_FRAMES
                assert read_numbers(video.frames([11, 0, 5])) == [12, 1, 6]
    assert path.read_bytes() == content


def test_sound_videos_have_the_same_packets_when_masked(sound_videos: dict[str, bytes]):
    for suffix, content in sound_videos.items():
        masked = masked_video(f"video.{suffix}", content)
        assert masked is not None
        with av.open(masked, "r") as hidden, av.open(io.BytesIO(content), "r") as plain:
            assert [stream.type for stream in hidden.streams if stream.type != "data"] == ["video"]
            packets = [[bytes(packet) for packet in container.demux(video=0)] for container in (hidden, plain)]
        assert packets[0] == packets[1]


def add_stream(container: OutputContainer, codec: str, pixel_format: str) -> av.VideoStream:
    stream = container.add_stream(codec, rate=30)
    assert isinstance(stream, av.VideoStream)
    stream.width, stream.height, stream.pix_fmt = 64, 64, pixel_format
    return stream


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_cover_before_the_video_is_none_of_the_video(suffix: str, tmp_path: Path):
    path = tmp_path / f"covered.{suffix}"
    with av.open(str(path), "w") as container:
        streams = [add_stream(container, "mjpeg", "yuvj420p"), add_stream(container, "libx264", "yuv420p")]
        for stream, frames in zip(streams, (FRAMES[:1], FRAMES), strict=True):
            for index, pixels in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts = index
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    with VideoFile(path) as video:
        assert video.num_frames == NUM_FRAMES
