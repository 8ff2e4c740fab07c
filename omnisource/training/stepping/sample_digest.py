"""A digest of the samples of a step, which does not depend on how they are shared out over processes."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

from omnisource.types import Batch

DIGEST_PARTS = 4
"""16-bit parts of the digest of a step's samples."""


def digest_parts(local_microbatches: Sequence[int], microbatches: Sequence[Sequence[Batch]]) -> list[float]:
    """Returns a digest of the samples of this process, as 16-bit numbers: their sums digest those of all.

    Sums do not depend on which process has which microbatch, and so few bits survive being averaged as float64.

    Args:
        local_microbatches: The microbatches of the step that this process does, 0-based.
        microbatches: For each of them one batch of every source.
    """
    sums = [0] * DIGEST_PARTS
    for position, batches in zip(local_microbatches, microbatches, strict=True):
        keys = [str(position), *(text for batch in batches for text in (batch.source, *batch.keys))]
        digest = hashlib.blake2b("\x1f".join(keys).encode("utf-8", "surrogateescape"), digest_size=2 * DIGEST_PARTS)
        for index, part in enumerate(struct.unpack(f"<{DIGEST_PARTS}H", digest.digest())):
            sums[index] += part
    return [float(part) for part in sums]


def digest_text(sums: Sequence[float]) -> str:
    """Returns the digest of a step, 16 hexadecimal digits, from the sums of its parts over all processes."""
    return "".join(f"{round(part) % 2**16:04x}" for part in sums)
