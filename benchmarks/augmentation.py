"""What every augmentation costs, beside Pillow frame by frame: the numbers of docs/augmentation.md.

    OMP_NUM_THREADS=1 python benchmarks/augmentation.py

One clip of 8 frames of 224 x 224 pixels, one thread, its processor time: other programs then count for less. Both sides
in turn, many times; the table has the median of each and the median of the ratios. Pillow gets its frames as Pillow
images and keeps its results: turning a clip into images and back, which a pipeline around Pillow pays once a clip, is
a row of its own.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from omnisource.data.transforms import pixel_operations as pixel
from omnisource.data.transforms.augment import apply_rand_augment, erase_randomly, jitter_colors
from omnisource.data.transforms.mixing import mix_batches
from omnisource.data.transforms.pixel_operations import MEAN_COLOR
from omnisource.data.transforms.views import training_view
from omnisource.recipe.data import ColorJitter, Mixing, RandAugment, RandomErasing, TrainingView
from omnisource.types import Batch

LENGTH, SIDE, BATCH = 8, 224, 8
ROUNDS = 40
Picture = Image.Image
BILINEAR = Image.Resampling.BILINEAR


def main() -> None:
    torch.set_num_threads(1)
    clip = moving_clip()
    frames = [Image.fromarray(frame) for frame in clip.permute(1, 2, 3, 0).contiguous().numpy()]
    print(f"one clip of {LENGTH} x {SIDE} x {SIDE}, one thread, processor time, median of {ROUNDS}\n")
    print("| operation | ours, ms | Pillow, ms | Pillow / ours |\n| --- | --- | --- | --- |")
    for name, (ours, pillow) in operations().items():
        print_row(name, lambda ours=ours: ours(clip), lambda pillow=pillow: [pillow(frame) for frame in frames])
    print_row("clip to images and back", None, lambda: to_clip(to_images(clip)))

    print("\nWhole augmentations, mean over 200 seeds:\n\n| augmentation | ms a clip |\n| --- | --- |")
    for name, augmentation in augmentations().items():
        seconds = [elapsed(augmentation, clip, np.random.default_rng(seed)) for seed in range(200)]
        print(f"| {name} | {1000 * statistics.mean(seconds):.2f} |")

    frame = np.ascontiguousarray(Image.fromarray(frame_of_texture(256, 340)))
    decoded = np.repeat(frame[None], LENGTH, axis=0)
    rng = np.random.default_rng(0)
    seconds = [elapsed(training_view, decoded, TrainingView(), rng) for _ in range(200)]
    print(f"| for comparison: crop, resize and flip of 340 x 256 frames | {1000 * statistics.mean(seconds):.2f} |")

    print(f"\nMixing a batch of {BATCH} clips, on the CPU:\n\n| mixing | ms a batch |\n| --- | --- |")
    batch = Batch("videos", "video", "actions", clip.expand(BATCH, 1, *clip.shape), torch.arange(BATCH), ("",) * BATCH)
    for name, mixing in (("mixup", Mixing(mixup_alpha=0.8)), ("CutMix", Mixing(cutmix_alpha=1.0))):
        seconds = [
            elapsed(mix_batches, [batch], {"videos": mixing}, {"actions": 400}, 0, step, 0) for step in range(20)
        ]
        print(f"| {name} | {1000 * statistics.median(seconds):.1f} |")


def operations() -> dict[str, tuple[Callable[[Tensor], object], Callable[[Picture], object]]]:
    """Returns, by name, what we do to a clip, and what Pillow does to each of its frames."""
    fill = torch.tensor(MEAN_COLOR, dtype=torch.uint8).view(3, 1, 1)
    levels = [*range(60, 188), *range(128, 256)]
    return {
        "brightness": (
            lambda clip: pixel.scale_brightness(clip, 1.4),
            lambda image: ImageEnhance.Brightness(image).enhance(1.4),
        ),
        "contrast": (
            lambda clip: pixel.scale_contrast(clip, 1.4),
            lambda image: ImageEnhance.Contrast(image).enhance(1.4),
        ),
        "saturation": (
            lambda clip: pixel.scale_saturation(clip, 1.4),
            lambda image: ImageEnhance.Color(image).enhance(1.4),
        ),
        "hue": (lambda clip: pixel.turn_hue(clip, 0.1), turned_hue),
        "sharpness": (
            lambda clip: pixel.scale_sharpness(clip, 1.4),
            lambda image: ImageEnhance.Sharpness(image).enhance(1.4),
        ),
        "auto contrast": (pixel.auto_contrast, ImageOps.autocontrast),
        "equalize": (pixel.equalize, ImageOps.equalize),
        "invert": (pixel.invert, ImageOps.invert),
        "posterize": (lambda clip: pixel.posterize(clip, 3), lambda image: ImageOps.posterize(image, 3)),
        "solarize": (lambda clip: pixel.solarize(clip, 100), lambda image: ImageOps.solarize(image, 100)),
        "solarize add": (lambda clip: pixel.solarize_add(clip, 60), lambda image: image.point(levels * 3)),
        "translate": (lambda clip: pixel.translate(clip, 31, 0), moved((1, 0, -31, 0, 1, 0))),
        "shear x": (lambda clip: pixel.shear_x(clip, 0.27), moved((1, 0.27, 0, 0, 1, 0))),
        "shear y": (lambda clip: pixel.shear_y(clip, 0.27), moved((1, 0, 0, 0.27, 1, 0))),
        "rotate": (
            lambda clip: pixel.rotate(clip, 27.0),
            lambda image: image.rotate(27.0, resample=BILINEAR, fillcolor=MEAN_COLOR),
        ),
        "erase": (lambda clip: pixel.erase(clip, (20, 30, 100, 90), fill), erased),
    }


def augmentations() -> dict[str, Callable[[Tensor, np.random.Generator], object]]:
    return {
        "RandAugment()": lambda clip, rng: apply_rand_augment(clip, RandAugment(), rng),
        "RandAugment(num_operations=4, magnitude=7)": lambda clip, rng: apply_rand_augment(
            clip, RandAugment(4, 7), rng
        ),
        "ColorJitter()": lambda clip, rng: jitter_colors(clip, ColorJitter(), rng),
        "ColorJitter(hue=0.1)": lambda clip, rng: jitter_colors(clip, ColorJitter(hue=0.1), rng),
        "RandomErasing(probability=1)": lambda clip, rng: erase_randomly(clip, RandomErasing(1), rng),
        "RandomErasing(probability=1, fill='noise')": lambda clip, rng: erase_randomly(
            clip, RandomErasing(1, fill="noise"), rng
        ),
    }


def print_row(name: str, ours: Callable[[], object] | None, pillow: Callable[[], object]) -> None:
    pairs = [(elapsed(ours) if ours else 0.0, elapsed(pillow)) for _ in range(ROUNDS)]
    our_time, their_time = (1000 * statistics.median(side) for side in zip(*pairs, strict=True))
    if ours is None:
        print(f"| {name} | - | {their_time:.2f} | - |")
    else:
        ratio = statistics.median(theirs / ours for ours, theirs in pairs)
        print(f"| {name} | {our_time:.2f} | {their_time:.2f} | {ratio:.1f} |", flush=True)


def elapsed(run: Callable[..., object], *arguments: object) -> float:
    started = time.thread_time()
    run(*arguments)
    return time.thread_time() - started


def frame_of_texture(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return (smooth + rng.integers(-12, 13, smooth.shape)).clip(0, 255).astype(np.uint8)


def moving_clip() -> Tensor:
    frame = frame_of_texture(SIDE, SIDE)
    return to_clip(Image.fromarray(np.roll(frame, 3 * shift, axis=1)) for shift in range(LENGTH))


def to_images(clip: Tensor) -> list[Picture]:
    return [Image.fromarray(frame) for frame in clip.permute(1, 2, 3, 0).contiguous().numpy()]


def to_clip(images: Iterable[Picture]) -> Tensor:
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(3, 0, 1, 2).contiguous()


def turned_hue(image: Picture) -> Picture:
    bands = list(image.convert("HSV").split())
    bands[0] = bands[0].point([(level + 25) % 256 for level in range(256)])
    return Image.merge("HSV", bands).convert("RGB")


def moved(matrix: tuple[float, ...]) -> Callable[[Picture], Picture]:
    kind = Image.Transform.AFFINE
    return lambda image: image.transform(image.size, kind, matrix, resample=BILINEAR, fillcolor=MEAN_COLOR)


def erased(image: Picture) -> Picture:
    result = image.copy()
    result.paste(MEAN_COLOR, (30, 20, 120, 120))
    return result


if __name__ == "__main__":
    main()
