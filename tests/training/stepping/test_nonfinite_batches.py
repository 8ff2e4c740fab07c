"""Batches that are kept for inspection."""

from __future__ import annotations

from pathlib import Path

import torch

from omnisource.training.stepping.nonfinite_batches import keep_batches
from omnisource.types import Batch
from tests.support.tiny_runs import run_python

LIMITED = """
import resource
import sys
from pathlib import Path
import torch
from omnisource.training.stepping.nonfinite_batches import keep_batches
from omnisource.types import Batch

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # as a disk that is full after so many bytes
clips, labels = torch.zeros(1, 1, 3, 8, 112, 112, dtype=torch.uint8), torch.zeros(1, dtype=torch.long)
batch = Batch("videos", "video", "clips", clips, labels, ("clip.mp4",))
print(*keep_batches(Path(sys.argv[1]), 4, [0], [batch]), sep="\\n")
"""


def test_batch_is_read_with_torch_alone(tmp_path: Path) -> None:
    path = tmp_path / "not_finite/step_000000004_process_0.pt"
    clips = torch.ones(1, 1, 3, 2, 8, 8, dtype=torch.uint8)
    batch = Batch("videos", "video", "clips", clips, torch.tensor([2]), ("clip.mp4",))
    assert keep_batches(tmp_path, 4, [0], [batch]) == [f"kept for inspection: {path}"]
    [kept] = torch.load(path, weights_only=True)
    assert (kept["source"], kept["keys"], kept["labels"].tolist()) == ("videos", ["clip.mp4"], [2])
    assert torch.equal(kept["clips"], clips)


def test_disk_that_is_full_is_reported_and_leaves_nothing_behind(tmp_path: Path) -> None:
    script = tmp_path / "limited.py"
    script.write_text(LIMITED)
    result = run_python([str(script), str(tmp_path)], tmp_path)
    path = tmp_path / "not_finite/step_000000004_process_0.pt"
    assert result.stdout == f"{path}: the batch cannot be kept: File too large\n", result.stderr
    assert list(path.parent.iterdir()) == []
