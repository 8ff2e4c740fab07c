from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from omnisource.data.decoding.images import MAX_IMAGE_PIXELS, decode_frame_folder, decode_image
from omnisource.errors import UnreadableMedia
from tests.support.media import (
    numbered_frame,
    numbered_frames,
    read_number,
    read_numbers,
    truncate,
    write_frames,
    write_image,
)

PICTURE = numbered_frame(0b0001_0010_0110_1000, 48, 64)  # looks different in each of the eight orientations

# EXIF orientation -> how the upright picture was turned before it was stored.
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


class TestPixels:
    @pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "webp"])
    def test_of_lossless_formats_are_exact(self, suffix: str, tmp_path: Path):
        options = {"lossless": True} if suffix == "webp" else {}
        pixels = decode_image(write_image(tmp_path / f"image.{suffix}", PICTURE, **options))
        assert pixels.dtype == np.uint8 and pixels.shape == (48, 64, 3)
        assert np.array_equal(pixels, PICTURE)
        pixels[0, 0] = 0  # they belong to the caller

    @pytest.mark.parametrize("suffix", ["jpg", "avif", "jp2"])
    def test_of_lossy_formats_are_close(self, suffix: str, tmp_path: Path):
        pixels = decode_image(write_image(tmp_path / f"image.{suffix}", PICTURE, quality=95))
        assert np.abs(pixels.astype(int) - PICTURE).mean() < 6

    def test_of_a_wrongly_named_file_are_found_by_its_content(self, tmp_path: Path):
        write_image(tmp_path / "image.png", PICTURE).rename(tmp_path / "image.JPEG")
        assert np.array_equal(decode_image(tmp_path / "image.JPEG"), PICTURE)

    @pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "avif", "gif"])
    def test_of_content_are_those_of_the_file(self, suffix: str, tmp_path: Path):
        path = write_image(tmp_path / f"image.{suffix}", PICTURE)
        content, expected = path.read_bytes(), decode_image(path)
        path.unlink()
        assert np.array_equal(decode_image(path, content=content), expected)
        with pytest.raises(UnreadableMedia, match=f"image.{suffix}: the file is empty"):
            decode_image(path, content=b"")
        with pytest.raises(UnreadableMedia, match=f"image.{suffix}: not an image"):
            decode_image(path, content=b"no image" * 20)

    @pytest.mark.parametrize("orientation", STORED)
    @pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff"])
    def test_are_upright(self, suffix: str, orientation: int, tmp_path: Path):
        stored = np.ascontiguousarray(STORED[orientation](PICTURE))
        pixels = decode_image(write_image(tmp_path / f"image.{suffix}", stored, orientation=orientation))
        assert pixels.shape == PICTURE.shape
        assert read_number(pixels) == 0b0001_0010_0110_1000

    def test_of_an_unknown_orientation_stay_as_stored(self, tmp_path: Path):
        assert np.array_equal(decode_image(write_image(tmp_path / "image.png", PICTURE, orientation=9)), PICTURE)

    def test_survive_damaged_notes(self, tmp_path: Path):
        Image.fromarray(PICTURE).save(tmp_path / "image.png", exif=b"Exif\x00\x00no such thing")
        assert np.array_equal(decode_image(tmp_path / "image.png"), PICTURE)

    def test_of_cmyk_are_converted(self, tmp_path: Path):
        Image.fromarray(PICTURE).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=98)
        pixels = decode_image(tmp_path / "cmyk.jpg")
        assert np.abs(pixels.astype(int) - PICTURE).mean() < 4

    def test_of_gray_are_repeated(self, tmp_path: Path):
        gray = np.arange(48 * 64).reshape(48, 64).astype(np.uint8)
        pixels = decode_image(write_image(tmp_path / "gray.png", gray))
        assert np.array_equal(pixels, np.repeat(gray[..., None], 3, axis=2))

    def test_of_one_bit_are_black_and_white(self, tmp_path: Path):
        bits = np.random.default_rng(0).random((9, 13)) > 0.5
        Image.fromarray(bits).save(tmp_path / "bits.png")
        assert np.array_equal(decode_image(tmp_path / "bits.png")[..., 1], bits * np.uint8(255))

    @pytest.mark.parametrize("suffix", ["png", "tiff"])
    def test_of_16_bit_gray_keep_their_high_byte(self, suffix: str, tmp_path: Path):
        gray = np.random.default_rng(0).integers(0, 2**16, (20, 30), dtype=np.uint16)
        pixels = decode_image(write_image(tmp_path / f"deep.{suffix}", gray))
        assert np.array_equal(pixels, np.repeat((gray >> 8).astype(np.uint8)[..., None], 3, axis=2))

    def test_of_a_palette_are_its_colors(self, tmp_path: Path):
        Image.fromarray(PICTURE).quantize(2).save(tmp_path / "palette.png", transparency=0)
        with Image.open(tmp_path / "palette.png") as image:
            assert image.mode == "P"
        assert np.array_equal(decode_image(tmp_path / "palette.png"), PICTURE)

    def test_lose_their_transparency(self, tmp_path: Path):
        alpha = np.random.default_rng(0).integers(0, 256, (48, 64, 1), dtype=np.uint8)
        pixels = decode_image(write_image(tmp_path / "alpha.png", np.concatenate([PICTURE, alpha], axis=2)))
        assert np.array_equal(pixels, PICTURE)

    @pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
    def test_of_an_animation_are_its_first_picture(self, suffix: str, tmp_path: Path):
        _, *others = [Image.fromarray(frame) for frame in numbered_frames(4, first=7)]
        path = tmp_path / f"animation.{suffix}"
        write_image(path, numbered_frame(7), save_all=True, append_images=others, duration=40)
        assert read_number(decode_image(tmp_path / f"animation.{suffix}")) == 7


class TestReducedSize:
    @pytest.mark.parametrize(
        "min_short_side, expected",
        [(None, (480, 640)), (480, (480, 640)), (241, (480, 640)), (240, (240, 320)), (120, (120, 160)), (9, (60, 80))],
    )
    def test_of_a_jpeg_keeps_the_short_side(
        self, min_short_side: int | None, expected: tuple[int, int], tmp_path: Path
    ):
        path = write_image(tmp_path / "large.jpg", numbered_frame(777, 480, 640))
        pixels = decode_image(path, min_short_side)
        assert pixels.shape == (*expected, 3)
        assert read_number(pixels) == 777

    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
    @given(height=st.integers(1, 300), width=st.integers(1, 300), wanted=st.integers(1, 300))
    def test_never_falls_below_what_was_asked_for(self, tmp_path: Path, height: int, width: int, wanted: int):
        pixels = decode_image(write_image(tmp_path / "any.jpg", numbered_frame(1, height, width)), wanted)
        assert min(pixels.shape[:2]) >= min(wanted, height, width)

    def test_leaves_other_formats_alone(self, tmp_path: Path):
        path = write_image(tmp_path / "large.png", numbered_frame(777, 480, 640))
        assert decode_image(path, 10).shape == (480, 640, 3)

    @pytest.mark.parametrize("mode", ["L", "CMYK"])
    def test_works_in_other_colors_and_on_its_side(self, mode: str, tmp_path: Path):
        exif = Image.Exif()
        exif[0x0112] = 6
        stored = Image.fromarray(np.ascontiguousarray(np.rot90(numbered_frame(777, 480, 640)))).convert(mode)
        stored.save(tmp_path / "side.jpg", exif=exif)
        pixels = decode_image(tmp_path / "side.jpg", 200)
        assert pixels.shape == (240, 320, 3)
        assert read_number(pixels) == 777


class TestUnreadableImages:
    def refusal(self, path: Path) -> str:
        with pytest.raises(UnreadableMedia) as caught:
            decode_image(path)
        assert caught.value.path == str(path)
        return caught.value.reason

    def test_missing(self, tmp_path: Path):
        assert self.refusal(tmp_path / "missing.jpg") == "no such file"

    def test_folder(self, tmp_path: Path):
        assert self.refusal(tmp_path) == "a folder, not a file"

    def test_empty(self, tmp_path: Path):
        (tmp_path / "empty.jpg").touch()
        assert self.refusal(tmp_path / "empty.jpg") == "the file is empty"

    def test_text(self, tmp_path: Path):
        (tmp_path / "text.jpg").write_text("<html>404</html>")
        assert self.refusal(tmp_path / "text.jpg").startswith("not an image of the kinds JPEG")

    def test_kinds_that_start_programs(self, tmp_path: Path):
        Image.fromarray(PICTURE).save(tmp_path / "page.eps")
        assert self.refusal(tmp_path / "page.eps").startswith("not an image of the kinds JPEG")

    @pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tiff"])
    def test_truncated(self, suffix: str, share: float, tmp_path: Path):
        noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
        path = truncate(write_image(tmp_path / f"cut.{suffix}", noise), share)
        assert self.refusal(path)

    def test_32_bit_gray(self, tmp_path: Path):
        Image.fromarray(np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)).save(tmp_path / "float.tiff")
        assert "32 bits" in self.refusal(tmp_path / "float.tiff")

    def test_more_pixels_than_allowed(self, tmp_path: Path):
        path = write_image(tmp_path / "bomb.png", PICTURE)
        data = bytearray(path.read_bytes())
        data[16:24] = struct.pack(">II", 20_000, 20_000)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        path.write_bytes(data)
        assert str(MAX_IMAGE_PIXELS) in self.refusal(path)

    def test_avif_whose_head_is_damaged(self, tmp_path: Path):
        path = write_image(tmp_path / "image.avif", PICTURE, max_threads=1)
        whole = path.read_bytes()
        reasons = set()
        for offset in range(0, len(whole), 2):
            path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 0xFF]) + whole[offset + 1 :])
            try:
                decode_image(path)
            except UnreadableMedia as error:
                reasons.add(error.reason)
        assert any("Failed to decode frame" in reason for reason in reasons)  # a RuntimeError of Pillow's

    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "tiff"])
    def test_random_damage_gives_pixels_or_that_error(self, suffix: str, tmp_path: Path):
        whole = write_image(tmp_path / f"whole.{suffix}", PICTURE).read_bytes()
        rng = np.random.default_rng(0)
        path = tmp_path / f"damaged.{suffix}"
        for _ in range(40):
            data = np.frombuffer(whole, np.uint8).copy()
            data[rng.integers(0, len(data), 8)] = rng.integers(0, 256, 8)
            path.write_bytes(data.tobytes())
            try:
                assert decode_image(path).shape[2] == 3
            except UnreadableMedia:
                pass  # named, which is all that can be asked


class TestFrameFolder:
    def test_first_frame_has_number_one(self, tmp_path: Path):
        write_frames(tmp_path, numbered_frames(12, first=100))
        frames = decode_frame_folder(tmp_path, "img_{:05d}.jpg", [0, 11, 4])
        assert frames.shape == (3, 64, 64, 3) and frames.dtype == np.uint8
        assert read_numbers(frames) == [100, 111, 104]

    def test_frames_may_repeat(self, tmp_path: Path):
        write_frames(tmp_path, numbered_frames(4), "frame{}.png")
        indices = np.array([3, 0, 3, 3, 1])
        assert read_numbers(decode_frame_folder(tmp_path, "frame{}.png", indices)) == indices.tolist()

    def test_missing_frame_is_reported(self, tmp_path: Path):
        write_frames(tmp_path, numbered_frames(3))
        with pytest.raises(UnreadableMedia, match=r"img_00004\.jpg: no such file"):
            decode_frame_folder(tmp_path, "img_{:05d}.jpg", [0, 3])

    def test_frame_of_another_size_is_reported(self, tmp_path: Path):
        write_frames(tmp_path, numbered_frames(3, 48, 64))
        write_image(tmp_path / "img_00003.jpg", numbered_frame(2, 64, 48))
        with pytest.raises(
            UnreadableMedia, match=r"img_00003\.jpg: its size 48x64 is not that of img_00001\.jpg, 64x48"
        ):
            decode_frame_folder(tmp_path, "img_{:05d}.jpg", [2, 0])
