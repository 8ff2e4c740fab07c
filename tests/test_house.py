"""The house is as docs/ARCHITECTURE.md draws it: small packages with a line there, no facades, tests that mirror it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PACKAGE = PROJECT / "omnisource"
MODULES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = sorted({path.parent for path in MODULES})

MAX_MODULES = 12
"""Modules in a folder, besides `__init__.py`."""

MAX_LINES = 300
"""Lines of a module."""

PUBLIC_API = PACKAGE / "__init__.py"
"""The only module that passes on names of others."""


def name(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def test_no_folder_has_more_than_a_dozen_modules() -> None:
    counts = {name(folder): sum(path.name != "__init__.py" for path in folder.glob("*.py")) for folder in FOLDERS}
    assert {folder: count for folder, count in counts.items() if count > MAX_MODULES} == {}


def test_no_module_is_longer_than_three_hundred_lines() -> None:
    lengths = {name(path): len(path.read_text().splitlines()) for path in MODULES}
    assert {module: length for module, length in lengths.items() if length > MAX_LINES} == {}


def test_every_package_has_its_line_in_the_architecture() -> None:
    lines = (PROJECT / "docs/ARCHITECTURE.md").read_text().splitlines()
    packages = [found[1] for line in lines if (found := re.match(r"\| `([\w/]+)/` \| \S", line))]
    assert len(lines) <= 150
    assert sorted(packages) == sorted(str(folder.relative_to(PACKAGE)) for folder in FOLDERS if folder != PACKAGE)


def test_every_file_that_the_architecture_points_to_is_there() -> None:
    text = (PROJECT / "docs/ARCHITECTURE.md").read_text()
    files = set(re.findall(r"`([a-z_]+(?:/[a-z_]+)*/[a-z_]+\.py)`", text))
    missing = [file for file in files if not (PACKAGE / file).exists() and not (PROJECT / file).exists()]
    assert len(files) > 15 and sorted(missing) == []


def test_no_module_is_a_facade() -> None:
    with_lists = [name(path) for path in MODULES if path != PUBLIC_API and "__all__" in names_defined_in(path)]
    assert with_lists == []
    markers = [path for path in MODULES if path.name == "__init__.py" and path != PUBLIC_API]
    assert [name(path) for path in markers if path.read_text().strip()] == []


def test_names_are_imported_from_the_modules_that_define_them() -> None:
    defined = {module_of(path): names_defined_in(path) for path in MODULES}
    passed_on = [
        f"{name(path)}:{node.lineno}: {alias.name} from {node.module}"
        for path in [*MODULES, *sorted((PROJECT / "tests").rglob("*.py"))]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module in defined and node.module != "omnisource"
        for alias in node.names
        if alias.name not in defined[node.module] and f"{node.module}.{alias.name}" not in defined
    ]
    assert passed_on == []


def test_tests_mirror_the_package() -> None:
    tests = PROJECT / "tests"
    own = {tests / "support", tests / "end_to_end", tests / "end_to_end/processes"}  # helpers, and whole runs
    folders = {path.parent for path in tests.rglob("test_*.py")} - {tests} - own
    unlike = [name(folder) for folder in folders if not (PACKAGE / folder.relative_to(tests)).is_dir()]
    assert sorted(unlike) == []
    untested = [
        folder
        for folder in FOLDERS
        if folder != PACKAGE
        and not any((tests / folder.relative_to(PACKAGE)).rglob("test_*.py"))
        and any(path.name != "__init__.py" for path in folder.glob("*.py"))
    ]
    assert [name(folder) for folder in untested] == []


def module_of(path: Path) -> str:
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def names_defined_in(path: Path) -> set[str]:
    """Returns the names that a module defines itself, at its top level, also below an `if`."""
    names: set[str] = set()
    waiting = list(ast.parse(path.read_text()).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.update(part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name))
        elif isinstance(node, ast.If | ast.Try | ast.With):
            waiting += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    return names
