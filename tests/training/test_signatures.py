"""No function of training takes so much that a reader loses track: what many need is in the `RunContext`."""

from __future__ import annotations

import ast
from pathlib import Path

import omnisource.training

MAX_PARAMETERS = 5


def test_no_function_of_training_has_more_than_five_parameters() -> None:
    counts: dict[str, int] = {}
    for path in sorted(Path(omnisource.training.__path__[0]).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                taken = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                counts[f"{path.name}: {node.name}"] = len([one for one in taken if one.arg != "self"])
    assert len(counts) > 50
    assert {name: count for name, count in counts.items() if count > MAX_PARAMETERS} == {}
