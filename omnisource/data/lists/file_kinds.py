"""Files that are no lists in UTF-8 text, told by how they begin, and what to do with each."""

from __future__ import annotations

import codecs
import re

START_BYTES = 4096
"""Bytes of the beginning of a file by which its kind is told."""

_KINDS = (
    (codecs.BOM_UTF32_LE, "is UTF-32 text; save it as UTF-8"),  # begins as UTF-16 does, so it comes first
    (codecs.BOM_UTF32_BE, "is UTF-32 text; save it as UTF-8"),
    (codecs.BOM_UTF16_LE, "is UTF-16 text; save it as UTF-8"),
    (codecs.BOM_UTF16_BE, "is UTF-16 text; save it as UTF-8"),
    (b"\x1f\x8b", "is compressed with gzip; unpack it first (gunzip)"),
    (b"BZh", "is compressed with bzip2; unpack it first (bunzip2)"),
    (b"\xfd7zXZ\0", "is compressed with xz; unpack it first (unxz)"),
    (b"(\xb5/\xfd", "is compressed with zstd; unpack it first (unzstd)"),
    (b"PK\x03\x04", "is a zip file or an Excel workbook; unpack it, or export its sheet as CSV in UTF-8"),
    (b"\xd0\xcf\x11\xe0", "is an Excel workbook; export its sheet as CSV in UTF-8"),
    (b"PAR1", "is a Parquet table; write its columns to a CSV file"),
    (b"ARROW1", "is an Arrow table; write its columns to a CSV file"),
    (b"\x93NUMPY", "is a NumPy array; write it as text, one item a line"),
    *((bytes((0x80, protocol)), "is a pickle; write it as text, one item a line") for protocol in (2, 3, 4, 5)),
    (b"MATLAB ", "is a MATLAB file; write it as text, one item a line"),
    (b"\xff\xd8\xff", "is an image, and no text"),
    (b"\x89PNG", "is an image, and no text"),
    (b"\x89HDF", "is an HDF5 file; write its columns to a CSV file"),
    (b"SQLite format 3\0", "is an SQLite database; write its columns to a CSV file"),
    (b"version https://git-lfs", "is a Git LFS pointer, and not the file itself; fetch it with `git lfs pull`"),
    (b"<!DOCTYPE", "is a web page, saved in place of the file; download it again"),
    (b"<!doctype", "is a web page, saved in place of the file; download it again"),
    (b"<html", "is a web page, saved in place of the file; download it again"),
)


def foreign_kind(start: bytes) -> str | None:
    """Returns what a file is that is no UTF-8 text, and what to do; None where nothing speaks against it.

    Args:
        start: Its first `START_BYTES`, or all of it.
    """
    for mark, what in _KINDS:
        if start.startswith(mark):
            return what
    if start[257:262] == b"ustar":
        return "is a tar archive; shards stand in the place of a list as TarShards(urls=...)"
    if start[4:8] == b"ftyp":
        return "is a video, and no text"
    # Without a byte order mark every second byte of Latin letters is zero in UTF-16, three of four in UTF-32.
    share = start.count(0) / max(1, len(start))
    if share > 0.6:
        return "is UTF-32 text, or no text at all; save it as UTF-8"
    if share > 0.3:
        return "is UTF-16 text, or no text at all; save it as UTF-8"
    return None


def looks_like_json(start: bytes) -> bool:
    """Returns whether a text begins as JSON does, in one piece or by lines: a bracket, and what may follow it there.

    Args:
        start: Its beginning.
    """
    return re.match(rb"\s*(\{\s*\"|\[\s*[\[{\"]|[\[{]\s*$)", start, re.MULTILINE) is not None
