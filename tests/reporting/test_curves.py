"""The points of the curves. How the picture is made: test_report.py."""

from __future__ import annotations

import statistics

import pytest

from omnisource.reporting.curves import _points
from tests.support.reported_runs import record


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
