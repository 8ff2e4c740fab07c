from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnisource.data.loading.clip_sampling import evaluation_indices, training_indices
from omnisource.recipe.data import ClipSampling

PUBLISHED = ClipSampling(clip_length=8, frame_interval=8)

# What the published system returned when it was run: frames of one clip, starts of ten.
PUBLISHED_INDICES = {
    300: ([121, 129, 137, 145, 153, 161, 169, 177], [0, 27, 54, 81, 108, 135, 162, 189, 216, 243]),
    64: ([3, 11, 19, 27, 35, 43, 51, 59], [0, 1, 2, 2, 3, 4, 5, 5, 6, 7]),
    57: ([0, 8, 16, 24, 32, 40, 48, 56], [0] * 10),
    56: ([0, 8, 16, 24, 32, 40, 48, 0], [0] * 10),
    32: ([0, 8, 16, 24, 0, 8, 16, 24], [0] * 10),
    10: ([0, 8, 6, 4, 2, 0, 8, 6], [0] * 10),
}

lengths = st.integers(1, 5000)
samplings = st.builds(ClipSampling, clip_length=st.integers(1, 64), frame_interval=st.integers(1, 32))


@pytest.mark.parametrize("num_frames", PUBLISHED_INDICES)
def test_one_clip_takes_the_published_frames(num_frames: int):
    indices = evaluation_indices(num_frames, PUBLISHED, num_clips=1)
    assert indices.tolist() == [PUBLISHED_INDICES[num_frames][0]]
    assert indices.dtype == np.int64


@pytest.mark.parametrize("num_frames", PUBLISHED_INDICES)
def test_ten_clips_take_the_published_frames(num_frames: int):
    starts = PUBLISHED_INDICES[num_frames][1]
    indices = evaluation_indices(num_frames, PUBLISHED, num_clips=10)
    assert indices.tolist() == [[(start + 8 * step) % num_frames for step in range(8)] for start in starts]


def test_starts_on_a_half_are_rounded_to_the_even_number():
    starts = evaluation_indices(57 + 5, PUBLISHED, num_clips=3)[:, 0]  # 0, 2.5, 5
    assert starts.tolist() == [0, 2, 5]
    starts = evaluation_indices(57 + 7, PUBLISHED, num_clips=3)[:, 0]  # 0, 3.5, 7
    assert starts.tolist() == [0, 4, 7]


@pytest.mark.parametrize("num_frames, last_start", [(300, 236), (65, 1), (64, 0), (63, 0), (10, 0), (1, 0)])
def test_training_starts_are_uniform_over_the_published_range(num_frames: int, last_start: int):
    rng = np.random.default_rng(0)
    draws = 200 * (last_start + 1)
    clips = np.stack([training_indices(num_frames, PUBLISHED, rng) for _ in range(draws)])
    counts = np.bincount(clips[:, 0])
    assert len(counts) == last_start + 1
    assert counts.min() > 200 - 6 * 200**0.5 and counts.max() < 200 + 6 * 200**0.5  # six standard deviations
    assert clips.dtype == np.int64


@pytest.mark.parametrize("num_frames", [64, 57, 56, 32, 10])
def test_a_training_clip_of_a_short_video_wraps_around(num_frames: int):
    indices = training_indices(num_frames, PUBLISHED, np.random.default_rng(0))
    assert indices.tolist() == [8 * step % num_frames for step in range(8)]


@given(lengths, samplings, st.integers(0, 2**32))
def test_training_frames_exist_and_keep_their_distance(num_frames: int, sampling: ClipSampling, seed: int):
    indices = training_indices(num_frames, sampling, np.random.default_rng(seed))
    assert indices.shape == (sampling.clip_length,)
    assert indices.min() >= 0 and indices.max() < num_frames
    assert (np.diff(indices) % num_frames == sampling.frame_interval % num_frames).all()
    if num_frames >= sampling.clip_length * sampling.frame_interval:
        assert (np.diff(indices) == sampling.frame_interval).all()
    again = training_indices(num_frames, sampling, np.random.default_rng(seed))
    assert indices.tolist() == again.tolist()


@given(lengths, samplings, st.integers(1, 30))
def test_evaluation_clips_cover_the_video_evenly(num_frames: int, sampling: ClipSampling, num_clips: int):
    indices = evaluation_indices(num_frames, sampling, num_clips)
    assert indices.shape == (num_clips, sampling.clip_length)
    assert indices.min() >= 0 and indices.max() < num_frames
    span = (sampling.clip_length - 1) * sampling.frame_interval + 1
    last_start = max(0, num_frames - span)
    starts = indices[:, 0]
    if num_clips == 1:
        assert starts[0] == last_start // 2
    else:
        assert starts[0] == 0 and starts[-1] == last_start
        exact = np.arange(num_clips) * last_start / (num_clips - 1)
        assert (np.abs(starts - exact) <= 0.5).all()
    if num_frames >= span:  # nothing wraps
        assert (np.diff(indices, axis=1) == sampling.frame_interval).all()
