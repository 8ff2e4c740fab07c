"""Whole runs on tar shards: the same as on loose files, to the last bit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from omnisource import Recipe, TarShards
from omnisource.check.run import check
from omnisource.checkpoints.file import checkpoint_path, read_checkpoint
from omnisource.cli.arguments import load_recipe
from omnisource.data.classes import resolve_classes
from omnisource.data.datasets import read_split
from omnisource.data.missing import require_data
from omnisource.data.shards.write import ShardFile, write_shards
from omnisource.errors import UserError
from omnisource.recipe.keys import describe_keys
from omnisource.recipe.plain import from_plain, to_plain
from omnisource.training.train import train
from tests.support.http_server import serving
from tests.support.miniature import PUBLISHED_CONFIG, tiny_overrides
from tests.support.tiny_runs import difference, roots, step_lines, tiny_recipe

TWO_STEPS = ("sources.kinetics400.batch_size=6", "validation.interval_epochs=0")
"""Overrides that make the run two steps, of 6 videos each."""


@pytest.fixture(scope="module")
def shards(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with the training and validation items of both sources in shards."""
    folder = tmp_path_factory.mktemp("shards")
    recipe, names = resolve_classes(tiny_recipe(data))
    for name in recipe.sources:
        for split in ("train", "validation"):
            items = read_split(recipe, names, name, split)
            files = [ShardFile(Path(item.path), item.key, item.label) for item in items or ()]
            write_shards(files, folder, f"{name}-{split}", target_bytes=20_000)
    return folder


def pattern(shards: Path, prefix: str) -> str:
    return f"{prefix}-{{000000..{len(list(shards.glob(f'{prefix}-*.tar'))) - 1:06d}}}.tar"


def on_shards(recipe: Recipe, shards: Path, place: str = "") -> Recipe:
    """Returns a recipe whose sources read shards, below `place` or the source's root."""
    sources = {}
    for name, source in recipe.sources.items():
        train_shards = TarShards((place + pattern(shards, f"{name}-train"),))
        validation = TarShards((place + pattern(shards, f"{name}-validation"),)) if source.validation else None
        sources[name] = dataclasses.replace(source, root=str(shards), train=train_shards, validation=validation)
    return dataclasses.replace(recipe, sources=sources)


def test_run_on_shards_equals_the_run_on_loose_files_from_a_disk_and_from_a_server(
    data: Path, shards: Path, tmp_path: Path
) -> None:
    loose = tiny_recipe(data, *TWO_STEPS)
    with serving(shards) as server:
        recipes = {"files": loose, "disk": on_shards(loose, shards), "web": on_shards(loose, shards, f"{server.url}/")}
        for name, recipe in recipes.items():
            train(recipe, tmp_path / name)
    lines = {name: step_lines(tmp_path / name) for name in recipes}
    assert len(lines["files"]) == 2
    assert lines["disk"] == lines["web"] == lines["files"]
    saved = {name: read_checkpoint(checkpoint_path(tmp_path / name, 2)) for name in recipes}
    for name in ("disk", "web"):
        assert difference(saved["files"].state, saved[name].state) == ""
        assert saved[name].facts["digests"] == saved["files"].facts["digests"]


def test_run_on_shards_goes_on_from_its_checkpoint_with_the_shards_in_another_place(
    data: Path, shards: Path, tmp_path: Path
) -> None:
    recipe = on_shards(tiny_recipe(data, *TWO_STEPS, "checkpoints.interval_steps=1"), shards)
    train(recipe, tmp_path / "run")
    with serving(shards) as server:
        elsewhere = on_shards(recipe, shards, f"{server.url}/")
        train(elsewhere, tmp_path / "again", resume=str(checkpoint_path(tmp_path / "run", 1)))
    ends = [read_checkpoint(checkpoint_path(tmp_path / name, 2)).state for name in ("run", "again")]
    assert difference(ends[0], ends[1]) == ""


def test_recipe_with_shards_survives_its_checkpoint(data: Path, shards: Path) -> None:
    recipe = on_shards(tiny_recipe(data), shards)
    plain = to_plain(recipe)
    assert from_plain(Recipe, plain, "recipe.json") == recipe
    keys = {key: meaning for key, _, meaning in describe_keys(recipe)}
    assert keys["sources.kinetics400.train.urls"].startswith("The shards: paths below the source's root, or URLs.")


def test_shards_take_the_place_of_a_list_by_an_override(data: Path, shards: Path) -> None:
    shown = pattern(shards, "kinetics400-train")
    more = [*roots(data), f"sources.kinetics400.root={shards}", f"sources.kinetics400.train.urls={shown}"]
    recipe = load_recipe(str(PUBLISHED_CONFIG), tiny_overrides(more=more))
    assert recipe.sources["kinetics400"].train == TarShards((shown,))
    with pytest.raises(UserError, match=r"kinetics400\.train\.urls=a\{2\.\.1\}: a range goes from the smaller"):
        load_recipe(str(PUBLISHED_CONFIG), tiny_overrides(more=[*more, "sources.kinetics400.train.urls=a{2..1}"]))
    with pytest.raises(UserError, match=r"sources\.kinetics400\.train\.urls: does not go together with a later one"):
        load_recipe(str(PUBLISHED_CONFIG), tiny_overrides(more=[*more, "sources.kinetics400.train.list=list.txt"]))


def test_missing_shards_are_reported_before_a_run(data: Path, shards: Path) -> None:
    recipe = on_shards(tiny_recipe(data), shards)
    require_data(recipe, ("train", "validation", "test"))
    source = dataclasses.replace(recipe.sources["imagenet"], train=TarShards(("gone-{0..1}.tar", "http://nobody/x")))
    recipe = dataclasses.replace(recipe, sources={**recipe.sources, "imagenet": source})
    with pytest.raises(UserError) as caught:
        require_data(recipe, ("train",))
    missing = [line.split() for line in str(caught.value).splitlines()[1:-1]]
    assert missing == [[f"{shards}/gone-{n}.tar", "shard,", "sources.imagenet.train.urls="] for n in (0, 1)]


def test_every_sample_of_shards_is_checked(data: Path, shards: Path, tmp_path: Path) -> None:
    report = check(on_shards(tiny_recipe(data), shards), "recipe", tmp_path / "check")
    assert [finding for finding in report.errors if "duplicate" not in finding.kind] == []
    assert {split.source for split in report.splits} == {"kinetics400", "imagenet"}
    assert sum(split.items for split in report.splits) == report.files
