"""Training views of JPEG files of three sizes, beside the published pipeline's steps with OpenCV.

These are: reading and decoding, RGB, a random resized crop to 224, a flip, colors laid apart (LoadImageFromFile of
open-mmlab/mmcv v2.1.0, RandomResizedCrop of open-mmlab/mmpretrain v1.2.0, RandomFlip and packing of mmaction2
v1.2.0). Normalization runs on the device in both.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from beside import Row, in_turn
from PIL import Image
from torch import Tensor

from omnisource.data.loading.request import SampleRequest
from omnisource.data.loading.sample import load_clip
from omnisource.recipe.data import ClipSampling, TrainingView

SIZES = ((340, 256), (500, 375), (1600, 1200))
VIEW = TrainingView()
LOADS = 30
"""Views in a round: crops differ in size, and with them what they cost."""


def measure(rounds: int) -> list[Row]:
    """Returns the times of loading `LOADS` views of an image, for each size."""
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for width, height in SIZES:
            path = Path(folder) / f"{width}x{height}.jpg"
            write_photograph(path, width, height)
            name = f"{LOADS} views of a JPEG of {width}x{height}, {path.stat().st_size / 1000:.0f} kB"
            rows.append(in_turn(name, _repeated(theirs, path), _repeated(ours, path), rounds))
    return rows


def write_photograph(path: Path, width: int, height: int) -> None:
    """Writes soft blotches with some grain, which take about the bytes of a photograph."""
    rng = np.random.default_rng(0)
    blotches = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(blotches).resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    grain = rng.normal(0, 8, (height, width, 1)).astype(np.int16)
    Image.fromarray((picture + grain).clip(0, 255).astype(np.uint8)).save(path, quality=90)


def theirs(path: Path, index: int) -> Tensor:
    """Returns a view: [3, 224, 224] uint8."""
    rng = np.random.default_rng(index)
    image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    cv2.cvtColor(image, cv2.COLOR_BGR2RGB, image)
    top, left, rows, columns = _their_box(*image.shape[:2], rng)
    crop = cv2.resize(image[top : top + rows, left : left + columns], (224, 224), interpolation=cv2.INTER_LINEAR)
    flipped = np.flip(crop, axis=1) if rng.random() < 0.5 else crop
    return torch.from_numpy(np.ascontiguousarray(flipped.transpose(2, 0, 1)))


def ours(path: Path, index: int) -> Tensor:
    """Returns a view: [1, 3, 1, 224, 224] uint8."""
    request = SampleRequest("images", "image", str(path), path.name, 0, None, "", ClipSampling(), VIEW, index=index)
    return load_clip(request).frames


def _their_box(height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    for _ in range(10):
        area = rng.uniform(0.08, 1) * height * width
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        columns, rows = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < columns <= width and 0 < rows <= height:
            return int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1)), rows, columns
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


def _repeated(load: Callable[[Path, int], Tensor], path: Path) -> Callable[[], None]:
    indices = itertools.count()

    def work() -> None:
        for index in itertools.islice(indices, LOADS):
            load(path, index)

    return work
