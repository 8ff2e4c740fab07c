from __future__ import annotations

import dataclasses
import json
import resource
from pathlib import Path

import pytest
import safetensors.torch
import torch

from omnisource.checkpoints.file import checkpoint_path, read_checkpoint, save_checkpoint
from omnisource.cli.main import main
from omnisource.evaluation.load import load
from omnisource.models.load_weights import load_all_weights, load_initial_weights
from omnisource.models.recognizer import Recognizer
from omnisource.recipe.recipe import Recipe
from omnisource.training.train import train
from tests.support.tiny_runs import make_data, tiny_recipe


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """Returns a recipe and the last checkpoint of its run, which kept an average."""
    folder = tmp_path_factory.mktemp("checkpoints")
    recipe = tiny_recipe(make_data(folder), "sources.kinetics400.batch_size=6", "ema_decay=0.9")
    train(recipe, folder / "run")
    return recipe, checkpoint_path(folder / "run", 2)


def test_show_tells_what_a_checkpoint_holds(trained: tuple[Recipe, Path], capsys: pytest.CaptureFixture[str]) -> None:
    _, path = trained
    assert main(["checkpoint", "show", str(path)]) == 0
    shown = capsys.readouterr().out
    for words in ("verified", "2, seed 0, 1 microbatches a step", "ResNet-18, width 0.0625", "and their average"):
        assert words in shown
    assert main(["checkpoint", "show", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["step"] == 2 and found["samples_seen"] == {"kinetics400": 12, "imagenet": 14}
    assert found["label_spaces"] == {"kinetics400": 3, "imagenet": 3} and found["has_ema"]
    assert found["recipe"]["ema_decay"] == 0.9
    expected = {"versions", "processor", "threads", "decoder", "resampling", "microbatches", "digests"}
    assert expected <= set(found["facts"])
    assert found["parameters"] == sum(
        tensor.numel() for tensor in read_checkpoint(path).state["model"].values() if tensor.is_floating_point()
    )


def test_show_calls_no_other_backbone_a_resnet(
    trained: tuple[Recipe, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = read_checkpoint(trained[1])
    weights = {"backbone.embedding.weight": torch.zeros(2, 3), "heads.imagenet.weight": torch.zeros(3, 2)}
    other = dataclasses.replace(checkpoint, state={**checkpoint.state, "model": weights})
    save_checkpoint(other, tmp_path / "other.pt", keep_last=1)
    assert main(["checkpoint", "show", str(tmp_path / "other.pt")]) == 0
    shown = capsys.readouterr().out
    assert "ResNet" not in shown and "depth 18, width 0.0625, 2 tensors" in shown


@pytest.mark.parametrize("average", [False, True])
def test_exported_weights_are_those_of_the_checkpoint_and_are_used_like_it(
    trained: tuple[Recipe, Path], tmp_path: Path, average: bool
) -> None:
    recipe, path = trained
    target = tmp_path / "weights.safetensors"
    assert main(["checkpoint", "export", str(path), str(target), *(["--ema"] if average else [])]) == 0
    wanted = read_checkpoint(path).state["ema" if average else "model"]
    written = safetensors.torch.load_file(target)
    assert written.keys() == wanted.keys()
    assert all(torch.equal(written[name], wanted[name]) for name in wanted)
    loaded, original = load(target), load(path)
    assert loaded.class_names == original.class_names
    assert loaded.classifier.protocol == original.classifier.protocol
    for read in (load_initial_weights, load_all_weights):
        recognizer = Recognizer(recipe.model, recipe.label_spaces)
        assert read(recognizer, target).is_complete
        assert all(torch.equal(tensor, wanted[name]) for name, tensor in recognizer.state_dict().items())
    other = read_checkpoint(path).state["model" if average else "ema"]
    assert any(
        not torch.equal(tensor, other[name]) for name, tensor in loaded.classifier.recognizer.state_dict().items()
    )


def test_published_format_is_exported_and_read_back(trained: tuple[Recipe, Path], tmp_path: Path) -> None:
    recipe, path = trained
    target = tmp_path / "published.pth"
    assert main(["checkpoint", "export", str(path), str(target)]) == 0
    names = torch.load(target, weights_only=True)["state_dict"]
    assert {"backbone.conv1.weight", "cls_head.fc2d.4.weight", "cls_head.fc3d.2.weight"} <= names.keys()
    recognizer = Recognizer(recipe.model, recipe.label_spaces)
    assert load_all_weights(recognizer, target, "imagenet", "kinetics400").is_complete
    wanted = read_checkpoint(path).state["model"]
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in recognizer.state_dict().items())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_that_find_no_room_are_an_error_of_the_user_and_leave_nothing(
    trained: tuple[Recipe, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    _, path = trained
    target = tmp_path / f"weights{suffix}"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        assert main(["checkpoint", "export", str(path), str(target)]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"{target}: cannot be written: File too large" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_reported_and_nothing_is_overwritten(
    trained: tuple[Recipe, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, path = trained

    def refused(*arguments: str) -> str:
        assert main(["checkpoint", *arguments]) == 2
        return capsys.readouterr().err

    mine = tmp_path / "mine.safetensors"
    mine.write_text("mine")
    assert "mine.safetensors: exists already" in refused("export", str(path), str(mine))
    assert mine.read_text() == "mine"
    words = refused("export", str(path), str(tmp_path / "weights.onnx"))
    assert "must end in .safetensors (our names) or .pth (the published format)" in words
    assert "no such checkpoint" in refused("show", str(tmp_path / "none.pt"))
    damaged = tmp_path / "damaged.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    damaged.write_bytes(content)
    assert "damaged.pt: damaged: its content is not what was written" in refused("show", str(damaged))
    plain = tmp_path / "plain.pt"
    torch.save({**torch.load(path, weights_only=True), "format_version": 1}, plain)
    without = torch.load(plain, weights_only=True)
    without["state"]["ema"] = None
    torch.save(without, plain)
    assert "holds no moving average" in refused("export", str(plain), str(tmp_path / "x.pth"), "--ema")
    assert not (tmp_path / "x.pth").exists()
