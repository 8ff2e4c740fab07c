"""What our files call themselves, where more than one part of the program must know them."""

from __future__ import annotations

CHECKPOINT_FORMAT = "omnisource-checkpoint"
"""What stands under `format` in a checkpoint."""
