"""Writes the tables of docs/ that are made of the files in benchmarks/results/; a test compares them.

    python tools/result_tables.py

A table stands between `<!-- table of benchmarks/results/NAME.json -->` and `<!-- end of table -->`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted((PROJECT / "docs").glob("*.md"))
MARKED = re.compile(r"(<!-- table of (\S+) -->\n)(.*?)(<!-- end of table -->)", re.DOTALL)


def with_tables(text: str) -> str:
    """Returns the text of a document with its tables made again."""
    return MARKED.sub(lambda found: f"{found[1]}\n{table(PROJECT / found[2])}\n{found[4]}", text)


def table(path: Path) -> str:
    """Returns the Markdown of a file of results: a comparison, or simulated intervals."""
    content = json.loads(path.read_text())
    return comparison_tables(content) if "differences" in content else interval_table(content)


def interval_table(content: dict[str, Any]) -> str:
    """Returns how often simulated intervals miss."""
    header = ["seeds", "deviation of seeds", "of clusters", "ours miss", "width", "bootstrap's miss", "width"]
    rows = [
        [
            str(row["seeds"]),
            *(points(row[key], 0) for key in ("seed_effect", "cluster_effect")),
            *(f"{100 * row['misses']:.1f} %", points(row["width"])),
            *(f"{100 * row['misses_of_bootstrap']:.1f} %", points(row["width_of_bootstrap"])),
        ]
        for row in content["settings"]
    ]
    return markdown(header, rows)


def comparison_tables(content: dict[str, Any]) -> str:
    """Returns means, paired differences, and both of groups of classes, of comparison.json."""
    numbers = ["top-1", "95 %", "standard error of seeds", "of items"]
    means = [
        [amount(row), row["variant"], *shown(row), ", ".join(points(value) for value in row["seeds"].values())]
        for row in content["variants"]
    ]
    pairs = [(f"{row['ours']} - {row['theirs']}", row) for row in content["differences"]]
    differences = [[amount(row), name, *shown(row)] for name, row in pairs]
    groups = [[amount(row), f"{name}: {of}", *shown(part)] for name, row in pairs for of, part in row["groups"].items()]
    first = [f"{content['amount_unit']} a class", "trained"]
    tables = [
        markdown([*first, *numbers, "each seed"], means),
        markdown([first[0], "difference", "points", *numbers[1:]], differences),
    ]
    if groups:
        tables.append(markdown([first[0], "difference, in the classes", "points", *numbers[1:]], groups))
    return "\n".join([*tables, cost_table(content)])


def cost_table(content: dict[str, Any]) -> str:
    """Returns what a run of each variant costs on average."""
    rows = []
    for variant in dict.fromkeys(run["variant"] for run in content["runs"]):
        runs = [run for run in content["runs"] if run["variant"] == variant]
        cost = sum(run["multiply_adds"] for run in runs) / len(runs) / 1e9
        seconds = sum(run["training_seconds"] + run["stage_seconds"] for run in runs) / len(runs)
        rows.append([variant, str(len(runs)), f"{cost:.0f} G", f"{seconds:.0f} s"])
    return markdown(["trained", "runs", "multiply-adds of a run", "training steps of a run"], rows)


def amount(row: dict[str, Any]) -> str:
    """Returns the amount of labeled clips or clusters."""
    return "all" if row["amount"] is None else str(row["amount"])


def shown(row: dict[str, Any]) -> list[str]:
    """Returns mean, interval, and standard errors, in points."""
    interval = "-" if row["low"] is None else f"[{points(row['low'])}, {points(row['high'])}]"
    errors = [row["seed_deviation"], row["sampling_deviation"]]
    return [points(row["mean"]), interval, *("-" if value is None else points(value) for value in errors)]


def points(share: float, digits: int = 1) -> str:
    """Returns a share in percent."""
    return f"{100 * share:.{digits}f}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    for document in DOCUMENTS:
        text = document.read_text()
        if (changed := with_tables(text)) != text:
            document.write_text(changed)
            print(f"{document}: tables made again")
