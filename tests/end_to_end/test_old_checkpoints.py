"""Checkpoints of every form that was ever written load, go on and predict.

tests/reference/checkpoints has one of each form, after 2 of the 4 steps of the run that `config.py` beside them
describes. Whoever changes what a checkpoint holds adds one more: the form that was written until then stays.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from omnisource import Recipe, load_config
from omnisource.checkpoints.file import checkpoint_path, read_checkpoint
from omnisource.cli.main import main
from tests.conftest import PROJECT
from tests.support.media import moving_square, write_image, write_video
from tests.support.tiny_runs import step_lines

FOLDER = PROJECT / "tests/reference/checkpoints"
FORMS = sorted(FOLDER.glob("*.pt"))

LOSSES = {"videos": 0.5745445489883423, "images": 0.7469843626022339}
"""Losses of step 3, as every version gave them that wrote one of these checkpoints."""


def make_data(folder: Path) -> None:
    """Writes the data of the run: 4 videos and 4 images, coded without loss so that their pixels never change."""
    for number, name in enumerate(["round", "square"] * 2):
        path = folder / "images" / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, moving_square(2, 24, 32, seed=number)[0])
    (folder / "videos").mkdir()
    for number in range(4):
        frames = moving_square(6, 24, 32, "right" if number % 2 else "down", seed=number)
        write_video(folder / f"videos/{number}.mkv", frames, codec="ffv1")
    (folder / "videos/train.txt").write_text("".join(f"{number}.mkv {number % 2}\n" for number in range(4)))
    (folder / "videos/classes.txt").write_text("down\nright\n")


@pytest.fixture
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the checkpoint of a form, in its place in a work dir beside the data of its run."""
    monkeypatch.chdir(tmp_path)
    make_data(tmp_path / "data")
    path = checkpoint_path(tmp_path / "run", 2)
    path.parent.mkdir(parents=True)
    shutil.copyfile(request.param, path)
    return path


def test_there_is_a_checkpoint_of_every_form() -> None:
    assert [path.stem for path in FORMS] == ["format_1", "format_2", "format_3"]


@pytest.mark.parametrize("checkpoint", FORMS, ids=lambda path: path.stem, indirect=True)
def test_run_of_an_old_checkpoint_goes_on_as_the_same_run(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(FOLDER / "config.py"), "--work-dir", "run", "--resume", "auto"]) == 0
    output = capsys.readouterr().out
    assert "continuing from run/checkpoints/step_000000002.pt" in output
    for key in ("model.image_statistics=False, not True", "recompute_batch_norm=never, not if_short"):
        assert f"{key}: the run goes on as it began" in output
    lines = step_lines(Path("run"))
    assert [line["step"] for line in lines] == [3, 4]
    assert lines[0]["losses"] == pytest.approx(LOSSES, rel=1e-4)  # sums come out a little differently elsewhere
    state = read_checkpoint(checkpoint_path(Path("run"), 4)).state
    assert state["samples_seen"] == {"videos": 8, "images": 8}
    assert not any("image_running" in name for name in state["model"]) and state["running_statistics"] is None
    assert main(["train", str(FOLDER / "config.py"), "--work-dir", "run", "--resume", "auto"]) == 0  # a third life, too
    assert "the run is complete already" in capsys.readouterr().out


@pytest.mark.parametrize("checkpoint", FORMS, ids=lambda path: path.stem, indirect=True)
def test_old_checkpoint_predicts_classes_by_their_names(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(checkpoint), "data/videos/0.mkv", "data/images/round/0.png", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    classes = {(line["media"], line["label_space"]): {top["class"] for top in line["top"]} for line in found}
    assert classes["video", "actions"] == {"down", "right"}
    assert classes["image", "things"] == {"round", "square"}


@pytest.mark.parametrize("checkpoint", FORMS, ids=lambda path: path.stem, indirect=True)
def test_old_checkpoint_starts_another_run_and_is_exported(checkpoint: Path) -> None:
    config = str(FOLDER / "config.py")
    assert main(["train", config, f"model.weights={checkpoint}", "seed=3", "--work-dir", "other"]) == 0
    assert main(["checkpoint", "export", str(checkpoint), "weights.safetensors"]) == 0
    assert main(["predict", "weights.safetensors", "data/videos/0.mkv"]) == 0
    assert main(["test", config, str(checkpoint), "--work-dir", "tested"]) == 0  # in a model with image statistics


def test_config_of_the_old_checkpoints_is_a_recipe_of_today() -> None:
    assert load_config(str(FOLDER / "config.py"), Recipe).num_epochs == 2
