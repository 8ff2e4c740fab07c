"""The checksums of an archive that `torch.save` wrote: damage is noticed wherever it lies, and nothing is unpickled.

An archive in the zip format has a CRC-32 of each of its records, which torch does not look at. What lies between the
records, as their names and places, has none. So our archives say it in their comment, which the format allows at the
end: other programs read the file too.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_COMMENT = "omnisource crc32 {:08x}"
_COMMENT_BYTES = len(_COMMENT.format(0))
_OURS = re.compile(rb"omnisource (crc32|blake2b) [0-9a-f]+")  # the second in files of format 2

_LOCAL_HEADER = struct.Struct("<26x2H")
"""Before each record, followed by its name and by padding, whose lengths are its last two numbers.
Source: the zip format (PKWARE, APPNOTE.TXT 4.3.7)."""

_CHUNK_BYTES = 2**22


class DamagedArchive(Exception):
    """An archive whose content is not what was written."""


def add_checksum(buffer: io.BytesIO) -> None:
    """Ends an archive with a comment that holds the checksum of what lies between its records.

    Source: the zip format (PKWARE, APPNOTE.TXT 4.3.16): the last two bytes of an archive without a comment are the
    length of the comment, 0.
    """
    view = buffer.getbuffer()
    assert view[-2:] == b"\0\0", "torch.save writes no comment"
    view[-2:] = _COMMENT_BYTES.to_bytes(2, "little")
    view.release()  # a buffer cannot grow while it is looked into
    end = buffer.seek(0, io.SEEK_END)
    buffer.write(bytes(_COMMENT_BYTES))
    between = 0
    with zipfile.ZipFile(buffer) as archive:
        for part in _parts(buffer, archive, end):
            if part.record is None:
                between = _checksum(buffer, part, between)
    buffer.seek(end)
    buffer.write(_comment(between))


def verify_archive(file: BinaryIO) -> bool:
    """Reads an archive once, and compares all checksums that it has.

    Returns:
        Whether it has one of what lies between its records. Files of formats 1 and 2 have none: what is changed there
        is no content.

    Raises:
        DamagedArchive: If what is there is not what was written.
        Exception: If it is no archive, or so damaged that it looks like none.
    """
    between = 0
    with zipfile.ZipFile(file) as archive:
        comment = archive.comment
        for part in _parts(file, archive, file.seek(0, io.SEEK_END) - len(comment)):
            if part.record is None:
                between = _checksum(file, part, between)
            elif part.record.compress_type != zipfile.ZIP_STORED or _checksum(file, part) != part.record.CRC:
                raise DamagedArchive(f"record {part.record.filename} has changed")
    if not _OURS.fullmatch(comment) or len(comment) != _COMMENT_BYTES:
        return False
    if comment != _comment(between):
        raise DamagedArchive("what lies between its records has changed")
    return True


def is_ours(file: BinaryIO) -> bool:
    """Returns whether a file is an archive that we wrote: only of these are the checksums known to be right."""
    try:
        with zipfile.ZipFile(file) as archive:
            return _OURS.fullmatch(archive.comment) is not None
    except Exception:  # not an archive, or damaged, in any way: whoever reads it says so
        return False


@dataclass(frozen=True)
class _Part:
    """Bytes `start` to `end` of an archive: the content of a record, or with None what lies between two of them."""

    start: int
    end: int
    record: zipfile.ZipInfo | None


def _parts(file: BinaryIO, archive: zipfile.ZipFile, end: int) -> Iterator[_Part]:
    """Yields the parts of an archive up to byte `end`, in the order in which they lie there."""
    position = 0
    for record in sorted(archive.infolist(), key=lambda record: record.header_offset):
        file.seek(record.header_offset)
        name_bytes, padding_bytes = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        start = record.header_offset + _LOCAL_HEADER.size + name_bytes + padding_bytes
        yield _Part(position, start, None)
        position = start + record.file_size
        yield _Part(start, position, record)
    yield _Part(position, end, None)


def _checksum(file: BinaryIO, part: _Part, before: int = 0) -> int:
    """Returns the CRC-32 of a part, going on from that of what comes before it."""
    position = file.seek(part.start)
    while position < part.end:
        chunk = file.read(min(_CHUNK_BYTES, part.end - position))
        if not chunk:
            raise DamagedArchive("its end is missing")
        before = zlib.crc32(chunk, before)
        position += len(chunk)
    return before


def _comment(checksum: int) -> bytes:
    return _COMMENT.format(checksum).encode()
