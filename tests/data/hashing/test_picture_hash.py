"""The hash of what a picture shows."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

from omnisource.check.duplicates import SAME_CHANGE_BITS, SAME_FRAME_BITS, SAME_PICTURE_BITS
from omnisource.data.hashing.picture_hash import HASH_BYTES, PictureHash, image_hash, video_hashes
from tests.support.media import scenery


def copied(pixels: np.ndarray, width: int, height: int, format: str = "JPEG", quality: int = 60) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((width, height)).save(buffer, format, quality=quality)
    return np.array(Image.open(io.BytesIO(buffer.getvalue())).convert("RGB"))


def differing(first: PictureHash, second: PictureHash) -> int:
    return (int.from_bytes(first.bits, "big") ^ int.from_bytes(second.bits, "big")).bit_count()


def test_bits_are_the_signs_of_the_slow_waves() -> None:
    gray = scenery(0, 32, 32)[..., 0]
    bits = np.unpackbits(np.frombuffer(image_hash(np.repeat(gray[..., None], 3, axis=2)).bits, np.uint8))
    for down, across in ((0, 1), (1, 0), (3, 5), (15, 15), (9, 0), (0, 12)):
        wave = sum(
            float(gray[row, column])
            * math.cos(math.pi * (2 * row + 1) * down / 64)
            * math.cos(math.pi * (2 * column + 1) * across / 64)
            for row in range(32)
            for column in range(32)
        )
        assert abs(wave) > 20, "a sign that is not left to rounding"
        assert bits[16 * down + across] == (wave > 0)
    assert len(bits) == 8 * HASH_BYTES and bits[0] == 0


@pytest.mark.parametrize(
    ("width", "height", "format", "quality"),
    [
        (160, 120, "JPEG", 20),
        (80, 60, "JPEG", 60),
        (400, 300, "JPEG", 60),
        (64, 64, "JPEG", 60),
        (160, 120, "WEBP", 50),
    ],
)
def test_copies_differ_in_few_bits(width: int, height: int, format: str, quality: int) -> None:
    for seed in range(10):
        picture = scenery(seed)
        copy = copied(picture, width, height, format, quality)
        assert differing(image_hash(picture), image_hash(copy)) <= SAME_PICTURE_BITS


def test_other_pictures_differ_in_more_bits_than_copies() -> None:
    hashes = [image_hash(scenery(seed)) for seed in range(30)]
    apart = [differing(hashes[i], hashes[j]) for i in range(30) for j in range(i)]
    assert min(apart) > 2 * SAME_PICTURE_BITS


@pytest.mark.parametrize("height", [1, 7, 33, 500])
def test_pictures_of_any_size_have_a_hash(height: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (height, 300, 3), dtype=np.uint8)
    assert len(image_hash(picture).bits) == HASH_BYTES


def test_pictures_of_one_color_and_gradients_are_plain() -> None:
    rng = np.random.default_rng(0)
    black = np.zeros((90, 120, 3), dtype=np.uint8)
    noisy = np.clip(rng.normal(128, 2, (90, 120, 1)), 0, 255).astype(np.uint8).repeat(3, axis=2)
    gradient = np.linspace(0, 255, 120).astype(np.uint8)[None, :, None].repeat(90, axis=0).repeat(3, axis=2)
    for picture in (black, black + 255, black + np.array([200, 30, 60], dtype=np.uint8), noisy, gradient):
        assert image_hash(picture).is_plain
        assert image_hash(copied(picture, 120, 90)).is_plain
    assert not any(image_hash(scenery(seed)).is_plain for seed in range(30))


def test_turned_and_cut_views_that_are_not_contiguous_are_hashed_like_their_copies() -> None:
    picture = scenery(3)[::-1, 10:-10, ::-1]
    assert image_hash(picture) == image_hash(picture.copy())


def test_videos_are_known_by_their_frames_and_by_what_changes() -> None:
    ground, frames = scenery(0), []
    for left in (10, 60, 110):  # something passes before a camera that stands still
        frames.append(ground.copy())
        frames[-1][40:80, left : left + 30] = (250, 40, 40)
    hashes = video_hashes(frames)
    assert list(hashes[:3]) == [image_hash(frame) for frame in frames]
    assert not any(one.is_plain for one in hashes)
    back = video_hashes(frames[::-1])
    assert max(differing(one, other) for one, other in zip(hashes[:3], back[:3], strict=True)) <= SAME_FRAME_BITS
    assert min(differing(one, other) for one, other in zip(hashes[3:], back[3:], strict=True)) > SAME_CHANGE_BITS
    shown_again = video_hashes([copied(frame, 120, 90) for frame in frames])
    assert max(differing(one, other) for one, other in zip(hashes, shown_again, strict=True)) <= SAME_PICTURE_BITS


def test_changes_of_a_video_in_which_nothing_moves_are_plain() -> None:
    frame = scenery(0)
    hashes = video_hashes([frame, frame, copied(frame, 160, 120, quality=80)])
    assert [one.is_plain for one in hashes] == [False, False, False, True, True]
