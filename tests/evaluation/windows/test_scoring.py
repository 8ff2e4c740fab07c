from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from omnisource.data.decoding.video import VideoFile
from omnisource.data.loading.request import SampleRequest
from omnisource.data.loading.sample import load_clip
from omnisource.errors import UnreadableMedia
from omnisource.evaluation.classifier import Classifier
from omnisource.evaluation.protocol import MediaProtocol, Protocol
from omnisource.evaluation.windows.plan import WindowFrames, WindowSpan, window_span, window_starts
from omnisource.evaluation.windows.scoring import WindowSeconds, score_windows
from omnisource.recipe.data import ClipSampling, EvaluationViews
from tests.support.media import moving_square, truncate, write_video
from tests.support.tiny_checkpoints import untrained_recipe, untrained_recognizer

RATE = 30


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    views = EvaluationViews(num_clips=3, num_crops=3, short_side=32, crop_size=32)
    how = MediaProtocol(("kinetics400",), views, ClipSampling(clip_length=2, frame_interval=2))
    return Classifier(untrained_recognizer(untrained_recipe()).eval(), Protocol({"video": how}, 16))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("windows") / "long.mp4"
    frames = np.concatenate([moving_square(23, 40, 48, way, seed=seed) for seed, way in enumerate(("left", "down"))])
    return write_video(path, frames, options={"g": "12"})


def as_tested(classifier: Classifier, path: Path) -> torch.Tensor:
    """Returns what testing says of a whole video."""
    how = classifier.protocol.by_media["video"]
    request = SampleRequest("", "video", str(path), "", 0, None, "", how.sampling, how.views)
    return classifier.scores([load_clip(request)])["kinetics400"][0]


def ignored(done: int, total: int) -> None:
    pass


@pytest.mark.parametrize(("length", "stride"), [(9, 4), (3, 1), (8, 20), (45, 45), (46, 1), (400, 7)])
def test_every_window_has_the_scores_that_testing_gives_a_video_of_its_frames(
    classifier: Classifier, video: Path, tmp_path: Path, length: int, stride: int
) -> None:
    told: list[tuple[int, int]] = []
    found = score_windows(
        str(video), classifier, WindowSeconds(length / RATE, stride / RATE), lambda *counts: told.append(counts)
    )
    assert (found.num_frames, found.span) == (46, WindowSpan(length, stride)) and found.error is None
    assert list(found.starts) == window_starts(46, found.span) and told[-1] == (len(found.starts),) * 2
    with VideoFile(str(video)) as opened:
        frames = opened.frames(range(46))
    for number in {0, len(found.starts) // 2, len(found.starts) - 1}:
        start = found.starts[number]
        alone = write_video(
            tmp_path / f"{number}.mkv", frames[start : start + length], codec="ffv1", pixel_format="bgr0"
        )
        torch.testing.assert_close(found.scores["kinetics400"][number], as_tested(classifier, alone), atol=1e-5, rtol=0)


def test_only_what_windows_look_at_is_kept(
    classifier: Classifier, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = 0
    original = VideoFile.all_frames

    def counted(self: VideoFile):  # type: ignore[no-untyped-def]
        nonlocal decoded
        for frame in original(self):
            decoded += 1
            yield frame

    monkeypatch.setattr(VideoFile, "all_frames", counted)
    score_windows(str(video), classifier, WindowSeconds(9 / RATE, 1 / RATE), ignored)
    assert decoded == 46


def test_windows_before_damage_count(classifier: Classifier, video: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.mkv"
    frames = moving_square(60, 40, 48, "left")
    write_video(damaged, frames, options={"g": "6"})
    content = bytearray(damaged.read_bytes())
    middle = len(content) * 3 // 4
    content[middle : middle + 400] = bytes(400)
    damaged.write_bytes(content)
    found = score_windows(str(damaged), classifier, WindowSeconds(6 / RATE), ignored)
    assert found.error is not None or found.num_frames < 60
    assert 0 < len(found.starts) < 19 and found.border_seconds[-1] == pytest.approx(found.num_frames / RATE, abs=0.02)
    truncate(damaged, 0.02)
    with pytest.raises(UnreadableMedia):
        score_windows(str(damaged), classifier, WindowSeconds(), ignored)


def test_windows_cover_a_video() -> None:
    assert window_starts(10, WindowSpan(4, 3)) == [0, 3, 6]
    assert window_starts(11, WindowSpan(4, 3)) == [0, 3, 6, 7]
    assert window_starts(3, WindowSpan(4, 3)) == window_starts(4, WindowSpan(4, 3)) == [0]
    sampling = ClipSampling(clip_length=8, frame_interval=8)
    assert window_span(sampling, 25, None, None) == WindowSpan(57, 28)
    assert window_span(sampling, 25, 2, 0.001) == WindowSpan(50, 1)
    assert len(WindowFrames(57, sampling, 10).offsets) == 1  # all ten clips would be the same
    assert len(WindowFrames(60, sampling, 10).offsets) == 10
