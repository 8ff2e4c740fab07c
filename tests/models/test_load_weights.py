from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from omnisource.errors import UserError
from omnisource.models.load_weights import load_all_weights, load_initial_weights, load_into
from omnisource.models.recognizer import Recognizer
from omnisource.models.weights.published import to_published
from omnisource.models.weights.report import Mismatch
from tests.support.weights import image_resnet, perturbed, snapshot

MakeRecognizer = Callable[..., Recognizer]


@pytest.mark.parametrize(
    ("given", "wanted", "difference"),
    [
        (
            (18, 0.125),
            (34, 0.125),
            r"depth 18 in the file, 34 in the model(.|\n)*backbone\.layer1\.2: only in the model",
        ),
        (
            (34, 0.125),
            (18, 0.125),
            r"depth 34 in the file, 18 in the model(.|\n)*backbone\.layer1\.2: only in the file",
        ),
        ((34, 0.125), (50, 0.125), r"layer1\.0\.conv1\.weight: \[8, 8, 1, 3, 3\] in the file, \[8, 8, 1, 1, 1\] in"),
        ((18, 0.25), (18, 0.125), r"backbone\.conv1\.weight: \[16, 3, 1, 7, 7\] in the file, \[8, 3, 1, 7, 7\] in"),
        (
            (18, 0.25),
            (18, 0.125),
            r"sizes \(width 0\.25 in the file, 0\.125 in the model\); set model\.width=0\.25, or",
        ),
        (
            (18, 0.25),
            (34, 0.125),
            r"\(depth 18 in the file, 34 in the model; width 0\.25 in the file, 0\.125 in the model\); "
            r"set model\.depth=18 model\.width=0\.25, or take other weights",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["own", "published", "image"])
def test_backbone_of_other_sizes_is_refused_with_what_differs(
    make_recognizer: MakeRecognizer,
    tmp_path: Path,
    kind: str,
    given: tuple[int, float],
    wanted: tuple[int, float],
    difference: str,
) -> None:
    if kind == "image" and given[0] != 18:
        difference = difference.replace(r"1, 3, 3\] in the file", r"\d, \d.* in the file")
    source, target = make_recognizer(*given), make_recognizer(*wanted)
    contents = {
        "own": {"format": "omnisource-checkpoint", "model": source.state_dict()},
        "published": {"state_dict": to_published(source.state_dict(), "photos", "actions")},
        "image": image_resnet(source),
    }
    path = tmp_path / "other.pth"
    torch.save(contents[kind], path)
    before = snapshot(target)
    with pytest.raises(UserError, match=difference) as refusal:
        load_initial_weights(target, path, "photos", "actions")
    assert str(path) in str(refusal.value) and str(refusal.value).count("\n") < 20
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


def test_run_can_start_from_a_checkpoint_with_new_heads(make_recognizer: MakeRecognizer, tmp_path: Path) -> None:
    source = perturbed(make_recognizer(image_classes=3, video_classes=4))
    path = tmp_path / "own.pth"
    torch.save({"format": "omnisource-checkpoint", "model": source.state_dict(), "step": 12}, path)
    target = make_recognizer(image_classes=3, video_classes=6)
    before = snapshot(target)
    report = load_initial_weights(target, path)
    kept = {mismatch.name for mismatch in report.mismatched}
    assert kept == {name for name in before if name.startswith("heads.actions.")} - {
        "heads.actions.bn.num_batches_tracked"
    }
    assert Mismatch("heads.actions.fc2.weight", (4, 8), (6, 12)) in report.mismatched
    assert "heads.actions.fc2.weight: [4, 8] in the file, [6, 12] in the model" in report.describe()
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, before[name] if name in kept else source.state_dict()[name]), name


def test_strict_loading_refuses_and_names_all_that_does_not_fit(
    make_recognizer: MakeRecognizer, tmp_path: Path
) -> None:
    state = perturbed(make_recognizer()).state_dict()
    del state["heads.photos.fc.bias"]
    state["heads.actions.fc2.bias"] = torch.zeros(9)
    state["heads.extra.fc.bias"] = torch.zeros(2)
    path = tmp_path / "own.pth"
    torch.save({"format": "omnisource-checkpoint", "model": state}, path)
    target = make_recognizer()
    before = snapshot(target)
    with pytest.raises(UserError) as refusal:
        load_all_weights(target, path)
    for part in (
        "own.pth",
        "heads.photos.fc.bias",
        "heads.actions.fc2.bias: [9] in the file, [4]",
        "heads.extra.fc.bias",
    ):
        assert part in str(refusal.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


def test_report_stays_on_one_screen_and_names_the_heads_first(make_recognizer: MakeRecognizer) -> None:
    stem = {
        "backbone.conv1.weight": torch.zeros(8, 3, 1, 7, 7),
        **{f"other.{i}.weight": torch.zeros(1) for i in range(99)},
    }
    text = load_into(make_recognizer(50), stem, origin="stem.pth").describe()
    assert len(text.splitlines()) < 24
    assert "heads.photos.fc.{weight, bias}" in text and "heads.actions.fc2.{weight, bias}" in text
    assert "not in the file, left as they were (333):" in text
    assert "in the file, but not in the model (99):" in text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "holds nothing"),
        ({"epoch": 3, "lr": 0.1}, "holds epoch, lr"),
        ({"encoder.weight": torch.zeros(2)}, r"holds encoder\.weight"),
        ({"format": "omnisource-checkpoint"}, "holds format"),
        ({"state_dict": {"backbone.conv1.weight": "nothing"}}, r"holds backbone\.conv1\.weight"),
    ],
)
def test_files_of_no_known_kind_are_refused(
    make_recognizer: MakeRecognizer, tmp_path: Path, content: dict[str, object], reason: str
) -> None:
    path = tmp_path / "strange.pth"
    torch.save(content, path)
    for load in (load_initial_weights, load_all_weights):
        with pytest.raises(UserError, match=rf"strange\.pth: not weights of a known kind: it {reason}"):
            load(make_recognizer(), path)


def test_weights_are_cast_to_the_type_of_the_model(make_recognizer: MakeRecognizer, tmp_path: Path) -> None:
    source = perturbed(make_recognizer())
    path = tmp_path / "own.pth"
    torch.save({"format": "omnisource-checkpoint", "model": source.state_dict()}, path)
    target = make_recognizer().double()
    assert load_all_weights(target, path).is_complete
    assert target.backbone.conv1.weight.dtype == torch.float64
    assert torch.equal(target.backbone.conv1.weight.float(), source.backbone.conv1.weight)
