"""Tables for the screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.table import Table

from omnisource.reporting.terminal import open_console

PLAIN_WIDTH = 160
"""Width of a table that is not shown in a terminal, in characters."""


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], file: TextIO | None = None) -> None:
    """Prints a table: the first column to the left, the others to the right; to `file` or to standard output."""
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(header):
        table.add_column(name, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = open_console(file)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    console.print(table)
