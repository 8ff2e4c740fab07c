"""The report of a check: as JSON, as text, on the screen, and its class histograms."""

from __future__ import annotations

import pytest
from PIL import Image

from tests.support.checking import CONFIG, IMAGENET, REPORT, TRAIN_LIST, checked, findings, report, split_summary
from tests.support.miniature import tiny_overrides

pytestmark = pytest.mark.usefixtures("in_data")


def test_report_says_the_same_for_programs_and_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    image = next((IMAGENET / "train").rglob("*.JPEG"))
    image.write_bytes(b"no picture")
    code, text = checked(capsys, CONFIG, *tiny_overrides(num_classes=4))
    assert code == 2
    found = report()
    assert (found["format"], found["version"], found["config"]) == ("omnisource check report", 1, CONFIG)
    assert (found["errors"], found["warnings"], found["files"]) == (1, 0, {"all": 33, "taken_over": 0})
    assert "num_workers=0" in found["overrides"]
    assert findings() == [
        {
            "severity": "error",
            "kind": "unreadable",
            "source": "imagenet",
            "split": "train",
            "path": str(image.absolute()),
            "what": findings()[0]["what"],
        }
    ]
    images = split_summary("imagenet", "train")
    assert (images["items"], images["unreadable"], images["media"]) == (15, 1, "image")
    assert images["class_counts"] == {"0": 5, "1": 5, "2": 5, "3": 0}
    assert images["class_sizes"] == {"least": 0, "median": 5.0, "greatest": 5, "empty": ["3"]}
    clips = split_summary("kinetics400", "train")
    assert clips["frames"] == {"least": 12, "median": 12.0, "greatest": 12}
    assert clips["short_sides"] == {"least": 40, "median": 40.0, "greatest": 40}
    people = (REPORT / "report.txt").read_text()
    assert f"error: unreadable: {image.absolute()}: " in people and "classes of imagenet, train: 0 to 5 items" in people
    assert f"{image.absolute()}: " in text and str(REPORT / "report.txt") in text


def test_screen_is_cut_and_the_report_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    TRAIN_LIST.write_text(TRAIN_LIST.read_text() + "".join(f"none_{number}.mp4 0\n" for number in range(60)))
    code, text = checked(capsys, CONFIG, *tiny_overrides())
    assert code == 2 and text.count("missing file") == 20
    assert f"... and 40 more in {REPORT / 'report.txt'}" in text and text.splitlines()[-1] == "60 problems"
    assert len(findings("list")) == 60
    assert (REPORT / "report.txt").read_text().count("missing file") == 60


def test_class_without_items_is_counted_and_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = checked(capsys, CONFIG, *tiny_overrides(num_classes=5))
    assert code == 0
    assert "source kinetics400, train: 12 items of 3 of 5 classes" in text


def test_class_histogram_of_each_source_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    checked(capsys, CONFIG, *tiny_overrides())
    for source, panels in (("kinetics400", 2), ("imagenet", 1)):
        with Image.open(REPORT / f"class_histogram_{source}.png") as picture:
            assert picture.width > 400 * panels
