"""Random changes of a clip's pixels in training, the same for all its frames: RandAugment, color jitter, erasing.

A clip is [3, T, H, W] uint8, 0-255, RGB; an image is a clip of one frame. All that is random is drawn from the
generator of the sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from omnisource.data.transforms import pixel_operations as pixel
from omnisource.data.transforms.boxes import random_box
from omnisource.data.transforms.pixel_operations import MEAN_COLOR
from omnisource.recipe.data import HIGHEST_MAGNITUDE, ColorJitter, RandAugment, RandomErasing

NOISE_STD = (58.395, 57.12, 57.375)
"""Standard deviation of the colors of ImageNet, a channel; as `MEAN_COLOR`, it belongs to the augmentations. That the
normalization of SlowOnly maps it to one is tested."""


def augment(
    clip: Tensor,
    rand_augment: RandAugment | None,
    color_jitter: ColorJitter | None,
    random_erasing: RandomErasing | None,
    rng: np.random.Generator,
) -> Tensor:
    """Returns a clip [3, T, H, W] uint8 with the augmentations that are set, in the order of the arguments.

    Args:
        clip: [3, T, H, W] uint8; it is left as it is.
        rand_augment: First, or None.
        color_jitter: Second, or None.
        random_erasing: Last, or None.
        rng: Draws for each that is set, in this order, and for no other.

    Source: huggingface/pytorch-image-models commit 0893f5d2, timm/data/transforms_factory.py (the order).
    """
    if rand_augment is not None:
        clip = apply_rand_augment(clip, rand_augment, rng)
    if color_jitter is not None:
        clip = jitter_colors(clip, color_jitter, rng)
    if random_erasing is not None:
        clip = erase_randomly(clip, random_erasing, rng)
    return clip


def jitter_colors(clip: Tensor, settings: ColorJitter, rng: np.random.Generator) -> Tensor:
    """Returns a clip [3, T, H, W] uint8 with its colors jittered.

    Args:
        clip: [3, T, H, W] uint8.
        settings: How far.
        rng: Draws whether, the order, and the four amounts, uniformly; always all of them.

    Source: pytorch/vision commit 0352a47a, torchvision/transforms/transforms.py, `ColorJitter`.
    """
    is_applied = rng.random() < settings.probability
    order = rng.permutation(4)
    ranges = (settings.brightness, settings.contrast, settings.saturation)
    amounts = [rng.uniform(max(0.0, 1 - reach), 1 + reach) for reach in ranges]
    amounts.append(rng.uniform(-settings.hue, settings.hue))
    operations = (pixel.scale_brightness, pixel.scale_contrast, pixel.scale_saturation, pixel.turn_hue)
    reaches = (*ranges, settings.hue)
    for number in order if is_applied else ():
        if reaches[number] > 0:
            clip = operations[number](clip, amounts[number])
    return clip


def apply_rand_augment(clip: Tensor, settings: RandAugment, rng: np.random.Generator) -> Tensor:
    """Returns a clip [3, T, H, W] uint8 after the operations that `draw_operations` draws, one after another."""
    for name, strength, direction in draw_operations(settings, rng):
        clip = OPERATIONS[name](clip, strength, direction)
    return clip


def draw_operations(settings: RandAugment, rng: np.random.Generator) -> list[tuple[str, float, int]]:
    """Returns the operations to apply: names of `OPERATIONS`, each with its strength, 0 to 1, and direction, 1 or -1.

    Args:
        settings: How many operations, and how strong.
        rng: Draws, for each operation, which, whether, its magnitude and its direction; always all of them.

    Source: huggingface/pytorch-image-models commit 066e4906, timm/data/auto_augment.py, with "inc1"; for clips as
    facebookresearch/SlowFast commit 74552dea, slowfast/datasets/rand_augment.py.
    """
    names = list(OPERATIONS)
    drawn = []
    for _ in range(settings.num_operations):
        name = names[rng.integers(len(names))]
        is_applied = rng.random() < settings.probability
        magnitude = rng.normal(settings.magnitude, settings.magnitude_std)
        direction = 1 if rng.random() < 0.5 else -1
        if is_applied:
            drawn.append((name, min(max(magnitude / HIGHEST_MAGNITUDE, 0.0), 1.0), direction))
    return drawn


def erase_randomly(clip: Tensor, settings: RandomErasing, rng: np.random.Generator) -> Tensor:
    """Returns a clip [3, T, H, W] uint8, perhaps with a box of it erased.

    Args:
        clip: [3, T, H, W] uint8.
        settings: How often, and which boxes.
        rng: Draws whether, the box, and what fills it.

    Source: huggingface/pytorch-image-models commit 066e4906, timm/data/random_erasing.py, which erases after
    normalizing. Before it, random colors are normal with the mean and the deviation of ImageNet, cut off at 0 and 255.
    """
    if rng.random() >= settings.probability:
        return clip
    box = random_box(clip.shape[2], clip.shape[3], settings, rng, is_smaller=True)
    if box is None:
        return clip
    _, _, height, width = box
    shape = (3, height, width) if settings.fill == "noise" else (3, 1, 1)
    fill = np.broadcast_to(np.array(MEAN_COLOR, np.float32)[:, None, None], shape)
    if settings.fill != "mean":
        fill = fill + rng.standard_normal(shape, np.float32) * np.array(NOISE_STD, np.float32)[:, None, None]
    return pixel.erase(clip, box, torch.from_numpy(fill.round().clip(0, 255).astype(np.uint8)))


def _factor(strength: float, direction: int) -> float:
    """Returns the factor of an operation that changes nothing at 1, from 0.1 to 1.9."""
    return 1 + direction * 0.9 * strength


def _shift(side: int, strength: float, direction: int) -> int:
    """Returns how far to move along a side: whole pixels as in torchvision, where timm resamples for parts of one."""
    return -direction * int(0.45 * strength * side)


OPERATIONS: Mapping[str, Callable[[Tensor, float, int], Tensor]] = {
    "auto contrast": lambda clip, strength, direction: pixel.auto_contrast(clip),
    "equalize": lambda clip, strength, direction: pixel.equalize(clip),
    "invert": lambda clip, strength, direction: pixel.invert(clip),
    "rotate": lambda clip, strength, direction: pixel.rotate(clip, direction * 30 * strength),
    # timm comes to no bit at the highest magnitude, and so to a black clip.
    "posterize": lambda clip, strength, direction: pixel.posterize(clip, max(1, 4 - int(4 * strength))),
    "solarize": lambda clip, strength, direction: pixel.solarize(clip, 256 - int(256 * strength)),
    "solarize add": lambda clip, strength, direction: pixel.solarize_add(clip, int(110 * strength)),
    "saturation": lambda clip, strength, direction: pixel.scale_saturation(clip, _factor(strength, direction)),
    "contrast": lambda clip, strength, direction: pixel.scale_contrast(clip, _factor(strength, direction)),
    "brightness": lambda clip, strength, direction: pixel.scale_brightness(clip, _factor(strength, direction)),
    "sharpness": lambda clip, strength, direction: pixel.scale_sharpness(clip, _factor(strength, direction)),
    "shear x": lambda clip, strength, direction: pixel.shear_x(clip, direction * 0.3 * strength),
    "shear y": lambda clip, strength, direction: pixel.shear_y(clip, direction * 0.3 * strength),
    "translate x": lambda clip, *amount: pixel.translate(clip, right=_shift(clip.shape[3], *amount), down=0),
    "translate y": lambda clip, *amount: pixel.translate(clip, right=0, down=_shift(clip.shape[2], *amount)),
}
"""The operations of RandAugment: of a clip, a strength from 0 to 1 and a direction, 1 or -1, a new clip."""
