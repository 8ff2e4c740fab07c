"""Exported programs say what the checkpoint says, wherever a checkpoint can be given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from omnisource.cli.main import main
from omnisource.errors import UserError
from omnisource.evaluation.classifier import Classifier
from omnisource.evaluation.load import load, load_recognizer
from omnisource.evaluation.protocol import protocol_of_recipe
from omnisource.evaluation.report import ReportFiles
from omnisource.evaluation.test import test as run_test
from omnisource.export.checking import compare, made_clips
from omnisource.types import Clip
from tests.support.tiny_checkpoints import save_untrained, untrained_recipe, untrained_recognizer
from tests.support.tiny_runs import make_data, tiny_recipe

PROGRAMS = ("model.onnx", "model.pt2")
CLASSES = {"kinetics400": ["0", "1", "2"], "imagenet": ["0", "1", "2"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature, a checkpoint, and the programs that the command makes of it."""
    folder = tmp_path_factory.mktemp("exported")
    make_data(folder)
    save_untrained(untrained_recipe(), untrained_recognizer(untrained_recipe()), folder / "own.pt", CLASSES)
    for name in PROGRAMS:
        assert main(["export", str(folder / "own.pt"), str(folder / name)]) == 0
    return folder


def predicted(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    media = [str(folder / "data/imagenet/train/n01440764"), str(folder / "data/kinetics400/videos_val/moving left")]
    capsys.readouterr()
    assert main(["predict", str(folder / name), *media, "--json", "--workers", "0"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_predict_and_test_as_their_checkpoint(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    expected, found = predicted(folder, "own.pt", capsys), predicted(folder, name, capsys)
    assert [(line["path"], line["label_space"]) for line in found] == [
        (line["path"], line["label_space"]) for line in expected
    ]
    for ours, theirs in zip(found, expected, strict=True):
        assert {one["class"]: one["score"] for one in ours["top"]} == pytest.approx(
            {one["class"]: one["score"] for one in theirs["top"]}, abs=1e-4
        )
    recipe = tiny_recipe(folder / "data")
    by_file = {file: run_test(recipe, str(folder / file), ReportFiles(tmp_path / file)) for file in ("own.pt", name)}
    for source, evaluation in by_file["own.pt"].items():
        torch.testing.assert_close(by_file[name][source].scores, evaluation.scores, atol=1e-4, rtol=0)
        assert by_file[name][source].keys == evaluation.keys
    other = tiny_recipe(folder / "data", "label_spaces.kinetics400.num_classes=4")
    with pytest.raises(UserError, match=f"{name}: has 3 classes of kinetics400, and source kinetics400 .* 4"):
        run_test(other, str(folder / name), ReportFiles(tmp_path / "other"))


def test_onnx_file_is_used_without_us(folder: Path) -> None:
    content = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(content)
    assert "BatchNormalization" not in {node.op_type for node in content.graph.node}
    assert str(Path(__file__).parents[2]) not in str(content)  # where we lie is nobody's business
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    described = json.loads(session.get_modelmeta().custom_metadata_map["omnisource"])
    assert described["class_names"] == CLASSES and described["by_media"]["video"]["views"]["num_crops"] == 3
    images = np.random.default_rng(0).integers(256, size=(5, 3, 70, 45), dtype=np.uint8)
    (scores,) = session.run(["image_scores.imagenet"], {"images": images})
    recognizer = load_recognizer(folder / "own.pt")
    expected = recognizer.image_logits(torch.from_numpy(images)).softmax(dim=1)
    torch.testing.assert_close(torch.from_numpy(scores), expected.detach(), atol=1e-4, rtol=0)
    assert session.run(["video_scores.kinetics400"], {"images": images})[0].shape == (0, 3)


@pytest.mark.parametrize("name", PROGRAMS)
def test_damaged_programs_are_refused(
    folder: Path, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (folder / name).read_bytes()
    image = next((folder / "data/imagenet/train").rglob("*.JPEG"))
    bad = tmp_path / name
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 4
    contents = (whole[: len(whole) // 2], whole[:-40], whole[:-5], whole[:7], b"", bytes(flipped), b"<html>" * 999)
    for content in contents:
        bad.write_bytes(content)
        assert main(["predict", str(bad), str(image)]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: {bad}: ") and len(said.splitlines()) == 1
    assert main(["predict", str(tmp_path / "none.onnx"), str(image)]) == 2
    assert "none.onnx: no such file" in capsys.readouterr().err


def test_only_one_media_is_exported_and_weights_of_8_bits(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = folder / "data/kinetics400/videos_val/moving left"
    arguments = ["export", str(folder / "own.pt"), str(tmp_path / "small.onnx"), "--media", "video"]
    assert main([*arguments, "--int8", "--clips", str(videos)]) == 0
    assert "same top-1 2 of 2, on 2 videos" in capsys.readouterr().out
    content = onnx.load(tmp_path / "small.onnx")
    assert "ConvInteger" in {node.op_type for node in content.graph.node}
    assert [one.name for one in content.graph.input] == ["videos"] and not content.graph.value_info
    description = load(tmp_path / "small.onnx").classifier.recognizer.description  # type: ignore[union-attr]
    assert description.is_quantized and list(description.label_spaces) == ["kinetics400"]
    image = next((folder / "data/imagenet/train").rglob("*.JPEG"))
    assert main(["predict", str(tmp_path / "small.onnx"), str(image)]) == 2
    assert "not trained on images, but on videos" in capsys.readouterr().err


def test_program_that_says_something_else_is_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recognizer = untrained_recognizer(untrained_recipe())
    recognizer.heads["imagenet"].fc.weight.data.fill_(3e38)  # whose products are infinite
    save_untrained(untrained_recipe(), recognizer, tmp_path / "nan.pt")
    target = tmp_path / "out/nan.pt2"
    assert main(["export", str(tmp_path / "nan.pt"), str(target), "--media", "image"]) == 2
    assert f"{target}: not written, since the exported program differs" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["nan.pt"]


def test_difference_of_two_recognizers_is_measured() -> None:
    recipe = untrained_recipe()
    recognizer = untrained_recognizer(recipe)
    protocol = protocol_of_recipe(recipe)
    ours, other = Classifier(recognizer, protocol), untrained_recognizer(recipe)
    other.heads["imagenet"].fc.bias.data += torch.tensor([0.0, 9.0, 0.0])
    comparison = compare(ours, Classifier(other, protocol), made_clips(protocol), are_made=True)
    assert not comparison.agrees and comparison.largest > 0.5
    assert (comparison.num_compared, comparison.num_same) == (8, 4)
    assert compare(ours, ours, made_clips(protocol), are_made=True).agrees


def test_mistakes_are_refused_before_anything_is_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, mine = str(folder / "own.pt"), tmp_path / "mine.onnx"
    mine.write_text("mine")

    def refused(*arguments: str) -> str:
        assert main(["export", *arguments]) == 2
        return capsys.readouterr().err

    assert "mine.onnx: exists already" in refused(own, str(mine))
    assert mine.read_text() == "mine"
    out = str(tmp_path / "out.pt2")
    assert "must end in .onnx for onnx\n" in refused(own, out, "--format", "onnx")
    assert ".onnx for onnx, .pt2 for torch, .safetensors for" in refused(own, str(tmp_path / "out.bin"))
    assert "model.onnx: was exported already; give the checkpoint" in refused(str(folder / "model.onnx"), out)
    assert "--int8 is for ONNX files" in refused(own, out, "--int8")
    assert "for programs" in refused(own, str(tmp_path / "o.safetensors"), "--media", "image")
    assert "holds no moving average" in refused(own, out, "--ema")
    assert "no such file or folder" in refused(own, out, "--clips", str(tmp_path / "gone.mp4"))
    image = next((folder / "data/imagenet/train").rglob("*.JPEG"))
    assert "there is no video among them" in refused(own, out, "--clips", str(image))
    assert "no such" in refused(str(tmp_path / "none.pt"), out)
    with pytest.raises(UserError, match="a program, and no weights"):
        load_recognizer(folder / "model.pt2")
    assert main(["predict", str(folder / "model.pt2"), str(image), "--precision", "float64"]) == 2
    assert "was exported in float32" in capsys.readouterr().err
    assert main(["predict", str(folder / "model.pt2"), str(image), "--ema"]) == 2
    assert "export the checkpoint with --ema" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.onnx"]


def test_weights_are_exported_by_the_same_command(folder: Path, tmp_path: Path) -> None:
    assert main(["export", str(folder / "own.pt"), str(tmp_path / "w.safetensors")]) == 0
    loaded = load(tmp_path / "w.safetensors")
    views = torch.randint(256, (1, 3, 2, 32, 32), dtype=torch.uint8)
    ours, theirs = (one.classifier.scores([Clip(views, 0, "x", "video")]) for one in (loaded, load(folder / "own.pt")))
    assert torch.equal(ours["kinetics400"], theirs["kinetics400"])
