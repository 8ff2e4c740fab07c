from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest

from tests.support.reports import opened, record


def tensorboard_curves(work_dir: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(work_dir / "tensorboard"))
    events.Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_has_the_same_curves_and_each_step_once_after_a_resume(tmp_path: Path) -> None:
    for first, last, resumed_step in ((1, 5, None), (4, 6, 3)):
        with opened(tmp_path, resumed_step=resumed_step) as report:
            for step in range(first, last + 1):
                report.step(record(step))
            report.validation(last, 1, "clips", {"top1": last / 8})
    curves = tensorboard_curves(tmp_path)
    assert set(curves) == {
        "loss/clips",
        "loss/images",
        "loss/total",
        "learning_rate",
        "gradient_norm",
        "speed/samples_per_second",
        "speed/share_waiting_for_data",
        "speed/steps_per_second",
        "speed/samples_per_second/clips",
        "speed/samples_per_second/images",
        "memory/process_gib",
        "validation/clips/top1",
    }
    assert [step for step, _ in curves["loss/clips"]] == [1, 2, 3, 4, 5, 6]
    assert [value for _, value in curves["learning_rate"]] == pytest.approx([0.1 / step for step in range(1, 7)])
    assert curves["speed/share_waiting_for_data"][0][1] == pytest.approx(0.2)
    assert curves["validation/clips/top1"] == [(6, 0.75)]


def test_rates_and_memory_have_a_point_with_each_plain_line(tmp_path: Path) -> None:
    with opened(tmp_path, interval_steps=4) as report:
        report.watch_memory_of(lambda: [os.getpid(), os.getpid()])
        for step in range(1, 9):
            report.step(record(step, step_seconds=0.25))
    curves = tensorboard_curves(tmp_path)
    for name, rate in (
        ("speed/steps_per_second", 4),
        ("speed/samples_per_second/clips", 16),
        ("speed/samples_per_second/images", 84),
    ):
        assert curves[name] == [(1, rate), (4, rate), (8, rate)]
    assert [step for step, _ in curves["memory/process_gib"]] == [1, 4, 8]
    assert curves["memory/workers_gib"][0][1] == pytest.approx(2 * curves["memory/process_gib"][0][1], rel=0.05)


def test_pictures_are_in_the_event_file_as_they_were_drawn(tmp_path: Path) -> None:
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    picture = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    with opened(tmp_path) as report:
        report.picture(7, "examples/clips", lambda: picture)
    with opened(tmp_path / "none", tensorboard=False) as report:
        report.picture(7, "examples/clips", lambda: pytest.fail("nobody sees it"))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    [image] = events.Images("examples/clips")
    assert image.step == 7
    with Image.open(io.BytesIO(image.encoded_image_string)) as decoded:
        np.testing.assert_array_equal(np.asarray(decoded), picture)
