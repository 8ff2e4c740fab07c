"""What a run reads before it begins: by its first process alone, and the same on all."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from omnisource.data.run_data import read_run_data
from omnisource.data.shards.write import ShardFile, write_shards
from omnisource.errors import UserError
from tests.support.tiny_runs import make_data, mixed_recipe, torchrun

SCRIPT = """
import hashlib, json, os, resource, sys
from pathlib import Path

import torch

from omnisource.data import sharing
from omnisource.data.run_data import read_run_data
from omnisource.distributed import processes
from omnisource.errors import UserError
from omnisource.files import mapped_table
from omnisource.files.byte_ranges import read_range
from tests.support.tiny_runs import mixed_recipe

data, out = Path(sys.argv[1]), Path(sys.argv[2])
recipe = mixed_recipe(data)
listed, written = [], []


def note(event, arguments):
    if event in ("os.scandir", "os.listdir"):
        listed.append(arguments[0])
    if event == "open" and arguments[1] == "x":
        written.append(Path(arguments[0]).name.partition(".")[0])


sys.addaudithook(note)
processes.start(torch.device("cpu"))
rank, local_rank = processes.rank(), os.environ["LOCAL_RANK"]


def read(cache, machine_rank=local_rank, settings=()):
    os.environ |= {"OMNISOURCE_CACHE": str(out / cache), "LOCAL_RANK": machine_rank}
    listed.clear()
    written.clear()
    try:
        found = read_run_data(mixed_recipe(data, *settings), ("train", "validation"), "config.py")
    except UserError as error:
        return str(error)
    items = {split: {name: [of.digest(), str(of[1])] for name, of in of_split.items()} for split, of_split in
             found.items.items()}
    folders = [str(folder) for folder in listed if str(folder).startswith(str(data))]
    processes.gather("all have written what they write")
    kept = [path.name for path in (out / cache / "lists").glob("*")] if (out / cache).is_dir() else []
    facts = {"items": items, "classes": found.class_names, "folders": len(folders), "kept": len(kept)}
    return {**facts, "seed": found.recipe.seed, "written": written[:]}


results = {"in memory": read("memory")}
mapped_table.MEMORY_BYTES = sharing.MEMORY_BYTES = 0
results["one machine"] = read("shared")
results["two machines"] = read(f"own{rank}", "0")
results["known to the second machine"] = read(f"own{1 - rank}", "0")
results["one cache folder for two machines"] = read("network", "0")
results["another setting"] = read("network", "0", settings=["seed=7"])
no_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (no_limit[0] if rank == 0 else 100, no_limit[1]))
results["no room on the second machine"] = read(f"full{rank}", "0")
resource.setrlimit(resource.RLIMIT_FSIZE, no_limit)
results["left where there was no room"] = os.listdir(out / "full1/lists")
(out / "file").write_text("")
results["no cache folder"] = read("file/none")
os.chdir(out / f"machine{rank}")  # the same paths, and another file on each machine
shards = ["sources.imagenet.root=/proc/self/cwd", "sources.imagenet.train.urls=[train-000000.tar]"]


def read_first_image():
    try:
        image = read_run_data(mixed_recipe(data, *shards), ("train",)).items["train"]["imagenet"][0]
    except UserError as error:
        return str(error)
    return [image.path, hashlib.sha256(read_range(image.byte_range)).hexdigest()]


results["shard"] = read_first_image()
if rank == 1:
    with open("train-000000.tar", "ab") as file:
        file.write(bytes(10240))
results["longer shard"] = read_first_image()
if rank == 1:
    os.remove("train-000000.tar")
results["missing shard"] = read_first_image()
results["missing list"] = read("shared", settings=["sources.imagenet.train.list=gone.txt"])
results["wrong class"] = read("shared", settings=["sources.kinetics400.classes=gone.txt"])
(out / f"{rank}.json").write_text(json.dumps(results))
processes.stop()
"""

LONG = """
import datetime, time

import torch

from omnisource.data.sharing import read_by_first_process
from omnisource.distributed import processes

LIMIT_SECONDS = 6
processes.TIMEOUT = datetime.timedelta(seconds=LIMIT_SECONDS)
processes.start(torch.device("cpu"))


def read(fails=False):
    time.sleep(LIMIT_SECONDS + 2)
    if fails:
        raise ValueError("damaged")
    return "items"


assert read_by_first_process(read) == "items"
try:
    read_by_first_process(lambda: read(fails=True))
except ValueError:
    assert processes.rank() == 0
except SystemExit as silent:
    assert processes.rank() == 1 and silent.code == 2
else:
    raise AssertionError("it failed")
print("waited", flush=True)
processes.stop()
"""
"""Reading that takes longer than a process waits for another in a collective."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("run_data"))


def images(data: Path) -> list[ShardFile]:
    items = read_run_data(mixed_recipe(data), ("train",)).items["train"]["imagenet"]
    return [ShardFile(Path(item.path), item.key, item.label) for item in items]


@pytest.fixture(scope="module")
def results(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Returns what each of two processes found."""
    if not torch.distributed.is_available():
        pytest.skip("this torch has no distributed package")
    folder = tmp_path_factory.mktemp("found")
    for number in (0, 1):
        (copied,) = write_shards(images(data), folder / f"machine{number}", "train", 10**9)
        os.utime(copied, (1000 + number, 1000 + number))
    (folder / "script.py").write_text(SCRIPT)
    result = torchrun(folder / "script.py", str(data), str(folder))
    assert result.returncode == 0, result.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


CASES = (
    "in memory",
    "one machine",
    "two machines",
    "known to the second machine",
    "one cache folder for two machines",
    "another setting",
    "no cache folder",
)


@pytest.mark.parametrize("case", CASES)
def test_second_process_lists_no_folder_and_has_the_same_items(
    results: list[dict[str, Any]], data: Path, case: str
) -> None:
    alone = read_run_data(mixed_recipe(data), ("train", "validation"))
    expected = {
        split: {name: [items.digest(), str(items[1])] for name, items in of_split.items()}
        for split, of_split in alone.items.items()
    }
    assert sorted(expected["train"]) == ["imagenet", "kinetics400", "raw"]
    first, second = (of_process[case] for of_process in results)
    assert first["folders"] > 0 and second["folders"] == 0
    for of_process in (first, second):
        assert of_process["items"] == expected
        assert of_process["classes"] == {space: list(names) for space, names in alone.class_names.items()}


def test_large_items_are_kept_once_a_machine(results: list[dict[str, Any]]) -> None:
    for case, kept in (("in memory", (0, 0)), ("no cache folder", (0, 0))):
        assert tuple(of_process[case]["kept"] for of_process in results) == kept
    # Besides the items of the run, the machine of the first process keeps each list as it was read.
    first, second = (of_process["two machines"]["kept"] for of_process in results)
    assert first > second == 1


def test_machines_with_one_cache_folder_have_one_writer(results: list[dict[str, Any]]) -> None:
    first, second = (of_process["one cache folder for two machines"] for of_process in results)
    assert len(first["written"]) == len(set(first["written"])) == first["kept"]
    assert second["written"] == []


def test_same_items_under_another_setting_are_kept_once(results: list[dict[str, Any]]) -> None:
    for of_process in results:
        before, after = of_process["one cache folder for two machines"], of_process["another setting"]
        assert after["seed"] == 7 != before["seed"]
        assert after["kept"] == before["kept"] and after["written"] == []


def test_no_room_on_one_machine_is_an_error_on_every_process_and_leaves_nothing(results: list[dict[str, Any]]) -> None:
    first, second = (of_process["no room on the second machine"] for of_process in results)
    assert first == f"process 1: {second}"
    assert "a list cannot be kept on the disk: File too large" in second and "full1" in second
    assert results[1]["left where there was no room"] == []


def test_each_machine_reads_its_own_copy_of_a_shard(results: list[dict[str, Any]], data: Path) -> None:
    content = images(data)[0].path.read_bytes()
    for of_process in results:
        path, checksum = of_process["shard"]
        assert path.startswith("/proc/self/cwd/train-000000.tar::") and checksum == sha256(content).hexdigest()


def test_another_shard_on_one_machine_is_an_error_on_every_process(
    results: list[dict[str, Any]], tmp_path: Path, data: Path
) -> None:
    (shard,) = write_shards(images(data), tmp_path, "train", 10**9)
    size = shard.stat().st_size
    remedy = "Every machine needs the same shards under the same paths: copy it there again."
    for case, what in {
        "longer shard": f"this shard has {size + 10240} bytes here, and {size} for process 0",
        "missing shard": "process 0 has read this shard, and here it cannot be: No such file or directory",
    }.items():
        expected = f"/proc/self/cwd/train-000000.tar: {what}. {remedy}"
        assert [of_process[case] for of_process in results] == [f"process 1: {expected}", expected]


@pytest.mark.parametrize("case", ["missing list", "wrong class"])
def test_mistake_of_the_user_is_an_error_on_every_process(results: list[dict[str, Any]], case: str) -> None:
    first, second = (of_process[case] for of_process in results)
    assert first == second and "gone.txt" in first


def test_others_wait_for_the_first_process_longer_than_in_a_collective(tmp_path: Path) -> None:
    if not torch.distributed.is_available():
        pytest.skip("this torch has no distributed package")
    (tmp_path / "script.py").write_text(LONG)
    result = torchrun(tmp_path / "script.py")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("waited") == 2


def test_long_reading_shows_how_far_it_is(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, int, int]] = []

    class Bar:
        def __init__(self, what: str) -> None:
            self.what = what

        def __enter__(self):
            return lambda done, total: shown.append((self.what, done, total))

        def __exit__(self, *_: object) -> None:
            pass

    read_run_data(mixed_recipe(data), ("train",), progress_bar=Bar)
    assert shown == []  # it takes no two seconds
    monkeypatch.setattr("omnisource.data.run_data.BAR_SECONDS", 0.0)
    read_run_data(mixed_recipe(data), ("train",), progress_bar=Bar)
    assert {what for what, _, _ in shown} == {f"reading train items of {name}" for name in mixed_recipe(data).sources}
    for what in {what for what, _, _ in shown}:
        counts = [(done, total) for name, done, total in shown if name == what]
        total = counts[0][1]
        assert counts == [(done, total) for done in range(1, total + 1)]


def test_one_process_says_what_is_missing(data: Path) -> None:
    with pytest.raises(UserError, match=r"config.py: the data is not here"):
        read_run_data(mixed_recipe(data, "sources.imagenet.train.list=gone.txt"), ("train",), "config.py")
