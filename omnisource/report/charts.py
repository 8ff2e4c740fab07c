"""Curves as a page draws them: points, ticks and bands in the coordinates of an SVG picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

WIDTH, HEIGHT = 640.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 12.0, 10.0, 30.0
"""Margins around the curves, for the numbers at the axes."""

MAX_POINTS = 250


@dataclass(frozen=True)
class Series:
    """A curve before it is drawn; values that are not finite interrupt it.

    Attributes:
        name: What it shows.
        x: Positions.
        y: Values.
        has_marks: Whether each point is marked.
        interval: Lowest and highest values of a band around it; () for none.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    has_marks: bool = False
    interval: tuple[Sequence[float], Sequence[float]] | tuple[()] = ()


@dataclass(frozen=True)
class Curve:
    """A curve in a picture.

    Attributes:
        name: What it shows.
        color: Number of its color, 0 to 7.
        line: Data of an SVG path.
        band: Data of a path around the line: its interval, or min and max of what a point stands for; or "".
        marks: Points that are marked.
        last: Its last value, as text.
    """

    name: str
    color: int
    line: str
    band: str
    marks: tuple[tuple[float, float], ...]
    last: str


@dataclass(frozen=True)
class Chart:
    """A picture of curves.

    Attributes:
        title: What it shows.
        x_label: What stands below it.
        x_ticks: Positions of numbers below, with these.
        y_ticks: The same at the left.
        curves: The curves.
    """

    title: str
    x_label: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    curves: tuple[Curve, ...]


def draw(
    title: str,
    series: Sequence[Series],
    y_range: tuple[float, float] | None = None,
    x_label: str = "step",
    x_names: Sequence[str] = (),
) -> Chart:
    """Returns the picture of some series.

    Above 250 points each is the mean of several, with a band from the min to the max of them.

    Args:
        title: What it shows.
        series: At least one, each with a point.
        y_range: What the left axis goes from and to. None: from 0, or below, to the highest value.
        x_label: What stands below it.
        x_names: Names of the positions 0, 1, 2 and so on; () for numbers.
    """
    finite = [value for one in series for value in one.y if math.isfinite(value)] or [0.0, 1.0]
    y_low, y_high = y_range or (min(0.0, *finite), max(finite))
    all_x = [value for one in series for value in one.x]
    x_low, x_high = min(all_x), max(all_x)
    y_high = y_high if y_high > y_low else y_low + 1.0
    x_high = x_high if x_high > x_low else x_low + 1.0

    def place_x(values: np.ndarray | np.float64) -> Any:
        return LEFT + (values - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def place_y(values: np.ndarray | np.float64) -> Any:
        return HEIGHT - BOTTOM - (values - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    curves = []
    for index, one in enumerate(series):
        x, mean, low, high = _grouped(np.asarray(one.x, float), np.asarray(one.y, float))
        xs, ys = place_x(x), place_y(mean)
        is_grouped = len(x) < len(one.x)
        if one.interval and not is_grouped:
            low, high = (np.clip(np.asarray(end, float), y_low, y_high) for end in one.interval)
        marks = tuple(zip(xs.round(1).tolist(), ys.round(1).tolist(), strict=True)) if one.has_marks else ()
        curves.append(
            Curve(
                name=one.name,
                color=index % 8,
                line=_path(xs, ys),
                band=_band(xs, place_y(low), place_y(high)) if is_grouped or one.interval else "",
                marks=tuple(mark for mark in marks if math.isfinite(mark[1])),
                last=f"{one.y[-1]:.4g}",
            )
        )
    named = list(enumerate(x_names)) or [(tick, _number(tick)) for tick in ticks(x_low, x_high)]
    return Chart(
        title=title,
        x_label=x_label,
        x_ticks=tuple((round(float(place_x(np.float64(tick))), 1), name) for tick, name in named),
        y_ticks=tuple((round(float(place_y(np.float64(tick))), 1), _number(tick)) for tick in ticks(y_low, y_high)),
        curves=tuple(curves),
    )


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Returns about `count` round numbers from `low` to `high`."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _grouped(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns the mean of x, and mean, min and max of y, of groups of consecutive points."""
    starts = np.arange(0, len(x), math.ceil(len(x) / MAX_POINTS))
    sizes = np.diff(starts, append=len(x))
    with np.errstate(invalid="ignore", over="ignore"):
        means = np.add.reduceat(x, starts) / sizes, np.add.reduceat(y, starts) / sizes
    return *means, np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)


def _path(xs: np.ndarray, ys: np.ndarray) -> str:
    """Returns the path through the points; it begins again after those that are not finite."""
    parts, is_down = [], False
    for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
        if math.isfinite(y):
            parts.append(f"{'L' if is_down else 'M'}{x:.1f} {y:.1f}")
        is_down = math.isfinite(y)
    return "".join(parts)


def _band(xs: np.ndarray, low: np.ndarray, high: np.ndarray) -> str:
    keep = np.isfinite(low) & np.isfinite(high)
    if keep.sum() < 2:
        return ""
    there = _path(xs[keep], high[keep])
    back = _path(xs[keep][::-1], low[keep][::-1])
    return f"{there}L{back[1:]}Z"


def _number(value: float) -> str:
    if value and (abs(value) >= 1e6 or abs(value) < 1e-4):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:g}"
