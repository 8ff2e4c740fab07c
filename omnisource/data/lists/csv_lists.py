"""CSV lists: the columns that are wanted of a table with a header."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence

from omnisource.data.lists.media_files import media_by_suffix
from omnisource.data.lists.text import Problem, count_columns, is_number, open_list, raw_lines, read_lines


def csv_rows(path: str, wanted: Sequence[str], problems: list[Problem]) -> Iterator[tuple[int, list[str]]]:
    """Yields (line, the wanted columns) of a CSV file with a header; notes the lines that are not like the header.

    The separator (comma, tab or semicolon) is the one that gives the wanted names in the header. A row over several
    lines has the number of its last.
    """
    with open_list(path, []) as file:
        first = next(raw_lines(file), b"").decode("utf-8", "replace")
    number = 0

    def lines() -> Iterator[str]:
        nonlocal number
        for number, line in read_lines(path, problems):  # noqa: B007 (the rows below have this number)
            yield line + "\n"

    def note(what: str) -> None:
        problems.append(Problem(path, max(number, 1), what))

    headers = {mark: {name.strip().strip('"') for name in first.split(mark)} for mark in ",\t;"}
    delimiter = next((mark for mark, names in headers.items() if names.issuperset(wanted)), ",")
    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        absent = [repr(name) for name in wanted if name not in header]
        if absent and first:
            is_item = any(is_number(name) or media_by_suffix(name) for name in header)
            hint = ' (an item, and no header? Lists without one have format="path_label")' if is_item else ""
            note(f"the header has no column {', '.join(absent)}; its columns are {', '.join(header)}{hint}")
            return
        positions = [header.index(name) for name in wanted if name in header]
        for row in reader:
            if not any(field.strip() for field in row):
                note("empty line")
            elif len(row) != len(header):
                note(f"{count_columns(len(row))} instead of {len(header)} as in the header")
            elif empty := [header[position] for position in positions if not row[position].strip()]:
                note(f"nothing in the column {empty[0]!r}")
            else:
                yield number, [row[position] for position in positions]
    except csv.Error as error:
        note(f"is not CSV from here on: {error}")
