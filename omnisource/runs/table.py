"""`omnisource runs`: the runs below a folder as a table, as aligned text, or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from omnisource.errors import UserError
from omnisource.printing import printable_name, show_json
from omnisource.reporting.lines import short
from omnisource.reporting.records import json_value
from omnisource.reporting.terminal import open_console, plain_text
from omnisource.runs.read import Run, age, as_json, find_runs, read_run, score

HEADER = ("run", "state", "step", "epoch", "best top-1", "loss", "seen", "left")
GAP = "  "

STATE_STYLES = {
    "running": "green",
    "complete": "bold",
    "interrupted": "yellow",
    "failed": "red",
    "killed": "red",
    "unknown": "dim",
}
"""How the state of a run is colored in a terminal."""

REASON_CHARACTERS = 300
"""Length to which the first line of a reason is cut; train.log has all of it."""


def print_runs(folder: Path, is_json: bool) -> int:
    """Prints the runs below a folder, the latest heartbeats first; returns 0.

    Raises:
        UserError: There is no such folder.
    """
    folders, faults = find_runs(folder)
    runs = []
    for found in folders:
        try:
            runs.append(read_run(found))
        except UserError as error:  # it was removed meanwhile
            faults.append(str(error))
    runs.sort(key=lambda run: run.age_seconds)
    if is_json:
        for run in runs:
            show_json(json_value(as_json(run)))
        return 0
    console = open_console()
    lines = _table(runs, folder, console.width if console.is_terminal else None)
    lines += [plain_text(note) for note in [*_notes(runs, folder), *faults]]
    for line in lines:  # soft wrap: a line stays one line in a file or a pipe, which has no width
        console.print(line, soft_wrap=not console.is_terminal)
    return 0


def _table(runs: Sequence[Run], folder: Path, width: int | None) -> list[Text]:
    """Returns the lines of the table; in a terminal that is too narrow the names have lines of their own."""
    if not runs:
        return [plain_text(f"no runs below {folder}")]
    rows = [HEADER, *(_cells(run, _name(run, folder)) for run in runs)]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    is_narrow = width is not None and sum(widths) + len(GAP) * (len(widths) - 1) > width
    lines = []
    for row, style in zip(rows, ["bold", *(STATE_STYLES[run.state] for run in runs)], strict=True):
        name = Text(row[0] if is_narrow else set_cell_size(row[0], widths[0]), "bold" if is_narrow else "")
        state = Text(row[1].ljust(widths[1]), style)
        others = [Text(cell.rjust(size)) for cell, size in zip(row[2:], widths[2:], strict=True)]
        if is_narrow:
            lines.append(name)
        lines.append(Text(GAP).join([Text("") if is_narrow else name, state, *others]))
    return lines


def _cells(run: Run, name: str) -> tuple[str, ...]:
    last = run.steps[-1] if run.steps else None
    return (
        name,
        run.state,
        "-" if run.step is None else f"{run.step}/{run.total_steps or '?'}",
        str(last.epoch) if last else "-",
        score(run),
        short(last.total_loss) if last else "-",
        age(run.age_seconds),
        "-" if run.seconds_left is None else age(run.seconds_left),
    )


def _notes(runs: Sequence[Run], folder: Path) -> list[str]:
    """Returns why runs ended early, and what is damaged, a line each."""
    notes = []
    for run in runs:
        if run.reason:
            first = run.reason.splitlines()[0]
            cut = first if len(first) <= REASON_CHARACTERS else first[: REASON_CHARACTERS - 1] + "…"
            notes.append(f"{_name(run, folder)} ({run.state}): {cut}")
        notes += run.faults
    return notes


def _name(run: Run, folder: Path) -> str:
    """Returns the path of a run below `folder`, as it may be printed."""
    return printable_name(run.path.resolve().name if run.path == folder else str(run.path.relative_to(folder)))
