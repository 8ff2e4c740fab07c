from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("document", sorted(path.name for path in (PROJECT / "docs").glob("*.md")))
def test_tables_of_the_documents_are_those_of_the_kept_results(document: str) -> None:
    spec = importlib.util.spec_from_file_location("result_tables", PROJECT / "tools/result_tables.py")
    assert spec is not None and spec.loader is not None
    tools = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tools)
    text = (PROJECT / "docs" / document).read_text()
    assert text.count("<!-- table of ") == len(tools.MARKED.findall(text)) == text.count("<!-- end of table -->")
    assert tools.with_tables(text) == text
