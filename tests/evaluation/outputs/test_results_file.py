from __future__ import annotations

import json
from pathlib import Path

import pytest

from omnisource.errors import UserError
from omnisource.evaluation.outputs.results_file import open_results

SETTINGS = {"checkpoint": "best.pt", "top": 5}


def test_results_go_on_after_any_end(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with open_results(path, SETTINGS) as results:
        results.add({"path": "a.mp4", "predictions": []})
        results.add({"path": "ü\udcff.mp4", "error": "damaged"})
    whole = path.read_bytes()
    for end in range(len(whole) + 1):  # a kill can cut off anything of the last line
        path.write_bytes(whole[:end])
        num_lines = whole[:end].count(b"\n")
        with open_results(path, SETTINGS) as results:
            assert len(results.finished) == max(0, num_lines - 1)
            assert results.num_failed == (num_lines == 3)
            results.add({"path": "last.mp4"})
        assert [json.loads(line) for line in path.read_bytes().splitlines()][-1] == {"path": "last.mp4"}


def test_other_files_and_settings_are_refused_and_stay(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with open_results(path, SETTINGS) as results:
        results.add({"path": "a.mp4"})
    before = path.read_bytes()
    with pytest.raises(UserError, match="top: 5 there, 3 now"), open_results(path, {**SETTINGS, "top": 3}):
        pass
    assert path.read_bytes() == before
    for content in ("mine", "mine\n", '{"path": "a"}\n', "[1]\n"):
        path.write_text(content)
        with pytest.raises(UserError, match=r"results\.jsonl: exists already"), open_results(path, SETTINGS):
            pass
        assert path.read_text() == content
    path.write_bytes(before + b"rubbish\n")
    with pytest.raises(UserError, match=r"results\.jsonl:3: damaged"), open_results(path, SETTINGS):
        pass
    with pytest.raises(UserError, match="no file"), open_results(tmp_path, SETTINGS):
        pass
