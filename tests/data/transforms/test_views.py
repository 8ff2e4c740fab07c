from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from omnisource.data.transforms.augment import augment
from omnisource.data.transforms.resize import resized_shape
from omnisource.data.transforms.views import (
    crop_corners,
    evaluation_views,
    random_resized_crop_box,
    training_view,
)
from omnisource.recipe.data import ColorJitter, EvaluationViews, RandAugment, RandomErasing, TrainingView
from tests.support.media import moving_square, numbered_frames, read_number

# cv2.resize(PATTERN, (width, height), interpolation=cv2.INTER_LINEAR) of opencv-python-headless 4.14.0 and 5.0.0: the
# first channel, and the sums of all three. Bit for bit, because both sides count in integers.
PATTERN = (np.arange(7 * 11 * 3).reshape(7, 11, 3) * 37 % 256).astype(np.uint8)
OPENCV_ENLARGED = [
    [0, 59, 135, 211, 136, 108, 184, 93, 81, 149, 50, 54, 130, 206, 163, 86],
    [108, 92, 103, 179, 103, 76, 152, 153, 141, 121, 118, 105, 98, 174, 130, 53],
    [182, 139, 111, 144, 100, 80, 113, 187, 175, 84, 160, 132, 57, 133, 119, 76],
    [141, 193, 210, 119, 165, 168, 77, 146, 134, 42, 119, 91, 15, 92, 162, 214],
    [100, 158, 179, 79, 131, 136, 36, 104, 150, 162, 124, 117, 125, 87, 127, 185],
    [58, 117, 157, 119, 127, 120, 82, 94, 139, 208, 108, 112, 173, 135, 133, 144],
    [30, 82, 152, 229, 153, 125, 201, 110, 98, 167, 76, 79, 147, 224, 180, 103],
    [168, 124, 111, 187, 111, 84, 160, 68, 57, 131, 163, 144, 106, 182, 139, 62],
    [190, 113, 70, 146, 139, 125, 123, 103, 91, 92, 168, 140, 65, 141, 151, 136],
    [158, 81, 37, 114, 190, 194, 94, 163, 151, 59, 136, 108, 32, 109, 185, 244],
]
OPENCV_ENLARGED_SUMS = [20058, 20090, 20286]
OPENCV_REDUCED = [
    [80, 164, 162, 130, 94, 124],
    [177, 124, 72, 70, 55, 170],
    [73, 189, 174, 172, 119, 160],
    [120, 150, 113, 82, 80, 164],
]
OPENCV_REDUCED_SUMS = [3018, 3004, 3135]


def random_frames(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


class TestRandomResizedCropBox:
    @given(st.integers(1, 2000), st.integers(1, 2000), st.integers(0, 2**32))
    def test_lies_inside_the_frame(self, height: int, width: int, seed: int):
        top, left, h, w = random_resized_crop_box(height, width, TrainingView(), np.random.default_rng(seed))
        assert h >= 1 and w >= 1
        assert 0 <= top <= height - h and 0 <= left <= width - w

    def test_area_and_aspect_keep_to_their_ranges(self):
        rng = np.random.default_rng(0)
        boxes = np.array([random_resized_crop_box(1000, 1200, TrainingView(), rng) for _ in range(4000)])
        areas, aspects = boxes[:, 2] * boxes[:, 3] / (1000 * 1200), boxes[:, 3] / boxes[:, 2]
        assert 0.079 < areas.min() < 0.09 and 0.9 < areas.max() <= 1
        assert 0.745 < aspects.min() < 0.76 and 1.32 < aspects.max() < 1.34
        small = areas < 0.4  # those always fit, so nothing is drawn again and the distributions show
        assert abs(areas[small].mean() - 0.24) < 0.01
        assert abs(np.log(aspects[small]).mean()) < 0.015  # log-uniform: as often wide as tall
        assert 0 in boxes[small, 0] or boxes[small, 0].min() < 5
        assert (boxes[small, 0] + boxes[small, 2]).max() > 995

    @pytest.mark.parametrize("height, width, box", [(40, 1000, (0, 480, 40, 40)), (901, 30, (435, 0, 30, 30))])
    def test_is_the_center_square_where_nothing_fits(self, height: int, width: int, box: tuple[int, ...]):
        view = TrainingView(min_area=0.5)
        assert random_resized_crop_box(height, width, view, np.random.default_rng(0)) == box

    def test_whole_frame_can_be_asked_for(self):
        view = TrainingView(min_area=1, max_area=1, min_aspect=1, max_aspect=1)
        assert random_resized_crop_box(50, 50, view, np.random.default_rng(0)) == (0, 0, 50, 50)


class TestTrainingView:
    def test_is_one_antialiased_resampling_of_the_crop(self):
        frames = random_frames(4, 90, 120)
        view = TrainingView(crop_size=32, flip_probability=0)
        top, left, height, width = random_resized_crop_box(90, 120, view, np.random.default_rng(7))
        result = training_view(frames, view, np.random.default_rng(7))
        assert result.shape == (3, 4, 32, 32) and result.dtype == torch.uint8 and result.is_contiguous()
        crop = torch.from_numpy(frames[:, top : top + height, left : left + width]).permute(3, 0, 1, 2).double()
        expected = functional.interpolate(crop, (32, 32), mode="bilinear", antialias=True)
        # torch resizes uint8 with integer weights: no more than a level from the exact value.
        assert (result - expected).abs().max() <= 1

    def test_takes_the_same_crop_and_flip_of_every_frame(self):
        frames = np.repeat(random_frames(1, 60, 80), 6, axis=0)
        for seed in range(8):
            result = training_view(frames, TrainingView(crop_size=24), np.random.default_rng(seed))
            assert (result == result[:, :1]).all()

    @pytest.mark.parametrize("probability, is_flipped", [(1.0, True), (0.0, False)])
    def test_flips_from_left_to_right(self, probability: float, is_flipped: bool):
        frames = moving_square(5, 48, 48, "right")
        view = TrainingView(48, 1, 1, 1, 1, probability)  # the whole frame at its own size
        result = training_view(frames, view, np.random.default_rng(0)).permute(1, 2, 3, 0).numpy()
        assert (result == (frames[:, :, ::-1] if is_flipped else frames)).all()

    def test_flips_half_of_the_clips(self):
        frames = numbered_frames(1, 16, 16, first=1)
        view = TrainingView(16, 1, 1, 1, 1, 0.5)
        rng = np.random.default_rng(0)
        flips = [read_number(training_view(frames, view, rng)[:, 0].permute(1, 2, 0).numpy()) != 1 for _ in range(400)]
        assert 160 < sum(flips) < 240  # four standard deviations

    def test_depends_on_nothing_but_its_generator(self):
        frames = random_frames(2, 64, 64)
        first = training_view(frames, TrainingView(), np.random.default_rng(3))
        torch.rand(1)
        np.random.default_rng().random()
        assert torch.equal(first, training_view(frames, TrainingView(), np.random.default_rng(3)))
        assert not torch.equal(first, training_view(frames, TrainingView(), np.random.default_rng(4)))

    def test_enlarges_frames_that_are_smaller_than_the_crop(self):
        result = training_view(random_frames(2, 9, 5), TrainingView(crop_size=40), np.random.default_rng(0))
        assert result.shape == (3, 2, 40, 40)

    def test_augmentations_draw_after_the_crop_and_the_flip_and_nothing_where_they_are_unset(self):
        frames = random_frames(2, 70, 90)
        for seed in range(8):
            rng, expected = np.random.default_rng(seed), np.random.default_rng(seed)
            plain = training_view(frames, TrainingView(crop_size=32), rng)
            random_resized_crop_box(70, 90, TrainingView(crop_size=32), expected)
            expected.random()  # the flip
            assert rng.bit_generator.state == expected.bit_generator.state
            settings = (RandAugment(4), ColorJitter(hue=0.1), RandomErasing(1.0, fill="noise"))
            view = TrainingView(32, 0.08, 1.0, 3 / 4, 4 / 3, 0.5, *settings)
            ours = training_view(frames, view, np.random.default_rng(seed))
            assert torch.equal(ours, augment(plain, *settings, expected))
            assert not torch.equal(ours, plain)

    def test_does_not_change_or_keep_the_frames(self):
        frames = random_frames(2, 24, 24)
        before = frames.copy()
        result = training_view(frames, TrainingView(24, 1, 1, 1, 1, 0), np.random.default_rng(0))
        result.zero_()
        assert (frames == before).all()


class TestResizedShape:
    @pytest.mark.parametrize(
        "height, width, expected",
        [
            (256, 340, (256, 340)),
            (240, 320, (256, 341)),  # 341.33
            (320, 240, (341, 256)),
            (148, 240, (256, 415)),  # 415.14
            (460, 300, (393, 256)),  # 392.53
            (1080, 1920, (256, 455)),
            (200, 200, (256, 256)),
        ],
    )
    def test_short_side_is_exact_and_the_other_is_rounded(self, height: int, width: int, expected: tuple[int, int]):
        assert resized_shape(height, width, 256) == expected

    @given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 600))
    def test_short_side_is_always_exact(self, height: int, width: int, short_side: int):
        assert min(resized_shape(height, width, short_side)) == short_side


class TestCropCorners:
    def test_three_crops_of_the_published_width(self):
        assert crop_corners(256, 340, EvaluationViews(10, 3, 256, 256)) == [(0, 0), (0, 84), (0, 42)]

    def test_three_crops_of_an_odd_width_leave_its_last_column(self):
        assert crop_corners(256, 341, EvaluationViews(10, 3, 256, 256)) == [(0, 0), (0, 84), (0, 42)]

    def test_three_crops_lie_along_the_height_of_an_upright_frame(self):
        assert crop_corners(455, 256, EvaluationViews(10, 3, 256, 256)) == [(0, 0), (198, 0), (99, 0)]

    def test_three_crops_of_a_square_are_the_same(self):
        assert crop_corners(256, 256, EvaluationViews(10, 3, 256, 256)) == [(0, 0)] * 3

    def test_one_crop_is_the_center(self):
        assert crop_corners(256, 341, EvaluationViews(1, 1, 256, 224)) == [(16, 58)]


class TestEvaluationViews:
    @pytest.mark.parametrize(
        "channel, sums",
        [(OPENCV_ENLARGED, OPENCV_ENLARGED_SUMS), (OPENCV_REDUCED, OPENCV_REDUCED_SUMS)],
        ids=["enlarged", "reduced"],
    )
    def test_resizing_equals_opencv_bit_for_bit(self, channel: list[list[int]], sums: list[int]):
        height, width = len(channel), len(channel[0])
        left, right, center = evaluation_views(PATTERN[None], EvaluationViews(1, 3, height, height))[:, :, 0]
        whole = torch.cat([left[:, :, : width - height], right], dim=2)  # [3, height, width]
        assert whole[0].tolist() == channel
        assert whole.sum(dim=(1, 2)).tolist() == sums
        step = (width - height) // 2
        assert torch.equal(center, whole[:, :, step : step + height])

    @given(st.integers(2, 60), st.integers(2, 60), st.integers(2, 60))
    def test_resizing_stays_within_a_level_of_exact_bilinear(self, height: int, width: int, short_side: int):
        frame = random_frames(height, width, seed=height * width)
        target = resized_shape(height, width, short_side)
        exact = functional.interpolate(
            torch.from_numpy(frame).permute(2, 0, 1)[None].double(), target, mode="bilinear", align_corners=False
        )[0]
        (top, left), *_ = crop_corners(*target, EvaluationViews(1, 1, short_side, short_side))
        view = evaluation_views(frame[None], EvaluationViews(1, 1, short_side, short_side))[0, :, 0]
        expected = exact[:, top : top + short_side, left : left + short_side]
        assert (view - expected).abs().max() <= 1.2  # half a level of rounding, and the weights' 11 bits

    def test_frames_of_the_right_size_are_only_cropped(self):
        frames = random_frames(2, 3, 64, 85)
        views = evaluation_views(frames, EvaluationViews(2, 1, 64, 56))
        expected = torch.from_numpy(frames[:, :, 4:60, 14:70]).permute(0, 4, 1, 2, 3)
        assert torch.equal(views, expected)

    def test_views_are_ordered_by_crop_then_by_clip(self):
        frames = random_frames(4, 2, 30, 50)  # [num_clips, T, H, W, 3]
        views = evaluation_views(frames, EvaluationViews(4, 3, 40, 40))
        assert views.shape == (12, 3, 2, 40, 40) and views.dtype == torch.uint8
        for clip in range(4):
            alone = evaluation_views(frames[clip], EvaluationViews(1, 3, 40, 40))
            for crop in range(3):
                assert torch.equal(views[crop * 4 + clip], alone[crop])

    def test_three_crops_of_an_upright_frame_run_from_top_to_bottom(self):
        frame = np.zeros((1, 90, 30, 3), np.uint8)
        frame[0, :, :, 0] = np.arange(90)[:, None]
        views = evaluation_views(frame, EvaluationViews(1, 3, 30, 30))
        assert views[:, 0, 0, 0, 0].tolist() == [0, 60, 30]

    def test_an_image_gives_one_center_view(self):
        image = numbered_frames(1, 300, 400, first=0b0110_1001_1001_0110)
        views = evaluation_views(image[None], EvaluationViews(1, 1, 256, 224))
        assert views.shape == (1, 3, 1, 224, 224)
        whole = evaluation_views(numbered_frames(1, 100, 100, first=777)[None], EvaluationViews(1, 1, 60, 60))
        assert read_number(whole[0, :, 0].permute(1, 2, 0).numpy()) == 777

    def test_crops_larger_than_the_short_side_are_an_error_of_ours(self):
        with pytest.raises(AssertionError):
            evaluation_views(random_frames(1, 20, 20), EvaluationViews(1, 1, 16, 17))
