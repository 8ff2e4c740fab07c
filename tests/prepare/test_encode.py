"""Prepared videos: their frames, sizes and colors, what is stored, and that changes of them are noticed."""

from __future__ import annotations

from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from omnisource.data.decoding.video import VideoFile
from omnisource.errors import UnreadableMedia
from omnisource.prepare.encode import prepare_video
from omnisource.prepare.qp import luma
from omnisource.prepare.shrink import Encoded, prepared_frames
from tests.support.media import (
    moving_square,
    numbered_frames,
    read_numbers,
    truncate,
    write_video,
)
from tests.support.preparing import textured


def prepared(source: Path, short_side: int = 256, keyframe_interval: int = 4) -> tuple[Encoded, Path]:
    target = source.with_name(f"prepared_{source.name}.mp4")
    return prepare_video(str(source), target, short_side, keyframe_interval), target


def all_pixels(path: Path) -> np.ndarray:
    with VideoFile(path) as video:
        return video.frames(range(video.num_frames))


def write_flat_colors(path: Path, matrix: int, color_range: int) -> None:
    """Writes a video of large fields of strong colors whose matrix and range are written beside them."""
    colors = np.array([(230, 20, 20), (20, 200, 30), (30, 30, 240), (250, 250, 10)], np.uint8)
    pixels = np.repeat(np.repeat(colors[None], 64, axis=0), 32, axis=1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"qp": "2"})
        stream.height, stream.width = pixels.shape[:2]
        stream.pix_fmt = "yuvj420p" if color_range == 2 else "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, color_range
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
            format=stream.pix_fmt, dst_colorspace=matrix, dst_color_range=color_range
        )
        for number in range(3):
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


class TestFrames:
    @pytest.mark.parametrize(
        ("name", "settings"),
        [
            ("plain.mp4", {}),
            ("sound.mp4", {"with_audio": True}),
            ("b_frames.avi", {"codec": "mpeg4", "options": {"bf": "2", "g": "12"}}),
            ("variable.mp4", {"timestamps_ms": [0, 10, 50, 60, 170, 200, *range(300, 300 + 40 * 24, 40)]}),
            ("edit_list.mp4", {"shown_from": 5, "options": {"bf": "2", "g": "8"}}),
            ("open.ts", {"options": {"x264-params": "open-gop=1:keyint=8:bframes=3"}}),
            ("ten_bits.mkv", {"pixel_format": "yuv420p10le"}),
            ("animation.gif", {"codec": "gif"}),
            ("odd.mkv", {"codec": "ffv1"}),
        ],
    )
    def test_frames_are_those_of_the_original_in_their_order(self, tmp_path: Path, name: str, settings: dict) -> None:
        size = (61, 83) if name == "odd.mkv" else (64, 80)
        original = write_video(tmp_path / name, numbered_frames(30, *size), **settings)
        encoded, target = prepared(original)
        numbers = read_numbers(all_pixels(original))
        assert encoded.num_frames == len(numbers) >= 25
        assert read_numbers(all_pixels(target)) == numbers

    @pytest.mark.parametrize("rotation", [0, 90, 180, 270])
    @pytest.mark.parametrize("mirrored", [False, True])
    def test_rotation_and_mirroring_are_in_the_pixels(self, tmp_path: Path, rotation: int, mirrored: bool) -> None:
        frames = moving_square(5, 64, 80)
        original = write_video(tmp_path / "turned.mp4", frames, rotation=rotation, mirrored=mirrored)
        encoded, target = prepared(original)
        wanted, found = all_pixels(original), all_pixels(target)
        assert (encoded.height, encoded.width) == wanted.shape[1:3] == found.shape[1:3]
        assert np.abs(wanted.astype(int) - found).mean() < 4
        with av.open(str(target)) as container:
            assert next(container.decode(video=0)).rotation == 0

    def test_cut_off_video_is_prepared_as_far_as_it_is_read(self, tmp_path: Path) -> None:
        original = truncate(write_video(tmp_path / "cut.ts", textured(40, 96, 128), options={"g": "5"}), 0.6)
        with VideoFile(original) as video:
            num_frames = video.num_frames
        assert 5 < num_frames < 40
        assert prepared(original)[0].num_frames == num_frames

    def test_long_video_is_decoded_twice_and_comes_out_the_same(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original = write_video(tmp_path / "long.mp4", textured(120, 48, 64))
        content = prepared(original)[1].read_bytes()
        monkeypatch.setattr("omnisource.prepare.encode.HELD_BYTES", 48 * 64 * 20)
        assert prepared(original)[1].read_bytes() == content


class TestStorage:
    def test_every_nth_frame_is_a_keyframe_and_nothing_is_out_of_order(self, tmp_path: Path) -> None:
        frames = np.concatenate([textured(10, 64, 80), moving_square(11, 64, 80)])  # with a cut in between
        original = write_video(tmp_path / "clip.mp4", frames, rate=25, with_audio=True)
        _, target = prepared(original, keyframe_interval=6)
        with av.open(str(target)) as container:
            assert [stream.type for stream in container.streams] == ["video"]
            stream = container.streams.video[0]
            packets = [packet for packet in container.demux(stream) if packet.size]
            assert [packet.is_keyframe for packet in packets] == [number % 6 == 0 for number in range(21)]
            assert all(packet.pts == packet.dts for packet in packets)
            assert [float(packet.pts * packet.time_base) for packet in packets] == [n / 25 for n in range(21)]
            assert stream.codec_context.pix_fmt == "yuv420p"
            assert stream.codec_context.codec.name == "h264"
        content = target.read_bytes()
        assert content.index(b"moov") < content.index(b"mdat")

    def test_equal_videos_give_equal_bytes(self, tmp_path: Path) -> None:
        original = write_video(tmp_path / "clip.mp4", textured(50, 96, 128))
        contents = {prepared(original)[1].read_bytes() for _ in range(5)}
        assert len(contents) == 1

    def test_luma_keeps_the_promised_psnr_and_not_much_more(self, tmp_path: Path) -> None:
        original = write_video(tmp_path / "clip.mp4", textured(60, 96, 128), options={"crf": "12"})
        _, target = prepared(original, short_side=64)
        with (
            VideoFile(original) as first,
            VideoFile(target) as second,
            closing(prepared_frames(first, 64)) as wanted,
            closing(second.all_frames()) as found,
        ):
            pairs = zip(wanted, found, strict=True)
            errors = [np.square(luma(a).astype(float) - luma(b)).mean() for a, b in pairs]
        assert 38 <= 10 * np.log10(255**2 / np.mean(errors)) < 39.5

    @pytest.mark.parametrize("matrix", [1, 5])  # ITU-R BT.709 and BT.601
    @pytest.mark.parametrize("full_range", [False, True])
    def test_colors_keep_their_matrix_and_range(self, tmp_path: Path, matrix: int, full_range: bool) -> None:
        original = tmp_path / "colors.mp4"
        write_flat_colors(original, matrix, color_range=2 if full_range else 1)
        target = prepared(original)[1]
        # With the other matrix some color would be off by 24, with the other range by 16.
        assert np.abs(all_pixels(original).astype(int) - all_pixels(target)).max() < 6


class TestSizes:
    @pytest.mark.parametrize(("height", "width"), [(61, 83), (64, 83), (61, 80), (16, 16), (9, 200)])
    def test_small_video_of_odd_size_loses_a_row_or_column_and_is_not_resampled(
        self, tmp_path: Path, height: int, width: int
    ) -> None:
        frames = np.repeat(textured(1, height, width), 3, axis=0)
        original = write_video(tmp_path / "odd.mkv", frames, codec="ffv1", pixel_format="yuv420p")
        encoded, target = prepared(original)
        assert (encoded.width, encoded.height) == (width - width % 2, height - height % 2)
        wanted = all_pixels(original)[:, : encoded.height, : encoded.width].astype(int)
        assert np.abs(wanted - all_pixels(target)).mean() < 5

    def test_video_of_one_row_is_given_a_second(self, tmp_path: Path) -> None:
        original = write_video(tmp_path / "line.mkv", textured(3, 1, 64), codec="ffv1", pixel_format="yuv444p")
        encoded, target = prepared(original)
        assert (encoded.width, encoded.height) == (64, 2)
        assert all_pixels(target).shape == (3, 2, 64, 3)

    def test_shrunk_video_shows_the_same(self, tmp_path: Path) -> None:
        original = write_video(tmp_path / "large.mp4", textured(6, 300, 400), options={"crf": "5"})
        encoded, target = prepared(original, short_side=64)
        assert (encoded.width, encoded.height) == (86, 64)
        wanted = Image.fromarray(all_pixels(original)[3]).resize((86, 64), Image.Resampling.BOX)
        assert np.abs(np.asarray(wanted).astype(int) - all_pixels(target)[3]).mean() < 5


class TestUnreadableVideos:
    def test_damage_is_refused_and_leaves_no_file(self, tmp_path: Path) -> None:
        original = write_video(tmp_path / "damaged.mp4", moving_square(60, 64, 96), options={"bf": "0", "g": "20"})
        with av.open(str(original)) as container:
            packet = [packet for packet in container.demux(video=0) if packet.size][30]
            position, size = packet.pos or 0, packet.size
        data = bytearray(original.read_bytes())
        data[position : position + size] = b"\xff" * size
        original.write_bytes(data)
        with pytest.raises(UnreadableMedia, match="damaged"):
            prepared(original)
        assert list(tmp_path.iterdir()) == [original]

    def test_size_that_changes_is_refused(self, tmp_path: Path) -> None:
        parts = [
            write_video(tmp_path / f"{side}.h264", moving_square(8, side, 64), container_format="h264")
            for side in (48, 64)
        ]
        original = tmp_path / "both.h264"
        original.write_bytes(b"".join(part.read_bytes() for part in parts))
        with pytest.raises(UnreadableMedia, match="size of its frames changes"):
            prepared(original)

    def test_missing_folder_for_the_output_is_an_error_of_the_disk(self, tmp_path: Path) -> None:
        original = write_video(tmp_path / "clip.mp4", moving_square(4))
        with pytest.raises(FileNotFoundError, match="nowhere"):
            prepare_video(str(original), tmp_path / "nowhere/clip.mp4", 256, 4)


class TestChecksum:
    @pytest.fixture
    def checked(self, tmp_path: Path) -> Path:
        return prepared(write_video(tmp_path / "clip.mp4", textured(40, 64, 80)))[1]

    def test_frames_of_a_prepared_video_are_those_of_decoding_it_in_order(self, checked: Path) -> None:
        with av.open(str(checked)) as container:
            wanted = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
        rng = np.random.default_rng(0)
        for _ in range(10):
            indices = rng.integers(0, 40, 5)
            with VideoFile(checked) as video:
                assert np.array_equal(video.frames(indices), wanted[indices])

    @pytest.mark.parametrize("is_held", [True, False])
    def test_every_flipped_bit_of_the_frames_is_noticed(
        self, is_held: bool, checked: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not is_held:  # as packets of more than 64 MiB are not
            monkeypatch.setattr("omnisource.data.decoding.packet_index.MAX_HELD_BYTES", 0)
        content = checked.read_bytes()
        with av.open(str(checked)) as container:
            packets = [(packet.pos or 0, packet.size) for packet in container.demux(video=0) if packet.size]
        rng = np.random.default_rng(0)
        for position, size in packets:
            changed = bytearray(content)
            changed[position + int(rng.integers(size))] ^= 1 << int(rng.integers(8))
            with pytest.raises(UnreadableMedia, match="changed since it was prepared"):
                VideoFile(checked, content=bytes(changed))

    def test_cut_off_video_is_refused(self, checked: Path) -> None:
        with pytest.raises(UnreadableMedia):
            VideoFile(truncate(checked, 0.8))

    def test_video_that_was_not_prepared_has_no_checksum_to_violate(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "clip.mp4", textured(10, 64, 80))
        with VideoFile(path) as video:
            assert video.num_frames == 10
