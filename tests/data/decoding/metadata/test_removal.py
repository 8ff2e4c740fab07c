from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from omnisource.data.decoding.images import decode_image
from omnisource.data.decoding.metadata.removal import without_metadata
from omnisource.errors import UnreadableMedia
from tests.support.media import numbered_frame, read_number

NUMBER = 0b0001_0010_0110_1000  # looks different in each of the eight orientations
PICTURE = Image.fromarray(numbered_frame(NUMBER, 48, 64))
OTHER = Image.fromarray(numbered_frame(0b1010_1010_0101_0101, 48, 64))
ORIENTATION, ON_ITS_SIDE = 0x0112, 6


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **({"lossless": True} if kind == "WEBP" else {}), **options)
    return file.getvalue()


def exif_segment() -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = ON_ITS_SIDE
    return exif.tobytes()


EXIF = exif_segment()  # with the six letters that announce it in a JPEG
LYING = PICTURE.transpose(Image.Transpose.ROTATE_90)


def png(*chunks: bytes, image: Image.Image = PICTURE, before: bytes = b"IDAT") -> bytes:
    content = encoded(image, "PNG")
    place = content.index(before) - 4
    return content[:place] + b"".join(chunks) + content[place:]


def chunk(kind: bytes, payload: bytes, checksum: int | None = None) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", checksum or zlib.crc32(kind + payload))


def jpeg(*segments: bytes, image: Image.Image = PICTURE) -> bytes:
    content = encoded(image, "JPEG", quality=95)
    return content[:2] + b"".join(segments) + content[2:]


def segment(number: int, payload: bytes) -> bytes:
    return bytes([0xFF, 0xE0 + number]) + struct.pack(">H", len(payload) + 2) + payload


def one_tag(kind: int, count: int, value: bytes) -> bytes:
    return b"Exif\0\0II*\0" + struct.pack("<IHHHI", 8, 1, ORIENTATION, kind, count) + value.ljust(4, b"\0") + bytes(4)


def gif(extension: bytes) -> bytes:
    content = encoded(PICTURE, "GIF")
    place = 13 + 3 * 2 ** ((content[10] & 7) + 1)
    return content[:place] + extension + content[place:]


def webp(change_at: bytes = b"", length: int = 10**6, cut: int = 0, **options: Any) -> bytes:
    content = bytearray(encoded(options.pop("image", PICTURE), "WEBP", **options))
    if change_at:
        place = content.index(change_at) + 4
        content[place : place + 4] = struct.pack("<I", length)
    return bytes(content[: len(content) - cut])


def tiff(tag: int, kind: int, count: int, value: int) -> bytes:
    content = encoded(PICTURE, "TIFF")
    (start,) = struct.unpack_from("<I", content, 4)
    (number,) = struct.unpack_from("<H", content, start)
    entries = [content[start + 2 + 12 * i : start + 14 + 12 * i] for i in range(number)]
    entries.append(struct.pack("<HHII", tag, kind, count, value))
    entries.sort(key=lambda entry: struct.unpack_from("<H", entry)[0])
    directory = struct.pack("<H", number + 1) + b"".join(entries) + bytes(4)
    return content[:4] + struct.pack("<I", len(content)) + content[8:] + directory


LARGE = zlib.compress(b"a" * 3_000_000)
UPRIGHT = {
    "png: a large compressed text": lambda: png(chunk(b"zTXt", b"k\0\0" + LARGE)),
    "png: a large text behind the pixels": lambda: png(chunk(b"iTXt", b"k\0\1\0\0\0" + LARGE), before=b"IEND"),
    "png: many texts": lambda: png(chunk(b"tEXt", b"k\0" + b"a" * 900_000) * 80),
    "png: a large profile": lambda: png(chunk(b"iCCP", b"p\0\0" + LARGE)),
    "png: an empty profile": lambda: png(chunk(b"iCCP", b"")),
    "png: a profile of an unknown method": lambda: png(chunk(b"iCCP", b"p\0\7x")),
    "png: a text with a wrong checksum": lambda: png(chunk(b"tEXt", b"k\0v", 1)),
    "png: a text with a wrong length": lambda: png(struct.pack(">I", 10**6) + b"tEXtk\0v"),
    "png: a short resolution": lambda: png(chunk(b"pHYs", b"\0")),
    "png: a short gamma": lambda: png(chunk(b"gAMA", b"\0")),
    "png: empty transparency": lambda: png(chunk(b"tRNS", b"")),
    "png: transparency of more colors than there are": lambda: png(
        chunk(b"tRNS", bytes(300)), image=PICTURE.quantize(2)
    ),
    "png: a suggested palette with a wrong checksum": lambda: png(chunk(b"PLTE", bytes(9), 1)),
    "png: a short animation": lambda: png(chunk(b"acTL", b"\0"), chunk(b"fcTL", b"\0")),
    "png: an orientation behind a wrong checksum": lambda: png(
        chunk(b"tEXt", b"k\0v", 1), chunk(b"eXIf", EXIF[6:]), image=LYING
    ),
    "jpeg: a short profile": lambda: jpeg(segment(2, b"ICC_PROFILE\0")),
    "jpeg: a short color transform": lambda: jpeg(segment(14, b"Adobe")),
    "jpeg: a short JFIF": lambda: jpeg(segment(0, b"JFIF\0")),
    "jpeg: a segment with a wrong length": lambda: jpeg(b"\xff\xed\xf0\0abc"),
    "jpeg: bytes behind the first marker": lambda: jpeg(b"\0\1\2"),
    "jpeg: an orientation beside a short profile": lambda: jpeg(
        segment(1, EXIF), segment(2, b"ICC_PROFILE\0"), image=LYING
    ),
    "jpeg: an orientation of one byte": lambda: jpeg(segment(1, one_tag(1, 1, b"\6")), image=LYING),
    "jpeg: an orientation behind a damaged segment": lambda: jpeg(
        segment(1, b"Exif\0\0damaged"), segment(1, EXIF), image=LYING
    ),
    "jpeg: a second picture that is cut off": lambda: jpeg() + jpeg(image=OTHER)[:300],
    "webp: an Exif segment that is cut off": lambda: webp(exif=b"Exif\0\0" + bytes(80), cut=40),
    "webp: a profile with a wrong length": lambda: webp(b"ICCP", icc_profile=bytes(40)),
    "webp: a file length that is too large": lambda: webp(b"RIFF"),
    "webp: an orientation before what is cut off": lambda: webp(exif=EXIF, xmp=bytes(80), cut=40, image=LYING),
    "webp: a later picture that is cut off": lambda: webp(save_all=True, append_images=[OTHER], cut=20),
    "gif: an empty control block": lambda: gif(b"!\xf9\0"),
    "gif: an application without a name": lambda: gif(b"!\xff\0"),
    "gif: a later picture that is damaged": lambda: (
        encoded(PICTURE, "GIF", save_all=True, append_images=[OTHER])[:-60] + b"!"
    ),
    "tiff: a description outside the file": lambda: tiff(270, 2, 5000, 10**6),
    "tiff: an orientation of one byte": lambda: tiff(ORIENTATION, 1, 1, 1),
}


@pytest.mark.parametrize("what", UPRIGHT)
def test_trouble_beside_the_picture_is_none_of_the_picture(what: str, tmp_path: Path):
    path = tmp_path / "image"
    path.write_bytes(UPRIGHT[what]())
    for pixels in (decode_image(path), decode_image(path, content=path.read_bytes())):
        assert pixels.shape == (48, 64, 3)
        assert read_number(pixels) == NUMBER


@pytest.mark.parametrize(
    "kind, image, options",
    [
        ("JPEG", LYING, {"exif": EXIF, "comment": "a comment", "icc_profile": bytes(200)}),
        ("JPEG", LYING.convert("CMYK"), {"progressive": True}),
        ("JPEG", LYING.convert("L"), {"restart_marker_blocks": 1}),
        ("PNG", LYING, {"exif": EXIF, "dpi": (10, 10), "icc_profile": bytes(200)}),
        ("PNG", LYING.quantize(7), {"transparency": 0, "interlace": True}),
        ("PNG", LYING.convert("LA"), {}),
        ("WEBP", LYING, {"exif": EXIF, "xmp": b"<x/>"}),
        ("WEBP", LYING.convert("RGBA"), {"save_all": True, "append_images": [LYING.convert("RGBA").rotate(180)]}),
        ("GIF", LYING.quantize(7), {"transparency": 0, "comment": "a comment"}),
        ("TIFF", LYING, {"tiffinfo": {ORIENTATION: 6, 270: "a description"}, "compression": "jpeg"}),
        (
            "TIFF",
            LYING.quantize(7),
            {"save_all": True, "append_images": [OTHER.quantize(2)]},
        ),
        ("TIFF", LYING.convert("1"), {"compression": "group4"}),
    ],
)
def test_sound_files_have_the_same_pixels_without_their_metadata(
    kind: str, image: Image.Image, options: dict[str, Any]
):
    content = encoded(image, kind, **options)
    bare = without_metadata(content)
    assert bare is not None
    assert np.array_equal(decode_image("image", content=bare), decode_image("image", content=content))
    assert b"a comment" not in bare


def test_trouble_of_the_picture_is_told_as_it_was_found():
    whole = jpeg(segment(2, b"ICC_PROFILE\0"))
    for content, reason in (
        (whole[: len(whole) // 2], "not an image of the kinds"),  # what Pillow says of the profile
        (jpeg()[: len(jpeg()) // 2], "(?i)truncated"),
        (png()[:80], "(?i)truncated"),
        (webp(cut=60), "decoder"),
        (b"\x89PNG\r\n\x1a\n", "not an image of the kinds"),
        (b"RIFF", "not an image of the kinds"),
        (b"\xff\xd8\xff", "not an image of the kinds"),
        (b"\xff\xd8\xff\xe1\0\4ab" + jpeg(), "broken data stream"),  # a thumbnail is not the picture
    ):
        with pytest.raises(UnreadableMedia, match=reason):
            decode_image("image", content=content)
