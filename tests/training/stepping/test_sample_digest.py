from __future__ import annotations

import torch

from omnisource.training.stepping.sample_digest import digest_parts, digest_text
from omnisource.types import Batch


def batch(source: str, *keys: str) -> Batch:
    clips = torch.zeros(len(keys), 1, 3, 1, 2, 2, dtype=torch.uint8)
    return Batch(source, "image", source, clips, torch.zeros(len(keys), dtype=torch.int64), keys)


STEP = [[batch("a", f"{number}.jpg", f"{number}x.jpg"), batch("b", f"{number}\udcff.png")] for number in range(4)]
"""Four microbatches of two sources; one key has a byte that is no text."""


def digest(shares: list[list[int]]) -> str:
    """Returns the digest of the step, whose microbatches are shared out over processes."""
    parts = [digest_parts(share, [STEP[microbatch] for microbatch in share]) for share in shares]
    return digest_text([sum(values) for values in zip(*parts, strict=True)])


def test_digest_of_a_step_does_not_depend_on_who_has_which_microbatch() -> None:
    whole = digest([[0, 1, 2, 3]])
    assert len(whole) == 16 and int(whole, 16)
    assert digest([[0, 1], [2, 3]]) == digest([[3], [1], [0], [2]]) == whole


def test_digest_tells_samples_their_order_and_their_microbatch_apart() -> None:
    whole = digest([[0, 1, 2, 3]])
    others = [
        digest_text(digest_parts([0, 1, 2, 3], [*STEP[:3], STEP[0]])),
        digest_text(digest_parts([0, 1, 2, 3], [STEP[1], STEP[0], *STEP[2:]])),
        digest_text(digest_parts([0, 1, 2, 3], [[batch("a", "0x.jpg", "0.jpg"), STEP[0][1]], *STEP[1:]])),
    ]
    assert len({whole, *others}) == 4


def test_sums_that_were_averaged_over_many_processes_give_the_same_digest() -> None:
    parts, count = digest_parts([0, 1, 2, 3], STEP), 37
    averaged = torch.tensor([float(part) for part in parts], dtype=torch.float64) / count
    assert digest_text([part * count for part in averaged.tolist()]) == digest_text(parts)
