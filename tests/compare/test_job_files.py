"""What a run of a comparison keeps of itself, and whether it is the one that goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from omnisource.compare.job_files import JOB, check_job, write_job
from omnisource.errors import UserError
from omnisource.recipe.loading import load_config
from omnisource.recipe.plain import to_plain
from omnisource.recipe.recipe import Recipe
from tests.support.miniature import PUBLISHED_CONFIG


def test_run_of_an_earlier_version_goes_on_and_that_of_another_recipe_does_not(tmp_path: Path) -> None:
    recipe = load_config(str(PUBLISHED_CONFIG), Recipe)
    job = {"recipe": to_plain(recipe), "splits": ["test"], "checkpoint": ""}
    write_job(tmp_path, job)
    stored = json.loads((tmp_path / JOB).read_text())
    del stored["recipe"]["optimizer"]["layer_decay"]  # a key that there was not yet
    (tmp_path / JOB).write_text(json.dumps(stored))
    check_job(tmp_path, job)
    other = replace(recipe, optimizer=replace(recipe.optimizer, layer_decay=0.75))
    with pytest.raises(UserError, match=r"another recipe:\n  optimizer\.layer_decay: 1\.0 before, 0\.75 now"):
        check_job(tmp_path, {**job, "recipe": to_plain(other)})
