"""Who returns the frame that was asked for: the first table of docs/decoding.md.

    python benchmarks/exactness.py ../shared/data

Of every file 30 random frames are read by their index, by this package and by others, and held against a plain
sequential decode. A frame is right if it looks like the frame at that index and no other frame looks more like it,
since decoders differ in the last bit of colors; ours must be equal bit for bit. The files are the media of the folder
given, and others that are made on the spot. Readers that are not installed, or do not work, are named with the reason.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import av
import numpy as np
from av.stream import Disposition

from tests.support.media import numbered_frames, write_video

NUM_INDICES = 30
TIMEOUT_SECONDS = 600
SIGNATURE = 16  # pixels a side of the small pictures by which similar frames are found
LARGEST_DIFFERENCE = 6.0  # gray levels, of frames that are the same

B_FRAMES = {"bf": "2", "g": "12"}
IRREGULAR_MS = np.cumsum(np.random.default_rng(0).integers(10, 90, 60)).tolist()
X265 = "log-level=none:pools=1:frame-threads=1"

# name of the file -> how it is written, of 60 numbered frames of 96x128
MADE: dict[str, dict] = {
    "constant_rate.mp4": {"options": B_FRAMES},
    "variable_rate.mp4": {"options": B_FRAMES, "timestamps_ms": IRREGULAR_MS},
    "edit_list.mp4": {"options": B_FRAMES, "shown_from": 10},
    "open_groups.mp4": {"options": {"x264-params": "bframes=2:keyint=12:open-gop=1"}},
    "gradual_refresh.mp4": {"options": {"x264-params": "intra-refresh=1:keyint=12"}},
    "one_keyframe.mp4": {"options": {"g": "600", "bf": "3"}},
    "10_bits.mp4": {"options": B_FRAMES, "pixel_format": "yuv420p10le"},
    "rotated_90.mp4": {"options": B_FRAMES, "rotation": 90},
    "rotated_180.mp4": {"options": B_FRAMES, "rotation": 180},
    "rotated_270.mp4": {"options": B_FRAMES, "rotation": -90},
    "h265.mp4": {"codec": "libx265", "options": {"g": "12"}},
    "h265_open_groups.mkv": {"codec": "libx265", "options": {"x265-params": f"{X265}:open-gop=1:keyint=12:bframes=3"}},
    "odd_timestamps.mkv": {"options": B_FRAMES, "timestamps_ms": [7013 + time for time in IRREGULAR_MS]},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "12", "cpu-used": "8", "deadline": "realtime"}},
    "av1.mkv": {"codec": "libsvtav1", "options": {"g": "20", "preset": "8", "crf": "20", "svtav1-params": "lp=1"}},
    "b_frames.avi": {"codec": "mpeg4", "options": B_FRAMES},
    "h264.flv": {"options": B_FRAMES},
    "raw.h264": {"options": B_FRAMES, "container_format": "h264"},
    "transport.ts": {"options": B_FRAMES},
    "transport_open_groups.ts": {"options": {"x264-params": "bframes=2:keyint=12:open-gop=1"}},
    "animation.gif": {"codec": "gif"},
}

GetFrame = Callable[[int], np.ndarray]
"""Returns the frame [H, W, 3] uint8 at an index."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with media/ and ut_interaction/")
    parser.add_argument("--reader", choices=READERS, help=argparse.SUPPRESS)
    parser.add_argument("files", type=Path, nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.reader is not None:
        for file in arguments.files:
            print(json.dumps(judge(READERS[arguments.reader], file, arguments.reader == "ours")), flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        made = write_files(Path(folder))
        media = sorted(file for file in (arguments.data / "media").iterdir() if file.name != "corrupted.mp4")
        clips = sorted((arguments.data / "ut_interaction" / "videos").iterdir())
        columns = {name: results(name, arguments.data, [*made, *media, *clips]) for name in READERS}
    print(f"| file | {' | '.join(READERS)} |\n|{' --- |' * (len(READERS) + 1)}")
    for file in [*made, *media]:
        print(f"| {file.name} | {' | '.join(columns[name][file] for name in READERS)} |")
    sums = (sum(int(columns[name][file]) for file in clips if columns[name][file].isdigit()) for name in READERS)
    print(f"| UT-Interaction, {len(clips)} files | {' | '.join(map(str, sums))} |")


def write_files(folder: Path) -> list[Path]:
    frames = numbered_frames(60, 96, 128)
    files = [write_video(folder / name, frames, **how) for name, how in MADE.items()]
    files.append(write_video(folder / "one_frame.mp4", frames[:1]))
    files.append(write_video(folder / "odd_size.mp4", numbered_frames(60, 97, 131), pixel_format="yuv444p"))
    return files


def results(reader: str, data: Path, files: Sequence[Path]) -> dict[Path, str]:
    """Returns what a reader achieved with each file. It runs in processes of its own, since readers crash and hang."""
    found: dict[Path, str] = {}
    while len(found) < len(files):
        rest = files[len(found) :]
        command = [sys.executable, __file__, "--reader", reader, str(data), *map(str, rest)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
            output, end = done.stdout, "crashes"
        except subprocess.TimeoutExpired as expired:
            output, end = (expired.stdout or b"").decode(), "hangs"
        lines = [json.loads(line) for line in output.splitlines() if line.startswith('"')]
        found.update(zip(rest, lines, strict=False))
        if len(lines) < len(rest):
            found[rest[len(lines)]] = end  # and the next process goes on behind it
        print(f"{reader}: {len(found)} of {len(files)} files", file=sys.stderr)
    return found


def judge(open_file: Callable[[Path], GetFrame], path: Path, must_be_equal: bool) -> str:
    """Returns how many of 30 random frames are right, or why there are none."""
    expected = sequential(path)
    signatures = np.stack([signature(frame) for frame in expected])
    try:
        get_frame = open_file(path)
    except ImportError as error:
        return f"not installed: {str(error).splitlines()[0]}"
    except Exception as error:  # whatever a reader raises is what it achieved
        return f"will not open: {type(error).__name__}"
    num_right, errors = 0, set()
    for index in np.random.default_rng(0).integers(0, len(expected), NUM_INDICES).tolist():
        try:
            frame = get_frame(index)
        except Exception as error:
            errors.add(type(error).__name__)
            continue
        if must_be_equal:
            num_right += np.array_equal(frame, expected[index])
        else:
            num_right += is_right(frame, index, expected, signatures)
    return str(num_right) if num_right or not errors else f"0: {', '.join(sorted(errors))}"


def is_right(frame: np.ndarray, index: int, expected: list[np.ndarray], signatures: np.ndarray) -> bool:
    """Returns whether a frame [H, W, 3] looks like that at `index`, and like no other more than like it."""
    if frame.shape != expected[index].shape:
        return False
    own = difference(frame, expected[index])
    rivals = np.abs(signatures - signature(frame)).mean(axis=(1, 2, 3)).argsort()[:5]
    return own <= LARGEST_DIFFERENCE and all(own <= difference(frame, expected[rival]) + 0.01 for rival in rivals)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(np.int16) - other).mean())


def signature(frame: np.ndarray) -> np.ndarray:
    rows, columns = (np.linspace(0, length - 1, SIGNATURE).round().astype(int) for length in frame.shape[:2])
    return frame[rows][:, columns].astype(np.float32)


def sequential(path: Path) -> list[np.ndarray]:
    """Returns all frames [H, W, 3] uint8, turned upright, as a plain loop gives them."""
    with av.open(str(path)) as container:
        stream = first_stream(container)
        stream.codec_context.thread_count = 1
        return [upright(frame) for frame in container.decode(stream)]


def upright(frame: av.VideoFrame) -> np.ndarray:
    return np.rot90(frame.to_ndarray(format="rgb24", threads=1), frame.rotation // 90)


def first_stream(container: av.container.InputContainer) -> av.VideoStream:
    return next(one for one in container.streams.video if not one.disposition & Disposition.attached_pic)


def open_ours(path: Path) -> GetFrame:
    video = importlib.import_module("omnisource.data.decoding.video").VideoFile(path)
    return lambda index: video.frames([index])[0]


def open_pyav_by_timestamp(path: Path) -> GetFrame:
    """Seeks to the timestamp that the packets give for a frame, and takes the first frame from there on."""
    container = av.open(str(path))
    stream = first_stream(container)
    timestamps = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
    return lambda index: frame_at(container, stream, timestamps[index])


def open_pyav_by_rate(path: Path) -> GetFrame:
    """Seeks to the time that follows from the mean frame rate."""
    container = av.open(str(path))
    stream = first_stream(container)
    assert stream.average_rate and stream.time_base
    ticks = 1 / stream.average_rate / stream.time_base
    return lambda index: frame_at(container, stream, round(index * ticks))


def frame_at(container: av.container.InputContainer, stream: av.VideoStream, timestamp: int) -> np.ndarray:
    container.seek(timestamp, stream=stream)
    for frame in container.decode(stream):
        if frame.pts is not None and frame.pts >= timestamp:
            return upright(frame)
    raise ValueError("no such frame")


def open_torchcodec_exact(path: Path) -> GetFrame:
    return open_torchcodec(path, "exact")


def open_torchcodec_approximate(path: Path) -> GetFrame:
    return open_torchcodec(path, "approximate")


def open_torchcodec(path: Path, seek_mode: str) -> GetFrame:
    try:
        decoders = importlib.import_module("torchcodec.decoders")
    except (OSError, RuntimeError) as error:  # it is there, and finds no FFmpeg
        raise ImportError(str(error).strip().splitlines()[0]) from error
    decoder = decoders.VideoDecoder(str(path), seek_mode=seek_mode, dimension_order="NHWC")
    return lambda index: decoder[index].numpy()


def open_decord(path: Path) -> GetFrame:
    video = importlib.import_module("decord").VideoReader(str(path), num_threads=1)
    return lambda index: video[index].asnumpy()


def open_opencv(path: Path) -> GetFrame:
    cv2 = importlib.import_module("cv2")
    video = cv2.VideoCapture(str(path))

    def get_frame(index: int) -> np.ndarray:
        video.set(cv2.CAP_PROP_POS_FRAMES, index)
        has_frame, frame = video.read()
        if not has_frame:
            raise ValueError("no such frame")
        return frame[..., ::-1]

    return get_frame


READERS: dict[str, Callable[[Path], GetFrame]] = {
    "ours": open_ours,
    "PyAV by timestamp": open_pyav_by_timestamp,
    "PyAV by rate": open_pyav_by_rate,
    "torchcodec exact": open_torchcodec_exact,
    "torchcodec approximate": open_torchcodec_approximate,
    "decord": open_decord,
    "OpenCV": open_opencv,
}


if __name__ == "__main__":
    main()
