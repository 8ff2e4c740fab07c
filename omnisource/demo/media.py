"""The demo's data set: real handwritten digits as images, and H.264 clips in which such a digit moves over clutter.

    images/train.txt, held_out.txt, classes.txt    ten classes: the digits
    clips/train.txt, held_out.txt, classes.txt     twenty classes: five of the digits, each moving four ways

The scans are split once: what is held out, as an image or in a clip, shares no scan with what is trained on. In which
direction a digit moves is seen over several frames only, and a flipped clip belongs to another class.

FFmpeg encodes in the calling process, one thread a clip, and every container is closed again. Nothing of it may be
carried into a fork, so workers that are started later have to be forkserver or spawn processes.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw

from omnisource.errors import UserError
from omnisource.randomness import derived_seed

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MOVING_DIGITS = 5
MOTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}  # x to the right, y down
CLIP_CLASSES = tuple(f"{digit}_{motion}" for digit in DIGITS[:MOVING_DIGITS] for motion in MOTIONS)
HELD_OUT_SHARE = 0.25  # of the scans of each digit
IMAGE_SIZE, CLIP_SIZE = 64, 80  # pixels
CLIP_FRAMES, FRAMES_PER_SECOND = 24, 24
_FACTS = "demo_media.json"


@dataclass(frozen=True)
class _Scans:
    """Handwritten digits.

    Attributes:
        ink: [N, 8, 8] float32, 0 to 1.
        digits: [N] int64, 0 to 9.
        numbers: [N] int64: which scans these are.
    """

    ink: np.ndarray
    digits: np.ndarray
    numbers: np.ndarray


def make_demo_media(folder: str | Path, seed: int = 0, training_clips: int = 6, held_out_clips: int = 10) -> None:
    """Makes the data set, or leaves it as it is where the folder already holds the one asked for.

    Every file is a function of the seed, of this code and of the libraries that encode. The folder appears when all is
    in it: a process that is stopped leaves no incomplete data set.

    Args:
        folder: Where to make it.
        seed: Decides the split of the scans, the clutter, the positions and the speeds.
        training_clips: Clips to train on, of each class; 1 to 30.
        held_out_clips: Clips held out, of each class; 1 to 10.

    Raises:
        UserError: scikit-learn or the H.264 encoder is missing, or the folder holds something else.
        ValueError: More clips of a class than there are scans for, or none.
    """
    if not (1 <= training_clips <= 30 and 1 <= held_out_clips <= 10):
        raise ValueError(f"1 to 30 and 1 to 10 clips of a class can be made, not {training_clips} and {held_out_clips}")
    folder = Path(folder)
    facts = {"seed": seed, "form": 1, "training_clips": training_clips, "held_out_clips": held_out_clips}
    if _is_complete(folder, facts):
        return
    if "libx264" not in av.codecs_available:
        raise UserError("this build of PyAV has no H.264 encoder (libx264); pip install av brings one that has")
    parts = _split(_load_scans(), seed)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for part, scans in parts.items():
        _make_images(partial / "images", part, scans, seed)
        _make_clips(partial / "clips", part, scans, training_clips if part == "train" else held_out_clips, seed)
    (partial / "images" / "classes.txt").write_text("".join(f"{name}\n" for name in DIGITS))
    (partial / "clips" / "classes.txt").write_text("".join(f"{name}\n" for name in CLIP_CLASSES))
    (partial / _FACTS).write_text(json.dumps(facts) + "\n")
    if folder.exists():
        folder.rmdir()  # it is empty
    os.replace(partial, folder)


def _is_complete(folder: Path, facts: dict[str, int]) -> bool:
    """Returns whether the folder holds this data set; False where it is missing or empty."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = json.loads((folder / _FACTS).read_text())
    except (OSError, ValueError):
        raise UserError(
            f"{folder}: holds something else than the demo's media; name another folder or remove it"
        ) from None
    if found != facts:
        raise UserError(f"{folder}: holds the demo's media of {found}, asked for are {facts}; remove it first")
    return True


def _load_scans() -> _Scans:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError(
            f"the demo's handwritten digits come with scikit-learn, which cannot be imported ({error}): "
            'pip install "omnisource[demo]"'
        ) from error
    ink, digits = load_digits(return_X_y=True)
    return _Scans((ink / 16).reshape(-1, 8, 8).astype(np.float32), digits.astype(np.int64), np.arange(len(digits)))


def _split(scans: _Scans, seed: int) -> dict[str, _Scans]:
    """Returns the scans to train on and those held out, the same share of each digit."""
    rng = _generator(seed, "split")
    held_out = np.zeros(len(scans.digits), dtype=bool)
    for digit in range(len(DIGITS)):
        of_digit = np.flatnonzero(scans.digits == digit)
        held_out[rng.permutation(of_digit)[: round(HELD_OUT_SHARE * len(of_digit))]] = True
    return {
        part: _Scans(scans.ink[chosen], scans.digits[chosen], scans.numbers[chosen])
        for part, chosen in (("train", ~held_out), ("held_out", held_out))
    }


def _make_images(root: Path, part: str, scans: _Scans, seed: int) -> None:
    (root / part).mkdir(parents=True)
    lines = []
    for ink, digit, number in zip(scans.ink, scans.digits, scans.numbers, strict=True):
        rng = _generator(seed, "image", int(number))
        size = int(rng.integers(24, 45))
        x, y = rng.integers(0, IMAGE_SIZE - size + 1, size=2)
        picture = _clutter(rng, IMAGE_SIZE)
        _paint(picture, _glyph(ink, size), _bright_color(rng), int(x), int(y))
        name = f"{part}/{DIGITS[digit]}_{number:04d}.jpg"
        Image.fromarray(picture.round().astype(np.uint8)).save(root / name, quality=92)
        lines.append(f"{name} {digit}\n")
    (root / f"{part}.txt").write_text("".join(lines))


def _make_clips(root: Path, part: str, scans: _Scans, clips_per_class: int, seed: int) -> None:
    (root / part).mkdir(parents=True)
    lines = []
    for label, class_name in enumerate(CLIP_CLASSES):
        digit, motion = divmod(label, len(MOTIONS))
        # A digit's four classes share its scans out, so that none of them is recognized by the handwriting.
        of_digit = _generator(seed, "clips", part, digit).permutation(np.flatnonzero(scans.digits == digit))
        for index, scan in enumerate(of_digit[motion :: len(MOTIONS)][:clips_per_class]):
            frames = _moving_digit(scans.ink[scan], list(MOTIONS)[motion], _generator(seed, part, class_name, index))
            name = f"{part}/{class_name}_{scans.numbers[scan]:04d}.mp4"
            _encode(root / name, frames)
            lines.append(f"{name} {label}\n")
    (root / f"{part}.txt").write_text("".join(lines))


def _moving_digit(ink: np.ndarray, motion: str, rng: np.random.Generator) -> np.ndarray:
    """Returns the frames of a clip: [T, H, W, 3] uint8, 0-255, RGB.

    The digit crosses 60 to 90 % of the way that it has, from a random start and with a small drift across, in front of
    clutter that stands still.
    """
    size = int(rng.integers(26, 35))
    room = CLIP_SIZE - size
    way = rng.uniform(0.6, 0.9) * room
    along = rng.uniform(0, room - way) + np.linspace(0, way, CLIP_FRAMES)
    drift = rng.uniform(-4, 4)
    across = np.clip(rng.uniform(0, room) + np.linspace(0, drift, CLIP_FRAMES), 0, room)
    direction = MOTIONS[motion]
    if sum(direction) < 0:
        along = along[::-1]
    xs, ys = (along, across) if direction[0] else (across, along)
    glyph, color, background = _glyph(ink, size), _bright_color(rng), _clutter(rng, CLIP_SIZE)
    frames = np.repeat(background[None], CLIP_FRAMES, axis=0)
    for frame, x, y in zip(frames, xs, ys, strict=True):
        _paint(frame, glyph, color, round(x), round(y))
    return frames.round().astype(np.uint8)


def _clutter(rng: np.random.Generator, size: int) -> np.ndarray:
    """Returns a background [size, size, 3] float32, 20 to 150: soft spots and strokes as thick as a digit."""
    spots = rng.integers(20, 110, size=(6, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(spots).resize((size, size), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(4, 9)):
        x, y = rng.uniform(0, size, size=2)
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.3) * size
        end = (x + length * np.cos(angle), y + length * np.sin(angle))
        color = tuple(int(value) for value in rng.integers(60, 151, size=3))
        draw.line([(x, y), end], fill=color, width=int(rng.integers(2, 5)))
    return np.asarray(picture, dtype=np.float32).copy()


def _glyph(ink: np.ndarray, size: int) -> np.ndarray:
    """Returns how much the digit covers each pixel: [size, size] float32, 0 to 1, from a scan [8, 8]."""
    enlarged = np.asarray(Image.fromarray(ink).resize((size, size), Image.Resampling.BICUBIC))
    return np.clip((enlarged - 0.25) / 0.5, 0, 1)


def _bright_color(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(190, 256, size=3).astype(np.float32)


def _paint(picture: np.ndarray, glyph: np.ndarray, color: np.ndarray, x: int, y: int) -> None:
    """Lays the glyph in its color over the picture, in place; x and y are its left and upper edge in pixels."""
    region = picture[y : y + len(glyph), x : x + len(glyph)]
    region += (np.minimum(color, 255) - region) * glyph[..., None]


def _encode(path: Path, frames: np.ndarray) -> None:
    """Writes frames [T, H, W, 3] uint8 as H.264 in MP4; equal frames give equal bytes.

    That takes one thread and no looking ahead: x264's lookahead (mbtree) does not decide the same way every time.
    """
    options = {"preset": "veryfast", "tune": "zerolatency", "crf": "20"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def _generator(seed: int, *parts: int | str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(derived_seed(seed, "demo", *parts)))
