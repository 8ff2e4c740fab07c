from __future__ import annotations

from pathlib import Path

import pytest

from omnisource.reporting.events import RunEnded
from omnisource.reporting.provenance.invocations import INVOCATIONS, InvocationsSink, read_invocations


def test_each_start_of_a_run_is_noted_with_what_it_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/venv/bin/omnisource", "train", "my config.py"])
    killed = InvocationsSink(tmp_path, 1, None)
    killed.close(None)
    whole = InvocationsSink(tmp_path, 2, 40)
    whole.close(RunEnded("complete"))
    whole.close(RunEnded("complete"))
    with (tmp_path / INVOCATIONS).open("a") as file:
        file.write('{"kind": "sta')  # killed while it wrote

    first, second = read_invocations(tmp_path)

    assert first["command"] == "omnisource train 'my config.py'" and first["usage"] == {}
    assert {"python", "torch", "omnisource"} <= first["versions"].keys()
    assert (second["from_step"], second["processes"]) == (40, 2)
    assert second["usage"]["state"] == "complete" and second["usage"]["process_gib"] > 0.01
    assert second["usage"]["seconds"] >= 0 and read_invocations(tmp_path / "none") == []
