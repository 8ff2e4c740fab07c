"""One picture of the demo's variants side by side: how many clips each recognizes, and what it says of some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from omnisource.data.lists.items import Items
from omnisource.data.loading.request import request_of
from omnisource.data.loading.sample import load_clip
from omnisource.demo.results import VariantResult, share_interval
from omnisource.files.atomic import atomic_write
from omnisource.recipe.data import Source

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NUM_CLIPS = 8
"""Clips that are shown, spread evenly over the list."""

RIGHT, WRONG = "#1a7f37", "#c62828"


def draw_variants(results: Mapping[str, VariantResult], source: Source, items: Items, path: Path) -> Path:
    """Draws the results of the variants, [by name], as PNG; returns the path.

    Args:
        results: By name, all of the same items.
        source: The source of the clips.
        items: Its held-out items.
        path: Picture to write, whole or not at all.
    """
    from matplotlib.figure import Figure  # a second of imports, needed for pictures only

    chosen = [position * len(items) // NUM_CLIPS for position in range(NUM_CLIPS)]
    figure = Figure(figsize=(9, 2.6 + 0.62 * NUM_CLIPS), dpi=110, layout="constrained")
    bars, table = figure.subplots(2, 1, height_ratios=[2.2, 0.62 * NUM_CLIPS])
    _draw_bars(bars, results)
    _draw_table(table, results, [_strip(source, items, index) for index in chosen], chosen)
    with atomic_write(path) as file:
        figure.savefig(file, format="png")
    return path


def _draw_bars(axes: Axes, results: Mapping[str, VariantResult]) -> None:
    count = len(next(iter(results.values())).correct)
    names = [f"{name}\n({result.description})" for name, result in results.items()]
    shares = [result.top1 for result in results.values()]
    axes.barh(names, [100 * share for share in shares], color=["C7", "C0", "C1"], height=0.6)
    for row, share in enumerate(shares):
        low, high = share_interval(share, count)
        axes.plot([100 * low, 100 * high], [row, row], color="black", linewidth=1.2)
        axes.text(2, row, f"{share:.1%}", va="center", color="white", fontweight="bold")
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"held-out clips recognized, of {count}, % (line: 95 % interval over clips)", fontsize=10)


def _draw_table(
    axes: Axes, results: Mapping[str, VariantResult], strips: Sequence[np.ndarray], chosen: Sequence[int]
) -> None:
    """Draws a row a clip: its frames, its class, and what each variant says of it, in green or red."""
    axes.axis("off")
    columns = [3.2 + 2.2 * column for column in range(1 + len(results))]
    for x, text in zip(columns, ["is", *results], strict=True):
        axes.text(x, -0.15, text, fontsize=9, fontweight="bold", va="bottom")
    for row, (strip, index) in enumerate(zip(strips, chosen, strict=True)):
        width = 0.9 * strip.shape[1] / strip.shape[0]
        axes.imshow(strip, extent=(0, min(width, 3.0), row + 0.95, row + 0.05), aspect="auto")
        for x, text, color in zip(columns, *_words(results, index), strict=True):
            axes.text(x, row + 0.5, text, fontsize=9, color=color, va="center")
    axes.set(xlim=(0, columns[-1] + 2.2), ylim=(len(strips), -0.5))


def _words(results: Mapping[str, VariantResult], index: int) -> tuple[list[str], list[str]]:
    """Returns the class of a clip and what each variant says of it, and the colors of these words."""
    evaluation = next(iter(results.values())).evaluation
    names = [of_class.name for of_class in evaluation.metrics.classes]
    label = int(evaluation.labels[index])
    said = [int(result.evaluation.scores[index].argmax()) for result in results.values()]
    return [names[label], *(names[best] for best in said)], ["black", *(RIGHT if b == label else WRONG for b in said)]


def _strip(source: Source, items: Items, index: int) -> np.ndarray:
    """Returns the frames that the model sees of a clip, from left to right: [H, T * W, 3] uint8."""
    frames = load_clip(request_of("clips", source, "test", items, index)).frames[0]  # the first view, [3, T, H, W]
    return np.concatenate(list(frames.permute(1, 2, 3, 0).numpy()), axis=1)
