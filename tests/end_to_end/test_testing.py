from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from omnisource import Recipe, Recognizer
from omnisource.checkpoints.file import checkpoint_path, read_checkpoint, save_checkpoint
from omnisource.cli.arguments import load_recipe
from omnisource.cli.main import main
from omnisource.cli.mmaction2 import test_main as run_test_command
from omnisource.data.classes import resolve_classes
from omnisource.data.datasets import read_split
from omnisource.data.loading.unreadable import UnreadableLog
from omnisource.data.loading.workers import WorkerPool
from omnisource.errors import UserError
from omnisource.evaluation import test
from omnisource.evaluation.classifier import Scored
from omnisource.evaluation.evaluate import EvaluationTask, evaluate
from omnisource.evaluation.load import load
from omnisource.evaluation.report import ReportFiles
from omnisource.evaluation.results.predictions import read_predictions
from omnisource.models.backbones.slow_only import slow_only
from omnisource.models.weights.published import to_published
from omnisource.training.train import train
from tests.support.media import truncate
from tests.support.miniature import OWN_DATA_CONFIG, make_class_folders, own_data_overrides


@dataclasses.dataclass(frozen=True)
class Trained:
    """A recipe of videos and images with a split to test each on, and a checkpoint of it."""

    folder: Path
    recipe: Recipe
    overrides: list[str]
    checkpoint: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("tested")
    make_class_folders(folder)
    overrides = [
        *own_data_overrides(),
        *(f"sources.{kind}.root={folder / 'my_data' / kind}" for kind in ("videos", "images")),
        "sources.videos.batch_size=6",
        "validation.interval_epochs=0",
    ]
    recipe = load_recipe(str(OWN_DATA_CONFIG), overrides)
    train(recipe, folder / "run")
    return Trained(folder, recipe, overrides, checkpoint_path(folder / "run", 2))


def test_every_source_gets_its_scores_and_its_report(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dump = tmp_path / "dumped/scores.pkl"
    options = ["--work-dir", str(tmp_path / "report"), "--dump", str(dump), "--cfg-options", *trained.overrides]
    assert run_test_command([str(OWN_DATA_CONFIG), str(trained.checkpoint), *options]) == 0
    output = capsys.readouterr().out
    for source, path in (("videos", dump), ("images", dump.with_name("scores.images.pkl"))):
        results = pickle.loads(path.read_bytes())
        metrics = json.loads((tmp_path / "report" / source / "metrics.json").read_text())
        right = sum(int(entry["pred_label"]) == int(entry["gt_label"]) for entry in results)
        assert len(results) == metrics["count"] == 6
        assert metrics["top1"] == pytest.approx(right / 6)
        assert [int(entry["gt_label"]) for entry in results] == [0, 0, 1, 1, 2, 2]
        assert (tmp_path / "report" / source / "per_class.csv").is_file()
        assert (tmp_path / "report" / source / "confusion.png").is_file()
        assert f"scores of {source}: {path}" in output
        assert f"test of {source}" in output
    names = (tmp_path / "report/videos/per_class.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in names[1:]] == ["moving down", "moving left", "moving right"]


def test_results_are_written_though_nothing_can_be_printed(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--work-dir", str(tmp_path / "report"), "--dump", str(tmp_path / "scores.pkl"), *trained.overrides]
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert main(["test", str(OWN_DATA_CONFIG), str(trained.checkpoint), *options]) == 2
        monkeypatch.undo()
    assert "error: standard output: No space left on device" in capsys.readouterr().err
    for source, scores in (("videos", "scores.pkl"), ("images", "scores.images.pkl")):
        assert len(pickle.loads((tmp_path / scores).read_bytes())) == 6
        assert {path.name for path in (tmp_path / "report" / source).iterdir()} == {
            "metrics.json",
            "per_class.csv",
            "confusion.png",
            "predictions.jsonl",
            "thumbnails.zip",
        }


def test_report_lies_beside_the_checkpoint_by_default_and_is_the_same_again(trained: Trained) -> None:
    command = [str(OWN_DATA_CONFIG), str(trained.checkpoint), "--cfg-options", *trained.overrides, "num_workers=1"]
    assert run_test_command(command) == 0
    folder = trained.checkpoint.parent / "test"
    first = (folder / "images/metrics.json").read_bytes()
    assert run_test_command([*command, "num_workers=0"]) == 0
    assert (folder / "images/metrics.json").read_bytes() == first


@pytest.mark.parametrize(("interval", "pages"), [(1, 1), (3, 1)])
def test_pictures_show_what_was_predicted(trained: Trained, tmp_path: Path, interval: int, pages: int) -> None:
    options = ["--work-dir", str(tmp_path / "report"), "--show-dir", str(tmp_path / "pictures")]
    command = [str(OWN_DATA_CONFIG), str(trained.checkpoint), *options, "--interval", str(interval)]
    assert run_test_command([*command, "--cfg-options", *trained.overrides]) == 0
    for source in ("videos", "images"):
        sheets = sorted((tmp_path / "pictures" / source).iterdir())
        assert [path.name for path in sheets] == [f"predictions_{page:03d}.png" for page in range(1, pages + 1)]
        assert sheets[0].read_bytes().startswith(b"\x89PNG")


def test_checkpoint_is_read_once(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    load = torch.load

    def note(file: Any, **options: Any) -> Any:
        read.append(file)
        return load(file, **options)

    monkeypatch.setattr(torch, "load", note)
    test.test(trained.recipe, str(trained.checkpoint), ReportFiles(tmp_path / "report"))
    assert len(read) == 1


def test_published_checkpoint_is_tested_with_the_same_recipe(trained: Trained, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Recognizer(trained.recipe.model, resolve_classes(trained.recipe)[0].label_spaces)
    state = to_published(model.state_dict(), "image_classes", "video_classes")
    torch.save({"meta": {}, "state_dict": state}, tmp_path / "published.pth")
    evaluations = test.test(trained.recipe, str(tmp_path / "published.pth"), ReportFiles(tmp_path / "report"))
    assert set(evaluations) == {"videos", "images"}
    assert all(len(evaluation.scores) == 6 for evaluation in evaluations.values())


def test_backbone_of_the_users_own_is_tested(trained: Trained, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(trained.checkpoint)
    resolved, _ = resolve_classes(trained.recipe)
    other = Recognizer(resolved.model, resolved.label_spaces, backbone=slow_only(34, resolved.model.width))
    path = tmp_path / "other.pt"
    save_checkpoint(dataclasses.replace(checkpoint, state={"model": other.state_dict()}), path, keep_last=1)
    with pytest.raises(UserError, match="does not fit the model"):
        test.test(trained.recipe, str(path), ReportFiles(tmp_path / "report"))
    evaluations = test.test(
        trained.recipe,
        str(path),
        ReportFiles(tmp_path / "report"),
        build_backbone=lambda model: slow_only(34, model.width),
    )
    assert all(len(evaluation.scores) == 6 for evaluation in evaluations.values())


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_validation_test_and_prediction_of_a_checkpoint_have_the_same_scores(
    trained: Trained, tmp_path: Path, precision: str
) -> None:
    same_views = ("sources.videos.test_views.num_clips=1", "sources.videos.test_views.num_crops=1")
    recipe = load_recipe(str(OWN_DATA_CONFIG), [*trained.overrides, *same_views, f"precision={precision}"])
    state = train(recipe, tmp_path / "run")
    path = checkpoint_path(tmp_path / "run", state.step)
    tested = test.test(recipe, str(path), ReportFiles(tmp_path / "report"))
    classifier = load(path).classifier
    recipe, names = resolve_classes(recipe)
    for name, source in recipe.sources.items():
        items = read_split(recipe, names, name, "validation")
        assert items is not None
        requests = (classifier.protocol.request(items[index].path, source.media) for index in range(len(items)))
        with WorkerPool(0, 60) as workers:
            validated = evaluate(
                state.model, EvaluationTask(recipe, name, "validation", items), workers, UnreadableLog(0)
            )
            results = [result for _, result in classifier.classify(requests, workers)]
        assert torch.equal(tested[name].scores, validated.scores)
        predicted = [result.scores[source.label_space] for result in results if isinstance(result, Scored)]
        assert torch.equal(torch.stack(predicted), validated.scores)


def test_checkpoint_of_other_sizes_is_refused_before_any_file_is_read(trained: Trained, tmp_path: Path) -> None:
    other = load_recipe(str(OWN_DATA_CONFIG), [*trained.overrides, "model.width=0.125"])
    with pytest.raises(UserError) as refused:
        test.test(other, str(trained.checkpoint), ReportFiles(tmp_path))
    assert "does not fit the model, so nothing was loaded" in str(refused.value)
    assert "backbone.conv1.weight: [4, 3, 1, 7, 7] in the file, [8, 3, 1, 7, 7] in the model" in str(refused.value)


def test_other_classes_than_those_of_the_training_are_refused(trained: Trained, tmp_path: Path) -> None:
    make_class_folders(tmp_path)
    for split in ("train", "validation"):  # sorts before the others: all labels would be shifted
        folder = tmp_path / "my_data/videos" / split
        (folder / "moving right").rename(folder / "moving away")
    overrides = [*trained.overrides, f"sources.videos.root={tmp_path / 'my_data/videos'}"]
    with pytest.raises(UserError) as refused:
        test.test(
            load_recipe(str(OWN_DATA_CONFIG), overrides), str(trained.checkpoint), ReportFiles(tmp_path / "report")
        )
    assert "was trained on other classes of video_classes" in str(refused.value)
    assert "class 0 is 'moving down' in the checkpoint, 'moving away' here" in str(refused.value)


def test_files_that_are_no_checkpoint_are_refused(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "cut.pt").write_bytes(trained.checkpoint.read_bytes()[:50_000])
    with pytest.raises(UserError, match=r"cut\.pt: truncated"):
        test.test(trained.recipe, str(tmp_path / "cut.pt"), ReportFiles(tmp_path / "report"))
    with pytest.raises(UserError, match=r"none\.pt: there is no such file"):
        test.test(trained.recipe, str(tmp_path / "none.pt"), ReportFiles(tmp_path / "report"))


def test_place_that_cannot_be_written_to_is_refused_before_the_test(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for dump, show_dir in ((tmp_path / "file/result.pkl", None), (None, tmp_path / "file/pictures")):
        with pytest.raises(UserError, match=r"file.*: the folder cannot be made"):
            test.test(trained.recipe, str(trained.checkpoint), ReportFiles(tmp_path / "report", dump, show_dir))
    assert not list((tmp_path / "report").iterdir())


def test_permitted_unreadable_files_are_reported_and_left_out(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_class_folders(tmp_path)
    image = sorted((tmp_path / "my_data/images/validation/n01443537").iterdir())[0]
    truncate(image, 0.2)
    overrides = [*trained.overrides, f"sources.images.root={tmp_path / 'my_data/images'}"]
    options = ["--work-dir", str(tmp_path / "report"), "--cfg-options", *overrides]
    command = [str(OWN_DATA_CONFIG), str(trained.checkpoint), *options]
    assert run_test_command(command) == 2
    assert str(image) in capsys.readouterr().err
    assert run_test_command([*command, "max_unreadable=1"]) == 0
    assert f"left out, unreadable: {image}" in capsys.readouterr().out
    assert json.loads((tmp_path / "report/images/metrics.json").read_text())["count"] == 5


@pytest.fixture(scope="module")
def averaged(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a checkpoint of the same run with a moving average, whose image head says class 2 of everything."""
    folder = tmp_path_factory.mktemp("averaged")
    train(load_recipe(str(OWN_DATA_CONFIG), [*trained.overrides, "ema_decay=0.9"]), folder / "run")
    path = checkpoint_path(folder / "run", 2)
    checkpoint = read_checkpoint(path)
    for part, chosen in (("model", 0), ("ema", 2)):
        bias = checkpoint.state[part]["heads.image_classes.fc.bias"]
        bias.copy_(torch.nn.functional.one_hot(torch.tensor(chosen), 3) * 1000.0)
    save_checkpoint(checkpoint, path, keep_last=1)
    return path


@pytest.mark.parametrize(("flags", "chosen"), [([], 0), (["--ema"], 2)])
def test_average_is_tested_where_it_is_asked_for_and_the_report_says_so(
    trained: Trained,
    averaged: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    chosen: int,
) -> None:
    options = ["--work-dir", str(tmp_path / "ours"), "--dump", str(tmp_path / "ours.pkl"), *flags]
    assert main(["test", str(OWN_DATA_CONFIG), str(averaged), *options, *trained.overrides]) == 0
    words = f"tested: {'the moving average of the weights in ' if flags else ''}{averaged}\n"
    assert words in capsys.readouterr().out
    options = ["--work-dir", str(tmp_path / "theirs"), "--dump", str(tmp_path / "theirs.pkl"), *flags]
    assert run_test_command([str(OWN_DATA_CONFIG), str(averaged), *options, "--cfg-options", *trained.overrides]) == 0
    for name in ("ours", "theirs"):
        entries = pickle.loads((tmp_path / f"{name}.images.pkl").read_bytes())
        assert {int(entry["pred_label"]) for entry in entries} == {chosen}
        metrics = json.loads((tmp_path / name / "images/metrics.json").read_text())
        assert (metrics["checkpoint"], metrics["ema"]) == (str(averaged), bool(flags))
        page = (tmp_path / name / "report.html").read_text()
        items = [row.index for row in read_predictions(tmp_path / name / "images/predictions.jsonl").rows]
        assert items == list(range(6)) and page.count("<img ") >= 12, "each item of both sources has a picture"
        assert ("their moving average" in page) == bool(flags) and str(averaged) in page


def test_average_is_used_to_predict_where_it_is_asked_for(
    trained: Trained, averaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(sorted((trained.folder / "my_data/images/validation/n01443537").iterdir())[0])
    names = read_checkpoint(averaged).class_names["image_classes"]
    for flags, chosen in (([], 0), (["--ema"], 2)):
        assert main(["predict", str(averaged), image, "--json", *flags]) == 0
        line = json.loads(capsys.readouterr().out)
        assert (line["ema"], line["top"][0]["class"]) == (bool(flags), names[chosen])
    assert main(["predict", str(averaged), image, "--ema"]) == 0
    assert "(image_classes, moving average of the weights)" in capsys.readouterr().out


def test_checkpoint_without_an_average_is_refused_where_one_is_asked_for(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    model = Recognizer(trained.recipe.model, resolve_classes(trained.recipe)[0].label_spaces)
    published = tmp_path / "published.pth"
    torch.save(
        {"meta": {}, "state_dict": to_published(model.state_dict(), "image_classes", "video_classes")}, published
    )
    image = str(sorted((trained.folder / "my_data/images/validation/n01443537").iterdir())[0])
    for path in (trained.checkpoint, published):
        words = f"error: {path}: holds no moving average of the weights"
        options = [*trained.overrides, "--work-dir", str(tmp_path / "report"), "--ema"]
        assert main(["test", str(OWN_DATA_CONFIG), str(path), *options]) == 2
        assert words in capsys.readouterr().err
        assert main(["predict", str(path), image, "--ema"]) == 2
        assert words in capsys.readouterr().err
    assert not list((tmp_path / "report").rglob("metrics.json"))


def test_damaged_checkpoint_is_not_tested(trained: Trained, tmp_path: Path) -> None:
    content = bytearray(trained.checkpoint.read_bytes())
    content[len(content) // 2] ^= 1  # in the middle of a tensor: nothing but the digest tells
    (tmp_path / "damaged.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"damaged\.pt: damaged: its content is not what was written"):
        test.test(trained.recipe, str(tmp_path / "damaged.pt"), ReportFiles(tmp_path / "report"))
    begun = load_recipe(str(OWN_DATA_CONFIG), [*trained.overrides, f"model.weights={tmp_path / 'damaged.pt'}"])
    with pytest.raises(UserError, match=r"damaged\.pt: damaged: its content is not what was written"):
        train(begun, tmp_path / "run")
