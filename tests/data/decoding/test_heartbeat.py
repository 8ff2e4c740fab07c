"""The heartbeat of a long read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from omnisource.data.decoding.heartbeat import FRAMES_A_BEAT, heard_by
from omnisource.data.decoding.verified_files import VerifiedFiles
from omnisource.data.decoding.video import VideoFile
from tests.support.media import write_video


def test_every_long_stretch_of_decoded_frames_is_a_beat(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "long.mp4", np.zeros((2 * FRAMES_A_BEAT + 10, 16, 16, 3), np.uint8), options={"g": "9999", "bf": "0"}
    )
    beats: list[int] = []
    with heard_by(lambda: beats.append(len(beats))), VideoFile(path, verified=VerifiedFiles()) as video:
        video.frames([FRAMES_A_BEAT - 2])
        assert not beats
        video.frames([2 * FRAMES_A_BEAT + 1])
        assert len(beats) == 2
        # Known to be whole, and one group of frames: no packet can be left out.
        video.frames([2 * FRAMES_A_BEAT + 1])
        assert len(beats) == 4
    with VideoFile(path, verified=VerifiedFiles()) as video:
        video.frames([2 * FRAMES_A_BEAT + 1])  # nobody listens any more
    assert len(beats) == 4
