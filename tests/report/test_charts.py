from __future__ import annotations

import math

import pytest

from omnisource.report.charts import MAX_POINTS, Series, draw, ticks


def test_ticks_are_round_numbers_within_the_axis() -> None:
    assert ticks(0, 100) == [0, 20, 40, 60, 80, 100]
    assert ticks(1, 360) == [100, 200, 300]
    assert ticks(0, 0.012) == [0, 0.005, 0.01]


@pytest.mark.parametrize("values", [[1.0], [0.0, 0.0], [math.nan], [math.inf, 1.0, -math.inf, 2.0], [1e-30, 1e30]])
def test_any_values_are_drawn(values: list[float]) -> None:
    curve = draw("losses", [Series("a", range(1, len(values) + 1), values)]).curves[0]
    assert "nan" not in curve.line and "inf" not in curve.line
    assert curve.line.count("M") + curve.line.count("L") == sum(map(math.isfinite, values))


def test_long_curve_has_the_band_of_what_its_points_stand_for() -> None:
    curve = draw("losses", [Series("a", range(5000), [float(k % 10) for k in range(5000)])]).curves[0]
    assert curve.line.count("L") < MAX_POINTS and curve.band.endswith("Z")
