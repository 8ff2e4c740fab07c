"""Training clips and the 30 views of a test from a video file, beside decord and OpenCV. `decoding.py` tells more."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from beside import Row, in_turn
from decoding import generator, nothing_known, our_clip
from published_pipeline import TEN_BY_THREE, their_clip, their_views

from omnisource.data.decoding.video import VideoFile
from omnisource.recipe.data import EvaluationViews, TrainingView


def measure(path: Path, rounds: int) -> list[Row]:
    """Returns the times of clips from one file: ours on the first visit of a machine to it, and on later ones."""
    cv2.setNumThreads(0)
    rows = []
    for name, view, theirs in (
        ("training clip", TrainingView(), their_clip),
        ("10 x 3 views", TEN_BY_THREE, their_views),
    ):
        ours = _clips(path, view)
        with nothing_known():
            first = in_turn(f"{name}, first visit", _their_clips(path, theirs), _unknown(ours), rounds)
            with VideoFile(path) as video:
                video.frames([video.num_frames - 1])  # from here on the file is verified
            rows += [first, in_turn(f"{name}, later visits", _their_clips(path, theirs), ours, rounds)]
    return rows


def _clips(path: Path, view: TrainingView | EvaluationViews) -> Callable[[], object]:
    indices = itertools.count()
    return lambda: our_clip(path, view, next(indices))


def _their_clips(path: Path, theirs: Callable[[Path, np.random.Generator], np.ndarray]) -> Callable[[], object]:
    indices = itertools.count()
    return lambda: theirs(path, generator(next(indices)))


def _unknown(make: Callable[[], object]) -> Callable[[], object]:
    def made() -> None:
        with nothing_known():
            make()

    return made
