"""The picture of a run: its losses and its accuracy over the steps, drawn from metrics.jsonl."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from omnisource.errors import UserError
from omnisource.reporting.drawing.names import cut, fonts_for
from omnisource.reporting.metrics_file import METRICS, read_metrics
from omnisource.reporting.records import StepRecord, ValidationRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVES = "curves.svg"
_POINTS = 250
_NAME = 40  # characters of the name of a source


def draw_curves(work_dir: str | Path) -> Path:
    """Draws losses, validation accuracies and learning rate over the steps; returns the path of the picture.

    Above 250 steps each point is the mean of several, and a band goes from the min to the max of them.

    Raises:
        UserError: There is no metrics.jsonl, or no step in it.
    """
    from matplotlib import rc_context  # a second of imports, needed for pictures only
    from matplotlib.figure import Figure

    steps, validations = read_metrics(work_dir)
    if not steps:
        raise UserError(f"{Path(work_dir) / METRICS}: holds no step to draw")
    sources = list(dict.fromkeys(source for record in steps for source in record.losses))
    path = Path(work_dir) / CURVES
    # With the salt and without the date, the same run gives the same file.
    with fonts_for(sources), rc_context({"svg.hashsalt": "curves"}):
        figure = Figure(figsize=(8, 8 if validations else 5.5), layout="constrained")
        _draw_run(figure, steps, validations, sources)
        figure.savefig(path, metadata={"Date": None})
    return path


def _draw_run(
    figure: Figure, steps: Sequence[StepRecord], validations: Sequence[ValidationRecord], sources: Sequence[str]
) -> None:
    heights = [4, 4, 1.6] if validations else [4, 1.6]
    axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    colors = {source: f"C{index % 10}" for index, source in enumerate(sources)}
    _draw_losses(axes[0], steps, colors)
    if validations:
        _draw_accuracies(axes[1], validations, colors)
    x, rates = _points(steps, [record.learning_rate for record in steps])[:2]
    axes[-1].plot(x, rates, color="0.3", linewidth=1.2)
    axes[-1].set_ylabel("learning rate")
    axes[-1].set_xlabel("step")
    axes[-1].set_ylim(bottom=0)
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)


def _draw_losses(axes: Axes, steps: Sequence[StepRecord], colors: dict[str, str]) -> None:
    names: list[str] = []
    for source, color in colors.items():
        records = [record for record in steps if source in record.losses]
        x, mean, lowest, highest = _points(records, [record.losses[source] for record in records])
        axes.plot(x, mean, color=color, linewidth=1.5, label=f"curve {len(names)}")
        names.append(source)
        if len(records) > _POINTS:
            axes.fill_between(x, lowest, highest, color=color, alpha=0.15, linewidth=0)
    axes.set_ylabel("training loss")
    axes.set_ylim(bottom=0)
    _name_curves(axes, names)


def _draw_accuracies(axes: Axes, validations: Sequence[ValidationRecord], colors: dict[str, str]) -> None:
    names: list[str] = []
    for source in dict.fromkeys(record.source for record in validations):
        records = [record for record in validations if record.source == source and "top1" in record.metrics]
        if not records:
            continue
        values = [100 * record.metrics["top1"] for record in records]
        x, color, label = [record.step for record in records], colors.get(source), f"curve {len(names)}"
        axes.plot(x, values, "o-", color=color, markersize=4, label=label)
        names.append(f"{cut(source, _NAME)}: last {values[-1]:.1f} %, best {max(values):.1f} %")
    axes.set_ylabel("validation top-1, %")
    axes.set_ylim(0, 100)
    _name_curves(axes, names)


def _name_curves(axes: Axes, names: Sequence[str]) -> None:
    """Adds the legend of the curves, whatever their names: matplotlib leaves out labels that begin with _."""
    if not names:
        return
    for text, name in zip(axes.legend(frameon=False, loc="best").get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(cut(name, _NAME + 40))


def _points(
    records: Sequence[StepRecord], values: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns step, mean, min and max of groups of consecutive steps: [G] float64 each, G at most 250.

    All groups are of one size, but for the last: in larger ones a curve looks calmer.
    """
    starts = np.arange(0, len(records), math.ceil(len(records) / _POINTS))
    sizes = np.diff(starts, append=len(records))
    x = np.array([record.step for record in records], dtype=np.float64)
    y = np.array(values, dtype=np.float64)
    return (
        np.add.reduceat(x, starts) / sizes,
        np.add.reduceat(y, starts) / sizes,
        np.minimum.reduceat(y, starts),
        np.maximum.reduceat(y, starts),
    )
