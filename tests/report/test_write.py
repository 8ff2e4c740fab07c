from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from omnisource.cli.main import main
from omnisource.report.page import MAX_BYTES
from omnisource.report.write import PAGE, write_page_after, write_report_page
from omnisource.reporting.records import StepRecord, ValidationRecord, metrics_line
from tests.support.pages import Document, write_tested

NASTY = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "跳舞",
    "رقص \u202eabc",
    "name\udcff of bytes",
    "{{ 7 * 7 }} {% raw %}",
    "</script><b>",
    "",
]


def page_of(folder: Path) -> tuple[Document, str]:
    text = write_report_page(folder).read_text(encoding="utf-8")
    return Document(text), text


def write_run(folder: Path, *, num_steps: int = 300) -> Path:
    folder.mkdir()
    lines: list[StepRecord | ValidationRecord] = []
    for step in range(1, num_steps + 1):
        losses = {"clips": 3.0 / step, "<i>images": float("nan") if step == 5 else 1.0}
        lines.append(StepRecord(step, 1, losses, 4.0, 0.1, 1.0, 0.5, 0.1, {"clips": 8, "<i>images": 4}, num_steps))
        if step % 100 == 0:
            figures = {"top1": 0.5, "top5": 0.75, "mean_class_accuracy": 0.5, "count": 40.0}
            lines.append(ValidationRecord(step, 1, "clips", figures))
    (folder / "metrics.jsonl").write_text("".join(metrics_line(line) + "\n" for line in lines))
    return folder


def test_page_of_a_test_is_sound_html_that_names_cannot_break(tmp_path: Path) -> None:
    paths = ["/data/<b>.mp4", "/data/\udcff\u202e.mp4", "shard.tar::member.mp4"]
    document, text = page_of(write_tested(tmp_path, NASTY, 40, paths))

    assert [element.text for element in document.all("script") if "alert" in element.text[:30]] == []
    assert {name for element in document.elements for name in element.attributes if name.startswith("on")} == set()
    assert "\u202e" not in text and "\\u202e" in text, "what turns the order of text is escaped"
    assert "49" not in {element.text for element in document.all("bdi")}
    embedded = next(e for e in document.all("script") if e.attributes.get("type") == "application/json")
    assert "跳舞" in json.loads(embedded.text)["names"]
    targets = [e.attributes.get("src") or e.attributes.get("href") or "#" for e in document.elements]
    assert {target.partition(":")[0].partition("#")[0] for target in targets} <= {"", "data", "file"}
    assert "file:///data/%FF%E2%80%AE.mp4" in targets and "http" not in text.replace("http-equiv", "")


def test_page_of_a_test_shows_what_was_measured(tmp_path: Path) -> None:
    document, text = page_of(write_tested(tmp_path, [f"class {k}" for k in range(400)], 1200))

    shown = {element.text for element in document.all("td")}
    assert {"66.7 %", "64.0 % to 69.3 %"} <= shown, "Wilson's interval of 800 in 1200"
    assert len([e for e in document.all("tr") if "of 3" in e.text]) == 40, "the most frequent confusions"
    assert len(document.all("img")) == 3 * 24 and all(e.attributes["alt"] for e in document.all("img"))
    assert len(text) < MAX_BYTES
    for word in ("moov atom not found", "omnisource test a.py best.pt", "2.00 Wh GPUs", "torch 2.13.0", "1.50 GiB"):
        assert word in text, word
    ids = [element.attributes["id"] for element in document.elements if "id" in element.attributes]
    links = [e.attributes["href"][1:] for e in document.all("a") if e.attributes["href"].startswith("#")]
    assert len(ids) == len(set(ids)) and set(links) <= set(ids)


def test_page_of_a_run_has_its_curves_and_says_what_an_old_one_lacks(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "unreadable.jsonl").write_text(
        '{"kind": "training", "path": "/a.mp4", "reason": "cut off", "step": 1}\n' * 3 + '{"kind": "tr'
    )
    document, text = page_of(run)

    assert [e.text for e in document.all("figcaption")][:2] == ["Training loss", "Validation top-1, %"]
    assert "<i>images" in [e.text for e in document.all("bdi")] and "replaced in 3 training samples" in text
    assert "were not noted: the run is of an earlier version" in text and "this run has none yet" in text

    write_tested(run / "test", ["left", "right"], 12)
    assert "this run has none yet" not in page_of(run)[1]


def test_what_an_earlier_version_wrote_of_a_test_gets_a_page(tmp_path: Path) -> None:
    source = write_tested(tmp_path, ["left", "right"], 4) / "clips"
    (source / "predictions.jsonl").unlink()
    (source / "metrics.json").write_text('{"top1": 0.5, "top5": 1.0, "mean_class_accuracy": 0.5, "count": 4}')
    (source / "per_class.csv").write_text(
        "class,items,correct,accuracy,mostly taken for\nleft,2,2,1.0,\nright,2,0,0.0,left\n"
    )

    document, text = page_of(tmp_path)

    assert "was tested by an earlier version" in text and "50.0 %" in {e.text for e in document.all("td")}


def test_pictures_are_left_out_of_a_page_that_would_be_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omnisource.report.page.MAX_BYTES", 1000)
    document, text = page_of(write_tested(tmp_path, ["left", "right"], 12))
    assert document.all("img") == [] and "The pictures of items were left out" in text


@pytest.mark.parametrize(
    "broken", ["", "{}", '{"form": 1}\n', '{"form": 1, "classes": [], "left_out": []}\n{"index": 0}\n']
)
def test_damaged_file_is_named_and_ends_the_command_but_no_run(
    tmp_path: Path, broken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_tested(tmp_path, ["left", "right"], 4)
    (folder / "clips/predictions.jsonl").write_text(broken)

    assert main(["report", str(folder)]) == 2
    assert "predictions.jsonl: is damaged" in capsys.readouterr().err
    write_page_after(folder)
    assert "the report of" in capsys.readouterr().err and not (folder / PAGE).exists()


def test_folder_without_a_run_is_refused_and_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2 and main(["report", str(tmp_path / "none")]) == 2
    assert "omnisource runs DIR" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_page_replaces_pages_and_no_other_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run", num_steps=3)
    assert main(["report", str(folder)]) == 0 and main(["report", str(folder)]) == 0
    (folder / PAGE).write_text("<html>mine</html>")
    for options, reason in (
        ([], "is no page of omnisource report, and stays"),
        (["--output", str(tmp_path / "none/x.html")], f"{tmp_path / 'none'}: no such folder"),
        (["--output", str(tmp_path)], "is a folder"),
    ):
        assert main(["report", str(folder), *options]) == 2
        assert reason in capsys.readouterr().err
    assert (folder / PAGE).read_text() == "<html>mine</html>"


def test_page_that_cannot_be_written_ends_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run", num_steps=3)
    (folder / PAGE).mkdir()  # a folder where the page should be
    write_page_after(folder)
    assert "could not be written" in capsys.readouterr().err


def test_page_works_in_a_browser(tmp_path: Path) -> None:
    """No message on the console, nothing wider than a phone, tables sort, pictures are shown, cells are read out."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser_path is None:
        pytest.skip("no Chromium on this machine")
    run = write_run(tmp_path / "run")
    write_tested(run / "test", [*NASTY[:-1], *(f"class {k}" for k in range(63))], 210)
    page_url = write_report_page(run).resolve().as_uri()
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=browser_path, args=flags)
        messages: list[str] = []
        for scheme in ("light", "dark"):
            page = browser.new_context(color_scheme=scheme, viewport={"width": 360, "height": 740}).new_page()
            page.on("console", lambda message: messages.append(message.text))
            page.on("pageerror", lambda error: messages.append(str(error)))
            page.on("dialog", lambda dialog: messages.append(dialog.message))
            page.goto(page_url)
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
            assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth === 32)")
            assert page.evaluate("document.images.length") == 72

        head = page.locator("#classes-1 th", has_text="accuracy")
        values = "[...document.querySelectorAll('#classes-1 td:nth-child(4)')].map(c => Number(c.dataset.key))"
        head.locator("button").focus()
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "ascending" and page.evaluate(values) == sorted(page.evaluate(values))
        page.keyboard.press("Enter")
        assert page.evaluate(values) == sorted(page.evaluate(values), reverse=True)
        page.locator("#classes-1 th", has_text="class").locator("button").click()
        page.locator("input[type=search]").fill("CLASS 62")
        assert page.locator("#classes-1 tbody tr:visible").count() == 2, "the class, and the one taken for it"
        page.locator(".matrix").click(position={"x": 100, "y": 100})
        assert " of 3" in page.locator(".readout").inner_text()
        width = page.evaluate("document.querySelector('.matrix').getBoundingClientRect().width")
        page.get_by_role("button", name="Larger").click()
        assert page.evaluate("document.querySelector('.matrix').getBoundingClientRect().width") > 1.4 * width
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert messages == []
        browser.close()
