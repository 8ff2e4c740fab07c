"""Lists and class maps as text: their lines, columns and separators, and what is wrong with them."""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from omnisource.data.lists.file_kinds import START_BYTES, foreign_kind
from omnisource.errors import UserError

MOST_PROBLEMS = 100_000
"""Problems after which the rest of a list is not read: millions of them would help nobody, and fill the memory."""


_CONTROL_CHARACTERS = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}
NOT_UTF8 = "is not UTF-8"
TO_UTF8 = "Save the text as UTF-8, for example with `iconv -f LATIN1 -t UTF-8`."
_LINE_BYTES = 2**20  # a line end comes within these, or the file is no list


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
        where = self.path if self.line is None else f"{self.path}:{self.line}"
        return f"{where}: {self.what}".translate(_CONTROL_CHARACTERS)  # a terminal would obey them


def in_order(problems: Sequence[Problem]) -> list[Problem]:
    """Returns problems of whole files first, then by line; what is wrong with one line stays in its order."""
    return sorted(problems, key=lambda problem: problem.line or 0)


def open_list(path: str, problems: list[Problem]) -> BinaryIO:
    """Returns an open text file behind its byte order mark; an empty one, and a problem noted, if it is none."""
    try:
        file = open(path, "rb")  # noqa: SIM115 (the caller closes it)
        start = file.read(START_BYTES)
    except OSError as error:
        problems.append(Problem(path, None, f"cannot be read: {error.strerror}"))
        return io.BytesIO()
    foreign = foreign_kind(start)
    if foreign is not None:
        problems.append(Problem(path, None, foreign))
        file.close()
        return io.BytesIO()
    file.seek(len(codecs.BOM_UTF8) if start.startswith(codecs.BOM_UTF8) else 0)
    return file


def raw_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yields the lines of a file with their ends; where none ends in LF, they end in CR, as of an old Macintosh.

    A CR beside an LF belongs to its line, since a path may hold one.
    """
    first = file.readline(_LINE_BYTES)
    if b"\r" not in first.removesuffix(b"\r\n") or first.endswith(b"\n"):
        if first:
            yield first + (b"" if first.endswith(b"\n") else file.readline())
        yield from file
        return
    rest = first
    while rest:
        *lines, rest = rest.split(b"\r")
        yield from (line + b"\r" for line in lines)
        more = file.read(_LINE_BYTES)
        if not more and rest:
            yield rest
        rest = rest + more if more else b""


def read_lines(path: str, problems: list[Problem]) -> Iterator[tuple[int, str]]:
    """Yields (1-based number, line without its end) for each line; those that are not UTF-8 are noted instead."""
    with open_list(path, problems) as file:
        for number, line in enumerate(raw_lines(file), start=1):
            if len(problems) > MOST_PROBLEMS:
                problems.append(Problem(path, number, f"not read from here on: over {MOST_PROBLEMS} problems before"))
                return
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                problems.append(Problem(path, number, f"{NOT_UTF8} (byte {line[error.start]:#04x} at {error.start})"))
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
        return find_separator((line.decode("utf-8", "replace") for line in raw_lines(file)), num_columns, is_label)


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
            what = f"{count_columns(len(columns))} instead of {num_columns} (`{names}`): {line.strip()!r}"
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


def some(names: Sequence[str], limit: int = 8) -> str:
    """Returns the first names, separated by commas, and how many more there are."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def count_columns(columns: int) -> str:
    """Returns a number of columns in words."""
    return "1 column" if columns == 1 else f"{columns} columns"
