"""Operations on the pixels of a clip, the same for all its frames, defined as Pillow defines them.

A clip is [3, T, H, W] uint8, 0-255, RGB; every operation returns a new one, bit for bit as Pillow does it, but for the
hue, where Pillow rounds to 256 hues and we do not. What Pillow derives from all pixels of an image, a mean or a
histogram, is derived here from all frames of the clip, as if they stood one below the other: each frame by itself would
get another curve, and the clip would flicker.

Source: python-pillow/Pillow 13.0.0, src/PIL/ImageEnhance.py, src/PIL/ImageOps.py, src/libImaging/Blend.c, Convert.c,
Filter.c and Geometry.c.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

MEAN_COLOR = (124, 116, 104)
"""The mean color of ImageNet in red, green and blue, as whole levels.

It belongs to the augmentations, as in timm, and not to a backbone, which may expect another normalization. That of
SlowOnly maps it to about zero, which a test checks: data and models do not import each other."""

_PIXELS_AT_A_TIME = 4096  # of an affine map: its temporary values then stay in the processor's cache


def scale_brightness(clip: Tensor, factor: float) -> Tensor:
    """Returns the clip with every value times `factor`: 0 is black, 1 changes nothing."""
    return _looked_up(clip, _blended_levels(0, factor))


def scale_contrast(clip: Tensor, factor: float) -> Tensor:
    """Returns the clip with every value's distance from the mean gray of the clip times `factor`: 0 is plain gray."""
    mean = int(_gray(clip).sum(dtype=torch.int64)) / clip[0].numel()
    return _looked_up(clip, _blended_levels(int(mean + 0.5), factor))


def scale_saturation(clip: Tensor, factor: float) -> Tensor:
    """Returns the clip with every pixel's distance from its own gray times `factor`: 0 is black and white."""
    result = torch.empty_like(clip)
    for frame in range(clip.shape[1]):  # one at a time stays in the processor's cache
        pixels = clip[:, frame]
        _blend(_gray(pixels).float(), pixels.float(), factor, out=result[:, frame])
    return result


def scale_sharpness(clip: Tensor, factor: float) -> Tensor:
    """Returns the clip with every pixel's distance from its smoothed neighborhood times `factor`: 0 is smoothed.

    The pixels at the edges of a frame stay as they are.
    """
    result = clip.clone()
    if min(clip.shape[2:]) < 3:
        return result
    for frame in range(clip.shape[1]):
        pixels = clip[:, frame].float()
        rows = pixels[:, :, :-2] + pixels[:, :, 1:-1] + pixels[:, :, 2:]
        inner = pixels[:, 1:-1, 1:-1]
        # The nine neighbors, the one in the middle five times; 13 is odd, so no half is ever rounded.
        smoothed = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * inner
        smoothed = smoothed.add_(6.5).mul_(1 / 13).floor_()
        _blend(smoothed, inner, factor, out=result[:, frame, 1:-1, 1:-1])
    return result


def turn_hue(clip: Tensor, shift: float) -> Tensor:
    """Returns the clip with every pixel's hue turned by `shift` full turns of the color circle (HSV), -0.5 to 0.5.

    Source: pytorch/vision commit b52f7a79, torchvision/transforms/_functional_tensor.py, `adjust_hue`, which does not
    round the hue; results are rounded to the nearest level here.
    """
    result = torch.empty_like(clip)
    for frame in range(clip.shape[1]):
        red, green, blue = pixels = clip[:, frame].float()
        highest, lowest = pixels.amax(dim=0), pixels.amin(dim=0)
        spread = highest - lowest
        # The hue in sixths of a turn, times the spread: red is 0, green 2, blue 4.
        at_blue = (red - green).add_(spread, alpha=4)
        at_green = (blue - red).add_(spread, alpha=2)
        sixths = torch.where(red == highest, green - blue, torch.where(green == highest, at_green, at_blue))
        sixths.div_(spread.clamp(min=1)).add_(6 * shift).remainder_(6)
        shares = ((sixths - 3).abs_().sub_(1), 2 - (sixths - 2).abs_(), 2 - (sixths - 4).abs_())
        for channel, share in enumerate(shares):
            result[channel, frame] = share.clamp_(0, 1).mul_(spread).add_(lowest).round_()
    return result


def invert(clip: Tensor) -> Tensor:
    """Returns the negative of the clip."""
    return 255 - clip


def posterize(clip: Tensor, bits: int) -> Tensor:
    """Returns the clip with only the `bits` highest bits of every value."""
    return clip & (256 - 2 ** (8 - bits))


def solarize(clip: Tensor, threshold: int) -> Tensor:
    """Returns the clip with the values from `threshold` on inverted."""
    levels = np.arange(256)
    return _looked_up(clip, np.where(levels < threshold, levels, 255 - levels))


def solarize_add(clip: Tensor, amount: int) -> Tensor:
    """Returns the clip with `amount` added to the values below 128.

    Source: huggingface/pytorch-image-models commit 066e4906, timm/data/auto_augment.py.
    """
    levels = np.arange(256)
    return _looked_up(clip, np.where(levels < 128, np.minimum(levels + amount, 255), levels))


def auto_contrast(clip: Tensor) -> Tensor:
    """Returns the clip with every channel stretched linearly, so that its darkest value is 0 and its brightest 255."""
    curves = []
    for channel in clip:
        darkest, brightest = int(channel.min()), int(channel.max())
        scale = 255 / (brightest - darkest) if brightest > darkest else 1.0
        offset = -darkest * scale if brightest > darkest else 0.0
        curves.append((np.arange(256) * scale + offset).astype(int).clip(0, 255))
    return _looked_up(clip, np.stack(curves))


def equalize(clip: Tensor) -> Tensor:
    """Returns the clip with the histogram of every channel made as flat as a curve can make it."""
    curves = []
    for channel in clip:
        counts = torch.bincount(channel.flatten(), minlength=256).numpy()
        step = (counts.sum() - counts[counts > 0][-1]) // 255
        below = np.concatenate([[0], np.cumsum(counts)[:-1]])
        curves.append(np.arange(256) if step == 0 else ((step // 2 + below) // step).clip(max=255))
    return _looked_up(clip, np.stack(curves))


def translate(clip: Tensor, right: int, down: int) -> Tensor:
    """Returns the clip moved by whole pixels; what comes in has the mean color."""
    height, width = clip.shape[2:]
    result = torch.tensor(MEAN_COLOR, dtype=torch.uint8).view(3, 1, 1, 1).expand_as(clip).contiguous()
    to_rows, from_rows = _overlap(height, down)
    to_columns, from_columns = _overlap(width, right)
    result[:, :, to_rows, to_columns] = clip[:, :, from_rows, from_columns]
    return result


def shear_x(clip: Tensor, factor: float) -> Tensor:
    """Returns the clip with every row moved to the left by `factor` times its distance from the top; bilinear."""
    return affine(clip, (1.0, factor, 0.0, 0.0, 1.0, 0.0))


def shear_y(clip: Tensor, factor: float) -> Tensor:
    """Returns the clip with every column moved up by `factor` times its distance from the left; bilinear."""
    return affine(clip, (1.0, 0.0, 0.0, factor, 1.0, 0.0))


def rotate(clip: Tensor, degrees: float) -> Tensor:
    """Returns the clip turned counterclockwise about its center; bilinear."""
    height, width = clip.shape[2:]
    angle = -math.radians(degrees % 360)
    cosine, sine = round(math.cos(angle), 15), round(math.sin(angle), 15)  # as Pillow, to the last digit
    x, y = width / 2, height / 2
    return affine(clip, (cosine, sine, cosine * -x + sine * -y + x, -sine, cosine, -sine * -x + cosine * -y + y))


def affine(clip: Tensor, matrix: tuple[float, float, float, float, float, float]) -> Tensor:
    """Returns the clip seen through an affine map, bilinear; what lies outside the frames has the mean color.

    Counted in float64 and rounded down, as Pillow does it.

    Args:
        clip: [3, T, H, W] uint8.
        matrix: a, b, c, d, e, f: the pixel at (x, y) comes from (a x + b y + c, d x + e y + f), in pixels from the
            top left corner of the frame; pixels have their centers at halves.
    """
    channels, length, height, width = clip.shape
    a, b, c, d, e, f = matrix
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    from_x, from_y = (a * x + b * y + c).ravel(), (d * x + e * y + f).ravel()
    inside = np.flatnonzero((from_x >= 0) & (from_x < width) & (from_y >= 0) & (from_y < height))
    left, right, right_share = _neighbors(from_x[inside], width)
    upper, lower, lower_share = _neighbors(from_y[inside], height)
    # A pixel of all frames is one row here, so that it is fetched at once: [3, T, H, W] -> [H * W, 3 * T].
    pixels = torch.from_numpy(np.ascontiguousarray(clip.numpy().reshape(channels * length, height * width).T))
    result = torch.tensor(MEAN_COLOR, dtype=torch.uint8).repeat_interleave(length).repeat(height * width, 1)
    for first in range(0, len(inside), _PIXELS_AT_A_TIME):
        part = slice(first, first + _PIXELS_AT_A_TIME)
        shares = torch.from_numpy(right_share[part, None])
        above = _between(pixels, upper[part] * width + left[part], upper[part] * width + right[part], shares)
        if lower_share[part].any():
            below = _between(pixels, lower[part] * width + left[part], lower[part] * width + right[part], shares)
            above += below.sub_(above).mul_(torch.from_numpy(lower_share[part, None]))
        result[torch.from_numpy(inside[part])] = above.to(torch.uint8)
    return torch.from_numpy(np.ascontiguousarray(result.numpy().T)).view(clip.shape)


def erase(clip: Tensor, box: tuple[int, int, int, int], fill: Tensor) -> Tensor:
    """Returns the clip with a box of all its frames filled.

    Args:
        clip: [3, T, H, W] uint8.
        box: Top, left, height and width, in pixels.
        fill: [3, 1, 1] or [3, height, width] uint8.
    """
    top, left, height, width = box
    result = clip.clone()
    result[:, :, top : top + height, left : left + width] = fill[:, None]
    return result


def _gray(pixels: Tensor) -> Tensor:
    """Returns the luma (ITU-R 601) of pixels [3, ...] uint8: [...] int32, 0-255."""
    red, green, blue = pixels.to(torch.int32)
    return red.mul_(19595).add_(green, alpha=38470).add_(blue, alpha=7471).add_(0x8000).bitwise_right_shift_(16)


def _blended_levels(degenerate: int, factor: float) -> np.ndarray:
    """Returns what blending makes of the levels 0 to 255 where the degenerate picture is plain: [256] float32."""
    levels = np.arange(256, dtype=np.float32)
    plain = np.float32(degenerate)
    return (plain + np.float32(factor) * (levels - plain)).clip(0, 255)


def _blend(degenerate: Tensor, pixels: Tensor, factor: float, out: Tensor) -> None:
    """Writes degenerate + factor * (pixels - degenerate), counted in float32 and rounded down, into `out` (uint8)."""
    change = (pixels - degenerate).mul_(np.float32(factor).item())
    out.copy_(change.add_(degenerate).clamp_(0, 255))


def _looked_up(clip: Tensor, curves: np.ndarray) -> Tensor:
    """Returns the clip with every value replaced by that of a curve [256], or of its channel's [3, 256]."""
    tables = np.broadcast_to(curves.astype(np.uint8), (3, 256))
    # Bytes know how to translate themselves, several times faster than arrays are indexed.
    parts = [channel.tobytes().translate(table.tobytes()) for channel, table in zip(clip.numpy(), tables, strict=True)]
    return torch.frombuffer(bytearray().join(parts), dtype=torch.uint8).view(clip.shape)


def _overlap(side: int, shift: int) -> tuple[slice, slice]:
    """Returns where pixels of a side go to, and where they come from, if they are shifted."""
    kept = max(0, side - abs(shift))
    first, second = slice(side - kept, side), slice(0, kept)
    return (first, second) if shift >= 0 else (second, first)


def _neighbors(positions: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the two pixels of a side around each position, and the share of the second."""
    centers = positions - 0.5
    first = np.floor(centers)
    index = first.astype(np.int64)
    return index.clip(0, side - 1), (index + 1).clip(0, side - 1), centers - first


def _between(pixels: Tensor, first: np.ndarray, second: np.ndarray, second_share: Tensor) -> Tensor:
    """Returns the rows between two rows of pixels each, float64."""
    start = pixels.index_select(0, torch.from_numpy(first)).double()
    change = pixels.index_select(0, torch.from_numpy(second)).double().sub_(start)
    return start.add_(change.mul_(second_share))
