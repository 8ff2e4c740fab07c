"""The picture of a comparison: every seed a point, means with their intervals, over the amounts of labeled clips."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omnisource.files.atomic import atomic_path


def draw_comparison(comparison: Mapping[str, Any], path: Path) -> Path:
    """Draws the content of comparison.json as SVG, one panel a budget; returns the path.

    Args:
        comparison: The content.
        path: Where the picture goes.
    """
    from matplotlib import rc_context  # a second of imports, needed for pictures only
    from matplotlib.figure import Figure

    groups = comparison["variants"]
    budgets = list(dict.fromkeys(group["budget"] for group in groups)) or [""]
    amounts = list(dict.fromkeys(group["amount"] for group in groups))
    variants = list(dict.fromkeys(group["variant"] for group in groups))
    figure = Figure(figsize=(1.5 + 4.5 * len(budgets), 4.5), layout="constrained")
    panels = figure.subplots(1, len(budgets), squeeze=False, sharey=True)[0]
    for axes, budget in zip(panels, budgets, strict=True):
        for number, variant in enumerate(variants):
            color = f"C{number}"
            shift = (number - (len(variants) - 1) / 2) * 0.6 / max(len(variants), 1)
            of_variant = [g for g in groups if g["budget"] == budget and g["variant"] == variant]
            places = [amounts.index(group["amount"]) + shift for group in of_variant]
            axes.plot(places, [100 * group["mean"] for group in of_variant], "_", color=color, ms=14, label=variant)
            for place, group in zip(places, of_variant, strict=True):
                axes.plot([place] * len(group["seeds"]), [100 * v for v in group["seeds"].values()], ".", color=color)
                if group["low"] is not None:
                    axes.plot([place, place], [100 * group["low"], 100 * group["high"]], color=color, lw=1)
        axes.set_xticks(range(len(amounts)), ["all" if amount is None else str(amount) for amount in amounts])
        axes.set_xlabel(f"labeled {comparison['amount_unit']} a class")
        axes.set_title(budget)
        axes.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel("top-1 on test items, %")
    panels[-1].legend()
    with rc_context({"svg.hashsalt": "omnisource"}), atomic_path(path) as unfinished:
        figure.savefig(unfinished, format="svg", metadata={"Date": None})
    return path
