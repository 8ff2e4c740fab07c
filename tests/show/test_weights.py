from __future__ import annotations

from pathlib import Path

import pytest

from omnisource.cli.main import main
from tests.evaluation.test_pretrained import tiny_file


def test_file_of_weights_is_shown_with_network_classes_and_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_file(tmp_path / "vit.safetensors")
    assert main(["show", str(tmp_path / "vit.safetensors")]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "ViT (vit): width 24, depth 2, 1 heads, patches of 8 pixels, 1 frames a token" in text
    assert "classes of classes │ 3: 0, 1, 2" in text and "mean 127.5, 127.5, 127.5; deviation 127.5" in text
    assert "views of videos │ 10 x 1 of 1x32x32, short side 37" in text and "multiply-adds of one, video" in text
    keys = "model.vit.family=vit model.vit.width=24 model.vit.depth=2 model.vit.num_heads=1 model.vit.patch=8"
    assert f"omnisource train CONFIG model.weights={tmp_path / 'vit.safetensors'} {keys}" in text
    assert "read as timm's ViTs, and MAE: vit" in text and "num_heads: assumed is 1 heads" in text


def test_backbone_without_a_classifier_is_shown_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_file(tmp_path / "vit.safetensors", classes=0)
    assert main(["show", str(tmp_path / "vit.safetensors")]) == 0
    assert "none: a backbone without a classifier" in capsys.readouterr().out
    assert main(["show", str(tmp_path / "vit.safetensors"), "--keys"]) == 2
    assert "weights have no keys; give a config, or the file alone" in capsys.readouterr().err
