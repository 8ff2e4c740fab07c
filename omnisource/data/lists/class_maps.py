"""Class maps: the names of classes in the order of their indices, from each form that says them beyond doubt."""

from __future__ import annotations

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from omnisource.data.lists.text import (
    NOT_UTF8,
    TO_UTF8,
    Problem,
    find_separator,
    format_rows,
    in_order,
    is_number,
    read_lines,
    some,
    split_columns,
)
from omnisource.errors import UserError, shortened

_FORMS = "A class map has one name a line, or `name index` a line."
_FROM_ONE = "The indices begin with 1, and classes are numbered from 0: subtract 1 here, and from the labels of lists."
_HEADERS = {"name", "names", "class", "classes", "label", "labels", "category", "class_name", "class_names"}
_INDEX_HEADERS = {"id", "index", "idx", "label", "label_id", "class_id", "class_index", "number"}
_ASSIGNMENTS = (":", "=")  # what YAML and others write between a name and its index
_INDEX_FIRST = re.compile(r"(\d+)(\s*[,;\t:]\s*|[.)]\s+|\s+[=-]\s+|\s+)(\S.*)", re.ASCII)

_Row = tuple[int, str, int]  # line, name, index


def format_class_names(names: Sequence[str]) -> bytes:
    """Returns the text of a class map, `name index` a line, which `read_class_names` reads back.

    Raises:
        UserError: If a name has blanks around it, holds a line break or is not UTF-8, or if all end in ":" or "=".
    """
    if names and all(name.endswith(_ASSIGNMENTS) for name in names):
        raise UserError(f"a class map cannot hold names that all end in : or =: {some(names)}. Rename them.")
    unfit = [repr(name) for name in names if name != name.strip()]
    if unfit:
        raise UserError(f"a class map cannot hold names with blanks around them: {some(unfit)}. Rename them.")
    return format_rows([(name, index) for index, name in enumerate(names)])


def read_class_names(path: str) -> tuple[str, ...]:
    """Returns the names of a class map, in the order of their indices.

    A map has one name a line, numbered from 0; or `name index` or `index name` a line, where every line but a header
    has an index; or it is JSON, which gives each name an index, each index a name, or a list of names.

    Raises:
        UserError: If the file is missing, or for all that is wrong with it at once.
    """
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise UserError(f"{path}: missing class map; it has one name a line, or `name index` a line")
    problems: list[Problem] = []
    lines = [(number, line.strip()) for number, line in read_lines(path, problems)]
    rows = [(number, line) for number, line in lines if line]
    text = "\n".join(line for _, line in lines)
    if text[:1] in ("{", "[") and text.rstrip()[-1:] in ("}", "]"):
        return _names_of_json(path, text)
    problems += [Problem(path, number, "empty line") for number, line in lines if not line]
    indexed = _name_first(rows) if rows else None
    is_name_first = indexed is not None
    if indexed is None:
        indexed = _index_first(path, rows, problems)
    if indexed is not None:
        problems += _index_problems(path, indexed)
        rows = [(number, name) for number, name, _ in sorted(indexed, key=lambda row: row[2])]
    elif lacking := _lines_without_index(rows):
        problems += [Problem(path, number, "has no index, which the other lines have") for number in lacking]
    else:
        problems += _other_forms(path, rows)
    first_line: dict[str, int] = {}
    for number, name in sorted(rows):
        if first_line.setdefault(name, number) != number:
            problems.append(Problem(path, number, f"the same name as in line {first_line[name]}: {name!r}"))
    if not rows and not problems:
        problems.append(Problem(path, None, "no names in it"))
    if problems:
        shown = shortened([str(problem) for problem in in_order(problems)])
        hint = " Names that end in numbers need an index after the name on every line." if is_name_first else ""
        if indexed is not None and _begins_with_one(index for *_, index in indexed):
            hint = f" {_FROM_ONE}"
        if any(problem.what.startswith(NOT_UTF8) for problem in problems):
            hint += f" {TO_UTF8}"
        raise UserError(f"{shown}\n{_FORMS}{hint}")
    return tuple(name for _, name in rows)


def _name_first(rows: Sequence[tuple[int, str]]) -> list[_Row] | None:
    """Returns the rows of a map of `name index` lines, None where it is none."""
    separator = find_separator((line for _, line in rows), 2)
    pairs = [split_columns(line, separator, 2) for _, line in rows]
    has_index = [len(pair) == 2 and bool(pair[0]) and is_number(pair[1]) and pair[1][0] != "-" for pair in pairs]
    is_header = len(rows) > 1 and not has_index[0] and len(pairs[0]) == 2
    is_header = is_header and (separator != " " or pairs[0][1].lower() in _INDEX_HEADERS)
    first = 1 if is_header and all(has_index[1:]) else 0
    if not all(has_index[first:]):
        return None
    found = [(number, pair[0], int(pair[1])) for (number, _), pair in zip(rows[first:], pairs[first:], strict=True)]
    if all(name.endswith(_ASSIGNMENTS) for _, name, _ in found):
        found = [(number, name[:-1].rstrip(), index) for number, name, index in found]
    return _unquoted(found) if first else found


def _index_first(path: str, rows: Sequence[tuple[int, str]], problems: list[Problem]) -> list[_Row] | None:
    """Returns the rows of a map of `index name` lines, None where it is none; notes what else may be meant."""
    matches = [_INDEX_FIRST.fullmatch(line) for _, line in rows]
    columns = re.split(r"[,;\t]|\s+", rows[0][1]) if rows else []
    is_header = len(rows) > 1 and matches[0] is None and len(columns) > 1
    first = 1 if is_header and (columns[0].lower() in _INDEX_HEADERS or re.search(r"[,;\t]", rows[0][1])) else 0
    found: list[_Row] = []
    for (number, _), match in zip(rows[first:], matches[first:], strict=True):
        if match is None:
            return None
        found.append((number, match[3], int(match[1])))
    if not found:
        return None
    marks = {match[2].strip(" ") for match in matches if match is not None}
    if marks in ({","}, {";"}, {"\t"}):  # where all names have a mark in them, they are further columns
        num_more = [len(next(csv.reader([name], delimiter=min(marks)))) for _, name, _ in found]
        if min(num_more) > 1:
            what = f"{max(num_more) + 1} columns; a class map has two, of an index and a name. Keep the names alone"
            problems.append(Problem(path, None, what))
    indices = sorted(index for *_, index in found)
    if indices not in ([*range(len(found))], [*range(1, len(found) + 1)]):
        what = (
            "every line begins with a number, but they are no indices from 0 on; if they belong to the names, write "
            "an index after each"
        )
        problems.append(Problem(path, None, what))
        return None
    return _unquoted(found)


def _other_forms(path: str, rows: Sequence[tuple[int, str]]) -> list[Problem]:
    """Returns which other form lines without indices seem to have, if any."""
    if len(rows) > 1 and rows[0][1].lower() in _HEADERS:
        return [Problem(path, rows[0][0], f"is the header of a table, {rows[0][1]!r}, and no class; remove it")]
    if len(rows) == 1 and "," in rows[0][1]:
        return [Problem(path, rows[0][0], "all names are in one line; write one a line")]
    if rows and all(re.fullmatch(r".*\S[:=]\d+", line, re.ASCII) for _, line in rows):
        return [Problem(path, None, "every line ends in an index behind a mark; write a blank, a comma or a tab there")]
    if rows and all(line.startswith("- ") for _, line in rows):
        return [Problem(path, None, "every line begins with a dash, as in YAML; write the names alone")]
    if rows and re.match(r"item\s*\{", rows[0][1]):
        return [
            Problem(path, rows[0][0], "looks like a label map of TensorFlow (`item { ... }`); write the names alone")
        ]
    return []


def _lines_without_index(rows: Sequence[tuple[int, str]]) -> list[int]:
    """Returns the lines that lack an index in a map of which most have one; none where numbers belong to the names."""
    for pattern in (r"(?P<name>.*\S)[\s,;]+(?P<index>\d+)", r"(?P<index>\d+)[\s,;:]+(?P<name>\S.*)"):
        found = [re.fullmatch(pattern, line, re.ASCII) for _, line in rows]
        matches = [match for match in found if match is not None]
        is_map = all(len({match[group] for match in matches}) == len(matches) for group in ("name", "index"))
        is_map = is_map and all(int(match["index"]) <= len(rows) for match in matches)
        if is_map and len(rows) > len(matches) > max(1, len(rows) // 2):
            return [number for (number, _), match in zip(rows, found, strict=True) if match is None]
    return []


def _unquoted(rows: list[_Row]) -> list[_Row]:
    """Returns the rows with names as CSV means them: the quotes around them belong to the file."""
    return [
        (number, name[1:-1].replace('""', '"') if len(name) > 1 and name[0] == name[-1] == '"' else name, index)
        for number, name, index in rows
    ]


def _index_problems(path: str, rows: Sequence[_Row]) -> list[Problem]:
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


def _names_of_json(path: str, text: str) -> tuple[str, ...]:
    """Returns the names of a class map in JSON.

    Raises:
        UserError: If it is no JSON, or does not give every class a name and every index from 0 on a class.
    """
    try:
        content: Any = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: looks like JSON, and cannot be read as JSON: {error}\n{_FORMS}") from error
    named = _named_indices(content) if isinstance(content, Mapping) else dict(enumerate(content))
    wrong = [repr(name) for name in named.values() if not isinstance(name, str) or not name.strip()]
    if not named or wrong:
        raise UserError(
            f'{path}: is JSON, but none of the forms {{"hug": 0}}, {{"0": "hug"}} and ["hug"]'
            + (f": {some(wrong)[:200]}" if wrong else "")
            + f"\n{_FORMS}"
        )
    if sorted(named) != [*range(len(named))]:
        hint = f" {_FROM_ONE}" if _begins_with_one(named) else ""
        raise UserError(
            f"{path}: its indices are not those from 0 to {len(named) - 1}: "
            f"{some([str(index) for index in sorted(named)])}\n{_FORMS}{hint}"
        )
    names = tuple(name for _, name, _ in _unquoted([(0, named[index].strip(), index) for index in sorted(named)]))
    twice = sorted(repr(name) for name, count in Counter(names).items() if count > 1)
    if twice:
        raise UserError(f"{path}: names that are there twice: {some(twice)}\n{_FORMS}")
    return names


def _begins_with_one(indices: Iterable[int]) -> bool:
    ordered = sorted(indices)
    return bool(ordered) and ordered == [*range(1, len(ordered) + 1)]


def _named_indices(content: Mapping[str, Any]) -> dict[int, Any]:
    """Returns names by index, from indices by name or names by index; nothing where it is neither, or not clear."""
    is_by_index = all(is_number(key) for key in content)
    is_by_name = all(isinstance(value, int | str) and is_number(str(value)) for value in content.values())
    if is_by_index == is_by_name:
        return {}
    if is_by_index:
        return {int(key): value for key, value in content.items()}
    named = {int(value): key for key, value in content.items()}
    return named if len(named) == len(content) else {}
