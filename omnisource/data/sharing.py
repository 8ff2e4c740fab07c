"""One process reads, all have the result: the large arrays in it are sent once to each machine, and mapped there.

Folders are listed by the first process alone, since on a network file system that takes long, and takes longer the more
processes ask at once. What it has read may be hundreds of megabytes of paths, of which no process should have a copy of
its own. So it goes to a file in the cache folder of each machine, which all processes of the machine map; where these
share that folder with the first, nothing is sent.
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
        key: A digest of all of it, under which a machine keeps the arrays.
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
    arrays: list[memoryview] = []
    described = processes.run_on_rank0(lambda: _described(read, arrays))
    if isinstance(described, str):
        raise UserError(described)
    table = _table(described, arrays)
    return pickle.loads(described.pickled, buffers=[table[str(number)] for number in range(len(described.sizes))])


def _described(read: Callable[[], Any], arrays: list[memoryview]) -> _Description | str:
    """Returns the description of what is read, whose arrays are appended to `arrays`; or what the user did wrong."""
    try:
        value = read()
    except UserError as error:
        return str(error)
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    arrays += [buffer.raw() for buffer in buffers]
    sizes = tuple(array.nbytes for array in arrays)
    digest = hashlib.blake2b(repr(("shared 1", sizes)).encode() + pickled, digest_size=16)
    for array in arrays:
        digest.update(array)
    return _Description(pickled, sizes, digest.hexdigest())


def _table(described: _Description, arrays: Sequence[memoryview]) -> MappedTable:
    """Returns the arrays of a value, on every process.

    First one process of each machine writes them to the cache folder, if they are large, and the others look for them
    there. Those that do not find them, where that folder cannot be written to, take their own in a second round.

    Raises:
        UserError: If there is no room for them.
    """
    is_small = sum(described.sizes) <= MEMORY_BYTES
    table = None if is_small else open_table(described.key)  # an earlier run may have left it
    for takes in (is_small or processes.local_rank() == 0, True):
        if not any(processes.gather(table is None)):
            break
        chunks = _sent(described.sizes, arrays)
        error: Exception | None = None
        try:
            if table is None and takes:
                table = keep_bytes(described.key, described.sizes, chunks)
        except UserError as raised:
            error = raised
        for _ in chunks:
            pass  # the others need what this process has no use for
        processes.raise_on_all_ranks(error)
        table = table or open_table(described.key)
    assert table is not None, "it was taken in the second round"
    return table


def _sent(sizes: Sequence[int], arrays: Sequence[memoryview]) -> Iterator[bytes]:
    """Yields the bytes of the arrays of process 0 on every process; all must take all of them."""
    for number, size in enumerate(sizes):
        for first in range(0, size, CHUNK_BYTES):
            chunk = bytes(arrays[number][first : first + CHUNK_BYTES]) if arrays else None
            yield processes.broadcast(chunk)
