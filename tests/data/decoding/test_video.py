from __future__ import annotations

import os
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from av.error import FFmpegError
from av.stream import Disposition

from omnisource.data.decoding.verified_files import VerifiedFiles
from omnisource.data.decoding.video import FewerFrames, VideoFile
from omnisource.errors import UnreadableMedia
from tests.support.media import moving_square, numbered_frames, read_numbers, truncate, write_audio, write_video

B_FRAMES = {"bf": "2", "g": "12"}
X265 = "log-level=none:pools=1:frame-threads=1"
IRREGULAR_MS = np.cumsum(np.random.default_rng(0).integers(10, 90, 60)).tolist()

# name of the file -> how to write it. All hold 60 numbered frames.
KINDS: dict[str, dict] = {
    "constant_rate.mp4": {"options": B_FRAMES},
    "with_audio.mp4": {"options": B_FRAMES, "with_audio": True},
    "variable_rate.mp4": {"options": B_FRAMES, "timestamps_ms": IRREGULAR_MS},
    "fragmented.mp4": {"options": B_FRAMES, "container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "open_groups.mp4": {"options": {**B_FRAMES, "x264-params": "open-gop=1"}},
    "gradual_refresh.mp4": {"options": {"x264-params": "intra-refresh=1:keyint=12"}},
    "every_frame_a_keyframe.mp4": {"options": {"g": "1"}},
    "one_keyframe.mp4": {"options": {"g": "600", "bf": "3"}},
    "no_reordering.mp4": {"options": {"g": "12", "bf": "0"}},
    "b_frames_that_others_need.mp4": {"options": {"x264-params": "bframes=7:b-adapt=0:b-pyramid=normal:keyint=30"}},
    "fields.mp4": {"options": {"x264-params": "tff=1:keyint=20"}},
    "h264_10_bits.mp4": {"options": B_FRAMES, "pixel_format": "yuv420p10le"},
    "h265.mp4": {"codec": "libx265", "options": {"g": "12"}},
    "h265_10_bits.mov": {"codec": "libx265", "options": {"g": "12"}, "pixel_format": "yuv420p10le"},
    "h265_temporal_layers.mp4": {"codec": "libx265", "options": {"x265-params": f"{X265}:temporal-layers=3:keyint=30"}},
    "h265_open_groups.mkv": {"codec": "libx265", "options": {"x265-params": f"{X265}:open-gop=1:keyint=12:bframes=3"}},
    "mpeg4.mp4": {"codec": "mpeg4", "options": B_FRAMES},
    "quicktime.mov": {"options": B_FRAMES},
    "h264.mkv": {"options": B_FRAMES},
    "variable_rate.mkv": {"options": B_FRAMES, "timestamps_ms": IRREGULAR_MS},
    "late_start.mkv": {"options": B_FRAMES, "timestamps_ms": [7013 + time for time in IRREGULAR_MS]},
    "gradual_refresh.mkv": {"options": {"x264-params": "intra-refresh=1:keyint=12"}},
    "vp9_with_hidden_frames.mp4": {
        "codec": "libvpx-vp9",
        "options": {"g": "30", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16"},
    },
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "12", "cpu-used": "8", "deadline": "realtime"}},
    "vp8_with_hidden_frames.webm": {
        "codec": "libvpx",
        "options": {"g": "30", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16", "b": "100k"},
    },
    "b_frames.avi": {"codec": "mpeg4", "options": B_FRAMES},
    "no_b_frames.avi": {"codec": "mpeg4", "options": {"g": "12"}},
    "h264.avi": {"options": B_FRAMES},
    "motion_jpeg.avi": {"codec": "mjpeg"},
    "raw.h264": {"options": B_FRAMES, "container_format": "h264"},
    "transport.ts": {"options": B_FRAMES},
    "transport_open_groups.ts": {"options": {**B_FRAMES, "x264-params": "open-gop=1"}},
    "transport_mpeg2.ts": {"codec": "mpeg2video", "options": B_FRAMES},
    "flash.flv": {"options": B_FRAMES},
    "animation.gif": {"codec": "gif"},
}


TROUBLESOME_FILES = (
    "320x240.ogv",
    "av1_video.mkv",
    "bear_mpeg4asp_mp3.avi",
    "bt709_full_range.mp4",
    "flash.flv",
    "flipping_a_pancake.mkv",
    "h264_10bits.mp4",
    "h265_video.mp4",
    "mma_demo.mp4",
    "mma_test.avi",
    "mma_test.mp4",
    "mpeg4-amr_nb.3gp",
    "nasa_13013.mp4",
    "unordered.mov",
    "video_0.mov",
    "video_270.mov",
    "video_90.mov",
)


def every_frame(path: Path) -> list[np.ndarray]:
    """Returns what a plain sequential decode of the first video stream returns, turned upright, up to any damage."""
    frames = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        damaged_packets = set()
        for packet in container.demux(stream):
            if packet.is_corrupt:
                damaged_packets.add(packet.pts)
            for frame in packet.decode():
                if frame.is_corrupt or frame.pts in damaged_packets:
                    return frames
                frames.append(np.rot90(frame.to_ndarray(format="rgb24", threads=1), frame.rotation // 90))
    return frames


def assert_equals_sequential_decode(path: Path, seed: int = 0) -> None:
    """Compares frames read on a first visit to the file, and again when nothing but the wanted frames is decoded."""
    expected = every_frame(path)
    rng = np.random.default_rng(seed)
    draws = [
        rng.integers(0, len(expected), 12),  # in any order, with repetitions
        np.arange(len(expected))[-8:],
        np.arange(0, len(expected), 7),
        *rng.integers(0, len(expected), (6, 1)),
    ]
    known = VerifiedFiles()
    for visited in (VerifiedFiles(), known, known):
        with VideoFile(path, verified=visited) as video:
            assert video.num_frames == len(expected)
            for indices in draws:
                frames = video.frames(indices)
                assert frames.dtype == np.uint8 and frames.shape == (len(indices), *expected[0].shape)
                for index, frame in zip(indices, frames, strict=True):
                    assert np.array_equal(frame, expected[index]), f"frame {index}"


def open_files() -> set[str]:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("this system does not list the open files of a process")
    return {os.readlink(entry) for entry in folder.iterdir() if entry.is_symlink()}


def remux(source: Path, target: Path, replace: Callable[[int, bytes], bytes | None]) -> Path:
    """Writes the video stream of `source` with other packets: `replace(number, data)` gives new data, None drops."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for number, packet in enumerate(reader.demux(video=0)):
            data = replace(number, bytes(packet)) if packet.size else None
            if data is not None:
                changed = av.Packet(data)
                changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
                changed.duration, changed.is_keyframe, changed.stream = packet.duration, packet.is_keyframe, stream
                writer.mux(changed)
    return target


def write_skipping_video(path: Path, padding: bytes = b"") -> Path:
    """Writes 60 packets of MPEG-4 Part 2, number 20 of which says "as before" and decodes to nothing.

    The frames show 0 .. 19 and 21 .. 59.
    """
    frames = numbered_frames(60)
    frames[20] = frames[19]
    whole = write_video(path.with_stem("whole"), frames, "mpeg4", options={"g": "100"})
    not_coded = b"\x00\x00\x01\xb6\x50\x4f" + padding
    return remux(whole, path, lambda number, data: not_coded if number == 20 else data)


class TestFramesAreThoseOfASequentialDecode:
    @pytest.mark.parametrize("name", KINDS)
    def test_in_every_container_and_codec(self, name: str, tmp_path: Path):
        path = write_video(tmp_path / name, numbered_frames(60, 64, 96), **KINDS[name])
        assert_equals_sequential_decode(path)
        with VideoFile(path) as video:
            assert read_numbers(video.frames([59, 0, 31, 12, 11])) == [59, 0, 31, 12, 11]

    @pytest.mark.parametrize("suffix", ["mkv", "mp4", "webm"])
    def test_in_av1(self, suffix: str, tmp_path: Path):
        path = tmp_path / f"av1.{suffix}"
        options = {"g": "20", "preset": "12", "svtav1-params": "lp=1"}
        assert_equals_sequential_decode(write_video(path, moving_square(60, 64, 96), "libsvtav1", options=options))

    def test_in_a_video_of_one_frame(self, tmp_path: Path):
        path = write_video(tmp_path / "one.mp4", numbered_frames(1, first=9))
        with VideoFile(path) as video:
            assert video.num_frames == 1
            assert read_numbers(video.frames([0, 0, 0])) == [9, 9, 9]

    def test_of_odd_size(self, tmp_path: Path):
        path = write_video(tmp_path / "odd.mp4", numbered_frames(10, 65, 99), pixel_format="yuv444p")
        assert_equals_sequential_decode(path)

    @pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv422p", "gray", "bgr0"])
    def test_in_other_pixel_formats(self, pixel_format: str, tmp_path: Path):
        path = write_video(tmp_path / "other.mkv", numbered_frames(10), "ffv1", pixel_format=pixel_format)
        assert_equals_sequential_decode(path)

    @pytest.mark.parametrize("suffix, shown_from", [("mp4", 10), ("mp4", 12), ("mov", 7), ("mov", 17)])
    def test_behind_an_edit_list(self, suffix: str, shown_from: int, tmp_path: Path):
        path = tmp_path / f"edited.{suffix}"
        write_video(path, numbered_frames(60), options=B_FRAMES, shown_from=shown_from)
        assert_equals_sequential_decode(path)
        with VideoFile(path) as video:
            assert video.num_frames == 60 - shown_from
            assert read_numbers(video.frames([0, video.num_frames - 1])) == [shown_from, 59]

    def test_when_the_start_was_cut_away(self, tmp_path: Path):
        # An open group at the start: its first frames lean on a group that is gone, and decoders leave them out.
        whole = write_video(
            tmp_path / "whole.mkv",
            numbered_frames(60),
            "libx265",
            options={"x265-params": "log-level=none:open-gop=1:keyint=12:min-keyint=12:bframes=3:scenecut=0:pools=1"},
        )
        with av.open(str(whole)) as container:
            starts = [number for number, packet in enumerate(container.demux(video=0)) if packet.is_keyframe]
        path = remux(whole, tmp_path / "cut.mkv", lambda number, data: data if number >= starts[1] else None)
        assert_equals_sequential_decode(path)
        with VideoFile(path) as video:
            assert read_numbers(video.frames([video.num_frames - 1])) == [59]

    @pytest.mark.parametrize("name", ["empty_pictures.avi", "empty_pictures.mp4"])
    def test_where_packets_decode_to_nothing(self, name: str, tmp_path: Path):
        path = write_skipping_video(tmp_path / name)
        assert_equals_sequential_decode(path)
        with VideoFile(path) as video:
            assert video.num_frames == 59
            assert read_numbers(video.frames([19, 20, 58])) == [19, 21, 59]

    @pytest.mark.shared_data
    @pytest.mark.parametrize("name", TROUBLESOME_FILES)
    def test_in_files_that_decoders_get_wrong(self, name: str, shared: Path):
        assert_equals_sequential_decode(shared / "data" / "media" / name)

    @pytest.mark.shared_data
    def test_in_all_of_those_files(self, shared: Path):
        names = {path.name for path in (shared / "data" / "media").iterdir()}
        assert names - {"corrupted.mp4"} == set(TROUBLESOME_FILES)

    @pytest.mark.shared_data
    @pytest.mark.parametrize("number", range(0, 120, 12))
    def test_in_videos_of_a_real_data_set(self, number: int, shared: Path):
        folder = shared / "data" / "ut_interaction" / "videos"
        assert_equals_sequential_decode(sorted(path for path in folder.rglob("*") if path.is_file())[number])


class TestRotation:
    @pytest.mark.parametrize("is_mirrored", [False, True])
    @pytest.mark.parametrize("rotation", [0, 90, 180, -90])
    def test_is_applied(self, rotation: int, is_mirrored: bool, tmp_path: Path):
        frames = numbered_frames(4, 48, 64, first=0b0001_0010_0110_1000)
        path = write_video(tmp_path / "phone.mp4", frames, rotation=rotation, mirrored=is_mirrored)
        with VideoFile(path) as video:
            upright = video.frames([0, 3])
        assert upright.shape[1:3] == ((48, 64) if rotation in (0, 180) else (64, 48))
        stored = upright[:, :, ::-1] if is_mirrored else upright
        stored = np.rot90(stored, -rotation // 90, axes=(1, 2))
        assert read_numbers(stored) == [0b0001_0010_0110_1000, 0b0001_0010_0110_1011]

    @pytest.mark.shared_data
    def test_turns_phone_videos_upright(self, shared: Path):
        media = shared / "data" / "media"
        frames = {}
        for name in ("video_0.mov", "video_90.mov", "video_270.mov"):
            with VideoFile(media / name) as video:
                frames[name] = video.frames([0])[0].astype(int)
        assert [frame.shape for frame in frames.values()] == [(320, 568, 3), (568, 320, 3), (568, 320, 3)]
        # A laptop seen from above; the last shows the red line on the keys of its touch pad, left, above the middle.
        red, green, _ = np.moveaxis(frames["video_270.mov"], 2, 0)
        rows, columns = np.nonzero(red - green > 70)
        assert len(rows) > 100
        assert rows.min() > 200 and rows.max() < 225
        assert columns.min() < 10 and 150 < columns.max() < 200


class TestLength:
    @pytest.mark.parametrize("share", [0.9, 0.7, 0.5])
    @pytest.mark.parametrize(
        "name, kind",
        [
            ("cut.avi", {"codec": "mpeg4"}),
            ("cut_h264.avi", {}),
            ("cut.mkv", {}),
            ("cut.ts", {}),
            ("cut.h264", {"container_format": "h264"}),
        ],
    )
    def test_of_a_truncated_file_is_what_decodes(self, name: str, kind: dict, share: float, tmp_path: Path):
        noise = np.random.default_rng(0).integers(0, 256, (60, 64, 96, 3), dtype=np.uint8)  # frames of equal sizes
        path = truncate(write_video(tmp_path / name, noise, options=B_FRAMES, **kind), share)
        assert_equals_sequential_decode(path)
        with VideoFile(path) as video:
            assert 5 < video.num_frames < 60

    @pytest.mark.parametrize("with_audio", [False, True])
    @pytest.mark.parametrize("share", [0.9, 0.7, 0.5])
    def test_of_a_truncated_mp4_whose_table_is_whole(self, share: float, with_audio: bool, tmp_path: Path):
        path = tmp_path / "cut.mp4"
        write_video(
            path,
            moving_square(60, 64, 96),
            options=B_FRAMES,
            container_options={"movflags": "faststart"},
            with_audio=with_audio,
        )
        whole = every_frame(path)
        truncate(path, share)
        with VideoFile(path) as video:
            assert 10 < video.num_frames < 60  # the table promises 60
            frames = video.frames(range(video.num_frames))
        # A plain loop over the packets fails on the incomplete one.
        with pytest.raises(FFmpegError):
            every_frame(path)
        # Around the cut a frame may be missing among those that were stored out of order.
        for number in range(len(frames) - 3):
            assert np.array_equal(frames[number], whole[number]), f"frame {number}"

    @pytest.mark.parametrize("name", ["promises_more.avi", "promises_more.mp4"])
    def test_that_was_promised_wrongly_is_corrected_when_frames_are_read(self, name: str, tmp_path: Path):
        path = write_skipping_video(tmp_path / name, padding=b"\x00\x00\x01\xb2" + b"padding" * 5)
        with VideoFile(path) as video:
            assert video.num_frames == 60
            with pytest.raises(FewerFrames) as found:
                video.frames([0, 30, 59])
            assert found.value.actual == video.num_frames == 59
            assert read_numbers(video.frames([0, 30, 58])) == [0, 31, 59]
            assert len(video.frames([20])) == 1

    def test_is_not_exceeded(self, tmp_path: Path):
        path = write_video(tmp_path / "short.mp4", numbered_frames(5))
        with VideoFile(path) as video:
            for indices in ([5], [-1], [0, 1, 7]):
                with pytest.raises(IndexError, match="which has 5"):
                    video.frames(indices)


class TestStreams:
    @pytest.mark.shared_data
    def test_first_of_two_video_streams_is_read(self, shared: Path):
        with VideoFile(shared / "data" / "media" / "nasa_13013.mp4") as video:
            assert video.num_frames == 325  # the second has 390
            assert video.frames([0]).shape == (1, 180, 320, 3)

    @pytest.mark.parametrize("suffix", ["mp4", "mkv"])
    def test_second_video_stream_does_not_matter(self, suffix: str, tmp_path: Path):
        path = tmp_path / f"two.{suffix}"
        with av.open(str(path), "w") as container:
            streams = [container.add_stream("libx264", rate=rate, options=B_FRAMES) for rate in (30, 20)]
            for stream, (height, width) in zip(streams, [(64, 96), (48, 64)], strict=True):
                assert isinstance(stream, av.VideoStream)
                stream.height, stream.width = height, width
            for number in range(60):
                for stream, (height, width) in zip(streams, [(64, 96), (48, 64)], strict=True):
                    pixels = numbered_frames(1, height, width, first=number)[0]
                    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                    container.mux(stream.encode(frame))
            for stream in streams:
                container.mux(stream.encode(None))
        assert_equals_sequential_decode(path)
        with VideoFile(path) as video:
            assert video.frames([30]).shape == (1, 64, 96, 3)

    def test_cover_picture_is_not_a_video(self, tmp_path: Path):
        path = tmp_path / "song.m4a"
        with av.open(str(path), "w", format="mp4") as container:
            audio = container.add_stream("aac", rate=16000, layout="mono")
            cover = container.add_stream("mjpeg", rate=1)
            assert isinstance(cover, av.VideoStream)
            cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
            cover.disposition = Disposition.attached_pic
            picture = av.VideoFrame.from_ndarray(numbered_frames(1)[0], format="rgb24")
            container.mux([*cover.encode(picture), *cover.encode(None)])
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            sound.sample_rate = 16000
            container.mux([*audio.encode(sound), *audio.encode(None)])
        with av.open(str(path)) as container:
            assert [stream.disposition for stream in container.streams.video] == [Disposition.attached_pic]
        with pytest.raises(UnreadableMedia, match="holds no video"):
            VideoFile(path)

    def test_audio_alone_is_refused(self, tmp_path: Path):
        with pytest.raises(UnreadableMedia, match="it holds no video, only audio"):
            VideoFile(write_audio(tmp_path / "speech.m4a"))


class TestUnreadableFiles:
    def test_missing(self, tmp_path: Path):
        with pytest.raises(UnreadableMedia, match=r"missing\.mp4: no such file"):
            VideoFile(tmp_path / "missing.mp4")

    def test_folder(self, tmp_path: Path):
        with pytest.raises(UnreadableMedia, match="a folder, not a file"):
            VideoFile(tmp_path)

    def test_empty(self, tmp_path: Path):
        (tmp_path / "empty.mp4").touch()
        with pytest.raises(UnreadableMedia, match="the file is empty"):
            VideoFile(tmp_path / "empty.mp4")

    def test_text(self, tmp_path: Path):
        (tmp_path / "text.mp4").write_text("this is no video\n" * 100)
        with pytest.raises(UnreadableMedia, match="not a video, or damaged"):
            VideoFile(tmp_path / "text.mp4")

    @pytest.mark.parametrize("place", ["", "http://127.0.0.1:9/"])
    @pytest.mark.parametrize(
        "name, text",
        [
            ("list.mp4", "ffconcat version 1.0\nfile {}\n"),
            ("list.m3u8", "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n{}\n#EXT-X-ENDLIST\n"),
        ],
    )
    def test_play_list_is_not_followed(
        self, name: str, text: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        target = write_video(tmp_path / "secret.ts", numbered_frames(5))
        (tmp_path / name).write_text(text.format(place + target.name))
        monkeypatch.chdir(tmp_path)
        for content in (None, (tmp_path / name).read_bytes()):
            with pytest.raises(UnreadableMedia):
                VideoFile(tmp_path / name, content)

    def test_mp4_without_its_table(self, tmp_path: Path):
        path = truncate(write_video(tmp_path / "cut.mp4", numbered_frames(30)), 0.6)
        with pytest.raises(UnreadableMedia, match="not a video, or damaged"):
            VideoFile(path)

    def test_stream_that_shows_up_late_is_no_trouble(self, tmp_path: Path):
        path = write_video(tmp_path / "late.ts", numbered_frames(60), options={"bf": "0", "g": "1"})
        data = bytearray(path.read_bytes())
        starts = [offset for offset in range(0, len(data), 188) if data[offset + 1 : offset + 3] == b"\x41\x00"]
        data[starts[-1] + 1 : starts[-1] + 3] = b"\x4c\x00"  # the last frame becomes one of a stream of its own
        path.write_bytes(data)
        # PyAV 18.1 raises IndexError where it is asked for more than the last packet of such a file.
        with VideoFile(path) as video:
            assert video.num_frames == 59
            assert read_numbers(video.frames([0, 58])) == [0, 58]

    def test_damage_in_the_middle_is_refused_with_its_position(self, tmp_path: Path):
        path = write_video(tmp_path / "damaged.mp4", moving_square(60, 64, 96), options={"bf": "0", "g": "20"})
        before = every_frame(path)
        with av.open(str(path)) as container:
            hit = [packet for packet in container.demux(video=0) if packet.size][30]
            position, size = hit.pos or 0, hit.size
        data = bytearray(path.read_bytes())
        data[position : position + size] = b"\xff" * size
        path.write_bytes(data)
        with VideoFile(path) as video:
            frames = video.frames([0, 29])  # before the damage
            assert np.array_equal(frames, np.stack([before[0], before[29]]))
            for index in (31, 39, 40, 59):  # the next keyframe is frame 40
                with pytest.raises(UnreadableMedia, match="damaged after 30 frames"):
                    video.frames([0, index])

    def test_frames_from_a_damaged_one_on_are_refused(self, tmp_path: Path):
        path = tmp_path / "lossy.ts"
        write_video(path, moving_square(60, 96, 128), options={"bf": "0", "g": "20", "crf": "1"})
        whole = every_frame(path)
        data = path.read_bytes()
        lost = (len(data) // 188 // 2 + 5) * 188  # three packets of 188 bytes, in the middle of frame 22
        path.write_bytes(data[:lost] + data[lost + 3 * 188 :])
        with VideoFile(path) as video:
            assert video.num_frames == 60
            for index in (21, 22, 39, 40, 59):  # the container finds 21 incomplete; the next keyframe is frame 40
                with pytest.raises(UnreadableMedia, match="damaged: frame 21 is not whole"):
                    video.frames([index])
            frames = video.frames([0, 20])
        assert np.array_equal(frames, np.stack([whole[index] for index in (0, 20)]))

    def test_frames_that_change_their_size(self, tmp_path: Path):
        path = tmp_path / "changing.h264"
        parts = []
        for number, (height, width) in enumerate([(48, 64), (64, 96)]):
            part = tmp_path / f"part_{number}.h264"
            parts.append(write_video(part, numbered_frames(5, height, width), container_format="h264").read_bytes())
        path.write_bytes(b"".join(parts))
        with VideoFile(path) as video:
            assert video.num_frames == 10
            assert video.frames([0, 4]).shape == (2, 48, 64, 3)
            assert video.frames([5, 9]).shape == (2, 64, 96, 3)
            with pytest.raises(UnreadableMedia, match="changes from 64x48 to 96x64 before frame 7"):
                video.frames([0, 7])

    def test_frames_larger_than_allowed(self, tmp_path: Path):
        path = write_video(tmp_path / "large.avi", numbered_frames(3), "ffv1")
        data = path.read_bytes()
        # The size stands in the header of the file, and nowhere else.
        path.write_bytes(data.replace(struct.pack("<II", 64, 64), struct.pack("<II", 14000, 14000)))
        with pytest.raises(UnreadableMedia, match=rf"its frames are of 14000x14000 pixels, more than the {2**29 // 3}"):
            VideoFile(path)

    def test_none_of_whose_frames_can_be_decoded(self, tmp_path: Path):
        path = write_video(tmp_path / "rubbish.mkv", numbered_frames(10), "libx265")
        rubbish = remux(path, tmp_path / "none.mkv", lambda number, data: b"\x00\x00\x00\x02\x4e\x01")
        with pytest.raises(UnreadableMedia), VideoFile(rubbish) as video:
            video.frames([0])

    def test_error_survives_the_way_between_processes(self, tmp_path: Path):
        with pytest.raises(UnreadableMedia) as caught:
            VideoFile(tmp_path / "missing.mp4")
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)

    @pytest.mark.shared_data
    def test_corrupted_file_is_refused_with_its_position(self, shared: Path):
        with (
            VideoFile(shared / "data" / "media" / "corrupted.mp4") as video,
            pytest.raises(UnreadableMedia, match="damaged after 28 frames"),
        ):
            video.frames(range(video.num_frames))

    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("name", ["fuzz.mp4", "fuzz.avi", "fuzz.mkv", "fuzz.ts"])
    def test_random_damage_gives_frames_or_that_error(self, name: str, seed: int, tmp_path: Path):
        codec = "mpeg4" if name.endswith("avi") else "libx264"
        path = write_video(tmp_path / name, moving_square(30), codec, options=B_FRAMES)
        rng = np.random.default_rng(seed)
        data = np.frombuffer(path.read_bytes(), np.uint8).copy()
        offsets = rng.integers(0, len(data), 40)
        data[offsets] = rng.integers(0, 256, len(offsets))
        path.write_bytes(data.tobytes())
        try:
            with VideoFile(path) as video:
                for indices in ([0], [video.num_frames - 1], [video.num_frames // 2, 1]):
                    assert video.frames(indices).shape == (len(indices), 64, 80, 3)
        except (UnreadableMedia, FewerFrames):
            pass  # named, which is all that can be asked


class TestNames:
    @pytest.mark.parametrize("name", ["a:b.mp4", "http:x.mp4", "100%03d.mp4", "ünïcode 视频.mp4", "-start.mp4"])
    def test_unusual_names_are_names_of_files(self, name: str, tmp_path: Path):
        path = write_video(tmp_path / "plain.mp4", numbered_frames(3)).rename(tmp_path / name)
        with VideoFile(path) as video:
            assert read_numbers(video.frames([2])) == [2]

    def test_relative_names(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        write_video(tmp_path / "plain.mp4", numbered_frames(3))
        monkeypatch.chdir(tmp_path)
        with VideoFile("plain.mp4") as video:
            assert read_numbers(video.frames([1])) == [1]


class TestResources:
    @pytest.mark.parametrize("name", ["files.mp4", "files.avi", "files.ts"])
    def test_files_are_closed(self, name: str, tmp_path: Path):
        codec = "mpeg4" if name.endswith("avi") else "libx264"
        path = write_video(tmp_path / name, numbered_frames(30), codec, options=B_FRAMES)
        audio = write_audio(tmp_path / "speech.m4a")
        before = open_files()
        with VideoFile(path) as video:
            video.frames([3, 20])
        with pytest.raises(IndexError), VideoFile(path) as video:
            video.frames([99])
        truncate(path, 0.5)
        for unreadable in (path, audio):
            try:
                with VideoFile(unreadable) as video:
                    video.frames([0])
            except UnreadableMedia:
                pass
        assert open_files() == before

    @pytest.mark.parametrize("name", ["long.mp4", "long.avi"])
    def test_only_the_frames_asked_for_are_held(self, name: str, tmp_path: Path):
        codec = "mpeg4" if name.endswith("avi") else "libx264"
        path = write_video(tmp_path / name, moving_square(200, 240, 320), codec)
        with VideoFile(path) as video:
            tracemalloc.start()
            frames = video.frames(range(0, 200, 25))
            _, peak_bytes = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert frames.nbytes == 8 * 240 * 320 * 3
        assert peak_bytes < 2 * frames.nbytes  # all frames would take 25 times as much
