"""Reading one file to its end."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from omnisource.check.examine import FileReport, compared_frames, examine, frame_positions
from omnisource.data.decoding.images import decode_image
from omnisource.data.decoding.video import VideoFile
from omnisource.data.hashing.picture_hash import PictureHash, image_hash, video_hashes
from omnisource.data.loading.request import SampleRequest
from omnisource.errors import UnreadableMedia
from omnisource.files.byte_ranges import ByteRange, local_version
from omnisource.recipe.data import ClipSampling, TrainingView
from omnisource.types import Media
from tests.support.media import (
    moving_square,
    numbered_frames,
    truncate,
    write_frames,
    write_image,
    write_video,
    zero_end_of_last_packet,
)


def request_for(
    path: Path, media: Media = "video", num_frames: int | None = None, part: ByteRange | None = None
) -> SampleRequest:
    template = "img_{:05d}.jpg"
    return SampleRequest(
        "s", media, str(path), path.name, 0, num_frames, template, ClipSampling(), TrainingView(), byte_range=part
    )


def digest_of(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def hex_of(hashes: Sequence[PictureHash]) -> tuple[str, ...]:
    return tuple(one.bits.hex() for one in hashes)


def test_video_is_counted_measured_and_hashed(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", moving_square(41, 64, 80))
    with VideoFile(path) as video:
        hashes = hex_of(video_hashes(video.frames([10, 20, 30])))
    assert frame_positions(41) == [10, 20, 30]
    expected = FileReport("", 41, 41, 80, 64, digest_of(path.read_bytes()), hashes, (False,) * 5)
    assert examine(request_for(path)) == expected


def test_size_of_a_turned_video_is_that_which_is_shown(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", moving_square(5, 48, 80), rotation=90)
    found = examine(request_for(path))
    assert (found.width, found.height) == (48, 80)


@pytest.mark.parametrize(
    ("name", "codec"), [("clip.avi", "mjpeg"), ("clip.mov", "mjpeg"), ("clip.avi", "mpeg4"), ("clip.mp4", "mpeg4")]
)
def test_damaged_video_of_one_frame_has_none(tmp_path: Path, name: str, codec: str) -> None:
    path = zero_end_of_last_packet(write_video(tmp_path / name, moving_square(1, 48, 64), codec))
    with VideoFile(path) as video:
        assert video.num_frames == 1  # as its only packet promises
    assert examine(request_for(path)) == FileReport(fault="none of its frames can be decoded")


def test_image_is_measured_and_hashed(tmp_path: Path) -> None:
    path = write_image(tmp_path / "picture.png", moving_square(1, 60, 90)[0])
    hashes = hex_of([image_hash(decode_image(path))])
    expected = FileReport("", 1, None, 90, 60, digest_of(path.read_bytes()), hashes, (False,))
    assert examine(request_for(path, "image")) == expected


def test_black_image_is_plain(tmp_path: Path) -> None:
    path = write_image(tmp_path / "black.png", np.zeros((60, 90, 3), dtype=np.uint8))
    assert examine(request_for(path, "image")).is_plain == (True,)


def test_folder_counts_to_the_first_gap_and_is_hashed_as_far_as_it_is_used(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "raw", moving_square(9, 40, 50))
    (folder / "img_00008.jpg").unlink()
    read = examine(request_for(folder, num_frames=5))
    expected = hex_of(video_hashes([decode_image(folder / f"img_{number:05d}.jpg") for number in (2, 3, 4)]))
    assert (read.fault, read.num_frames, read.width, read.height, read.hashes) == ("", 7, 50, 40, expected)
    more = examine(request_for(folder, num_frames=9))
    assert more.num_frames == 7 and more.digest != read.digest
    write_frames(tmp_path / "again", moving_square(9, 40, 50)[:5])
    assert examine(request_for(tmp_path / "again", num_frames=5)).digest == read.digest


def test_frame_that_is_not_used_may_be_damaged(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "raw", moving_square(4, 40, 50))
    truncate(folder / "img_00004.jpg", 0.5)
    assert examine(request_for(folder, num_frames=3)).fault == ""
    assert examine(request_for(folder, num_frames=4)).fault.startswith("img_00004.jpg: ")


def test_folder_without_its_first_frame_is_faulty(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "raw", moving_square(3, 40, 50))
    (folder / "img_00001.jpg").unlink()
    assert examine(request_for(folder, num_frames=3)).fault.startswith("img_00001.jpg is not in it")


def test_frames_of_two_sizes_are_a_fault(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "raw", moving_square(3, 40, 50))
    write_image(folder / "img_00003.jpg", moving_square(1, 32, 50)[0])
    fault = "img_00003.jpg: its size 50x32 is not that of img_00002.jpg, 50x40"
    assert examine(request_for(folder, num_frames=3)).fault == fault


def test_damage_is_returned_as_the_fault_of_the_file(tmp_path: Path) -> None:
    image = truncate(write_image(tmp_path / "cut.jpg", moving_square(1, 200, 200)[0]), 0.5)
    video = truncate(write_video(tmp_path / "cut.mp4", moving_square(20)), 0.5)
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    for request in (request_for(image, "image"), request_for(video), request_for(empty)):
        found = examine(request)
        assert found.fault and found == FileReport(fault=found.fault)
        assert str(tmp_path) not in found.fault


def test_what_the_system_cannot_read_is_raised(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    for media in ("image", "video"):
        with pytest.raises(UnreadableMedia, match="cannot be read"):
            examine(request_for(tmp_path / "none", media))
        with pytest.raises(UnreadableMedia, match="cannot be read"):
            examine(request_for(tmp_path / "folder.mp4", media))


def test_part_of_a_shard_is_examined_like_the_file_by_itself(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4", moving_square(12))
    image = write_image(tmp_path / "picture.jpg", moving_square(1)[0])
    shard = tmp_path / "shard.tar"
    shard.write_bytes(b"x" * 100 + video.read_bytes() + b"y" * 7 + image.read_bytes())
    sizes = video.stat().st_size, image.stat().st_size
    version = local_version(shard.stat())
    in_shard = ByteRange(str(shard), 100, sizes[0], version), ByteRange(str(shard), 107 + sizes[0], sizes[1], version)
    name = tmp_path / "shard.tar::clip.mp4"
    assert examine(request_for(name, part=in_shard[0])) == examine(request_for(video))
    assert examine(request_for(name, "image", part=in_shard[1])) == examine(request_for(image, "image"))
    cut = ByteRange(str(shard), 100, sizes[0] - 500, version)
    assert examine(request_for(name, part=cut)).digest != examine(request_for(video)).digest
    with pytest.raises(UnreadableMedia, match="ends at byte"):
        examine(request_for(name, part=ByteRange(str(shard), 100, 10**6, version)))


def test_compared_frames_are_returned_made_small(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4", numbered_frames(40, 64, 64))
    with VideoFile(video) as opened:
        assert (compared_frames(request_for(video)) == opened.frames([10, 20, 30])).all()
    image = write_image(tmp_path / "large.png", moving_square(1, 500, 900)[0])
    assert (compared_frames(request_for(image, "image")) == decode_image(image)[None, ::3, ::3]).all()
    folder = write_frames(tmp_path / "raw", moving_square(8, 40, 50))
    assert compared_frames(request_for(folder, num_frames=8)).shape == (3, 40, 50, 3)
