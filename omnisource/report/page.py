"""A page: what it is made of, and how it becomes one HTML file that needs no other."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnisource.files.atomic import atomic_write
from omnisource.printing import printable
from omnisource.report.charts import BOTTOM as CHART_BOTTOM
from omnisource.report.charts import HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart

if TYPE_CHECKING:
    from omnisource.report.sources import SourceResult

MAX_BYTES = 10_000_000
"""Size that a page stays below; pictures are left out of larger ones."""


@dataclass(frozen=True)
class Figure:
    """A figure that stands at the top: its name, its value, and a remark in small letters."""

    name: str
    value: str
    remark: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose columns can be sorted; a cell of two values shows the first one and is sorted by the second."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    remark: str = ""


@dataclass(frozen=True)
class Problem:
    """A file that could not be read, why, and what came of it."""

    path: str
    reason: str
    consequence: str


@dataclass(frozen=True)
class Reproduction:
    """How something can be done again.

    Attributes:
        command: As a shell takes it; "" where nobody noted it.
        facts: Versions, machine, folder: name and value.
    """

    command: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Page:
    """What a page shows; what is empty has no section.

    Attributes:
        kind: What it is of: "run", "test" or "comparison".
        title: Its title.
        folder: Where it was read from.
        state: How the run ended, in a word, and why.
        figures: What is most important.
        lacks: What cannot be shown, and why: a sentence each.
        recipe: The recipe in short.
        sources: What a table says of each source.
        recipe_text: The whole recipe.
        charts: Curves over the steps.
        validations: Figures of the validations.
        results: What came of the test of each source.
        comparison: Tables of a comparison.
        problems: Files that could not be read.
        num_problems: How many there were, more than are shown perhaps.
        warnings: Lines of the log.
        resources: Time, memory and energy.
        reproduction: How it can be done again.
    """

    kind: str
    title: str
    folder: str
    state: tuple[str, str] = ("", "")
    figures: tuple[Figure, ...] = ()
    lacks: tuple[str, ...] = ()
    recipe: tuple[tuple[str, str], ...] = ()
    sources: Table | None = None
    recipe_text: str = ""
    charts: tuple[Chart, ...] = ()
    validations: Table | None = None
    results: tuple[SourceResult, ...] = ()
    comparison: tuple[Table, ...] = ()
    problems: tuple[Problem, ...] = ()
    num_problems: int = 0
    warnings: tuple[str, ...] = ()
    resources: tuple[Table, ...] = ()
    reproduction: Reproduction = field(default_factory=lambda: Reproduction("", ()))


def render(page: Page, pictures: bool = True) -> bytes:
    """Returns a page as the bytes of its file.

    Args:
        page: What it shows.
        pictures: Whether it has the pictures of items.
    """
    import jinja2  # a quarter of a second of imports

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,  # names of classes and files may hold markup
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    margins = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": CHART_BOTTOM}
    text = environment.get_template("page.html").render(
        page=page, pictures=pictures, chart_box=margins, written=time.strftime("%Y-%m-%d %H:%M")
    )
    return text.encode("utf-8", "backslashreplace")


def write_page(page: Page, path: Path) -> None:
    """Writes a page; one that would be too large, without the pictures of its items.

    Raises:
        OSError: The file cannot be written; it names it.
    """
    content = render(page)
    if len(content) > MAX_BYTES:
        content = render(page, pictures=False)
    with atomic_write(path) as file:
        file.write(content)


def percent(share: float) -> str:
    """Returns a share as percents with one digit."""
    return f"{100 * share:.1f} %"


def described(value: Any) -> str:
    """Returns a value of a recipe in short: the keys of a group that say something."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {described(entry)}" for key, entry in value.items() if entry not in (None, "", [], {}))
    if isinstance(value, list | tuple):
        return ", ".join(map(described, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shown(value: Any) -> Any:
    """Returns what a template shows of a value: no characters that turn the order of what follows, no surrogates."""
    if value is None:
        return ""
    return printable(value) if type(value) is str else value
