"""The package as it is installed: names, version, typing marker, what importing it costs, how its metadata are kept."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import omnisource

COMMANDS = ["train", "test", "predict", "show", "check", "lists", "runs", "watch", "demo"]


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)


def torch_after_help(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs `python -m omnisource ARGUMENTS` and prints at its end, on stderr, whether torch was imported."""
    return run_python(
        "import atexit, runpy, sys\n"
        "atexit.register(lambda: print('torch imported:', 'torch' in sys.modules, file=sys.stderr))\n"
        f"sys.argv = ['omnisource', *{arguments!r}]\n"
        "runpy.run_module('omnisource', run_name='__main__')\n"
    )


def test_version_is_the_installed_one() -> None:
    assert omnisource.__version__ == importlib.metadata.version("omnisource")


def test_package_is_marked_as_typed() -> None:
    assert importlib.resources.files("omnisource").joinpath("py.typed").is_file()


def test_importing_the_package_imports_no_torch() -> None:
    result = run_python("import sys, omnisource; dir(omnisource); print('torch' in sys.modules)")
    assert (result.stdout.strip(), result.stderr) == ("False", "")


def test_every_exported_name_can_be_loaded_and_is_listed() -> None:
    for name in omnisource.__all__:
        assert getattr(omnisource, name) is not None
        assert name in dir(omnisource)
    assert set(omnisource._HOMES) == set(omnisource.__all__) - {"__version__"}


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Recogniser'"):
        omnisource.Recogniser  # noqa: B018 (looking it up is the test)


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_prints_usage_and_imports_no_torch(command: str | None) -> None:
    result = torch_after_help(["--help"] if command is None else [command, "--help"])
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage: omnisource")
    assert "torch imported: False" in result.stderr


def test_console_command_calls_the_command_line() -> None:
    scripts = importlib.metadata.entry_points(group="console_scripts", name="omnisource")
    assert [script.value for script in scripts] == ["omnisource.cli.main:main"]


def dependency_lines(project: Path) -> list[str]:
    """Returns the lines of pyproject.toml that each name one dependency, as they stand there."""
    text = (project / "pyproject.toml").read_text()
    metadata = tomllib.loads(text)["project"]
    requirements = [*metadata["dependencies"]]
    for extra in metadata["optional-dependencies"].values():
        requirements += extra
    lines = [line for line in text.splitlines() if any(f'    "{requirement}"' in line for requirement in requirements)]
    assert len(lines) == len(requirements) > 10
    return lines


def test_every_dependency_has_a_reason_beside_it(project: Path) -> None:
    for line in dependency_lines(project):
        assert re.fullmatch(r'    ".+", +# \S.{15,}', line), line


def test_every_dependency_is_pinned_by_the_constraints(project: Path) -> None:
    pins = {
        line.split("==")[0].lower()
        for line in (project / "constraints.txt").read_text().splitlines()
        if re.fullmatch(r"[\w.-]+==[\w.]+", line)
    }
    for line in dependency_lines(project):
        name = re.match(r'    "([\w-]+)', line)
        assert name and name[1].lower() in pins, line


def test_citation_names_the_version_and_both_papers(project: Path) -> None:
    citation = yaml.safe_load((project / "CITATION.cff").read_text())
    assert citation["version"] == omnisource.__version__
    assert [(paper["year"], paper["authors"][0]["family-names"]) for paper in citation["references"]] == [
        (2020, "Duan"),
        (2019, "Feichtenhofer"),
    ]
