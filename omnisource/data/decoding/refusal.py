"""What a way of reading a video returns in place of frames."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Refusal:
    """Why the frames cannot be read in one way, so that the next is tried.

    Attributes:
        reason: In words.
    """

    reason: str
