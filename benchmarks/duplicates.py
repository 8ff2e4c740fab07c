"""Which copies `omnisource check` knows as copies, and what else it takes for one: the numbers of docs/checking.md.

    python benchmarks/duplicates.py ../shared/data

reads `sports22` (images), `ut_interaction` and `fir` (videos) there, makes copies of them, and compares their hashes.
"""

from __future__ import annotations

import argparse
import csv
import io
import tempfile
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image, ImageDraw

from omnisource.check.duplicates import SAME_CHANGE_BITS, SAME_FRAME_BITS, SAME_PICTURE_BITS
from omnisource.check.examine import VIDEO_FRAMES, frame_positions
from omnisource.data.decoding.images import decode_image
from omnisource.data.decoding.video import VideoFile
from omnisource.data.hashing.picture_hash import PictureHash, image_hash, video_hashes

IMAGES, VIDEOS = 1000, 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with sports22, ut_interaction and fir")
    data = parser.parse_args().data
    torch.set_num_threads(1)
    images = sorted((data / "sports22").glob("*/*.jpg"))
    image_copies(images)
    image_pairs(images)
    clips = sorted((data / "ut_interaction/videos").glob("*.avi"))
    video_copies(clips)
    hashes = [hashes_of(path) for path in clips]
    video_pairs("clips of UT-Interaction", hashes, [path.name for path in clips])
    video_pairs("actions of fir, from cameras that stand still", *fir_actions(data / "fir"))


def image_copies(paths: list[Path]) -> None:
    copies: dict[str, Callable[[Image.Image], Image.Image]] = {
        "JPEG, quality 90": lambda image: saved(image, quality=90),
        "JPEG, quality 50": lambda image: saved(image, quality=50),
        "JPEG, quality 20": lambda image: saved(image, quality=20),
        "WebP, quality 60": lambda image: saved(image, "WEBP", quality=60),
        "half size, JPEG 75": lambda image: saved(image.resize((image.width // 2, image.height // 2))),
        "twice the size, JPEG 75": lambda image: saved(image.resize((image.width * 2, image.height * 2))),
        "squeezed to 64x64, JPEG 75": lambda image: saved(image.resize((64, 64))),
        "15 % brighter": lambda image: image.point(lambda value: min(255, int(1.15 * value))),
        "gray": lambda image: image.convert("L").convert("RGB"),
        "a text in a corner": with_text,
        "1 % cut off each side": lambda image: cut(image, 0.01),
        "2 % cut off each side": lambda image: cut(image, 0.02),
        "5 % cut off each side": lambda image: cut(image, 0.05),
        "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    }
    chosen = np.random.default_rng(0).choice(len(paths), IMAGES, replace=False)
    originals = [Image.fromarray(decode_image(paths[index])) for index in chosen]
    hashes = [image_hash(np.array(image)) for image in originals]
    plain = sum(one.is_plain for one in hashes)
    print(
        f"copies of {IMAGES} images of sports22, {plain} of them plain; found: at most {SAME_PICTURE_BITS} bits differ"
    )
    print("| copy | median bits | 99 % below | most | found |\n| --- | --- | --- | --- | --- |")
    for name, copy in copies.items():
        bits = np.array(
            [
                differing(original, image_hash(np.array(copy(image))))
                for original, image in zip(hashes, originals, strict=True)
                if not original.is_plain
            ]
        )
        share = (bits <= SAME_PICTURE_BITS).mean()
        print(f"| {name} | {np.median(bits):.0f} | {np.percentile(bits, 99):.0f} | {bits.max()} | {share:.1%} |")


def image_pairs(paths: list[Path]) -> None:
    hashes = [(path, image_hash(decode_image(path))) for path in paths]
    known = [(f"{path.parent.name}/{path.name}", one) for path, one in hashes if not one.is_plain]
    apart = distances([one for _, one in known])
    first, second = np.triu_indices(len(known), 1)
    bits = apart[first, second]
    print(f"\nall {len(bits)} pairs of {len(known)} images of sports22: pairs with at most so many differing bits")
    print(", ".join(f"{limit}: {(bits <= limit).sum()}" for limit in range(8, 81, 8)))
    for pair in np.argsort(bits, kind="stable")[:12]:
        print(f"  {bits[pair]:3d} {known[first[pair]][0]} {known[second[pair]][0]}")


def video_copies(paths: list[Path]) -> None:
    copies: dict[str, tuple[int, Callable[[np.ndarray], np.ndarray]]] = {
        "H.264, crf 23": (23, lambda frames: frames),
        "H.264, crf 35": (35, lambda frames: frames),
        "half size, crf 28": (28, lambda frames: frames[:, ::2, ::2]),
        "every second frame, crf 28": (28, lambda frames: frames[::2]),
        "last 2 % cut off, crf 28": (28, lambda frames: frames[: round(0.98 * len(frames))]),
        "first and last 10 % cut off, crf 28": (28, lambda frames: frames[len(frames) // 10 : -len(frames) // 10]),
    }
    chosen = paths[:: len(paths) // VIDEOS][:VIDEOS]
    print(f"\ncopies of {VIDEOS} clips of UT-Interaction; found: at most {SAME_FRAME_BITS} bits differ of each frame,")
    print(f"and {SAME_CHANGE_BITS} of each change")
    print("| copy | bits of frames: median, most | of changes: median, most | found |\n| --- | --- | --- | --- |")
    for name, (crf, change) in copies.items():
        frame_bits, change_bits = [], []
        for path in chosen:
            with VideoFile(path) as video:
                frames = video.frames(range(video.num_frames))
            even = frames[:, : frames.shape[1] // 4 * 4, : frames.shape[2] // 4 * 4]
            with tempfile.TemporaryDirectory() as folder:
                copy = hashes_of(encoded(change(even), Path(folder) / "copy.mp4", crf))
            bits = [differing(one, other) for one, other in zip(hashes_of(path), copy, strict=True)]
            frame_bits.append(max(bits[:VIDEO_FRAMES]))
            change_bits.append(max(bits[VIDEO_FRAMES:]))
        found = (np.array(frame_bits) <= SAME_FRAME_BITS) & (np.array(change_bits) <= SAME_CHANGE_BITS)
        columns = [f"{np.median(bits):.0f}, {max(bits)}" for bits in (frame_bits, change_bits)]
        print(f"| {name} | {columns[0]} | {columns[1]} | {found.mean():.0%} |")


def video_pairs(name: str, hashes: Sequence[Sequence[PictureHash]], names: Sequence[str]) -> None:
    apart = np.stack([distances([of_video[index] for of_video in hashes]) for index in range(len(hashes[0]))])
    first, second = np.triu_indices(len(hashes), 1)
    frames, changes = (part.max(axis=0)[first, second] for part in (apart[:VIDEO_FRAMES], apart[VIDEO_FRAMES:]))
    print(f"\nall {len(frames)} pairs of {len(hashes)} {name}: pairs with at most so many differing bits of each frame")
    print(", ".join(f"{limit}: {(frames <= limit).sum()}" for limit in range(20, 101, 10)))
    alike = frames <= SAME_FRAME_BITS
    smallest = changes[alike].min() if alike.any() else "-"
    print(f"among the {alike.sum()} pairs with at most {SAME_FRAME_BITS}: at least {smallest} of a change")
    for pair in np.argsort(frames, kind="stable")[:5]:
        print(f"  frames {frames[pair]}, changes {changes[pair]}: {names[first[pair]]} {names[second[pair]]}")


def fir_actions(folder: Path) -> tuple[list[tuple[PictureHash, ...]], list[str]]:
    """Returns the hashes and the names of the labeled pieces of all videos of fir."""
    with (folder / "segments.csv").open() as file:
        rows = list(csv.DictReader(file))
    hashes, names = [], []
    for video_name in sorted({row["video"] for row in rows}):
        with VideoFile(folder / "videos" / video_name) as video:
            for row in (row for row in rows if row["video"] == video_name):
                start, end = int(row["start_frame"]), min(int(row["end_frame"]), video.num_frames)
                if end - start > VIDEO_FRAMES:
                    positions = [start + position for position in frame_positions(end - start)]
                    hashes.append(video_hashes(video.frames(positions)))
                    names.append(f"{video_name} from {start}")
    return hashes, names


def hashes_of(path: Path) -> tuple[PictureHash, ...]:
    with VideoFile(path) as video:
        return video_hashes(video.frames(frame_positions(video.num_frames)))


def distances(hashes: Sequence[PictureHash]) -> np.ndarray:
    """Returns the differing bits of each two hashes, [N, N]."""
    bits = np.stack([np.unpackbits(np.frombuffer(one.bits, np.uint8)) for one in hashes])
    signs = torch.from_numpy(bits.astype(np.float32) * 2 - 1)
    return ((signs.shape[1] - signs @ signs.T) / 2).numpy().astype(np.int64)


def differing(first: PictureHash, second: PictureHash) -> int:
    return (int.from_bytes(first.bits, "big") ^ int.from_bytes(second.bits, "big")).bit_count()


def saved(image: Image.Image, format: str = "JPEG", quality: int = 75) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, format, quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def cut(image: Image.Image, share: float) -> Image.Image:
    edge = max(1, round(share * min(image.size)))
    return image.crop((edge, edge, image.width - edge, image.height - edge))


def with_text(image: Image.Image) -> Image.Image:
    drawn = image.copy()
    ImageDraw.Draw(drawn).text((4, image.height - 14), "www.example.org", fill=(255, 255, 255))
    return drawn


def encoded(frames: np.ndarray, path: Path, crf: int) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": str(crf), "preset": "veryfast"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


if __name__ == "__main__":
    main()
