"""One contact sheet of training samples: each as it goes into the model, with its caption and what it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from omnisource.reporting.drawing.names import drawn_names
from omnisource.reporting.pictures import contact_sheet

MAX_FRAMES = 8
"""Most frames of a clip that are drawn; of longer clips they are taken evenly."""

MARK = "omnisource check --pictures"  # by which our own sheets are known, which may be replaced
_SHEET_WIDTH, _TILE_HEIGHT = 16.0, 1.9  # inches
_GAP = 6  # pixels between a sample and what it was made of
_CROP_COLOR, _BACKGROUND, _CROSS = (255, 190, 0), 255, (200, 60, 50)


@dataclass(frozen=True)
class DrawnSample:
    """What is drawn of one sample.

    Attributes:
        clip: [3, T, S, S] uint8, as it goes into the model.
        frames: What it was made of, [T, h, w, 3] uint8; None if its file cannot be read.
        label: [classes] float32, summing to 1.
        own_class: Class index of the sample before it was mixed.
        key: Where it came from, with what was mixed into it.
        reason: Why its file cannot be read, or "".
    """

    clip: Tensor
    frames: np.ndarray | None
    label: Tensor
    own_class: int
    key: str
    reason: str


def draw_sheet(name: str, samples: Sequence[DrawnSample], class_names: Sequence[str], seed: int, path: Path) -> None:
    """Draws the sheet of one source."""
    tiles = [_tile(sample) for sample in samples]
    class_names = drawn_names(class_names)
    aspect = max(tile.shape[1] / tile.shape[0] for tile in tiles)
    contact_sheet(
        tiles,
        [caption(number, sample, class_names) for number, sample in enumerate(samples, start=1)],
        path,
        columns=max(1, min(6, round(_SHEET_WIDTH / (_TILE_HEIGHT * aspect)))),
        correct=[False if sample.reason else None for sample in samples],
        title=f"{name}: the first {len(samples)} training samples of seed {seed} as they go into the model; with each, "
        "what was decoded, and its crop",
        height_inches=_TILE_HEIGHT,
        mark=MARK,
    )


def caption(number: int, sample: DrawnSample, class_names: Sequence[str]) -> str:
    """Returns what is written above a sample: number, class or classes, where it came from, and what is wrong."""
    classes: list[int] = sample.label.nonzero().flatten().tolist()
    classes.sort(key=lambda index: index != sample.own_class)  # in the order of the keys
    names = [class_names[index] for index in classes]
    # Where no class map gives names, they are numbers, which beside the shares would not look like names.
    names = [f"class {name}" if name.isdecimal() else name for name in names]
    shares = [f"{float(sample.label[index]):.2f} {name}" for index, name in zip(classes, names, strict=True)]
    text = " + ".join(shares) if len(classes) > 1 else names[0]
    lines = [f"{number}. {text}", sample.key]
    return "\n".join([*lines, f"cannot be read: {sample.reason}"] if sample.reason else lines)


def _tile(sample: DrawnSample) -> np.ndarray:
    """Returns a sample and what it was made of as one image [H, W, 3]: images side by side, clips as two rows."""
    chosen = (
        sample.clip[:, shown_positions(sample.clip.shape[1])].permute(1, 2, 3, 0).numpy()
    )  # [3, T, S, S] -> [T, S, S, 3]
    length, side = chosen.shape[:2]
    shape = _slot(length, side)
    frames = [_centered(frame, *shape) for frame in (sample.frames if sample.frames is not None else [])]
    if not frames:
        frames = [np.full((*shape, 3), _BACKGROUND, np.uint8)] * length
    if length == 1:
        return np.concatenate([chosen[0], np.full((side, _GAP, 3), _BACKGROUND, np.uint8), frames[0]], axis=1)
    gap = np.full((_GAP, length * (side + _GAP) - _GAP, 3), _BACKGROUND, np.uint8)
    return np.concatenate([_row(chosen), gap, _row(frames)], axis=0)


def _row(frames: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    gap = np.full((len(frames[0]), _GAP, 3), _BACKGROUND, np.uint8)
    return np.concatenate([part for frame in frames for part in (gap, frame)][1:], axis=1)


def _slot(length: int, side: int) -> tuple[int, int]:
    """Returns height and width of the slot for one decoded frame, beside an image or below a frame of a clip."""
    return (side, side * 4 // 3) if length == 1 else (side * 3 // 4, side)


def shown_positions(length: int) -> np.ndarray:
    """Returns the positions of the frames of a clip that are drawn."""
    return np.rint(np.linspace(0, length - 1, min(length, MAX_FRAMES))).astype(int)


def outlined(frames: np.ndarray, box: tuple[int, int, int, int], side: int) -> np.ndarray:
    """Returns frames [T, H, W, 3] shrunk to their slot, with the outline of a box (top, left, ...)."""
    length, height, width, _ = frames.shape
    slot_height, slot_width = _slot(length, side)
    scale = min(slot_height / height, slot_width / width)
    size = (max(1, int(height * scale)), max(1, int(width * scale)))
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
    small = functional.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)
    small = small.permute(0, 2, 3, 1).contiguous().numpy()
    top, bottom = (int(row * scale) for row in (box[0], box[0] + box[2]))
    left, right = (int(column * scale) for column in (box[1], box[1] + box[3]))
    thickness = max(1, side // 75)
    inside = (slice(top + thickness, bottom - thickness), slice(left + thickness, right - thickness))
    outline = np.zeros(size, bool)
    outline[top:bottom, left:right] = True
    outline[inside] = False
    small[:, outline] = _CROP_COLOR
    return small


def _centered(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns a frame [h, w, 3] in the middle of a white one."""
    result = np.full((height, width, 3), _BACKGROUND, np.uint8)
    top, left = (height - frame.shape[0]) // 2, (width - frame.shape[1]) // 2
    result[top : top + frame.shape[0], left : left + frame.shape[1]] = frame
    return result


def crossed_out(length: int, side: int) -> Tensor:
    """Returns a gray clip with a red cross, [1, 3, T, S, S] uint8."""
    rows, columns = np.indices((side, side))
    width = max(1, side // 40)
    is_cross = (abs(rows - columns) <= width) | (abs(rows + columns - side + 1) <= width)
    frame = np.where(is_cross[..., None], np.array(_CROSS), 225).astype(np.uint8)
    return torch.from_numpy(frame).permute(2, 0, 1)[None, :, None].repeat(1, 1, length, 1, 1)
