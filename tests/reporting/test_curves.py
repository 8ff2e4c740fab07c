"""The picture of a run, and the points of its curves."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from omnisource.errors import UserError
from omnisource.reporting.curves import _points, draw_curves
from tests.support.reports import opened, record, run_steps


@pytest.mark.parametrize("count", [1, 2, 250, 251, 360, 500, 501, 2600])
def test_points_stand_for_equally_many_steps_each_but_for_the_last(count: int) -> None:
    values = [float(7 * step % 11) for step in range(count)]
    size = next(size for size in range(1, count + 1) if size * 250 >= count)
    groups = [range(start, min(start + size, count)) for start in range(0, count, size)]
    expected = [
        [function(items) for items in parts]
        for function, parts in (
            (statistics.fmean, [[step + 1 for step in group] for group in groups]),
            *((one, [[values[step] for step in group] for group in groups]) for one in (statistics.fmean, min, max)),
        )
    ]
    drawn = _points([record(step + 1) for step in range(count)], values)
    assert len(drawn[0]) <= 250
    for ours, theirs in zip(drawn, expected, strict=True):
        assert ours.tolist() == pytest.approx(theirs)


def test_curves_are_drawn_the_same_from_the_same_run(tmp_path: Path) -> None:
    run_steps(tmp_path, 1, 40)
    path = draw_curves(tmp_path)
    assert path == tmp_path / "curves.svg"
    first = path.read_bytes()
    assert first.startswith(b"<?xml") and b"</svg>" in first
    assert draw_curves(tmp_path).read_bytes() == first


def test_curves_of_a_long_run_stay_small_and_of_a_short_one_work(tmp_path: Path) -> None:
    with opened(tmp_path / "long", tensorboard=False, interval_steps=1000) as report:
        for step in range(1, 5001):
            report.step(record(step, total_steps=5000, total_loss=float("nan") if step == 7 else 1.0))
    assert draw_curves(tmp_path / "long").stat().st_size < 200_000
    run_steps(tmp_path / "short", 1, 1)
    assert draw_curves(tmp_path / "short").stat().st_size > 5_000


def test_curves_without_a_run_are_an_error_for_the_user(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"metrics\.jsonl: cannot be read"):
        draw_curves(tmp_path)
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(UserError, match="holds no step"):
        draw_curves(tmp_path)
