"""A run goes on only as the same run: what must be equal, what may differ, and what is said of it."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

from omnisource.checkpoints.file import checkpoint_path, read_checkpoint
from omnisource.data.classes import resolve_classes
from omnisource.errors import UserError
from omnisource.recipe.recipe import Recipe
from omnisource.training.resuming.same_run import check_same_run, resume_notes, with_same_microbatches
from omnisource.training.train import train
from tests.support.tiny_runs import SAVE_EVERY_STEP, STEPS, difference, mixed_recipe, step_lines, tiny_recipe


def test_uninterrupted_run_was_not_trivial(uninterrupted: Path) -> None:
    lines = step_lines(uninterrupted)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert [line["epoch"] for line in lines] == [1, 1, 1, 2, 2, 2]
    assert all(set(line["losses"]) == {"kinetics400", "imagenet", "raw"} for line in lines)
    assert lines[0]["samples"] == {"kinetics400": 4, "imagenet": 4, "raw": 2}
    first, last = (read_checkpoint(checkpoint_path(uninterrupted, step)).state for step in (1, STEPS))
    assert all(not torch.equal(first["model"][name], last["model"][name]) for name in first["model"] if "fc" in name)
    assert last["samples_seen"] == {"kinetics400": 24, "imagenet": 24, "raw": 12}


def test_resume_from_another_recipe_lists_all_that_differs(uninterrupted: Path, data: Path, tmp_path: Path) -> None:
    other = mixed_recipe(
        data,
        *SAVE_EVERY_STEP,
        "seed=4",
        "optimizer.learning_rate=0.3",
        "sources.imagenet.training_view.crop_size=16",
        "num_workers=2",
        "validation.interval_epochs=2",
        "sources.kinetics400.test_views.num_clips=3",
    )
    with pytest.raises(UserError) as refused:
        train(other, tmp_path / "run", resume=str(checkpoint_path(uninterrupted, 2)))
    message = str(refused.value)
    assert "seed: 0 in the checkpoint, 4 now" in message
    assert "optimizer.learning_rate: 0.01 in the checkpoint, 0.3 now" in message
    assert "sources.imagenet.training_view.crop_size: 32 in the checkpoint, 16 now" in message
    for may_differ in ("num_workers", "validation.interval", "test_views"):
        assert may_differ not in message
    assert not (tmp_path / "run").exists()


def test_what_has_changed_since_the_interrupted_run_is_said_in_one_line(uninterrupted: Path) -> None:
    checkpoint = read_checkpoint(checkpoint_path(uninterrupted, 1))
    assert resume_notes(checkpoint) == []
    checkpoint.facts["versions"]["torch"] = "2.0.1"
    checkpoint.facts.update(threads=77, processor="Abacus 3000", decoder="libavcodec 4.1.0")
    (note,) = resume_notes(checkpoint)
    assert note.startswith("bit-for-bit equality with the interrupted run is not promised: torch 2.0.1 -> ")
    for changed in ("threads 77 -> ", "processor Abacus 3000 -> ", "decoder libavcodec 4.1.0 -> "):
        assert changed in note
    assert "\n" not in note


def test_resumed_run_keeps_its_microbatches_a_step(
    uninterrupted: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = dataclasses.replace(mixed_recipe(data, *SAVE_EVERY_STEP), accumulation=5)
    train(recipe, tmp_path / "run", resume=str(checkpoint_path(uninterrupted, 4)))
    assert "accumulation=2, not 5: the run goes on with 2 microbatches a step" in capsys.readouterr().out
    ours, theirs = (read_checkpoint(checkpoint_path(folder, STEPS)) for folder in (tmp_path / "run", uninterrupted))
    assert difference(ours.state, theirs.state) == ""


def test_processes_share_out_the_microbatches_of_a_run_or_are_refused_with_the_counts_that_do(
    uninterrupted: Path, data: Path
) -> None:
    path = checkpoint_path(uninterrupted, 1)
    checkpoint = read_checkpoint(path)
    checkpoint.facts["microbatches"] = 12
    recipe = mixed_recipe(data)
    for num_processes, accumulation in ((1, 12), (2, 6), (6, 2), (12, 1)):
        assert with_same_microbatches(recipe, checkpoint, path, num_processes)[0].accumulation == accumulation
    for num_processes in (5, 24):
        with pytest.raises(
            UserError, match=rf"{num_processes} processes cannot.*1 or 2 or 3 or 4 or 6 or 12 processes"
        ):
            with_same_microbatches(recipe, checkpoint, path, num_processes)


def test_resume_with_another_list_is_refused(data: Path, tmp_path: Path) -> None:
    copied = tmp_path / "data"
    shutil.copytree(data, copied)
    train(tiny_recipe(copied, "sources.kinetics400.batch_size=6"), tmp_path / "run")
    video_list = copied / "kinetics400/kinetics400_train_list_videos.txt"
    lines = video_list.read_text().splitlines()
    video_list.write_text("\n".join([lines[1], lines[0], *lines[2:]]) + "\n")
    with pytest.raises(UserError, match="list of source kinetics400 has other items, labels or another order"):
        train(tiny_recipe(copied, "sources.kinetics400.batch_size=6"), tmp_path / "run", resume="auto")


def test_resume_with_other_numbers_of_frames_is_refused(uninterrupted: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    raw_list = tmp_path / "data/raw/list.txt"
    raw_list.write_text(raw_list.read_text().replace("item2 6", "item2 5"))
    recipe = mixed_recipe(tmp_path / "data", *SAVE_EVERY_STEP)
    with pytest.raises(UserError, match=r"training list of source raw has other items, .*or other numbers of frames"):
        train(recipe, tmp_path / "run", resume=str(checkpoint_path(uninterrupted, 2)))


def test_run_whose_checkpoint_knows_no_numbers_of_frames_goes_on(uninterrupted: Path, data: Path) -> None:
    path = checkpoint_path(uninterrupted, 2)
    checkpoint = read_checkpoint(path)
    digests = checkpoint.facts["digests"]
    assert [name for name, digest in digests.items() if "+" in digest] == ["raw"]
    recipe, facts = resolve_classes(mixed_recipe(data, *SAVE_EVERY_STEP))[0], {"digests": dict(digests)}
    digests["raw"] = digests["raw"].partition("+")[0]  # as earlier versions wrote it
    check_same_run(checkpoint, path, recipe, facts)
    digests["raw"] = digests["imagenet"]
    with pytest.raises(UserError, match="training list of source raw has other items"):
        check_same_run(checkpoint, path, recipe, facts)


def test_moved_data_does_not_hinder_resuming(uninterrupted: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "moved")
    recipe: Recipe = mixed_recipe(tmp_path / "moved", *SAVE_EVERY_STEP)
    train(recipe, tmp_path / "run", resume=str(checkpoint_path(uninterrupted, STEPS - 1)))
    final = read_checkpoint(checkpoint_path(tmp_path / "run", STEPS)).state
    assert difference(final, read_checkpoint(checkpoint_path(uninterrupted, STEPS)).state) == ""
