"""One process reads, all have the result: the large arrays in it are written once for each machine, and mapped there.

Folders are listed by the first process alone, since on a network file system that takes long, and takes longer the more
processes ask at once. What it has read may be hundreds of megabytes of paths, of which no process should have a copy of
its own. So it goes to a file in the cache folder, which all processes with the same cache folder map. Machines with
another one are sent it, for a file of their own. The file is named after the arrays alone: runs on the same items share
it, whatever their other settings are.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from omnisource.distributed import processes
from omnisource.errors import UserError
from omnisource.files.mapped_table import MEMORY_BYTES, MappedTable, keep_bytes, open_table

T = TypeVar("T")

CHUNK_BYTES = 2**24
"""Bytes that are sent at once."""


@dataclass(frozen=True)
class _Description:
    """What is told to every process of a value.

    Attributes:
        pickled: The value without its arrays.
        sizes: Bytes of each array.
        key: A digest of the arrays, under which a machine keeps them; "" where they are small and stay in memory.
    """

    pickled: bytes
    sizes: tuple[int, ...]
    key: str


def read_by_first_process(read: Callable[[], T]) -> T:
    """Returns on every process what `read` returns on process 0, the only one that calls it.

    Args:
        read: Returns something that can be pickled. Its arrays come back unwritable.

    Raises:
        UserError: On every process, if `read` did, or there is no room for what it returned.
        Exception: On process 0, if `read` did; SystemExit on the others then, without a word.
    """
    if processes.world_size() == 1:
        return read()
    tables: list[MappedTable] = []
    described = processes.run_on_rank0(lambda: _described(read, tables))
    if isinstance(described, str):
        raise UserError(described)
    table = _table(described, tables[0] if tables else None)
    return pickle.loads(described.pickled, buffers=[table[str(number)] for number in range(len(described.sizes))])


def _described(read: Callable[[], Any], tables: list[MappedTable]) -> _Description | str:
    """Returns the description of what is read, whose arrays are appended to `tables`; or what the user did wrong."""
    buffers: list[pickle.PickleBuffer] = []
    try:
        pickled = pickle.dumps(read(), protocol=5, buffer_callback=buffers.append)
        arrays = [buffer.raw() for buffer in buffers]
        sizes = tuple(array.nbytes for array in arrays)
        key = _digest(arrays) if sum(sizes) > MEMORY_BYTES else ""
        tables.append(keep_bytes(key, sizes, arrays))
    except UserError as error:
        return str(error)
    return _Description(pickled, sizes, key)


def _digest(arrays: Sequence[memoryview]) -> str:
    """Returns a hex digest of arrays and of where each ends."""
    digest = hashlib.blake2b(repr(("arrays 1", [array.nbytes for array in arrays])).encode(), digest_size=16)
    for array in arrays:
        digest.update(array)
    return digest.hexdigest()


def _table(described: _Description, table: MappedTable | None) -> MappedTable:
    """Returns the arrays of a value, on every process.

    Process 0 has written them to its cache folder, if they are large, before any other looks for them there: a network
    file system may remember for a while that a file was missing. Then one process of each machine that did not find
    them is sent them, and writes them. Those that still do not, where that folder cannot be written to, have their own.

    Args:
        described: The value.
        table: Its arrays, on process 0; None on the others.

    Raises:
        UserError: On every process, if one of them has no room for them.
    """
    for takes in (processes.local_rank() == 0 or not described.key, True):
        if table is None and described.key:
            table = open_table(described.key)
        if not any(processes.gather(table is None)):
            break
        chunks = _sent(described.sizes, table)
        error: UserError | None = None
        try:
            if table is None and takes:
                table = keep_bytes(described.key, described.sizes, chunks)
        except UserError as raised:
            error = raised
        for _ in chunks:
            pass  # the others need what this process has no use for
        raise_on_every_process(error)
    assert table is not None, "it was taken in the second round"
    return table


def _sent(sizes: Sequence[int], table: MappedTable | None) -> Iterator[bytes]:
    """Yields the bytes of the arrays of process 0 on every process; all must take all of them."""
    for number, size in enumerate(sizes):
        for first in range(0, size, CHUNK_BYTES):
            chunk = None
            if processes.rank() == 0 and table is not None:
                chunk = table[str(number)][first : first + CHUNK_BYTES].tobytes()
            yield processes.broadcast(chunk)


def raise_on_every_process(error: UserError | None) -> None:
    """Raises if any process comes with a mistake of the user: its data or its disk may be the only one that is wrong.

    Raises:
        UserError: On every process, that of the first of those that have one.
    """
    texts = processes.gather(None if error is None else str(error))
    failed = [(rank, text) for rank, text in enumerate(texts) if text is not None]
    if error is not None:
        raise error
    if failed:
        rank, text = failed[0]
        raise UserError(f"process {rank}: {text}")
