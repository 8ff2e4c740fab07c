"""That only what is needed is decoded, and that this changes no frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest

from omnisource.data.decoding import packet_index, selective
from omnisource.data.decoding.non_reference import non_reference_packets
from omnisource.data.decoding.verified_files import VerifiedFiles, fingerprint, verified_files
from omnisource.data.decoding.video import FewerFrames, VideoFile
from omnisource.errors import UnreadableMedia
from tests.data.decoding.test_video import every_frame, remux, write_skipping_video
from tests.support.media import moving_square, numbered_frames, read_numbers, write_video

X265 = "log-level=none:pools=1:frame-threads=1"
RUBBISH = b"\xa5"
GROUPS_OF_20 = {"x264-params": "bframes=0:keyint=20:min-keyint=20:scenecut=0"}

# name of the file -> how to write it: videos in which some frames are needed by no other
WITH_NON_REFERENCE: dict[str, dict] = {
    "h264.mp4": {"options": {"bf": "2", "g": "12"}},
    "h264.mkv": {"options": {"bf": "2", "g": "12"}},
    "h264.mov": {"options": {"x264-params": "bframes=7:b-adapt=0:b-pyramid=normal:keyint=30"}},
    "h264_open_groups.mp4": {"options": {"x264-params": "bframes=2:keyint=12:open-gop=1"}},
    "h264_10_bits.mp4": {"options": {"bf": "2", "g": "12"}, "pixel_format": "yuv420p10le"},
    "h264.flv": {"options": {"bf": "2", "g": "12"}},
    "h265.mp4": {"codec": "libx265", "options": {"g": "12"}},
    "h265_open_groups.mkv": {"codec": "libx265", "options": {"x265-params": f"{X265}:open-gop=1:keyint=12:bframes=3"}},
    "h265_10_bits.mov": {"codec": "libx265", "options": {"g": "12"}, "pixel_format": "yuv420p10le"},
    "h265_layers.mp4": {"codec": "libx265", "options": {"x265-params": f"{X265}:temporal-layers=3:keyint=30"}},
}

# name of the file -> how to write it: videos of which nothing can be left out, or none that is known
WITHOUT_NON_REFERENCE: dict[str, dict] = {
    "no_b_frames.mp4": {"options": {"bf": "0", "g": "12"}},
    "fields.mp4": {"options": {"x264-params": "tff=1:keyint=20"}},
    "b_frames.avi": {"codec": "mpeg4", "options": {"bf": "2", "g": "12"}},
    "h264.avi": {"options": {"bf": "2", "g": "12"}},
    "transport.ts": {"options": {"bf": "2", "g": "12"}},
    "raw.h264": {"options": {"bf": "2", "g": "12"}, "container_format": "h264"},
    "mpeg4.mp4": {"codec": "mpeg4", "options": {"bf": "2", "g": "12"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "12", "cpu-used": "8", "deadline": "realtime"}},
}


def non_reference_of(path: Path) -> frozenset[int]:
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
        return non_reference_packets(codec.codec.canonical_name, codec.extradata, packets)


def timestamps_of(path: Path) -> list[int | None]:
    with av.open(str(path)) as container:
        return [packet.pts for packet in container.demux(video=0) if packet.size]


def overwrite_packets(path: Path, numbers: Sequence[int]) -> None:
    """Overwrites the payload of packets, behind the first bytes, which hold the headers."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        ranges = [(packets[number].pos or 0, packets[number].size) for number in numbers]
    data = bytearray(path.read_bytes())
    for offset, size in ranges:
        data[offset + 12 : offset + size] = RUBBISH * (size - 12)
    path.write_bytes(data)


def long_video(path: Path, **how) -> Path:
    frames = numbered_frames(61, 64, 64)
    return write_video(path, np.tile(frames, (20, 1, 1, 1)), **how)


def as_if_verified(path: Path, num_verified: int = 10_000) -> VerifiedFiles:
    """Returns a memory in which so many frames of the file were found whole."""
    verified = VerifiedFiles()
    verified.remember_num_verified(fingerprint(str(path), None), num_verified)
    return verified


def all_verified(path: Path) -> VerifiedFiles:
    """Returns a memory in which the whole file is verified, by having read it."""
    verified = VerifiedFiles()
    with VideoFile(path, verified=verified) as video:
        video.frames([video.num_frames - 1])
    return verified


class TestNonReferencePackets:
    @pytest.mark.parametrize("name", WITH_NON_REFERENCE)
    def test_are_those_that_can_be_left_out_without_changing_another_frame(self, name: str, tmp_path: Path):
        path = write_video(tmp_path / name, moving_square(60, 64, 96), **WITH_NON_REFERENCE[name])
        non_reference, timestamps = non_reference_of(path), timestamps_of(path)
        assert 10 <= len(non_reference) <= 52
        every = {}
        left = {}
        for frames, leaves_out in ((every, frozenset()), (left, non_reference)):
            with av.open(str(path)) as container:
                number = -1
                for packet in container.demux(video=0):
                    number += 1
                    if number not in leaves_out:
                        frames.update({frame.pts: frame.to_ndarray(format="rgb24") for frame in packet.decode()})
        assert set(every) - set(left) == {timestamps[number] for number in non_reference}
        assert all(np.array_equal(frame, every[pts]) for pts, frame in left.items())

    @pytest.mark.parametrize("name", WITHOUT_NON_REFERENCE)
    def test_are_none_where_it_is_not_known(self, name: str, tmp_path: Path):
        assert not non_reference_of(
            write_video(tmp_path / name, moving_square(40, 64, 96), **WITHOUT_NON_REFERENCE[name])
        )

    @pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "theora"])
    @pytest.mark.parametrize("extradata", [None, b"", b"\x01", b"\x01" * 40, bytes(40)])
    def test_are_none_without_a_header_that_makes_sense(self, codec: str, extradata: bytes | None):
        assert non_reference_packets(codec, extradata, [b"", b"\x00\x00\x00\x01\x65", b"rubbish"]) == frozenset()

    def test_are_none_where_the_numbers_of_frames_tell_that_a_needed_one_is_called_non_reference(self, tmp_path: Path):
        how = {"x264-params": "bframes=7:b-adapt=0:b-pyramid=normal:keyint=30"}
        path = write_video(tmp_path / "whole.mp4", moving_square(60, 64, 96), options=how)
        non_reference = non_reference_of(path)
        needed = next(number for number in range(2, 60) if number not in non_reference)
        changed = remux(
            path, tmp_path / "changed.mp4", lambda n, data: _called_non_reference(data) if n == needed else data
        )
        assert non_reference and not non_reference_of(changed)

    def test_survive_random_damage(self, tmp_path: Path):
        rng = np.random.default_rng(0)
        for name in ("h264.mp4", "h265.mp4"):
            path = write_video(tmp_path / name, moving_square(20, 64, 96), **WITH_NON_REFERENCE[name])
            with av.open(str(path)) as container:
                codec = container.streams.video[0].codec_context
                extradata = np.frombuffer(codec.extradata or b"", np.uint8)
                packets = [np.frombuffer(bytes(packet), np.uint8) for packet in container.demux(video=0) if packet.size]
            for _ in range(300):
                damaged = [array.copy() for array in (extradata, *packets)]
                for array in damaged[:: rng.integers(1, 4)]:
                    array[rng.integers(0, min(len(array), 40), 2)] = rng.integers(0, 256, 2)
                head, *rest = [array.tobytes()[: rng.integers(1, 2000)] for array in damaged]
                assert non_reference_packets(codec.codec.canonical_name, head, rest) <= set(range(20))


def _called_non_reference(data: bytes) -> bytes:
    """Returns a packet of H.264 whose units all say that no other frame needs them."""
    changed, offset = bytearray(data), 0
    while offset < len(data):
        changed[offset + 4] &= 0x9F
        offset += 4 + int.from_bytes(data[offset : offset + 4], "big")
    return bytes(changed)


def _called_non_reference_in_h265(data: bytes) -> bytes:
    changed = bytearray(data)
    if changed[4] >> 1 == 1:  # an ordinary frame that others need
        changed[4] &= 0x81
    return bytes(changed)


class TestWhatNobodyNeedsIsNotDecoded:
    """Packets are overwritten with rubbish: if they were decoded, it would show."""

    @pytest.mark.parametrize("is_held", [True, False])
    @pytest.mark.parametrize("name", [name for name in WITH_NON_REFERENCE if not name.endswith(("mkv", "flv"))])
    def test_non_reference_frames_that_are_not_wanted(
        self, name: str, is_held: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        path = write_video(tmp_path / name, moving_square(60, 64, 96), **WITH_NON_REFERENCE[name])
        non_reference, timestamps = non_reference_of(path), timestamps_of(path)
        order = np.argsort(np.argsort(timestamps))  # position of the frame of each packet
        wanted = [int(order[number]) for number in sorted(non_reference)[4:8]]
        before = every_frame(path)
        overwrite_packets(path, [number for number in non_reference if order[number] not in wanted])
        if not is_held:  # then the container is sought in
            monkeypatch.setattr(packet_index, "MAX_HELD_BYTES", 0)
        with VideoFile(path, verified=as_if_verified(path)) as video:
            for frame, index in zip(video.frames(wanted), wanted, strict=True):
                assert np.array_equal(frame, before[index])

    def test_packets_behind_the_last_wanted_frame_of_its_group(self, tmp_path: Path):
        path = write_video(tmp_path / "groups.mp4", numbered_frames(60), options=GROUPS_OF_20)
        before = every_frame(path)
        overwrite_packets(path, [*range(11, 20), *range(30, 40)])
        with VideoFile(path, verified=as_if_verified(path)) as video:
            for frame, index in zip(video.frames([10, 20, 29]), [10, 20, 29], strict=True):
                assert np.array_equal(frame, before[index])
            with pytest.raises(UnreadableMedia, match="damaged"):
                video.frames([11])

    @pytest.mark.parametrize("is_held", [True, False])
    def test_what_is_known_to_be_whole_when_the_rest_is_read_for_the_first_time(
        self, is_held: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        path = write_video(tmp_path / "groups.mp4", numbered_frames(100), options=GROUPS_OF_20)
        before = every_frame(path)
        overwrite_packets(path, [30])  # of which nothing was noticed when it was decoded in order, as it were
        if not is_held:
            monkeypatch.setattr(packet_index, "MAX_HELD_BYTES", 0)
        verified, identity = as_if_verified(path, 45), fingerprint(str(path), None)
        with VideoFile(path, verified=verified) as video:
            for frame, index in zip(video.frames([75, 50, 50]), [75, 50, 50], strict=True):
                assert np.array_equal(frame, before[index])
            assert verified.num_verified(identity) == 76
            for index in (78, 83, 97):  # on and on, with a decoder that has been used
                assert np.array_equal(video.frames([index])[0], before[index])


SOUGHT = [name for name in (*WITH_NON_REFERENCE, *WITHOUT_NON_REFERENCE) if name[-3:] in ("mp4", "mov", "mkv", "ebm")]


@pytest.mark.parametrize("name", SOUGHT)
def test_packets_that_are_not_in_memory_are_found_by_seeking(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = write_video(
        tmp_path / name, moving_square(60, 64, 96), **{**WITH_NON_REFERENCE, **WITHOUT_NON_REFERENCE}[name]
    )
    monkeypatch.setattr(packet_index, "MAX_HELD_BYTES", 0)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        index = packet_index.read_index(container, stream)
        assert index.held_packets is None and len(index.keyframes) > 1
        for keyframe in reversed(index.keyframes):
            expected = [(packet.pts, packet.size_bytes) for packet in index.packets[keyframe.packet_number :]]
            *found, end = packet_index.read_packets_from(container, stream, index, keyframe)
            assert [(packet.pts, packet.size) for packet in found] == expected
            assert not end.size


@pytest.mark.parametrize("is_held", [True, False])
def test_early_and_late_frames_cost_no_more_than_each_alone(
    is_held: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = write_video(tmp_path / "groups.mp4", numbered_frames(100), options=GROUPS_OF_20)
    before = every_frame(path)
    overwrite_packets(path, [30, 55])  # in groups that nobody needs
    if not is_held:
        monkeypatch.setattr(packet_index, "MAX_HELD_BYTES", 0)
    verified = as_if_verified(path, 70)
    with VideoFile(path, verified=verified) as video:
        for frame, index in zip(video.frames([85, 3, 45]), [85, 3, 45], strict=True):
            assert np.array_equal(frame, before[index])
    assert verified.num_verified(fingerprint(str(path), None)) == 86


def test_group_that_is_too_large_for_memory_is_decoded_as_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_video(tmp_path / "groups.mp4", numbered_frames(100), options=GROUPS_OF_20)
    before = every_frame(path)
    overwrite_packets(path, [30])
    for module in (packet_index, selective):
        monkeypatch.setattr(module, "MAX_HELD_BYTES", 0)
    with VideoFile(path, verified=as_if_verified(path)) as video:
        for frame, index in zip(video.frames([45, 99, 59]), [45, 99, 59], strict=True):
            assert np.array_equal(frame, before[index])


class TestDamageIsFound:
    """Whatever precedes a wanted frame is decoded once, however long the video is."""

    @pytest.mark.parametrize("is_held", [True, False])
    def test_groups_before_that_of_the_wanted_frame(
        self, is_held: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        path = long_video(tmp_path / "long.mp4", options=GROUPS_OF_20)
        before = every_frame(path)
        overwrite_packets(path, [150])
        if not is_held:
            monkeypatch.setattr(packet_index, "MAX_HELD_BYTES", 0)
        verified, identity = VerifiedFiles(), fingerprint(str(path), None)
        for wanted in ([1000], [100], [1100, 149], [151]):  # before and after the whole part is known
            with VideoFile(path, verified=verified) as video:
                assert video.num_frames == 1220
                if wanted == [100]:
                    assert np.array_equal(video.frames(wanted)[0], before[100])
                else:
                    with pytest.raises(UnreadableMedia, match="damaged"):
                        video.frames(wanted)
            assert verified.num_verified(identity) in (0, 101)

    def test_behind_what_is_known_to_be_whole(self, tmp_path: Path):
        path = write_video(tmp_path / "groups.mp4", numbered_frames(100), options=GROUPS_OF_20)
        overwrite_packets(path, [65])
        verified = as_if_verified(path, 45)
        for wanted in ([70], [81], [99, 3]):  # in its group, at a keyframe behind it, and far from one another
            with VideoFile(path, verified=verified) as video, pytest.raises(UnreadableMedia, match="damaged"):
                video.frames(wanted)
        assert verified.num_verified(fingerprint(str(path), None)) == 45

    def test_once(self, tmp_path: Path):
        path = write_video(tmp_path / "short.mp4", numbered_frames(60), options=GROUPS_OF_20)
        before = every_frame(path)
        overwrite_packets(path, [30])
        with VideoFile(path, verified=VerifiedFiles()) as video, pytest.raises(UnreadableMedia, match="damaged"):
            video.frames([45])
        with VideoFile(path, verified=as_if_verified(path)) as video:  # what is known is believed
            assert np.array_equal(video.frames([45])[0], before[45])

    def test_by_a_look_at_all_frames(self, tmp_path: Path):
        path = write_video(tmp_path / "whole.mp4", numbered_frames(60), options=GROUPS_OF_20)
        verified = VerifiedFiles()
        with VideoFile(path, verified=verified) as video, closing(video.all_frames()) as frames:
            assert sum(1 for _ in frames) == 60
        assert verified.num_verified(fingerprint(str(path), None)) == 60


class TestFramesStayTheSame:
    @pytest.mark.parametrize("name", [*WITH_NON_REFERENCE, *WITHOUT_NON_REFERENCE])
    def test_when_only_what_is_needed_is_decoded(self, name: str, tmp_path: Path):
        how = {**WITH_NON_REFERENCE, **WITHOUT_NON_REFERENCE}[name]
        path = write_video(tmp_path / name, moving_square(60, 64, 96), **how)
        expected = every_frame(path)
        verified = all_verified(path)
        rng = np.random.default_rng(0)
        with VideoFile(path, verified=verified) as video:
            for indices in [*(rng.integers(0, 60, 8) for _ in range(6)), np.arange(60), *np.arange(60)[:, None]]:
                for index, frame in zip(indices, video.frames(indices), strict=True):
                    assert np.array_equal(frame, expected[index]), f"frame {index} of {indices}"

    @pytest.mark.parametrize("name", [name for name in WITH_NON_REFERENCE if not name.endswith("flv")])
    def test_when_the_packets_do_not_fit_into_memory(self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        path = write_video(tmp_path / name, moving_square(60, 64, 96), **WITH_NON_REFERENCE[name])
        expected = every_frame(path)
        verified = all_verified(path)
        monkeypatch.setattr(packet_index, "MAX_HELD_BYTES", 0)
        rng = np.random.default_rng(0)
        with VideoFile(path, verified=verified) as video:
            for indices in [*(rng.integers(0, 60, 8) for _ in range(6)), *np.arange(60)[:, None]]:
                for index, frame in zip(indices, video.frames(indices), strict=True):
                    assert np.array_equal(frame, expected[index]), f"frame {index} of {indices}"

    @pytest.mark.parametrize("is_held", [True, False])
    @pytest.mark.parametrize("name", [*WITH_NON_REFERENCE, *WITHOUT_NON_REFERENCE])
    def test_when_every_visit_reads_on_where_another_ended(
        self, name: str, is_held: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        how = {**WITH_NON_REFERENCE, **WITHOUT_NON_REFERENCE}[name]
        path = write_video(tmp_path / name, moving_square(60, 64, 96), **how)
        expected = every_frame(path)
        if not is_held:
            monkeypatch.setattr(packet_index, "MAX_HELD_BYTES", 0)
        for seed in range(4):
            verified, rng = VerifiedFiles(), np.random.default_rng(seed)
            for wanted in np.sort(rng.integers(0, 60, 9)).reshape(3, 3):
                with VideoFile(path, verified=verified) as video:
                    for index, frame in zip(wanted, video.frames(wanted), strict=True):
                        assert np.array_equal(frame, expected[index]), f"frame {index} of {wanted}"

    @pytest.mark.parametrize("suffix", ["mkv", "mp4"])
    def test_when_the_frame_of_the_keyframe_is_lost_from_which_reading_would_go_on(self, suffix: str, tmp_path: Path):
        options = {"g": "10", "bf": "2"}
        whole = write_video(tmp_path / "whole.mkv", moving_square(50, 64, 96), "mpeg4", options=options)
        path = tmp_path / f"gap.{suffix}"
        with av.open(str(whole)) as reader, av.open(str(path), "w") as writer:
            stream = writer.add_stream_from_template(reader.streams.video[0])
            packets = [packet for packet in reader.demux(video=0) if packet.size]
            fourth = [number for number, packet in enumerate(packets) if packet.is_keyframe][3]
            for number, packet in enumerate(packets):
                if number > fourth:  # a second in which nothing is shown
                    assert packet.pts is not None and packet.dts is not None
                    packet.pts, packet.dts = packet.pts + 1000, packet.dts + 1000
                packet.stream = stream
                writer.mux(packet)
        expected = every_frame(path)
        with VideoFile(path, verified=VerifiedFiles()) as video:
            position = [keyframe.position for keyframe in video._index.keyframes][3]
        verified = VerifiedFiles()
        for index in (position - 1, position, position + 5, position):
            with VideoFile(path, verified=verified) as video:
                assert np.array_equal(video.frames([index])[0], expected[index]), f"frame {index}"

    def test_when_a_header_calls_a_needed_frame_non_reference(self, tmp_path: Path):
        whole = write_video(tmp_path / "whole.mp4", moving_square(60, 64, 96), "libx265", options={"g": "20"})
        changes: dict[int, Callable[[bytes], bytes]] = dict.fromkeys(range(1, 60, 4), _called_non_reference_in_h265)
        path = remux(whole, tmp_path / "changed.mp4", lambda n, data: changes[n](data) if n in changes else data)
        assert len(non_reference_of(path)) > len(non_reference_of(whole))
        expected = every_frame(path)
        assert len(expected) == 60
        with VideoFile(path, verified=all_verified(path)) as video:
            for index in range(60):
                assert np.array_equal(video.frames([index])[0], expected[index]), f"frame {index}"

    @pytest.mark.parametrize("codec", ["libx264", "mpeg4"])  # the second decodes from anywhere, and says nothing
    @pytest.mark.parametrize("suffix", ["mkv", "mp4"])
    def test_when_the_container_calls_other_packets_keyframes(self, suffix: str, codec: str, tmp_path: Path):
        whole = write_video(tmp_path / "whole.mp4", moving_square(60, 64, 96), codec, options={"bf": "0", "g": "20"})
        path = tmp_path / f"changed.{suffix}"
        with av.open(str(whole)) as reader, av.open(str(path), "w") as writer:
            stream = writer.add_stream_from_template(reader.streams.video[0])
            for number, packet in enumerate(packet for packet in reader.demux(video=0) if packet.size):
                packet.is_keyframe, packet.stream = number in (0, 20, 33, 40), stream
                writer.mux(packet)
        expected = every_frame(path)
        for verified in (all_verified(path), as_if_verified(path, 36)):
            with VideoFile(path, verified=verified) as video:
                for index in (32, 33, 34, 39, 40, 50):
                    assert np.array_equal(video.frames([index])[0], expected[index]), f"frame {index}"


class TestVerifiedFiles:
    def test_lengths_that_were_counted_are_not_counted_again(self, tmp_path: Path):
        path = write_video(tmp_path / "counted.ts", numbered_frames(30))
        verified = VerifiedFiles()
        with VideoFile(path, verified=verified) as video:
            assert video.num_frames == 30
        identity = fingerprint(str(path), None)
        assert verified.num_frames(identity) == 30
        verified.remember_num_frames(identity, 7)  # what is known is believed, so nothing was decoded
        with VideoFile(path, verified=verified) as video:
            assert video.num_frames == 7

    @pytest.mark.parametrize("reads_all", [True, False])
    def test_a_length_that_was_found_out_is_used_at_the_next_visit(self, reads_all: bool, tmp_path: Path):
        path = write_video(tmp_path / "cut.mp4", numbered_frames(60), options=GROUPS_OF_20)
        overwrite_packets(path, [59])  # of the last one nothing can be decoded, as of a file that was cut off
        verified, identity = VerifiedFiles(), fingerprint(str(path), None)
        with VideoFile(path, verified=verified) as video:
            if reads_all:
                with closing(video.all_frames()) as frames:
                    assert sum(1 for _ in frames) == 59
            else:
                with pytest.raises(FewerFrames):
                    video.frames([59])
        assert (verified.num_frames(identity), verified.num_verified(identity)) == (59, 59)
        overwrite_packets(path, [10])  # whoever decodes again from the start would meet this
        verified.remember_num_frames(fingerprint(str(path), None), 59)
        with VideoFile(path, verified=verified) as video:
            assert video.num_frames == 60
            with pytest.raises(FewerFrames) as found:
                video.frames([59])
            assert found.value.actual == video.num_frames == 59

    @pytest.mark.parametrize("name", ["promises_more.avi", "promises_more.mp4"])
    def test_a_promise_is_corrected_at_every_visit_but_counted_only_once(self, name: str, tmp_path: Path):
        path = write_skipping_video(tmp_path / name, padding=b"\x00\x00\x01\xb2" + b"padding" * 5)
        verified = VerifiedFiles()
        for _ in range(3):
            with VideoFile(path, verified=verified) as video:
                # Not 59 at once on later visits: what is drawn from a file must not depend on earlier visits.
                assert video.num_frames == 60
                assert read_numbers(video.frames([5])) == [5]
                with pytest.raises(FewerFrames) as found:
                    video.frames([0, 30, 59])
                assert found.value.actual == video.num_frames == 59
                assert read_numbers(video.frames([0, 30, 58])) == [0, 31, 59]

    def test_a_file_that_changed_is_another(self, tmp_path: Path):
        path = write_video(tmp_path / "video.ts", numbered_frames(30))
        verified = VerifiedFiles()
        with VideoFile(path, verified=verified) as video:
            assert video.num_frames == 30
        write_video(path, numbered_frames(20))
        with VideoFile(path, verified=verified) as video:
            assert video.num_frames == 20

    def test_forget_the_earlier_of_two_files_in_one_slot(self):
        verified = VerifiedFiles(num_slots=4)
        one, other = 5 << 40, 9 << 40  # in one slot of the four
        verified.remember_num_verified(one, 30)
        verified.remember_num_frames(one, 40)
        assert (verified.num_verified(one), verified.num_frames(one)) == (30, 40)
        assert (verified.num_verified(other), verified.num_frames(other)) == (0, None)
        verified.remember_num_verified(other, 3)
        assert (verified.num_verified(other), verified.num_frames(other)) == (3, None)
        assert (verified.num_verified(one), verified.num_frames(one)) == (0, 40)

    def test_keep_the_longest_stretch_that_is_whole(self):
        verified = VerifiedFiles(num_slots=4)
        for num_verified in (30, 10):
            verified.remember_num_verified(7 << 40, num_verified)
        assert verified.num_verified(7 << 40) == 30
        verified.remember_num_frames(7 << 40, 0)
        assert verified.num_frames(7 << 40) == 0

    def test_find_numbers_out_again_that_are_too_large_to_remember(self):
        verified = VerifiedFiles(num_slots=4)
        verified.remember_num_frames(7 << 40, 2**40)
        verified.remember_num_verified(7 << 40, 2**40)
        assert (verified.num_verified(7 << 40), verified.num_frames(7 << 40)) == (0, None)

    def test_can_be_shared_by_processes_and_kept_for_later_ones(self, tmp_path: Path):
        one, other = (VerifiedFiles(num_slots=8, path=tmp_path / "known") for _ in range(2))
        one.remember_num_verified(7 << 40, 30)
        other.remember_num_frames(7 << 40, 40)
        for verified in (one, other, VerifiedFiles(num_slots=8, path=tmp_path / "known")):
            assert (verified.num_verified(7 << 40), verified.num_frames(7 << 40)) == (30, 40)

    def test_are_kept_in_the_cache_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        path = write_video(tmp_path / "counted.ts", numbered_frames(20))
        monkeypatch.setenv("OMNISOURCE_CACHE", str(tmp_path / "cache"))
        verified_files.cache_clear()
        try:
            with VideoFile(path) as video:
                assert video.num_frames == 20
        finally:
            verified_files.cache_clear()
        (kept,) = (tmp_path / "cache").iterdir()
        assert VerifiedFiles(path=kept).num_frames(fingerprint(str(path), None)) == 20

    def test_stay_with_the_process_where_there_is_no_cache_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        path = write_video(tmp_path / "counted.ts", numbered_frames(20))
        (tmp_path / "file").touch()
        monkeypatch.setenv("OMNISOURCE_CACHE", str(tmp_path / "file" / "cache"))
        verified_files.cache_clear()
        try:
            with VideoFile(path) as video:
                assert video.num_frames == 20
            assert verified_files().num_frames(fingerprint(str(path), None)) == 20
        finally:
            verified_files.cache_clear()

    def test_grow_with_the_frames_that_were_read(self, tmp_path: Path):
        path = write_video(tmp_path / "video.mp4", numbered_frames(30))
        verified, identity = VerifiedFiles(), fingerprint(str(path), None)
        with VideoFile(path, verified=verified) as video:
            assert verified.num_verified(identity) == 0
            for index, num_verified in ((3, 4), (1, 4), (12, 13)):
                video.frames([index])
                assert verified.num_verified(identity) == num_verified


class TestContent:
    @pytest.mark.parametrize("name", [*WITH_NON_REFERENCE, *WITHOUT_NON_REFERENCE])
    def test_gives_the_frames_of_the_file(self, name: str, tmp_path: Path):
        how = {**WITH_NON_REFERENCE, **WITHOUT_NON_REFERENCE}[name]
        path = write_video(tmp_path / name, numbered_frames(30), **how)
        content = path.read_bytes()
        expected = every_frame(path)
        path.unlink()
        verified = VerifiedFiles()
        for _ in range(2):
            with VideoFile(path, content, verified) as video:
                assert video.num_frames == len(expected)
                for indices in ([29, 3, 3], [17], range(30)):
                    assert np.array_equal(video.frames(indices), np.stack([expected[index] for index in indices]))
        with VideoFile(path, content, verified) as video:
            assert len(list(video.all_frames())) == 30

    def test_is_named_by_its_path_in_errors(self):
        for content, reason in ((b"", "the file is empty"), (b"no video" * 100, "not a video, or damaged")):
            with pytest.raises(UnreadableMedia, match=f"part.tar/clip.mp4: {reason}"):
                VideoFile("part.tar/clip.mp4", content)

    def test_is_recognized_where_its_name_misleads(self, tmp_path: Path):
        content = write_video(tmp_path / "video.mp4", numbered_frames(10)).read_bytes()
        for name in ("video.avi", "video.jpg", "http://127.0.0.1:9/video.mp4"):
            with VideoFile(name, content) as video:
                assert read_numbers(video.frames([9])) == [9]

    def test_other_content_of_the_same_name_is_another_video(self, tmp_path: Path):
        verified = VerifiedFiles()
        for length in (20, 30):
            content = write_video(tmp_path / "video.ts", numbered_frames(length)).read_bytes()
            with VideoFile("video.ts", content, verified) as video:
                assert video.num_frames == length
