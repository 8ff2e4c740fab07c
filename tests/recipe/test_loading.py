"""Config files: what they must build, and what is said of those that do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from omnisource.errors import UserError
from omnisource.recipe.loading import load_config
from omnisource.recipe.recipe import Recipe
from tests.conftest import PROJECT
from tests.support.miniature import PUBLISHED_CONFIG


def written(folder: Path, text: str, name: str = "some_config.py") -> str:
    (folder / name).write_text(text)
    return name


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # so that configs are named by relative paths, as users do


def test_published_config_lies_under_its_published_name() -> None:
    name = "slowonly_r50_8xb16-8x8x1-256e_imagenet-kinetics400-rgb.py"
    assert (PROJECT / "configs/recognition/omnisource" / name).is_file()


def test_missing_config_suggests_the_name_that_is_near() -> None:
    Path("folder.py").mkdir()
    written(Path(), "recipe = 1\n", "kinetics.py")
    with pytest.raises(UserError, match=r"^kinetisc\.py: no such config file\. Did you mean kinetics\.py\?"):
        load_config("kinetisc.py", Recipe)
    with pytest.raises(UserError, match=r"^nowhere/x\.py: no such config file\.$"):
        load_config("nowhere/x.py", Recipe)
    with pytest.raises(UserError, match=r"^folder\.py: no such config file\.$"):
        load_config("folder.py", Recipe)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ny = (\n", r"some_config\.py:2: not valid Python: "),
        ("x = 1\n\nraise RuntimeError('no')\n", r"some_config\.py:3: the config failed: RuntimeError: no"),
        ("\nimport nothing_of_this_name\n", r"some_config\.py:2: the config failed: ModuleNotFoundError: "),
        ("def f():\n    int('x')\n\nf()\n", r"some_config\.py:2: invalid literal for int"),
        ("import json\njson.loads('[')\n", r"some_config\.py:2: the config failed: JSONDecodeError: "),
        ("import sys\nsys.exit(3)\n", r"some_config\.py:2: the config failed: SystemExit: 3"),
        ("x = '\0'\n", r"some_config\.py: .*null bytes"),
        ("x = 1\n", r"some_config\.py: a config must build `recipe = Recipe\(\.\.\.\)`; it has nothing of that name"),
        ("recipe = 3\n", r"some_config\.py: a config must build .*; it has recipe = 3"),
        (
            "from omnisource import Recipe as recipe\n",
            r"some_config\.py: a config must build .*; it has recipe = <class",
        ),
    ],
)
def test_config_that_gives_no_recipe_is_a_user_error_with_its_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        load_config(written(Path(), text), Recipe)


def test_user_error_of_a_config_that_loads_another_names_the_other() -> None:
    path = written(
        Path(),
        "from omnisource import Recipe, load_config\nload_config('b.py', Recipe)\n",
    )
    with pytest.raises(UserError, match=r"^b\.py: no such config file"):
        load_config(path, Recipe)


def test_fault_of_a_recipe_names_file_and_line_of_the_recipe() -> None:
    text = (
        PUBLISHED_CONFIG.read_text().replace("num_epochs=256", "num_epochs=0").replace("batch_size=16", "batch_size=0")
    )
    line = next(number for number, row in enumerate(text.splitlines(), 1) if row.startswith("recipe = "))
    with pytest.raises(UserError) as caught:
        load_config(written(Path(), text), Recipe)
    message = str(caught.value)
    assert message.startswith(f"some_config.py:{line}: num_epochs=0: must be at least 1; ")
    assert "sources.kinetics400.batch_size=0: must be at least 1" in message


def test_wrong_type_in_a_config_file_names_key_and_wanted_type() -> None:
    text = PUBLISHED_CONFIG.read_text().replace("depth=50", "depth=51").replace("num_epochs=256", "num_epochs='256'")
    with pytest.raises(UserError) as caught:
        load_config(written(Path(), text), Recipe)
    assert "num_epochs = '256': wants a whole number" in str(caught.value)
    assert "model.depth = 51: wants one of 18, 34, 50, 101, 152" in str(caught.value)


def test_config_needs_no_suffix_and_leaves_nothing_behind() -> None:
    path = written(Path(), PUBLISHED_CONFIG.read_text(), "published.config")
    assert load_config(path, Recipe) == load_config(str(PUBLISHED_CONFIG), Recipe)
    assert [file.name for file in Path().iterdir()] == ["published.config"]


def test_edit_of_the_same_second_and_length_is_seen() -> None:
    values = []
    for number in (1, 2):
        values.append(load_config(written(Path(), f"recipe = {number}\n"), int))
    assert values == [1, 2]


def test_config_may_define_its_own_dataclass() -> None:
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass(frozen=True)\nclass Mine:\n    x: int = 3\nrecipe = Mine().x\n"
    )
    assert load_config(written(Path(), text), int) == 3


@pytest.mark.parametrize(
    ("statement", "place"),
    [
        ("from base import recipe", "str(Path(__file__).parent / 'base.py')"),
        ("import base", "str(Path(__file__).parent / 'base.py')"),
        ("from .base import recipe", "str(Path(__file__).parent / 'base.py')"),
        ("from . import base", "str(Path(__file__).parent / 'base.py')"),
        ("from queue import recipe", "str(Path(__file__).parent / 'queue.py')"),
        ("from variants.base import recipe", "'variants/base.py'"),
    ],
)
def test_import_of_another_config_is_answered_with_what_loads_it(statement: str, place: str) -> None:
    Path("variants").mkdir()
    for name in ("base.py", "queue.py"):
        written(Path("variants"), "recipe = 1\n", name)
    config = written(Path("variants"), f"import json\n{statement}\n")
    with pytest.raises(UserError) as raised:
        load_config(f"variants/{config}", Recipe)
    message = str(raised.value)
    assert message.startswith("variants/some_config.py:2: the config failed: ")
    assert f"\n  recipe = load_config({place}, Recipe)\n" in message and message.count("\n") == 5
