"""Shrunk images: their size, format and pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omnisource.data.decoding.images import decode_image
from omnisource.errors import UnreadableMedia
from omnisource.prepare.shrink import Encoded, shrink_image, shrunk_size
from tests.support.media import (
    numbered_frame,
    truncate,
    write_image,
)
from tests.support.preparing import textured


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".png", ".webp", ".bmp", ".ppm", ".tif", ""])
def test_image_is_shrunk_in_its_format(tmp_path: Path, suffix: str) -> None:
    pixels = textured(1, 150, 200)[0]
    original = write_image(tmp_path / f"image{suffix or '.jpg'}", pixels)
    target = tmp_path / "prepared"
    assert shrink_image(str(original), target, 60, suffix) == Encoded(1, 80, 60)
    wanted = Image.fromarray(pixels).resize((80, 60), Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(wanted).astype(int) - decode_image(target)).mean() < 2
    with Image.open(target) as image, Image.open(original) as first:
        assert image.format == first.format


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".ppm", ".tiff"])
def test_lossless_formats_keep_every_pixel(tmp_path: Path, suffix: str) -> None:
    original = write_image(tmp_path / f"image{suffix}", textured(1, 150, 200)[0])
    target = tmp_path / "prepared"
    shrink_image(str(original), target, 60, suffix)
    wanted = Image.fromarray(decode_image(original)).resize((80, 60), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(wanted), decode_image(target))


@pytest.mark.parametrize("size", [(60, 90), (60, 60), (20, 10)])
def test_small_image_is_copied_byte_for_byte(tmp_path: Path, size: tuple[int, int]) -> None:
    original = write_image(tmp_path / "image.jpg", textured(1, *size)[0], orientation=6, quality=71)
    target = tmp_path / "prepared"
    encoded = shrink_image(str(original), target, 60, ".jpg")
    assert target.read_bytes() == original.read_bytes()
    assert (encoded.width, encoded.height) == size  # rotated


def test_orientation_is_in_the_pixels(tmp_path: Path) -> None:
    original = write_image(tmp_path / "image.jpg", numbered_frame(999, 300, 400), orientation=6)
    target = tmp_path / "prepared"
    shrink_image(str(original), target, 64, ".jpg")
    with Image.open(target) as image:
        assert image.size == (64, 85) and not image.getexif()
    wanted = Image.fromarray(decode_image(original)).resize((64, 85), Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(wanted).astype(int) - decode_image(target)).mean() < 3


def test_cmyk_palette_and_gray_become_rgb(tmp_path: Path) -> None:
    picture = Image.fromarray(textured(1, 150, 200)[0])
    for mode, suffix in (("CMYK", ".jpg"), ("P", ".png"), ("L", ".jpg"), ("RGBA", ".png")):
        original = tmp_path / f"{mode}{suffix}"
        picture.convert(mode).save(original)
        target = tmp_path / "prepared"
        shrink_image(str(original), target, 60, suffix)
        with Image.open(target) as image:
            assert image.mode == "RGB" and image.size == (80, 60)


def test_damaged_image_is_refused(tmp_path: Path) -> None:
    original = truncate(write_image(tmp_path / "image.jpg", textured(1, 30, 40)[0]), 0.5)
    with pytest.raises(UnreadableMedia):
        shrink_image(str(original), tmp_path / "prepared", 60, ".jpg")


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((340, 256), 256, (340, 256)),
        ((1280, 720), 256, (456, 256)),  # 455.1
        ((720, 1280), 256, (256, 456)),
        ((854, 480), 320, (570, 320)),  # 569.3
        ((300, 300), 256, (256, 256)),
        ((257, 256), 256, (257, 256)),
        ((100, 60), 256, (100, 60)),
        ((1000, 999), 256, (256, 256)),
    ],
)
def test_short_side_is_exact_and_long_side_even(
    size: tuple[int, int], short_side: int, expected: tuple[int, int]
) -> None:
    assert shrunk_size(*size, short_side, multiple=2) == expected
