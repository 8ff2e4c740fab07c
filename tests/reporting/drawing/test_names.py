"""Names of classes, files and sources in pictures: any script, no glyph that is missing, no mathematics."""

from __future__ import annotations

import logging
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from omnisource.reporting.curves import draw_curves
from omnisource.reporting.drawing import names
from omnisource.reporting.drawing.names import MISSING, cut, drawable, drawn_names, width_of
from omnisource.reporting.pictures import contact_picture, contact_sheet, draw_class_histogram, draw_confusion
from tests.support.reports import opened, record

LAST_RESORT = "\U000f1234"  # a private character, which no font has
ODD = [
    "猫",
    "犬と猫",
    "שלום",
    "مرحبا",
    "😀🏃‍♀️",
    "e\u0301clair",
    "$x$",
    "$\\frac{",
    "_hidden",
    "\x1b[31m",
    "\udcff",
    "a\nb",
]
ODD += [LAST_RESORT, "x" * 500, "", " ", "<&>--", "\x00"]


@pytest.fixture
def no_further_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the fonts that come with matplotlib, whatever else this machine has."""
    names._family_of.cache_clear()
    monkeypatch.setattr(names, "_further_fonts", lambda: [])
    yield
    names._family_of.cache_clear()


def many(count: int) -> list[str]:
    return [*ODD, *(f"{name} {number}" for number in range(count) for name in ODD)][:count]


def confusion(path: Path, class_names: list[str]) -> None:
    matrix = np.eye(len(class_names), dtype=int) + np.eye(len(class_names), k=1, dtype=int)
    draw_confusion(matrix, class_names, path)


def histogram(path: Path, class_names: list[str]) -> None:
    draw_class_histogram({"train": range(len(class_names))}, class_names, path)


def sheet(path: Path, class_names: list[str]) -> None:
    pictures = [np.zeros((8, 8, 3), dtype=np.uint8)] * len(class_names)
    contact_sheet(pictures, class_names, path, columns=6, title=class_names[0])
    contact_picture(pictures[:3], class_names[:3], columns=3)


@pytest.mark.parametrize(
    ("draw", "count"),
    [(confusion, 18), (confusion, 30), (confusion, 70), (histogram, 18), (histogram, 70), (sheet, 18)],
)
def test_any_name_is_drawn_without_a_warning_into_a_whole_file(
    draw: Callable[[Path, list[str]], None], count: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        draw(tmp_path / "picture.svg", many(count))
        draw(tmp_path / "picture.png", many(count))
    assert caplog.messages == []
    ElementTree.parse(tmp_path / "picture.svg")


@pytest.mark.usefixtures("no_further_fonts")
def test_name_that_no_font_has_is_drawn_with_its_index() -> None:
    assert drawn_names(["cat", "猫", "chien", "犬2"]) == ["cat", f"1 {MISSING}", "chien", f"3 {MISSING}2"]
    assert drawn_names(["été", MISSING, "a\u200db"]) == ["été", MISSING, "a\u200db"]


@pytest.mark.usefixtures("no_further_fonts")
def test_name_that_runs_leftward_has_its_index_where_matplotlib_does_not_turn_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(names, "_shapes_text", lambda: False)
    assert drawn_names(["cat", "שלום"]) == ["cat", "1 שלום"]
    monkeypatch.setattr(names, "_shapes_text", lambda: True)
    assert drawn_names(["cat", "שלום"]) == ["cat", "שלום"]


def test_font_of_this_machine_is_taken_for_what_the_default_one_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    names._family_of.cache_clear()
    monkeypatch.setattr(
        names, "_further_fonts", lambda: [("cmex10", frozenset()), ("STIXGeneral", frozenset({0xF1234}))]
    )
    assert names._family_of("\U000f1234") == "STIXGeneral" and names._family_of("猫") is None
    names._family_of.cache_clear()


def test_control_characters_and_bytes_that_are_no_text_are_escaped() -> None:
    assert drawable("\x1b[31m \udcff \x00 \u202e") == "\\x1b[31m \\udcff \\x00 \\u202e"


def test_long_name_is_cut_by_its_width() -> None:
    assert cut("abcdefgh", 8) == "abcdefgh" and cut("abcdefghi", 8) == "abcdefg…"
    assert width_of("猫a") == 3 and width_of(cut("Ｗ" * 30, 24)) <= 24


def test_curves_of_sources_with_any_name_have_their_legend(tmp_path: Path) -> None:
    sources = ["_hidden", "$x$", "猫", "--><b>\x1b"]
    with opened(tmp_path, tensorboard=False) as report:
        for step in (1, 2):
            report.step(record(step, losses=dict.fromkeys(sources, 1.0), samples=dict.fromkeys(sources, 1)))
        report.validation(2, 1, "_hidden", {"top1": 0.5})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = draw_curves(tmp_path)
    ElementTree.parse(path)
    text = path.read_text()
    assert "<!-- _hidden -->" in text and "<!-- $x$ -->" in text and "_hidden: last 50.0 %, best 50.0 %" in text
