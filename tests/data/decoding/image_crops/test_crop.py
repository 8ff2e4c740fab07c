from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from omnisource.data.decoding.image_crops import jpeg
from omnisource.data.decoding.image_crops.crop import decode_crop
from omnisource.data.decoding.images import decode_image
from omnisource.errors import UnreadableMedia
from tests.support.media import numbered_frame, read_number, scenery, truncate, write_image

HEIGHT, WIDTH = 150, 203
PICTURE = scenery(3, HEIGHT, WIDTH)
BOXES = [(0, 0, HEIGHT, WIDTH), (0, 0, 1, 1), (HEIGHT - 1, WIDTH - 1, 1, 1), (17, 40, 63, 90), (64, 3, 64, 64)]


@pytest.fixture(params=["simplejpeg", "Pillow"], autouse=True)
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "Pillow":
        monkeypatch.setattr(jpeg, "simplejpeg", None)
    elif jpeg.simplejpeg is None:
        pytest.skip("simplejpeg is not installed")
    yield request.param


def crop_of(path: Path, box: tuple[int, int, int, int], min_side: int = 10**6) -> np.ndarray:
    crop = decode_crop(path, lambda height, width: box, min_side)
    assert np.array_equal(decode_crop("elsewhere", lambda height, width: box, min_side, path.read_bytes()), crop)
    return crop


@pytest.mark.parametrize(
    "suffix, mode, options",
    [
        ("jpg", "RGB", {"subsampling": "4:2:0"}),
        ("jpg", "RGB", {"subsampling": "4:2:2", "progressive": True}),
        ("jpg", "RGB", {"subsampling": "4:4:4", "restart_marker_blocks": 5}),
        ("jpg", "RGB", {"subsampling": "4:2:0", "progressive": True, "restart_marker_rows": 1}),
        ("jpg", "RGB", {"keep_rgb": True}),
        ("jpg", "L", {"exif": b"Exif\0\0damaged"}),
        ("jpg", "CMYK", {}),
        ("png", "RGB", {}),
        ("png", "P", {}),
        ("webp", "RGBA", {}),
    ],
)
def test_a_crop_has_the_pixels_of_the_whole_image(suffix: str, mode: str, options: dict[str, Any], tmp_path: Path):
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(PICTURE).convert(mode).save(path, **options)
    whole = decode_image(path)
    for top, left, height, width in BOXES:
        expected = whole[top : top + height, left : left + width]
        assert np.array_equal(crop_of(path, (top, left, height, width)), expected), (top, left)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_crop_is_one_of_the_upright_image(suffix: str, orientation: int, tmp_path: Path):
    path = write_image(tmp_path / f"image.{suffix}", PICTURE, orientation=orientation)
    whole = decode_image(path)
    asked = []

    def choose_box(height: int, width: int) -> tuple[int, int, int, int]:
        asked.append((height, width))
        return 20, 30, 70, 50

    assert np.array_equal(decode_crop(path, choose_box, 1000), whole[20:90, 30:80])
    assert asked == [whole.shape[:2]]


@pytest.mark.parametrize(
    "box, min_side, expected",
    [
        ((0, 0, 480, 640), 241, (480, 640)),
        ((0, 0, 480, 640), 240, (240, 320)),
        ((0, 0, 480, 640), 60, (60, 80)),
        ((0, 0, 480, 640), 1, (60, 80)),
        ((104, 80, 320, 400), 80, (80, 100)),
        ((104, 80, 318, 400), 80, (159, 200)),
    ],
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_is_reduced_as_far_as_the_crop_allows(
    box: tuple[int, int, int, int], min_side: int, expected: tuple[int, int], orientation: int, tmp_path: Path
):
    stored = scenery(1, 480, 640)
    path = write_image(
        tmp_path / "large.jpg", np.rot90(stored) if orientation == 6 else stored, orientation=orientation
    )
    crop = crop_of(path, box, min_side)
    assert crop.shape == (*expected, 3)
    top, left, height, width = box
    full = Image.fromarray(decode_image(path)[top : top + height, left : left + width])
    resized = full.resize((expected[1], expected[0]), Image.Resampling.BOX)
    assert np.abs(crop.astype(int) - np.asarray(resized)).mean() < 1.5


def test_the_two_decoders_give_the_same_reduced_pixels(decoder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    if decoder == "Pillow":
        pytest.skip("compared with the other")
    rng = np.random.default_rng(0)
    every: tuple[dict[str, Any], ...] = ({}, {"subsampling": "4:4:4"}, {"progressive": True}, {"subsampling": "4:2:2"})
    for options in every:
        height, width = (int(side) for side in rng.integers(300, 700, 2))
        path = write_image(tmp_path / "large.jpg", scenery(2, height, width), quality=90, **options)
        for _ in range(6):
            rows, columns = int(rng.integers(40, height)), int(rng.integers(40, width))
            box = (int(rng.integers(0, height - rows)), int(rng.integers(0, width - columns)), rows, columns)
            ours = crop_of(path, box, 30)
            with monkeypatch.context() as without:
                without.setattr(jpeg, "simplejpeg", None)
                assert np.array_equal(ours, crop_of(path, box, 30)), (options, box)


def test_a_truncated_file_is_refused_also_where_the_crop_is_whole(tmp_path: Path):
    path = truncate(write_image(tmp_path / "cut.jpg", scenery(0, 300, 400), quality=95), 0.9)
    with pytest.raises(UnreadableMedia, match="truncated"):
        decode_crop(path, lambda height, width: (0, 0, 50, 50), 10)
    with pytest.raises(UnreadableMedia, match=r"missing\.jpg: no such file"):
        decode_crop(tmp_path / "missing.jpg", lambda height, width: (0, 0, 50, 50), 10)
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(UnreadableMedia, match="the file is empty"):
        decode_crop(tmp_path / "empty.jpg", lambda height, width: (0, 0, 50, 50), 10)


def test_bytes_behind_the_end_and_a_damaged_profile_do_no_harm(tmp_path: Path):
    path = write_image(tmp_path / "image.jpg", numbered_frame(777, 96, 96), quality=95)
    content = path.read_bytes()
    profile = b"\xff\xe2\0\x0eICC_PROFILE\0"
    for changed in (content + b"\0" * 20, content[:2] + profile + content[2:], content + content):
        path.write_bytes(changed)
        assert read_number(crop_of(path, (0, 0, 96, 96))) == 777
