"""Handing free memory back to the system, as a process that loads files of all sizes for days must do by itself."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable


def return_free_memory() -> None:
    """Hands the pages in which nothing is in use back to the system; does nothing where the allocator cannot.

    An allocator keeps what is freed. Between blocks of ever other sizes its holes spread, and the process grows by a
    few percent over tens of thousands of clips although nothing is held on to.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@functools.cache
def _trim() -> Callable[[int], int] | None:
    """Returns malloc_trim of glibc, which other C libraries lack.

    Source: malloc_trim(3); since glibc 2.8 it releases whole free pages wherever in the heap they lie.
    """
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, TypeError, AttributeError):  # TypeError: Windows has no library without a name
        return None
