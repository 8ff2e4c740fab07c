"""Lists and class maps as text: their lines, columns and separators, and what is wrong with them."""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from omnisource.errors import UserError, shortened

MOST_PROBLEMS = 100_000
"""Problems after which the rest of a list is not read: millions of them would help nobody, and fill the memory."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a list, a class map or a folder.

    Attributes:
        path: The file or folder.
        line: 1-based line of the file, or None.
        what: What is wrong with it.
    """

    path: str
    line: int | None
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}" if self.line is None else f"{self.path}:{self.line}: {self.what}"


def in_order(problems: Sequence[Problem]) -> list[Problem]:
    """Returns problems of whole files first, then by line; what is wrong with one line stays in its order."""
    return sorted(problems, key=lambda problem: problem.line or 0)


def open_list(path: str, problems: list[Problem]) -> BinaryIO:
    """Returns an open text file behind its byte order mark; an empty one, and a problem noted, if it cannot be read."""
    try:
        file = open(path, "rb")  # noqa: SIM115 (the caller closes it)
        start = file.read(len(codecs.BOM_UTF8))
    except OSError as error:
        problems.append(Problem(path, None, f"cannot be read: {error.strerror}"))
        return io.BytesIO()
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        problems.append(Problem(path, None, "is UTF-16 text; save it as UTF-8"))
        file.close()
        return io.BytesIO()
    if start != codecs.BOM_UTF8:
        file.seek(0)
    return file


def read_lines(path: str, problems: list[Problem]) -> Iterator[tuple[int, str]]:
    """Yields (1-based number, line without its end) for each line; those that are not UTF-8 are noted instead."""
    with open_list(path, problems) as file:
        for number, line in enumerate(file, start=1):
            if len(problems) > MOST_PROBLEMS:
                problems.append(Problem(path, number, f"not read from here on: over {MOST_PROBLEMS} problems before"))
                return
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                problems.append(Problem(path, number, f"is not UTF-8 (byte {line[error.start]:#04x} at {error.start})"))
                continue
            yield number, text.removesuffix("\n").removesuffix("\r")


def is_number(text: str) -> bool:
    """Returns whether a column is a whole number in ASCII digits, with a minus sign or without."""
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit()


def find_separator(lines: Iterable[str], num_columns: int, is_label: Callable[[str], bool] = is_number) -> str:
    r"""Returns what separates the columns of a list: "\t", "," or " " for any run of blanks.

    It is the one with which most lines have all columns and end in a label, so paths may hold the others.
    """

    def fits(line: str, separator: str) -> bool:
        columns = split_columns(line, separator, num_columns)
        # A path that ends in a blank comes of columns that were aligned with blanks and tabs.
        return len(columns) == num_columns and columns[0] == columns[0].rstrip() != "" and is_label(columns[-1])

    scores: dict[str, int] = {}
    for line in lines:
        for separator in ("\t", ",", " "):
            if separator == " " or separator in line:
                scores[separator] = scores.get(separator, 0) + fits(line, separator)
    # Of those with the same score the special one: a tab or a comma is rarely there by chance.
    candidates = [separator for separator in ("\t", ",", " ") if separator in scores]
    return max(candidates, key=lambda separator: scores[separator], default=" ")


def _separator_of(path: str, num_columns: int, is_label: Callable[[str], bool]) -> str:
    """Returns what separates the columns of a list in a file; where only blanks can, no line is looked at."""
    with open_list(path, []) as file:
        if not any(b"\t" in chunk or b"," in chunk for chunk in iter(lambda: file.read(2**20), b"")):
            return " "
    with open_list(path, []) as file:
        return find_separator((line.decode("utf-8", "replace") for line in file), num_columns, is_label)


def split_columns(line: str, separator: str, num_columns: int) -> list[str]:
    """Returns the columns of a line, fewer where it has fewer; surplus separators belong to the first, the path.

    With tabs the path is kept to the character; otherwise blanks around it are dropped.
    """
    if separator == " ":
        return line.strip().rsplit(None, num_columns - 1)
    first, *others = line.rsplit(separator, num_columns - 1)
    return [first if separator == "\t" else first.strip(), *(other.strip() for other in others)]


def text_rows(
    path: str, names: str, is_label: Callable[[str], bool], problems: list[Problem]
) -> Iterator[tuple[int, list[str]]]:
    """Yields (line, columns) of a list without header; notes the lines that have other columns.

    Args:
        path: The list.
        names: Names of its columns, separated by blanks; the path first and the label last.
        is_label: Whether a column may be a label: by this the separator is recognized.
        problems: Takes what is wrong.
    """
    num_columns = len(names.split())
    separator = _separator_of(path, num_columns, is_label)
    for number, line in read_lines(path, problems):
        columns = split_columns(line, separator, num_columns)
        if not line.strip():
            problems.append(Problem(path, number, "empty line"))
        elif len(columns) != num_columns:
            what = f"{_count(len(columns))} instead of {num_columns} (`{names}`): {line.strip()!r}"
            problems.append(Problem(path, number, what))
        elif not columns[0]:
            problems.append(Problem(path, number, f"nothing before the label (`{names}`): {line.strip()!r}"))
        else:
            yield number, columns


def format_rows(rows: Sequence[tuple[str, int]]) -> bytes:
    """Returns the text of a list or class map of (path or name, number) rows, which is read back as the same rows.

    The separator is a blank where no path has one, then a comma, then a tab.

    Raises:
        UserError: If a path holds a line break, is not UTF-8 or has blanks at its end.
    """
    paths = [path for path, _ in rows]
    unfit = [repr(path) for path in paths if "\n" in path or path != path.rstrip() or not _is_utf8(path)]
    if unfit:
        what = "have line breaks in them, blanks at their ends or are not UTF-8"
        raise UserError(f"a list cannot hold these names, which {what}: {some(unfit)}. Rename them.")
    separators = ["\t"]
    if not any("," in path for path in paths):
        separators.insert(0, ",")
    if not any(len(path.split()) > 1 for path in paths):
        separators.insert(0, " ")
    for separator in separators:
        lines = [f"{path}{separator}{number}" for path, number in rows]
        if find_separator(lines, 2) == separator and all(
            split_columns(line, separator, 2) == [path, str(number)]
            for line, (path, number) in zip(lines, rows, strict=True)
        ):
            break
    else:
        raise AssertionError("a tab keeps every path that does not end in a blank apart from its number")
    # A path that starts with U+FEFF would lose it to the reader, which takes the first one for a byte order mark.
    text = "".join(f"{line}\n" for line in lines)
    return text.encode("utf-8-sig" if text.startswith("\ufeff") else "utf-8")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def format_class_names(names: Sequence[str]) -> bytes:
    """Returns the text of a class map, `name index` a line, which `read_class_names` reads back.

    Raises:
        UserError: If a name has blanks around it, holds a line break or is not UTF-8.
    """
    unfit = [repr(name) for name in names if name != name.strip()]
    if unfit:
        raise UserError(f"a class map cannot hold names with blanks around them: {some(unfit)}. Rename them.")
    return format_rows([(name, index) for index, name in enumerate(names)])


def csv_rows(path: str, wanted: Sequence[str], problems: list[Problem]) -> Iterator[tuple[int, list[str]]]:
    """Yields (line, the wanted columns) of a CSV file with a header; notes the lines that are not like the header.

    The separator (comma, tab or semicolon) is the one that gives the wanted names in the header. A row over several
    lines has the number of its last.
    """
    with open_list(path, []) as file:
        first = file.readline().decode("utf-8", "replace")
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
            note(f"the header has no column {', '.join(absent)}; its columns are {', '.join(header)}")
            return
        positions = [header.index(name) for name in wanted if name in header]
        for row in reader:
            if not any(field.strip() for field in row):
                note("empty line")
            elif len(row) != len(header):
                note(f"{_count(len(row))} instead of {len(header)} as in the header")
            elif empty := [header[position] for position in positions if not row[position].strip()]:
                note(f"nothing in the column {empty[0]!r}")
            else:
                yield number, [row[position] for position in positions]
    except csv.Error as error:
        note(f"is not CSV from here on: {error}")


def read_class_names(path: str) -> tuple[str, ...]:
    """Returns the names of a class map, in the order of their indices.

    A map has one name a line, numbered from 0, or `name index` a line: the latter where every line ends in a number.

    Raises:
        UserError: If the file is missing, or for all that is wrong with it at once.
    """
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise UserError(f"{path}: missing class map; it has one name a line, or `name index` a line")
    problems: list[Problem] = []
    lines = [(number, line.strip()) for number, line in read_lines(path, problems)]
    problems += [Problem(path, number, "empty line") for number, line in lines if not line]
    rows = [(number, line) for number, line in lines if line]
    separator = find_separator((line for _, line in rows), 2)
    pairs = [split_columns(line, separator, 2) for _, line in rows]
    has_indices = all(len(pair) == 2 and pair[0] and pair[1].isascii() and pair[1].isdigit() for pair in pairs)
    if has_indices:
        indexed = [(number, name, int(index)) for (number, _), (name, index) in zip(rows, pairs, strict=True)]
        problems += _index_problems(path, indexed)
        rows = [(number, name) for number, name, _ in sorted(indexed, key=lambda row: row[2])]
    first_line: dict[str, int] = {}
    for number, name in sorted(rows):
        if first_line.setdefault(name, number) != number:
            problems.append(Problem(path, number, f"the same name as in line {first_line[name]}: {name!r}"))
    if not rows and not problems:
        problems.append(Problem(path, None, "no names in it"))
    if problems:
        shown = shortened([str(problem) for problem in in_order(problems)])
        hint = " Names that end in numbers need an index after the name on every line." if has_indices else ""
        raise UserError(f"{shown}\nA class map has one name a line, or `name index` a line.{hint}")
    return tuple(name for _, name in rows)


def _index_problems(path: str, rows: Sequence[tuple[int, str, int]]) -> list[Problem]:
    problems = []
    first_line: dict[int, int] = {}
    for number, _, index in rows:
        if first_line.setdefault(index, number) != number:
            problems.append(Problem(path, number, f"the same index as in line {first_line[index]}: {index}"))
        elif index >= len(rows):
            problems.append(
                Problem(path, number, f"index {index} in a map of {len(rows)} classes: 0 to {len(rows) - 1}")
            )
    gaps = [str(index) for index in range(len(rows)) if index not in first_line]
    if gaps:
        problems.append(Problem(path, None, f"no line has the index {some(gaps)}"))
    return problems


def some(names: Sequence[str], limit: int = 8) -> str:
    """Returns the first names, separated by commas, and how many more there are."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _count(columns: int) -> str:
    return "1 column" if columns == 1 else f"{columns} columns"
