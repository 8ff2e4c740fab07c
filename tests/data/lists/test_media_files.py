"""Names of files: the suffixes are those that Pillow and FFmpeg read, and foreign names count nowhere."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from av.format import ContainerFormat
from PIL import Image

from omnisource.data.decoding.images import IMAGE_FORMATS, decode_image
from omnisource.data.lists.media_files import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    is_foreign_path,
    left_out_note,
    media_by_suffix,
)

DEMUXERS = {
    **dict.fromkeys((".264", ".h264"), "h264"),
    **dict.fromkeys((".265", ".h265", ".hevc"), "hevc"),
    **dict.fromkeys((".3g2", ".3gp", ".f4v", ".m4v", ".mov", ".mp4", ".qt"), "mov"),
    **dict.fromkeys((".asf", ".wmv"), "asf"),
    **dict.fromkeys((".avi", ".divx"), "avi"),
    **dict.fromkeys((".m1v", ".m2v", ".mpv"), "mpegvideo"),
    **dict.fromkeys((".m2t", ".m2ts", ".mts", ".ts"), "mpegts"),
    **dict.fromkeys((".mjpeg", ".mjpg"), "mjpeg"),
    **dict.fromkeys((".mk3d", ".mkv", ".webm"), "matroska"),
    **dict.fromkeys((".mpe", ".mpeg", ".mpg", ".tod", ".vob"), "mpeg"),
    **dict.fromkeys((".ogm", ".ogv"), "ogg"),
    **dict.fromkeys((".rm", ".rmvb"), "rm"),
    **{".dv": "dv", ".flv": "flv", ".ivf": "ivf", ".mxf": "mxf", ".nut": "nut", ".wtv": "wtv", ".y4m": "yuv4mpegpipe"},
}


def test_every_suffix_of_a_format_that_is_decoded_is_known() -> None:
    Image.init()
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in IMAGE_FORMATS}
    assert set(IMAGE_SUFFIXES) == (suffixes | {".avif", ".avifs"}) - {".pfm"}  # older builds lack AVIF
    assert set(VIDEO_SUFFIXES) == set(DEMUXERS)
    assert all(ContainerFormat(name, "r").is_input for name in set(DEMUXERS.values()) if name in av.formats_available)
    assert list(IMAGE_SUFFIXES) == sorted(IMAGE_SUFFIXES) and list(VIDEO_SUFFIXES) == sorted(VIDEO_SUFFIXES)


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_image_of_every_suffix_is_decoded(tmp_path: Path, suffix: str) -> None:
    Image.init()
    kind = Image.registered_extensions().get(suffix)
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {suffix}")
    mode = {".pgm": "L", ".pbm": "1"}.get(suffix, "RGB")
    path = tmp_path / f"a{suffix.upper()}"
    Image.fromarray(np.full((16, 24, 3), 200, np.uint8)).convert(mode).save(path, kind)
    assert decode_image(path).shape == (16, 24, 3)
    assert media_by_suffix(str(path)) == "image"


@pytest.mark.parametrize(
    ("path", "is_expected"),
    [
        *((name, True) for name in (".a", "._1.jpg", "a/.ipynb_checkpoints/1.jpg", "Thumbs.db", "a/desktop.ini")),
        *((name, True) for name in ("__MACOSX/1.jpg", "a/@eaDir/1.jpg/x.jpg", "lost+found", ".AppleDouble/1.jpg")),
        *((name, False) for name in ("a.jpg", "./a/b.jpg", "a.b/c", "thumbs/1.jpg", "a/../b.jpg", "1.mp4.part")),
    ],
)
def test_hidden_files_and_those_of_systems_are_foreign(path: str, is_expected: bool) -> None:
    assert is_foreign_path(path) is is_expected


def test_what_is_left_out_is_told_by_its_suffixes() -> None:
    assert left_out_note("d", {".txt": 3, "": 1}, "image") == (
        "files in d that are no images, left out: 4 (3 .txt, 1 without a suffix)"
    )
    many = left_out_note("d", {f".{number}": 1 for number in range(9)}, None)
    assert many.startswith("files in d that are neither images nor videos, left out: 9 (1 .0, ")
    assert many.endswith(", 3 others)")
