"""Large tables as columns that are memory-mapped from a file: the pages belong to no process, and many share them.

Rows are written one by one and never collected. What is small stays in memory. What is large goes to a file in the
cache folder, under a name that says what it was made of, so that it is made once and every process of a machine maps
the same file; or, where that folder cannot be written to, to a file without a name.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from omnisource.errors import UserError
from omnisource.files.atomic import atomic_write
from omnisource.files.cache import cache_folder, mark_used, remove_old

MEMORY_BYTES = 2**23
"""Tables of up to this many bytes stay in memory: some hundred thousand items, which are read in a moment."""

KEPT_TABLES = 32
"""Tables that are kept in the cache folder; older ones go when a new one comes, unless they are in use."""

_FORMAT = "omnisource columns 1"
_SUFFIX = ".columns"
_ALIGNMENT = 64
_BATCH_ROWS = 16384


@dataclass(frozen=True, eq=False)
class MappedTable:
    """The columns of a table.

    Attributes:
        arrays: [N] each, or bytes of all texts of a column one after the other; not to be written to.
        path: The file that they are mapped from; "" where it has no name, or they lie in memory.
    """

    arrays: Mapping[str, np.ndarray]
    path: str = ""

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]


class TableWriter:
    """Takes the rows of a table, one by one.

    Args:
        texts: Names of the columns of text, which come first in a row. Column `name` becomes the array `name`, the
            UTF-8 bytes of all texts one after the other, and `name.offsets`, [N + 1] int64, where each begins.
        numbers: Types of the columns of numbers, by name.
    """

    def __init__(self, texts: Sequence[str], numbers: Mapping[str, type[np.generic]]) -> None:
        self._texts = tuple(texts)
        self._types: dict[str, np.dtype[Any]] = {}
        for name in texts:
            self._types |= {name: np.dtype(np.uint8), offsets_name(name): np.dtype(np.int64)}
        self._numbers = tuple(numbers)
        self._types |= {name: np.dtype(kind) for name, kind in numbers.items()}
        folder = _writable_folder()
        where = None if folder is None else str(folder)
        self._spools: dict[str, IO[bytes]] = {name: _spool(where) for name in self._types}
        self._ends = dict.fromkeys(texts, 0)
        for name in texts:
            self._write(offsets_name(name), [0])
        self._rows: list[tuple[Any, ...]] = []

    def add(self, *row: str | int) -> None:
        """Takes one row: its texts, then its numbers.

        Raises:
            UserError: If there is no room for it.
        """
        self._rows.append(row)
        if len(self._rows) == _BATCH_ROWS:
            self._flush()

    def finish(self, key: str = "") -> MappedTable:
        """Returns the table.

        Args:
            key: A digest of all that the table follows from: a large one is found again by `open_table`, and is not
                written where it is there already. "": it is not kept.

        Raises:
            UserError: If there is no room for it.
        """
        self._flush()
        try:
            sizes = {name: spool.tell() for name, spool in self._spools.items()}
            if sum(sizes.values()) <= MEMORY_BYTES:
                return MappedTable({name: self._array(name) for name in self._types})
            return self._store(key, sizes)
        except OSError as error:
            raise _no_room(error) from error
        finally:
            for spool in self._spools.values():
                spool.close()

    def _flush(self) -> None:
        if not self._rows:
            return
        for name, values in zip((*self._texts, *self._numbers), zip(*self._rows, strict=True), strict=True):
            if name in self._texts:
                self._write_texts(name, values)
            else:
                self._write(name, values)
        self._rows.clear()

    def _write_texts(self, name: str, texts: Sequence[str]) -> None:
        parts = [text.encode("utf-8", "surrogateescape") for text in texts]  # names of files need not be UTF-8
        ends = self._ends[name] + np.cumsum([len(part) for part in parts])
        self._ends[name] = int(ends[-1])
        self._write(name, np.frombuffer(b"".join(parts), np.uint8))
        self._write(offsets_name(name), ends)

    def _write(self, name: str, values: Any) -> None:
        try:
            self._spools[name].write(np.asarray(values, dtype=self._types[name]).tobytes())
        except OSError as error:
            raise _no_room(error) from error

    def _array(self, name: str) -> np.ndarray:
        self._spools[name].seek(0)
        return np.frombuffer(self._spools[name].read(), dtype=self._types[name])

    def digest(self) -> str:
        """Returns a hex digest of the rows so far."""
        self._flush()
        digest = hashlib.blake2b(repr(self._types).encode(), digest_size=16)
        for spool in self._spools.values():
            spool.seek(0)
            while chunk := spool.read(2**20):
                digest.update(chunk)
        return digest.hexdigest()

    def _store(self, key: str, sizes: Mapping[str, int]) -> MappedTable:
        """Writes the table to the cache folder, unless another process has, or to a file without a name."""
        found = open_table(key) if key else None
        if found is not None:
            return found
        columns = [(name, kind.str, sizes[name]) for name, kind in self._types.items()]
        return _stored(key, columns, self._chunks())

    def _chunks(self) -> Iterator[bytes]:
        for spool in self._spools.values():
            spool.seek(0)
            while chunk := spool.read(2**20):
                yield chunk


def keep_bytes(key: str, sizes: Sequence[int], chunks: Iterable[bytes | memoryview]) -> MappedTable:
    """Returns pieces of memory as a table with columns "0", "1" and so on of bytes, kept as `TableWriter.finish` does.

    Args:
        key: As for `TableWriter.finish`.
        sizes: Bytes of each piece.
        chunks: Their bytes, one after the other; no chunk holds bytes of two. None is taken where the
            table is there already.

    Raises:
        UserError: If there is no room for them.
    """
    columns = [(str(number), "|u1", size) for number, size in enumerate(sizes)]
    try:
        if sum(sizes) > MEMORY_BYTES:
            return (open_table(key) if key else None) or _stored(key, columns, chunks)
    except OSError as error:
        raise _no_room(error) from error
    content = np.frombuffer(b"".join(chunks), np.uint8)
    pieces = np.split(content, np.cumsum(sizes)[:-1]) if columns else []
    # Copied, so that each begins where its numbers may.
    return MappedTable({name: piece.copy() for (name, _, _), piece in zip(columns, pieces, strict=True)})


def _stored(key: str, columns: Sequence[tuple[str, str, int]], chunks: Iterable[bytes | memoryview]) -> MappedTable:
    """Returns a table that is mapped from a file of the cache folder or, without a key, from one without a name.

    Args:
        key: As for `TableWriter.finish`.
        columns: Name, type and bytes of each column.
        chunks: The bytes of the columns, one after the other; no chunk holds bytes of two.
    """
    folder = _writable_folder()
    if folder is None or not key:
        with tempfile.TemporaryFile(dir=folder) as file:
            _write_file(file, columns, chunks)
            file.flush()
            table = _mapped(file)
    else:
        with atomic_write(folder / f"{key}{_SUFFIX}") as file:
            _write_file(file, columns, chunks)
        table = open_table(key)
        remove_old(folder, _SUFFIX, KEPT_TABLES)
    assert table is not None, "it was just written"
    return table


def _write_file(file: BinaryIO, columns: Sequence[tuple[str, str, int]], chunks: Iterable[bytes | memoryview]) -> None:
    file.write(json.dumps({"format": _FORMAT, "columns": columns}).encode() + b"\n")
    coming = iter(chunks)
    for _, _, size in columns:
        file.write(bytes(-file.tell() % _ALIGNMENT))
        missing = size
        while missing:
            chunk = next(coming)
            file.write(chunk)
            missing -= len(chunk)


def _spool(folder: str | None) -> IO[bytes]:
    return tempfile.SpooledTemporaryFile(MEMORY_BYTES, dir=folder)


def offsets_name(name: str) -> str:
    """Returns the name of the array that says where the texts of a column begin."""
    return f"{name}.offsets"


def open_table(key: str) -> MappedTable | None:
    """Returns the table that was stored under `key`, or None where there is none, or one that is damaged."""
    folder = _tables_folder()
    if folder is None:
        return None
    path = folder / f"{key}{_SUFFIX}"
    try:
        with path.open("rb") as file:
            columns = _mapped(file)
    except (OSError, ValueError, KeyError):
        return None
    mark_used(path)
    return MappedTable(columns.arrays, str(path))


def _mapped(file: BinaryIO) -> MappedTable:
    """Returns the columns of an open file, mapped into memory.

    Raises:
        ValueError: If it is not what `_write_file` writes, or only a part of it.
    """
    content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    first = content.readline()
    head = json.loads(first)
    if head["format"] != _FORMAT:
        raise ValueError(f"not {_FORMAT}")
    arrays, offset = {}, len(first)
    for name, kind, size in head["columns"]:
        offset += -offset % _ALIGNMENT
        arrays[name] = np.frombuffer(content, np.dtype(kind), size // np.dtype(kind).itemsize, offset)
        offset += size
    return MappedTable(arrays)


def _tables_folder() -> Path | None:
    folder = cache_folder()
    return None if folder is None else folder / "lists"


def _writable_folder() -> Path | None:
    """Returns the folder of tables, made where it is missing; None where it cannot be written to."""
    folder = _tables_folder()
    if folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def _no_room(error: OSError) -> UserError:
    try:
        temporary = tempfile.gettempdir()
    except OSError:  # each of them is full, too
        temporary = "the folder for temporary files"
    return UserError(
        f"a list cannot be kept on the disk: {error.strerror or error}. It is packed into "
        f"{cache_folder() or 'the cache folder'}, or into {temporary} where that cannot be written to; set "
        "OMNISOURCE_CACHE=FOLDER to have it elsewhere."
    )
