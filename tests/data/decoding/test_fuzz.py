from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.fuzz import is_failure
from omnisource.check.examine import examine
from omnisource.data.decoding.images import MAX_IMAGE_PIXELS
from omnisource.data.loading.request import SampleRequest
from omnisource.data.loading.workers import WorkerPool
from omnisource.errors import UnreadableMedia
from omnisource.prepare.worker import PrepareRequest, Written, prepare_file
from omnisource.recipe.data import TrainingView
from omnisource.types import Clip
from tests.support.damage import BORROWED_ENDINGS, KINDS, Variant, media_of, variant
from tests.support.fuzz_media import FRAMES, PREPARED, VIDEOS, write_media
from tests.support.fuzzing import Read, Reading, Verdict, clip_requests, judge, originals_of, read_frames, verdicts
from tests.support.media import moving_square, numbered_frame, write_image, write_video
from tests.support.reference_decode import SequentialDecode

VARIANTS_OF_EACH = 4
PRIME = 7  # has no factor in common with the number of kinds, so that each kind comes up

PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def files(folder: Path) -> dict[str, bytes]:
    return write_media(folder)


@pytest.fixture(scope="module")
def originals(files: dict[str, bytes], folder: Path) -> dict[str, SequentialDecode]:
    return originals_of(files, folder)


def judged(
    variants: list[Variant], folder: Path, originals: Mapping[str, SequentialDecode]
) -> tuple[list[Verdict], list[str]]:
    """Returns the verdicts, and what was told of workers of ours that were replaced."""
    notices: list[tuple[str, str]] = []
    found = list(verdicts(variants, folder, originals, lambda pool, line: notices.append((pool, line))))
    return found, [line for pool, line in notices if pool != "reference"]


def whole(name: str, files: Mapping[str, bytes]) -> Variant:
    return Variant(name, 0, "none", f"whole_{name}", media_of(name), files[name])


def test_undamaged_files_of_every_format_are_read_whole(
    files: dict[str, bytes], originals: dict[str, SequentialDecode], folder: Path
) -> None:
    found, _ = judged([whole(name, files) for name in files], folder, originals)
    assert [(verdict.variant.base, verdict.outcome, verdict.faults) for verdict in found] == [
        (name, "read", ()) for name in files
    ]
    assert not any(verdict.is_changed or verdict.is_unstable or verdict.num_elsewhere for verdict in found)
    for name in VIDEOS:
        assert originals[name].first_notice is None
        assert "long" in name or len(originals[name].digests) == FRAMES


def test_damaged_files_are_refused_by_name_or_give_the_frames_of_a_sequential_decode(
    files: dict[str, bytes], originals: dict[str, SequentialDecode], folder: Path
) -> None:
    variants = [
        variant(name, (index + PRIME * number) % len(KINDS), files)
        for index, name in enumerate(files)
        for number in range(VARIANTS_OF_EACH)
    ]
    found, ended = judged(variants, folder, originals)
    assert {
        f"{verdict.variant.base}:{verdict.variant.number}": verdict.faults for verdict in found if verdict.faults
    } == {}
    assert ended == []
    outcomes = [verdict.outcome for verdict in found]
    assert len(outcomes) == len(variants) > 100
    assert min(outcomes.count(outcome) for outcome in ("refused", "read", "refused later")) >= 5
    assert any(verdict.is_changed for verdict in found), "no payload changed in a way that no decoder notices"


def test_no_change_of_a_prepared_video_goes_unnoticed(
    files: dict[str, bytes], originals: dict[str, SequentialDecode], folder: Path
) -> None:
    found, _ = judged([variant(PREPARED, number, files) for number in range(2 * len(KINDS))], folder, originals)
    assert [verdict.faults for verdict in found if verdict.faults] == []
    assert [verdict.variant.damage for verdict in found if verdict.is_changed] == []
    assert sum("changed since it was prepared" in reason for verdict in found for reason in verdict.refusals) >= 5


# What the long setting, benchmarks/fuzz.py, found once, in one variant each.
@pytest.mark.parametrize(
    "name, number",
    [
        ("h265.mkv", 10),  # none of its frames decode, of which the packets promise 36: that was a crash
        ("h264.avi", 2),  # behind the keyframe after the damage, B-frames still lean on what lies before it
        ("h264.ts", 0),  # the last frame of a file that was cut off is not whole
        ("h265.mkv", 18),  # the decoder leaves out frames without a word, which moves all that follow
    ],
)
def test_what_was_once_wrong_is_right(
    name: str, number: int, files: dict[str, bytes], originals: dict[str, SequentialDecode], folder: Path
) -> None:
    found, ended = judged([variant(name, number, files)], folder, originals)
    assert [(verdict.faults, verdict.num_elsewhere) for verdict in found] == [((), 0)]
    assert ended == []


def test_damaged_videos_of_one_frame_are_examined_and_prepared_or_refused(tmp_path: Path) -> None:
    frame = moving_square(1, 48, 64)
    names = {"one.avi": "mjpeg", "one.mov": "mjpeg", "one.mp4": "mpeg4", "one.mkv": "libx264"}
    files = {name: write_video(tmp_path / name, frame, codec).read_bytes() for name, codec in names.items()}
    kinds = [number for number, kind in enumerate(KINDS) if kind not in BORROWED_ENDINGS]
    found = {True: 0, False: 0}
    with (
        WorkerPool(1, PATIENCE_SECONDS, load=examine) as examiners,
        WorkerPool(1, PATIENCE_SECONDS, load=prepare_file) as preparers,
    ):
        for one in (variant(name, number, files) for name in files for number in kinds):
            path = one.write(tmp_path)
            examined = examiners.result(examiners.submit(clip_requests(one, path)[0]))
            request = PrepareRequest("video", str(path), str(tmp_path / "prepared"), ".mp4", 32, 5)
            prepared = preparers.result(preparers.submit(request))
            assert isinstance(prepared, Written | UnreadableMedia), (one.damage, prepared)
            assert isinstance(prepared, Written) == (not examined.fault), (one.damage, prepared, examined)
            found[isinstance(prepared, Written)] += 1
    assert min(found.values()) > 10


@pytest.mark.parametrize(
    ("outcome", "faults", "pool", "is_failed"),
    [
        ("read", (), "reference", False),
        ("read", (), "frames", True),
        ("refused", (), "clips", True),
        ("not judged", (), "reference", True),
        ("read", ("frame 3 is another",), "reference", True),
    ],
)
def test_the_long_setting_fails_where_something_went_wrong(
    outcome: str, faults: tuple[str, ...], pool: str, is_failed: bool
) -> None:
    one = Variant("clip.mp4", 0, "none", "clip.mp4", "video", b"")
    assert is_failure([Verdict(one, outcome, faults)], [(pool, "worker 0 ended")]) == is_failed


class TestVariants:
    def test_are_the_same_each_time(self, files: dict[str, bytes], tmp_path: Path) -> None:
        again = write_media(tmp_path)
        assert again == files
        for name in ("h264.mp4", "picture.png"):
            for number in range(2 * len(KINDS)):
                assert variant(name, number, files) == variant(name, number, again)

    def test_differ_from_the_file_and_from_each_other(self, files: dict[str, bytes]) -> None:
        for number, kind in enumerate(KINDS):
            one, two = variant("h264.mp4", number, files), variant("h264.mp4", number + len(KINDS), files)
            assert one.damage.startswith(kind) and two.damage.startswith(kind)
            assert one.name != two.name
            if kind == "another ending":
                assert one.data == files["h264.mp4"] and not one.name.endswith(".mp4")
            else:
                assert one.data != files["h264.mp4"]
            if kind not in (*BORROWED_ENDINGS, "followed by itself", "almost empty"):
                assert one.data != two.data

    def test_hit_the_part_that_is_named(self, files: dict[str, bytes]) -> None:
        data = files["h264_faststart.mp4"]
        table = range(data.index(b"moov"), data.rindex(b"mdat"))
        number = list(KINDS).index("8 bits flipped in the index")
        damaged = variant("h264_faststart.mp4", number, files).data
        offsets = [offset for offset, (old, new) in enumerate(zip(data, damaged, strict=True)) if old != new]
        assert 1 <= len(offsets) <= 8 and all(offset in table for offset in offsets)


class TestJudge:
    """The judge itself: it must see what is wrong."""

    variant = Variant("base.mp4", 0, "some", "base_mp4_0.mp4", "video", b"")
    whole = SequentialDecode(("a", "b", "c", "d"))
    damaged = SequentialDecode(("a", "b", "x", "y"), first_notice=2, notice="corrupt frame")
    refusal = "folder/base_mp4_0.mp4: damaged: frame 2 is not whole"

    def verdict(self, expected: SequentialDecode, *reads: Read, length: int = 4) -> Verdict:
        refused = UnreadableMedia("folder/base_mp4_0.mp4", "damaged: frame 2 is not whole")
        reading = Reading(length, length, reads)
        return judge(self.variant, expected, reading, [refused, refused], self.whole)

    def test_accepts_what_the_sequential_decode_gives(self) -> None:
        assert self.verdict(self.whole, Read((3, 0), ("d", "a"))).faults == ()

    def test_sees_another_frame(self) -> None:
        assert "frame 3" in self.verdict(self.whole, Read((3, 0), ("c", "a"))).faults[0]

    def test_sees_a_frame_beyond_the_end(self) -> None:
        assert "frame 4" in self.verdict(self.whole, Read((4,), ("e",)), length=5).faults[0]

    def test_sees_a_damaged_frame_and_every_frame_behind_it(self) -> None:
        for index, came in ((2, "x"), (3, "y"), (3, "d")):
            assert "corrupt frame" in self.verdict(self.damaged, Read((index,), (came,))).faults[0]
        assert self.verdict(self.damaged, Read((1,), ("b",))).faults == ()

    def test_sees_a_refusal_that_names_no_file(self) -> None:
        assert "not named" in self.verdict(self.damaged, Read((2,), None, "damaged")).faults[0]
        assert self.verdict(self.damaged, Read((2,), None, self.refusal)).faults == ()

    def test_counts_frames_that_were_reached_from_a_keyframe(self) -> None:
        keyframes = tuple(frozenset(one) for one in ("", "q", "", "d"))
        damaged = replace(self.damaged, from_keyframes=keyframes)
        assert self.verdict(damaged, Read((1,), ("q",))).num_elsewhere == 1  # the sequential decode noticed nothing
        assert self.verdict(damaged, Read((1,), ("y",))).faults
        assert self.verdict(damaged, Read((3,), ("d",))).faults  # behind the damage nothing may come

    def test_does_not_compare_what_no_decoder_repeats(self) -> None:
        unstable = SequentialDecode(("a", "b", "x", "y"), first_unstable=2)
        assert self.verdict(unstable, Read((1, 2), ("b", "z"))).faults == ()
        assert self.verdict(unstable, Read((1, 2), ("z", "x"))).faults

    def test_sees_a_wrong_length(self) -> None:
        clips = [self.clip(request, 128) for request in self.requests]
        for length, is_right in ((20, True), (21, False)):
            reading = Reading(20, length, (Read((0,), ("gray",)),))
            assert bool(judge(self.variant, self.gray, reading, clips, self.gray).faults) != is_right

    @pytest.mark.parametrize("index", [0, 1])
    def test_sees_a_wrong_clip(self, index: int) -> None:
        reading = Reading(20, 20, (Read((0,), ("gray",)),))
        clips = [self.clip(request, 128) for request in self.requests]
        clips[index] = self.clip(self.requests[index], 129)
        (fault,) = judge(self.variant, self.gray, reading, clips, self.gray).faults
        assert type(self.requests[index].view).__name__ in fault

    @pytest.mark.parametrize("index", [0, 1])
    def test_compares_every_frame_of_a_clip_with_every_picture_that_it_may_be(self, index: int) -> None:
        # Five pictures for each of eight frames, and the clip shows the last of each: 5^8 ways to put them together.
        pictures = {str(value): np.full((64, 64, 3), value, np.uint8) for value in range(6)}
        alternatives = frozenset(map(str, range(1, 5)))
        expected = SequentialDecode(("0",) * 20, pictures, from_keyframes=(alternatives,) * 20)
        reading = Reading(20, 20, (Read((0,), ("0",)),))
        for value, is_right in ((4, True), (5, False)):
            clips = [self.clip(request, 0) for request in self.requests]
            clips[index] = self.clip(self.requests[index], 4)
            clips[index].frames[-1, :, -1] = value
            assert bool(judge(self.variant, expected, reading, clips, expected).faults) != is_right

    def test_sees_two_pictures_of_one_frame_in_a_clip(self) -> None:
        # Of a file of two frames, both clips show frame 0 and frame 1 twice each.
        pictures = {str(value): np.full((64, 64, 3), value, np.uint8) for value in range(3)}
        either = SequentialDecode(("0",) * 2, pictures, from_keyframes=(frozenset(("1", "2")),) * 2)
        reading = Reading(2, 2, (Read((0,), ("0",)),))
        right, wrong = [self.clip(request, 1) for request in self.requests], self.clip(self.requests[0], 1)
        wrong.frames[0, :, -1] = 2
        assert judge(self.variant, either, reading, right, either).faults == ()
        (fault,) = judge(self.variant, either, reading, [wrong, right[1]], either).faults
        assert "EvaluationViews" in fault

    gray = SequentialDecode(("gray",) * 20, pixels={"gray": np.full((64, 64, 3), 128, np.uint8)})
    requests = clip_requests(variant, Path(variant.name))

    def clip(self, request: SampleRequest, value: int) -> Clip:
        num_views = 1 if isinstance(request.view, TrainingView) else request.view.num_clips
        size = request.view.crop_size
        frames = torch.full((num_views, 3, request.sampling.clip_length, size, size), value, dtype=torch.uint8)
        return Clip(frames, 0, request.key, "video")


BOMB_SIDE = 40_000


def _png(data: bytearray) -> None:
    data[16:24] = struct.pack(">II", BOMB_SIDE, BOMB_SIDE)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))


def _jpeg(data: bytearray) -> None:
    offset = data.index(b"\xff\xc0")
    data[offset + 5 : offset + 9] = struct.pack(">HH", BOMB_SIDE, BOMB_SIDE)


def _gif(data: bytearray) -> None:
    data[6:10] = struct.pack("<HH", BOMB_SIDE, BOMB_SIDE)


def _bmp(data: bytearray) -> None:
    data[18:26] = struct.pack("<ii", BOMB_SIDE, BOMB_SIDE)


def _webp(data: bytearray) -> None:
    offset = data.index(b"\x9d\x01\x2a")
    data[offset + 3 : offset + 7] = struct.pack("<HH", 16383, 16383)  # the largest there is


def _tiff(data: bytearray) -> None:
    start = struct.unpack_from("<I", data, 4)[0]
    for entry in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", data, start)[0], 12):
        if struct.unpack_from("<H", data, entry)[0] in (256, 257):
            struct.pack_into("<HIHH", data, entry + 2, 3, 1, BOMB_SIDE, 0)


def _ppm(data: bytearray) -> None:
    data[:] = data.replace(b"64 48", b"%d %d" % (BOMB_SIDE, BOMB_SIDE), 1)


BOMBS: dict[str, Callable[[bytearray], None]] = {
    "bomb.png": _png,
    "bomb.jpg": _jpeg,
    "bomb.GIF": _gif,
    "bomb.bmp": _bmp,
    "bomb.webp": _webp,
    "bomb.tiff": _tiff,
    "bomb.ppm": _ppm,
}


class TestDecompressionBombs:
    """Pictures that would fill the memory: refused before any of it is taken, by the workers as they are."""

    MOST_BYTES = 100 * 2**20

    def refuse(self, paths: list[Path]) -> list[str]:
        """Checks that workers refuse each file and take no memory for it, and returns the reasons."""
        variants = [Variant(path.name, 0, "bomb", path.name, media_of(path.name), b"") for path in paths]
        requests = [clip_requests(one, path)[0] for one, path in zip(variants, paths, strict=True)]
        harmless = write_image(paths[0].with_name("harmless.png"), numbered_frame(7, 48, 64))
        with WorkerPool(1, PATIENCE_SECONDS, load=read_frames) as readers, WorkerPool(1, PATIENCE_SECONDS) as loaders:
            before = readers.result(readers.submit(replace(requests[0], path=str(harmless)))).peak_bytes
            readings = [readers.result(readers.submit(request)) for request in requests]
            clips = [loaders.result(loaders.submit(request)) for request in requests]
        assert max(reading.peak_bytes for reading in readings) - before < self.MOST_BYTES
        assert all(isinstance(clip, UnreadableMedia) for clip in clips)
        for path, clip, reading in zip(paths, clips, readings, strict=True):
            assert {read.refusal for read in reading.reads} == {str(clip)} and clip.path == str(path)
        return [clip.reason for clip in clips]

    def test_are_refused_in_every_format_and_the_limit_is_reported(self, tmp_path: Path) -> None:
        paths = []
        for name, declare in BOMBS.items():
            data = bytearray(write_image(tmp_path / name, numbered_frame(7, 48, 64)).read_bytes())
            declare(data)
            paths.append(tmp_path / name)
            paths[-1].write_bytes(data)
        assert self.refuse(paths) == [f"it declares more than the {MAX_IMAGE_PIXELS} pixels that are allowed"] * len(
            BOMBS
        )

    def test_are_refused_as_frames_of_a_video(self, files: dict[str, bytes], tmp_path: Path) -> None:
        data = bytearray(files["animation.gif"])
        data[6:10] = struct.pack("<HH", 16_000, 16_000)  # 1 GiB for each frame, and not too large for FFmpeg
        (tmp_path / "bomb.gif").write_bytes(data)
        (reason,) = self.refuse([tmp_path / "bomb.gif"])
        assert str(MAX_IMAGE_PIXELS) in reason

    def test_are_refused_when_all_of_their_pixels_are_there(self, tmp_path: Path) -> None:
        path = tmp_path / "black.png"
        Image.new("1", (14_000, 14_000)).save(path)
        assert path.stat().st_size < 2**17
        assert str(MAX_IMAGE_PIXELS) in self.refuse([path])[0]
