from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest
import torch

from omnisource.checkpoints.file import best_path, checkpoint_path, read_checkpoint, saved_checkpoints
from omnisource.cli.mmaction2 import train_main
from tests.support.miniature import PUBLISHED_CONFIG, make_published_layout, tiny_overrides
from tests.support.tiny_runs import PROJECT, lines_of, roots, run_python, step_lines, validation_lines

TWO_STEPS = "sources.kinetics400.batch_size=6"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder in which the published config was trained, its data where the config looks for it."""
    folder = tmp_path_factory.mktemp("published")
    make_published_layout(folder)
    options = ["--seed=0", "--deterministic", "--work-dir", "work", "--cfg-options", *tiny_overrides(more=[TWO_STEPS])]
    result = run_python([str(PROJECT / "tools/train.py"), str(PUBLISHED_CONFIG), *options], folder)
    assert result.returncode == 0, result.stderr
    assert "the run is complete: 2 steps" in result.stdout
    assert "Traceback" not in result.stderr
    return folder


def test_published_command_trains_the_published_config_on_a_miniature(trained: Path) -> None:
    lines = step_lines(trained / "work")
    assert [line["step"] for line in lines] == [1, 2]
    assert all(set(line["losses"]) == {"kinetics400", "imagenet"} for line in lines)
    assert [line["source"] for line in validation_lines(trained / "work")] == ["kinetics400"]
    recipe = read_checkpoint(best_path(trained / "work")).recipe
    assert (recipe["seed"], recipe["deterministic"], recipe["num_epochs"]) == (0, True, 1)


def test_published_test_command_dumps_the_published_form(trained: Path) -> None:
    checkpoint = trained / "work/checkpoints/best.pt"
    options = [*tiny_overrides(), "sources.kinetics400.test_views.num_clips=2"]
    command = [str(PROJECT / "tools/test.py"), str(PUBLISHED_CONFIG), str(checkpoint)]
    result = run_python(
        [*command, "--dump", "result.pkl", "--cfg-options", *options],
        trained,
    )
    assert result.returncode == 0, result.stderr
    assert "test of kinetics400" in result.stdout
    results = pickle.loads((trained / "result.pkl").read_bytes())
    listed = [
        line.rsplit(" ", 1)
        for line in (trained / "data/kinetics400/kinetics400_val_list_videos.txt").read_text().splitlines()
    ]
    assert isinstance(results, list)
    assert [entry["key"] for entry in results] == [path for path, _ in listed]
    for entry, (_, label) in zip(results, listed, strict=True):
        assert list(entry) == ["pred_score", "pred_label", "gt_label", "num_classes", "img_shape", "key"]
        score, predicted, truth = entry["pred_score"], entry["pred_label"], entry["gt_label"]
        assert (score.dtype, score.shape) == (torch.float32, (3,))
        assert float(score.sum()) == pytest.approx(1.0, abs=1e-5)
        assert (predicted.dtype, predicted.shape, truth.dtype, truth.shape) == (torch.int64, (1,), torch.int64, (1,))
        assert int(predicted) == int(score.argmax())
        assert int(truth) == int(label)
        assert entry["num_classes"] == 3 and type(entry["num_classes"]) is int
        assert entry["img_shape"] == (32, 32)
        assert score.untyped_storage().nbytes() == 12  # not a view of all scores, which would be pickled each time


def run_train(data: Path, work_dir: Path, *flags: str, more: tuple[str, ...] = ()) -> int:
    """Runs tools/train.py's function in this process."""
    options = tiny_overrides(more=[*roots(data), TWO_STEPS, *more])
    return train_main([str(PUBLISHED_CONFIG), "--work-dir", str(work_dir), *flags, "--cfg-options", *options])


def test_auto_scale_lr_scales_to_the_real_number_of_clips(data: Path, tmp_path: Path) -> None:
    assert run_train(data, tmp_path, "--auto-scale-lr", "--no-validate", more=("accumulation=2",)) == 0
    assert step_lines(tmp_path)[0]["learning_rate"] == pytest.approx(0.01 * 12 / 128)
    assert validation_lines(tmp_path) == []
    assert not best_path(tmp_path).exists()


def test_resume_as_option_continues_where_a_killed_run_had_saved(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    steps = ("checkpoints.interval_steps=1",)
    assert run_train(data, whole, "--deterministic", more=steps) == 0
    shutil.copytree(whole, killed)
    checkpoint_path(killed, 2).unlink()
    best_path(killed).unlink()
    assert run_train(data, killed, "--deterministic", more=steps) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert run_train(data, killed, "--deterministic", more=(*steps, "resume=True")) == 0
    assert f"continuing from {checkpoint_path(killed, 1)}" in capsys.readouterr().out
    assert lines_of(killed) == lines_of(whole)
    assert len(saved_checkpoints(killed)) == 2
    before = (killed / "metrics.jsonl").read_bytes()
    assert run_train(data, killed, "--deterministic", "--resume", more=steps) == 0
    assert "the run is complete already" in capsys.readouterr().out
    assert (killed / "metrics.jsonl").read_bytes() == before


def test_amp_trains_in_bfloat16(data: Path, tmp_path: Path) -> None:
    # torch 2.13 on the CPU leaves gradients of bfloat16 Conv3d unwritten where a clip has fewer frames than the kernel
    more = ("sources.kinetics400.sampling.clip_length=4",)
    assert run_train(data, tmp_path / "amp", "--amp", more=more) == 0
    assert run_train(data, tmp_path / "plain", more=more) == 0
    amp, plain = (step_lines(tmp_path / name)[0]["total_loss"] for name in ("amp", "plain"))
    assert amp == pytest.approx(plain, rel=0.05)
    assert amp != plain
    assert read_checkpoint(best_path(tmp_path / "amp")).recipe["precision"] == "bfloat16"


def test_without_the_data_one_screen_names_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train_main([str(PUBLISHED_CONFIG)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    for name in ("videos_train", "videos_val", "kinetics400_train_list_videos.txt", "meta/train.txt", "docs/data.md"):
        assert name in captured.err
    assert len(captured.err.splitlines()) <= 24
    assert list(tmp_path.iterdir()) == []
