"""Every operation against Pillow, which does the same to whole images; hue against colorsys, erasing against loops.

All but the hue are equal bit for bit: they count in the same numbers and round at the same places.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from omnisource.data.transforms import pixel_operations as pixel
from omnisource.data.transforms.pixel_operations import MEAN_COLOR
from omnisource.models.backbones.slow_only import IMAGENET

Picture = Image.Image


def textured(length: int = 3, height: int = 37, width: int = 53, *, low=9, high=240, seed=0) -> Tensor:
    """Returns a clip of smooth colors that moves, with noise and plain parts, within a range of levels."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    frame = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    frame[: height // 2] += rng.integers(-30, 30, (height // 2, width, 3))
    frame[-6:, :9] = 128
    clip = np.stack([np.roll(frame, 3 * shift, axis=1) + 7 * shift for shift in range(length)]).clip(low, high)
    return torch.from_numpy(clip.astype(np.uint8)).permute(3, 0, 1, 2).contiguous()


def frame_by_frame(clip: Tensor, operation: Callable[[Picture], Picture]) -> Tensor:
    """Returns what Pillow makes of each frame."""
    frames = [np.asarray(operation(Image.fromarray(frame))) for frame in clip.permute(1, 2, 3, 0).contiguous().numpy()]
    return torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2)


def as_one_picture(clip: Tensor, operation: Callable[[Picture], Picture]) -> Tensor:
    """Returns what Pillow makes of all frames set one below the other."""
    _, length, height, width = clip.shape
    tall = Image.fromarray(clip.permute(1, 2, 3, 0).reshape(length * height, width, 3).numpy())
    pixels = np.asarray(operation(tall)).reshape(length, height, width, 3)
    return torch.from_numpy(pixels.copy()).permute(3, 0, 1, 2)


def transformed(matrix: tuple[float, ...]) -> Callable[[Picture], Picture]:
    bilinear = Image.Resampling.BILINEAR
    return lambda image: image.transform(
        image.size, Image.Transform.AFFINE, matrix, resample=bilinear, fillcolor=MEAN_COLOR
    )


def assert_same(ours: Tensor, reference: Tensor, clip: Tensor) -> None:
    assert ours.dtype == torch.uint8 and ours.is_contiguous()
    assert torch.equal(ours, reference)
    assert not torch.equal(ours, clip)  # so that something was compared


CLIPS = {"several frames": textured(), "one frame": textured(1, seed=1), "full range": textured(2, low=0, high=255)}


@pytest.fixture(params=list(CLIPS.values()), ids=list(CLIPS))
def clip(request: pytest.FixtureRequest) -> Tensor:
    return request.param


# Below 1 Pillow mixes, above it it extrapolates and cuts off; 0.1 and 1.9 are the ends of RandAugment.
@pytest.mark.parametrize("factor", [0.0, 0.1, 0.6180339887, 1.3, 1.9, 3.7])
class TestEnhancing:
    def test_brightness_equals_pillow(self, clip: Tensor, factor: float):
        reference = frame_by_frame(clip, lambda image: ImageEnhance.Brightness(image).enhance(factor))
        assert_same(pixel.scale_brightness(clip, factor), reference, clip)

    def test_contrast_equals_pillow_on_all_frames_as_one_picture(self, clip: Tensor, factor: float):
        reference = as_one_picture(clip, lambda image: ImageEnhance.Contrast(image).enhance(factor))
        assert_same(pixel.scale_contrast(clip, factor), reference, clip)

    def test_saturation_equals_pillow(self, clip: Tensor, factor: float):
        reference = frame_by_frame(clip, lambda image: ImageEnhance.Color(image).enhance(factor))
        assert_same(pixel.scale_saturation(clip, factor), reference, clip)

    def test_sharpness_equals_pillow(self, clip: Tensor, factor: float):
        reference = frame_by_frame(clip, lambda image: ImageEnhance.Sharpness(image).enhance(factor))
        assert_same(pixel.scale_sharpness(clip, factor), reference, clip)


class TestCurves:
    def test_inverting_equals_pillow(self, clip: Tensor):
        assert_same(pixel.invert(clip), frame_by_frame(clip, ImageOps.invert), clip)

    @pytest.mark.parametrize("bits", [1, 2, 4, 7])
    def test_posterizing_equals_pillow(self, clip: Tensor, bits: int):
        reference = frame_by_frame(clip, lambda image: ImageOps.posterize(image, bits))
        assert_same(pixel.posterize(clip, bits), reference, clip)

    @pytest.mark.parametrize("threshold", [0, 26, 128, 200])
    def test_solarizing_equals_pillow(self, clip: Tensor, threshold: int):
        reference = frame_by_frame(clip, lambda image: ImageOps.solarize(image, threshold))
        assert_same(pixel.solarize(clip, threshold), reference, clip)

    @pytest.mark.parametrize("amount", [1, 99, 110])
    def test_adding_to_the_dark_values_equals_a_loop(self, clip: Tensor, amount: int):
        reference = clip.clone()
        for index, level in np.ndenumerate(clip.numpy()):
            if level < 128:
                reference[index] = min(255, int(level) + amount)
        assert_same(pixel.solarize_add(clip, amount), reference, clip)

    def test_equalizing_equals_pillow_on_all_frames_as_one_picture(self, clip: Tensor):
        assert_same(pixel.equalize(clip), as_one_picture(clip, ImageOps.equalize), clip)

    @pytest.mark.parametrize("name", ["several frames", "one frame"])  # the others fill the range already
    def test_auto_contrast_equals_pillow_on_all_frames_as_one_picture(self, name: str):
        clip = CLIPS[name]
        assert_same(pixel.auto_contrast(clip), as_one_picture(clip, ImageOps.autocontrast), clip)

    @pytest.mark.parametrize("size", [(1, 1), (4, 9), (16, 16), (40, 60)])
    def test_equalizing_few_pixels_equals_pillow(self, size: tuple[int, int]):
        # With fewer than 255 pixels beside the brightest, Pillow leaves the picture as it is.
        clip = textured(1, *size, seed=3)
        assert torch.equal(pixel.equalize(clip), as_one_picture(clip, ImageOps.equalize))

    def test_plain_clips_are_left_as_they_are(self):
        clip = torch.full((3, 2, 20, 30), 77, dtype=torch.uint8)
        clip[1] = 200
        for operation in (pixel.equalize, pixel.auto_contrast):
            assert torch.equal(operation(clip), clip)

    @pytest.mark.parametrize(
        "operation",
        [pixel.equalize, pixel.auto_contrast, lambda clip: pixel.scale_contrast(clip, 1.9)],
        ids=["equalize", "auto contrast", "contrast"],
    )
    def test_equal_pixels_stay_equal_in_all_frames_of_a_clip(self, operation: Callable[[Tensor], Tensor]):
        # Pillow frame by frame would give the dark frame another curve than the bright one.
        clip = textured(2)
        clip[:, 1] = (clip[:, 1].float() * 0.4).to(torch.uint8)
        clip[:, :, 5:9, 5:9] = torch.tensor([50, 90, 60], dtype=torch.uint8)[:, None, None, None]
        result = operation(clip)
        assert torch.equal(result[:, 0, 5:9, 5:9], result[:, 1, 5:9, 5:9])
        assert (result[:, :, 5:9, 5:9] != clip[:, :, 5:9, 5:9]).any()


class TestMoving:
    @pytest.mark.parametrize("right, down", [(0, 5), (-7, 0), (12, -36), (-52, 3), (60, 0), (0, -40)])
    def test_translating_equals_pillow(self, clip: Tensor, right: int, down: int):
        reference = frame_by_frame(clip, transformed((1, 0, -right, 0, 1, -down)))
        assert_same(pixel.translate(clip, right, down), reference, clip)

    @pytest.mark.parametrize("factor", [-0.3, -0.123456789, 0.05, 0.27])
    def test_shearing_equals_pillow(self, clip: Tensor, factor: float):
        assert_same(pixel.shear_x(clip, factor), frame_by_frame(clip, transformed((1, factor, 0, 0, 1, 0))), clip)
        assert_same(pixel.shear_y(clip, factor), frame_by_frame(clip, transformed((1, 0, 0, factor, 1, 0))), clip)

    @pytest.mark.parametrize("degrees", [-30.0, -11.7, 0.3, 17.0, 29.999])
    def test_rotating_equals_pillow(self, clip: Tensor, degrees: float):
        bilinear = Image.Resampling.BILINEAR
        reference = frame_by_frame(clip, lambda image: image.rotate(degrees, resample=bilinear, fillcolor=MEAN_COLOR))
        assert_same(pixel.rotate(clip, degrees), reference, clip)

    def test_maps_of_more_pixels_than_are_handled_at_a_time_equal_pillow(self):
        clip = textured(1, 90, 110)
        matrix = (0.8, 0.31, -4.5, -0.2, 1.1, 7.25)
        assert_same(pixel.affine(clip, matrix), frame_by_frame(clip, transformed(matrix)), clip)

    def test_mean_color_is_zero_after_normalizing(self):
        assert [round(value) for value in IMAGENET.mean] == list(MEAN_COLOR)


class TestHue:
    @pytest.mark.parametrize("shift", [-0.5, -0.1, 0.003, 0.25, 0.5])
    def test_is_that_of_colorsys(self, shift: float):
        clip = textured(2, 12, 15, low=0, high=255)
        expected = np.empty((3, 2, 12, 15))
        for index in np.ndindex(2, 12, 15):
            red, green, blue = (int(value) / 255 for value in clip[(slice(None), *index)])
            turned, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
            expected[(slice(None), *index)] = colorsys.hsv_to_rgb((turned + shift) % 1, saturation, value)
        ours = pixel.turn_hue(clip, shift)
        # Rounded to the nearest level; a float32 that should be a half may fall to either side.
        assert np.abs(ours.numpy() - 255 * expected).max() < 0.5001
        assert not torch.equal(ours, clip)

    def test_stays_as_it_is_after_no_turn(self):
        clip = textured(2, low=0, high=255)
        assert torch.equal(pixel.turn_hue(clip, 0.0), clip)

    def test_is_close_to_pillows_with_its_256_hues(self):
        clip = textured(1, low=0, high=255)

        def turned(image: Picture) -> Picture:
            bands = list(image.convert("HSV").split())
            bands[0] = bands[0].point([(level + 64) % 256 for level in range(256)])
            return Image.merge("HSV", bands).convert("RGB")

        difference = (pixel.turn_hue(clip, 64 / 255).int() - frame_by_frame(clip, turned).int()).abs()
        # A step of Pillow's hue is worth up to 6 levels; one is lost by cutting, one where the circle closes (256 hues
        # make 255 steps), and a level by cutting the saturation.
        assert difference.max() <= 13 and difference.float().mean() < 2


class TestErasing:
    @pytest.mark.parametrize("fill_shape", [(3, 1, 1), (3, 7, 11)])
    def test_fills_the_box_of_every_frame_alike(self, fill_shape: tuple[int, ...]):
        clip = textured(3)
        fill = torch.from_numpy(np.random.default_rng(0).integers(0, 256, fill_shape, dtype=np.uint8))
        expected = clip.clone()
        for channel, frame, row, column in np.ndindex(3, 3, 7, 11):
            value = fill[channel, row, column] if fill_shape[1] > 1 else fill[channel, 0, 0]
            expected[channel, frame, 4 + row, 20 + column] = value
        assert_same(pixel.erase(clip, (4, 20, 7, 11), fill), expected, clip)


@pytest.mark.parametrize(
    "operation",
    [
        lambda clip: pixel.scale_brightness(clip, 1.4),
        lambda clip: pixel.scale_contrast(clip, 1.4),
        lambda clip: pixel.scale_saturation(clip, 1.4),
        lambda clip: pixel.scale_sharpness(clip, 1.4),
        lambda clip: pixel.turn_hue(clip, 0.2),
        pixel.invert,
        lambda clip: pixel.posterize(clip, 3),
        lambda clip: pixel.solarize(clip, 100),
        pixel.auto_contrast,
        pixel.equalize,
        lambda clip: pixel.translate(clip, 3, 2),
        lambda clip: pixel.rotate(clip, 12.0),
        lambda clip: pixel.erase(clip, (0, 0, 4, 4), torch.zeros(3, 1, 1, dtype=torch.uint8)),
    ],
)
def test_operations_leave_their_clip_as_it_is_and_return_memory_of_their_own(
    operation: Callable[[Tensor], Tensor],
) -> None:
    clip = textured(2)
    before = clip.clone()
    operation(clip).zero_()
    assert torch.equal(clip, before)


@pytest.mark.parametrize("size", [(1, 1), (2, 40), (40, 2), (3, 3)])
def test_small_frames_are_handled_as_pillow_does(size: tuple[int, int]) -> None:
    clip = textured(2, *size)
    bilinear = Image.Resampling.BILINEAR
    for ours, pillow in (
        (pixel.scale_sharpness(clip, 1.9), lambda image: ImageEnhance.Sharpness(image).enhance(1.9)),
        (pixel.rotate(clip, 20.0), lambda image: image.rotate(20.0, resample=bilinear, fillcolor=MEAN_COLOR)),
        (pixel.scale_saturation(clip, 0.3), lambda image: ImageEnhance.Color(image).enhance(0.3)),
    ):
        assert torch.equal(ours, frame_by_frame(clip, pillow))
