"""recipe.json of a work dir, which `runs` and `watch` read while runs start."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from pathlib import Path

from omnisource.training.resuming.resume import prepare_work_dir
from omnisource.training.resuming.run_lock import RunLock
from tests.support.tiny_runs import run_python, tiny_recipe

LIMITED = """
import resource
import sys
from pathlib import Path
from omnisource.errors import UserError
from omnisource.training.resuming.resume import prepare_work_dir
from omnisource.training.resuming.run_lock import RunLock
from tests.support.tiny_runs import tiny_recipe

folder = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # as a disk that is full after so many bytes
try:
    with RunLock(folder) as lock:
        prepare_work_dir(folder, tiny_recipe(folder, "seed=2"), lock)
except UserError as error:
    print(error)
"""


def test_recipe_is_never_seen_half_written(tmp_path: Path) -> None:
    path, is_over = tmp_path / "recipe.json", threading.Event()
    recipe, seeds = tiny_recipe(tmp_path, "seed=0"), []

    def write() -> None:
        for seed in range(200):
            prepare_work_dir(tmp_path, dataclasses.replace(recipe, seed=seed), lock)
        is_over.set()

    with RunLock(tmp_path) as lock:
        prepare_work_dir(tmp_path, recipe, lock)
        with open(path) as opened:  # by `watch`, which reads on when the next run writes
            writer = threading.Thread(target=write)
            writer.start()
            while not is_over.is_set():
                seeds.append(json.loads(path.read_text())["seed"])
            writer.join()
            assert json.load(opened)["seed"] == 0
    assert seeds == sorted(seeds) and json.loads(path.read_text())["seed"] == 199
    assert sorted(os.listdir(tmp_path)) == ["recipe.json", "run.lock"]


def test_recipe_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    with RunLock(tmp_path) as lock:
        prepare_work_dir(tmp_path, tiny_recipe(tmp_path, "seed=1"), lock)
    result = run_python(["-c", LIMITED, str(tmp_path)], tmp_path)
    assert f"--work-dir {tmp_path}: cannot be written to: File too large" in result.stdout, result.stderr
    assert json.loads((tmp_path / "recipe.json").read_text())["seed"] == 1
    assert sorted(os.listdir(tmp_path)) == ["recipe.json", "run.lock"]
