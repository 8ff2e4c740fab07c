from __future__ import annotations

import importlib.util
import json
import statistics
from pathlib import Path

import pytest

from omnisource.demo.run import REQUIRED

PROJECT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("document", ["../README.md", *sorted(path.name for path in (PROJECT / "docs").glob("*.md"))])
def test_tables_of_the_documents_are_those_of_the_kept_results(document: str) -> None:
    spec = importlib.util.spec_from_file_location("result_tables", PROJECT / "tools/result_tables.py")
    assert spec is not None and spec.loader is not None
    tools = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tools)
    text = (PROJECT / "docs" / document).read_text()
    assert text.count("<!-- table of ") == len(tools.MARKED.findall(text)) == text.count("<!-- end of table -->")
    assert tools.with_tables(text) == text


def test_demo_fails_below_three_deviations_of_seeds_and_its_texts_say_the_same() -> None:
    """The bound of the code, and the figures in the text, are those of the kept runs."""
    kept = {
        name: json.loads((PROJECT / f"benchmarks/results/{name}.json").read_text())["runs"]
        for name in ("demo_seeds", "demo_published_statistics")
    }
    for run in (run for runs in kept.values() for run in runs):
        assert run["top1"] == pytest.approx(run["correct"].count("1") / len(run["correct"]))
    joint = [run["top1"] for run in kept["demo_seeds"] if run["variant"] == "joint"]
    bound = statistics.mean(joint) - 3 * statistics.stdev(joint)
    assert len(joint) == 10 and bound - 0.01 < REQUIRED <= bound
    results, readme = (" ".join((PROJECT / name).read_text().split()) for name in ("docs/results.md", "README.md"))
    assert f"three deviations below their mean is {bound:.1%}".replace("%", " %") in results
    for text in (results, readme):
        assert f"below {REQUIRED:.0%}".replace("%", " %") in text
    assert (PROJECT / "docs/demo.png").is_file() and "(docs/demo.png)" in readme
