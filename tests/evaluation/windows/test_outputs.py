from __future__ import annotations

import csv
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch

from omnisource.errors import UserError
from omnisource.evaluation.windows.outputs import (
    check_csv,
    file_entry,
    timeline_path,
    timeline_svg,
    write_csv,
    write_timeline,
)
from omnisource.evaluation.windows.plan import WindowSpan
from omnisource.evaluation.windows.scoring import WindowScores
from omnisource.evaluation.windows.segments import Segment

ODD = 'a<b>&"\x1b\udcff.mp4'
SEGMENTS = (
    Segment("actions", "run & <jump>", 0.71234567, 0, 50, 0.0, 5.0),
    Segment("actions", "rest", 0.5, 50, 90, 5.0, 9.0),
)


def scores(path: str = ODD, seconds: float = 9.0) -> WindowScores:
    return WindowScores(path, 90, 10.0, WindowSpan(10, 5), (0,), {"actions": torch.zeros(1, 2)}, (0.0, seconds))


def test_csv_has_a_line_a_segment_and_replaces_only_its_own(tmp_path: Path) -> None:
    target = tmp_path / "segments.csv"
    write_csv(target, [file_entry(scores("a,b.mp4"), SEGMENTS), {"path": "c.mp4", "error": "gone"}])
    rows = list(csv.DictReader(target.open()))
    assert [(row["path"], row["class_name"], row["start_frame"], row["end_seconds"]) for row in rows] == [
        ("a,b.mp4", "run & <jump>", "0", "5.0"),
        ("a,b.mp4", "rest", "50", "9.0"),
    ]
    assert rows[0]["score"] == "0.712346"
    check_csv(target)
    target.write_text("mine\n")
    with pytest.raises(UserError, match=r"segments\.csv: exists already"):
        check_csv(target)


@pytest.mark.parametrize("seconds", [0.04, 9.0, 100_000.0, 1e6])
def test_timeline_is_a_picture_whatever_names_hold(seconds: float) -> None:
    for segments in (SEGMENTS, ()):
        root = ElementTree.fromstring(timeline_svg(scores(seconds=seconds), segments))
        texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
        assert len(texts) < 30 and ("run & <jump>" in texts) == bool(segments)


def test_timelines_replace_only_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "timelines"
    write_timeline(folder, scores("a.mp4"), SEGMENTS)
    write_timeline(folder, scores("a.mp4"), ())
    assert timeline_path(folder, "b/a.mp4") != timeline_path(folder, "a.mp4")
    timeline_path(folder, "a.mp4").write_text("mine")
    with pytest.raises(UserError, match="no timeline of ours"):
        write_timeline(folder, scores("a.mp4"), SEGMENTS)
