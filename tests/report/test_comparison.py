from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from omnisource.cli.main import main
from omnisource.report.write import write_report_page
from tests.support.pages import Document


def numbers(mean: float, low: float | None, high: float | None) -> dict[str, Any]:
    no_interval = "one seed" if low is None else None
    return {
        "mean": mean,
        "low": low,
        "high": high,
        "seed_deviation": None if low is None else 0.01,
        "sampling_deviation": 0.02,
        "degrees_of_freedom": 4.0,
        "no_interval": no_interval,
    }


def comparison() -> dict[str, Any]:
    """What docs/comparing.md says of comparison.json: two variants, two amounts, one of which has no interval."""
    runs, variants, differences = [], [], []
    for amount, low in ((2, 0.02), (None, None)):
        where = {"budget": "compute", "amount": amount}
        for variant in ("scratch", "<joint>"):
            for seed in (0, 1):
                runs.append(
                    {
                        **where,
                        "fold": "f",
                        "variant": variant,
                        "seed": seed,
                        "values": {"optimizer.learning_rate": 0.003},
                        "test_top1": 0.5,
                        "validation_top1": 0.5,
                        "steps": 8,
                        "stage_steps": 0,
                        "multiply_adds": 10**9,
                        "training_seconds": 3.0,
                        "stage_seconds": 0.0,
                        "curve": [[4 + seed, 0.25], [8 + seed, 0.5]],
                        "folder": f"runs/{variant}/{seed}",
                    }
                )
            groups = {"twin": numbers(0.4, None, None)}
            found = numbers(0.5, low and 0.4, low and 0.6)
            of_seeds = {"0": 0.5, "1": 0.5}
            variants.append(
                {**where, "variant": variant, **found, "spread": 0.0, "seeds": of_seeds, "classes": {"a": 1.0}}
                | {"groups": groups}
            )
        tests = [{"seed": 0, "won": 3, "lost": 9, "p": 0.146}]
        found = numbers(-0.05, low and -0.08, low and -low)
        pair = {"ours": "scratch", "theirs": "<joint>", "mcnemar": tests, "classes": {"a": -0.5}, "groups": {}}
        differences.append({**where, **found, **pair})
    return {
        "form": 1,
        "seeds": [0, 1],
        "folds": ["f"],
        "amount_unit": "clips",
        "classes": ["a"],
        "class_groups": {"twin": ["a"]},
        "runs": runs,
        "variants": variants,
        "differences": differences,
        "failed": {"compute/2/f/joint": "runs/joint/job.log"},
    }


def page_of(folder: Path, content: dict[str, Any]) -> Document:
    (folder / "comparison.json").write_text(json.dumps(content))
    return Document(write_report_page(folder).read_text())


def test_page_of_a_comparison_has_means_differences_cost_and_curves(tmp_path: Path) -> None:
    document = page_of(tmp_path, comparison())

    cells = [element.text for element in document.all("td")]
    assert {"−5.0", "−8.0 to −2.0", "<joint> is better", "none: one seed", "3 : 9, p 0.15", "0:00:03"} <= set(cells)
    titles = [element.text for element in document.all("caption")]
    assert titles[:2] == ["Variants", "Paired differences"] and "Top-1 of the classes: compute, all" in titles
    drawn = [element.text for element in document.all("figcaption")]
    assert drawn[0] == "Top-1 on test items, %: compute" and len(drawn) == 3
    assert "runs/joint/job.log" in " ".join(element.text for element in document.all("li"))


def test_comparison_of_which_nothing_is_done_has_a_page(tmp_path: Path) -> None:
    content = comparison()
    content["variants"], content["differences"] = [], []
    assert "not all of its runs are done" in " ".join(e.text for e in page_of(tmp_path, content).all("li"))


@pytest.mark.parametrize("content", ["", "[]", '{"form": 1}', '{"form": 2}'])
def test_damaged_comparison_is_named(tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "comparison.json").write_text(content)
    assert main(["report", str(tmp_path)]) == 2
    assert f"{tmp_path / 'comparison.json'}: " in capsys.readouterr().err
