from __future__ import annotations

import collections
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from omnisource.errors import UserError
from omnisource.models.recognizer import Recognizer
from omnisource.models.weights.image_resnet import inflate
from omnisource.models.weights.load import load_all_weights, load_initial_weights, load_into
from omnisource.models.weights.published import HeadSize, Sizes, from_published, sizes_of, to_published
from omnisource.models.weights.report import Mismatch
from omnisource.recipe.model import LabelSpace, Model

MakeRecognizer = Callable[..., Recognizer]


def snapshot(recognizer: Recognizer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in recognizer.state_dict().items()}


def perturbed(recognizer: Recognizer, seed: int = 5) -> Recognizer:
    """Changes every tensor, so that what was loaded differs from what was there."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in recognizer.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(0.02 * torch.rand(tensor.shape, generator=generator))
        else:
            tensor.add_(seed)
    return recognizer


def image_resnet(recognizer: Recognizer, classes: int = 10) -> dict[str, Tensor]:
    """Returns a state dict in torchvision's format: the backbone with its kernels summed, and a linear layer."""
    state = {name: t.sum(dim=2) if t.ndim == 5 else t for name, t in recognizer.backbone.state_dict().items()}
    channels = recognizer.backbone.out_channels
    return {**state, "fc.weight": torch.randn(classes, channels), "fc.bias": torch.randn(classes)}


def test_two_head_resnet50_has_the_published_keys_shapes_and_types(project: Path) -> None:
    lines = (project / "tests/reference/published_resnet50.tsv").read_text().splitlines()
    with torch.device("meta"):
        spaces = {
            "kinetics400": LabelSpace("video", num_classes=400),
            "imagenet": LabelSpace("image", num_classes=1000),
        }
        recognizer = Recognizer(Model(depth=50), spaces)
    published = to_published(recognizer.state_dict(), "imagenet", "kinetics400")
    assert len(lines) == 334
    assert [f"{name}\t{list(tensor.shape)}\t{tensor.dtype}" for name, tensor in published.items()] == lines


@pytest.mark.shared_data
def test_published_table_is_the_reference_one(project: Path, shared: Path) -> None:
    reference = (shared / "reference/r50_state_dict.txt").read_text().splitlines()
    ours = (project / "tests/reference/published_resnet50.tsv").read_text().splitlines()
    assert ours == [line for line in reference if not line.startswith("#")]


def test_round_trip_to_the_published_format_and_back(make_recognizer: MakeRecognizer, tmp_path: Path) -> None:
    source, target = perturbed(make_recognizer(50)), make_recognizer(50)
    path = tmp_path / "published.pth"
    torch.save({"meta": {}, "state_dict": to_published(source.state_dict(), "photos", "actions")}, path)
    report = load_all_weights(target, path, image_head="photos", video_head="actions")
    assert report.is_complete and len(report.loaded) == len(source.state_dict())
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor), name


def test_heads_without_a_place_in_the_published_format_are_refused(make_recognizer: MakeRecognizer) -> None:
    with pytest.raises(UserError, match=r"no place for heads\.photos"):
        to_published(make_recognizer().state_dict(), None, "actions")
    with pytest.raises(UserError, match=r"no place for heads\.actions, heads\.photos"):
        to_published(make_recognizer().state_dict(), "animals", None)


def test_published_heads_go_only_where_they_are_told(make_recognizer: MakeRecognizer) -> None:
    published = to_published(make_recognizer().state_dict(), "photos", "actions")
    ours = from_published(published, None, "actions")
    assert "heads.actions.fc2.bias" in ours and "cls_head.fc2d.4.bias" in ours and "heads.photos.fc.bias" not in ours


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
@pytest.mark.parametrize("width", [0.125, 0.3, 1.0, 1.37])
def test_sizes_are_read_from_the_weights(depth: int, width: float) -> None:
    spaces = {"a": LabelSpace("image", num_classes=7), "b": LabelSpace("video", num_classes=5)}
    with torch.device("meta"):
        recognizer = Recognizer(Model(depth, width), spaces)  # pyright: ignore[reportArgumentType]
        state = recognizer.state_dict()
        sizes = sizes_of(state)
        assert (sizes.depth, sizes.heads) == (depth, {"a": HeadSize("image", 7), "b": HeadSize("video", 5)})
        rebuilt = Recognizer(Model(depth, sizes.width), spaces)  # pyright: ignore[reportArgumentType]
    assert {name: tensor.shape for name, tensor in rebuilt.state_dict().items()} == {
        name: tensor.shape for name, tensor in state.items()
    }
    assert sizes_of(to_published(state, "a", "b"), "photos", "films").heads == {
        "photos": HeadSize("image", 7),
        "films": HeadSize("video", 5),
    }


def test_width_of_whole_numbers_is_exact() -> None:
    with torch.device("meta"):
        state = Recognizer(Model(depth=18, width=0.25), {"a": LabelSpace("image", num_classes=2)}).state_dict()
    assert sizes_of(state) == Sizes(18, 0.25, {"a": HeadSize("image", 2)})


def test_sizes_of_other_weights_are_refused(make_recognizer: MakeRecognizer) -> None:
    state = dict(make_recognizer().state_dict())
    with pytest.raises(UserError, match="depth 18, 34, 50, 101 or 152"):
        sizes_of({name: tensor for name, tensor in state.items() if not name.startswith("backbone.layer4.1.")})
    with pytest.raises(UserError, match="depth 18, 34, 50, 101 or 152"):
        sizes_of({**state, "backbone.layer2.0.conv1.weight": torch.zeros(19, 8, 1, 3, 3)})
    with pytest.raises(UserError, match="depth 18, 34, 50, 101 or 152"):
        sizes_of({})


def test_inflated_kernels_sum_to_the_image_kernels(make_recognizer: MakeRecognizer) -> None:
    recognizer = make_recognizer(50)
    image = image_resnet(recognizer)
    shapes = {name: tensor.shape for name, tensor in recognizer.backbone.state_dict().items()}
    inflated = inflate(image, shapes)
    lengths = set()
    for name, tensor in inflated.items():
        if name in shapes:
            assert tensor.shape == shapes[name], name
        if tensor.ndim == 5:
            lengths.add(tensor.shape[2])
            torch.testing.assert_close(tensor.sum(dim=2), image[name], rtol=1e-6, atol=1e-7)
            assert torch.equal(tensor[:, :, 0], tensor[:, :, -1])
        else:
            assert torch.equal(tensor, image[name])
    assert lengths == {1, 3}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_inflated_in_float32(
    make_recognizer: MakeRecognizer, tmp_path: Path, dtype: torch.dtype
) -> None:
    recognizer, target = make_recognizer(), make_recognizer()
    image = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in image_resnet(recognizer).items()
    }
    load_initial_weights(target, save_pth(image, tmp_path / "half"))
    for name, tensor in target.backbone.state_dict().items():
        if tensor.ndim == 5:  # a third in half precision would be off by a thousandth
            torch.testing.assert_close(tensor.sum(dim=2), image[name].float(), rtol=1e-6, atol=1e-9)
        else:
            assert torch.equal(tensor, image[name].to(tensor.dtype)), name


def save_pth(state: dict[str, Tensor], path: Path) -> Path:
    torch.save(state, path.with_suffix(".pth"))
    return path.with_suffix(".pth")


def save_old_pth(state: dict[str, Tensor], path: Path) -> Path:
    ordered = collections.OrderedDict(state)
    torch.save(ordered, path.with_suffix(".pth"), _use_new_zipfile_serialization=False)
    return path.with_suffix(".pth")


def save_wrapped_pth(state: dict[str, Tensor], path: Path) -> Path:
    wrapped = {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}
    torch.save(wrapped, path.with_suffix(".pth.tar"))
    return path.with_suffix(".pth.tar")


def save_safetensors(state: dict[str, Tensor], path: Path) -> Path:
    contiguous = {name: tensor.contiguous() for name, tensor in state.items()}
    safetensors.torch.save_file(contiguous, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


@pytest.mark.parametrize("save", [save_pth, save_old_pth, save_wrapped_pth, save_safetensors])
@pytest.mark.parametrize("depth", [18, 50])
def test_image_checkpoint_inflates_and_gives_the_same_image_features(
    make_recognizer: MakeRecognizer,
    tmp_path: Path,
    depth: int,
    save: Callable[[dict[str, Tensor], Path], Path],
) -> None:
    source = perturbed(make_recognizer(depth)).double().eval()
    target = make_recognizer(depth).double().eval()
    heads_before = {name: tensor for name, tensor in snapshot(target).items() if name.startswith("heads.")}
    report = load_initial_weights(target, save(image_resnet(source), tmp_path / "resnet"))
    assert set(report.loaded) == {name for name in target.state_dict() if name.startswith("backbone.")}
    assert set(report.missing) == set(heads_before)
    assert set(report.unexpected) == {"fc.weight", "fc.bias"}
    assert report.mismatched == ()
    for name, tensor in heads_before.items():
        assert torch.equal(target.state_dict()[name], tensor)
    images = torch.randint(0, 256, (2, 3, 1, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(
            target.features(images, "image"), source.features(images, "image"), rtol=1e-9, atol=0
        )


def test_missing_and_unexpected_keys_of_an_image_checkpoint_are_named(
    make_recognizer: MakeRecognizer, tmp_path: Path
) -> None:
    state = image_resnet(make_recognizer())
    del state["layer3.0.bn2.running_var"], state["bn1.num_batches_tracked"]
    state["layer1.0.se.weight"] = torch.zeros(3)
    report = load_initial_weights(make_recognizer(), save_pth(state, tmp_path / "resnet"))
    assert {"backbone.layer3.0.bn2.running_var", "backbone.bn1.num_batches_tracked"} < set(report.missing)
    assert set(report.unexpected) == {"backbone.layer1.0.se.weight", "fc.weight", "fc.bias"}
    text = report.describe()
    for name in ("layer3.0.bn2.running_var", "bn1.num_batches_tracked", "layer1.0.se.weight", "fc.{weight, bias}"):
        assert name in text
    assert f"{tmp_path / 'resnet.pth'}: 118 of the model's 136 tensors loaded" in text


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


def test_published_checkpoint_starts_a_run_with_other_heads(make_recognizer: MakeRecognizer, tmp_path: Path) -> None:
    path = tmp_path / "published.pth"
    torch.save({"state_dict": to_published(make_recognizer().state_dict(), "photos", "actions"), "meta": {}}, path)
    report = load_initial_weights(make_recognizer(), path, image_head=None, video_head="actions")
    assert {name for name in report.unexpected} == {
        *(
            f"cls_head.fc2d.2.{name}"
            for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        ),
        *(f"cls_head.fc2d.4.{name}" for name in ("weight", "bias")),
    }
    assert all(name.startswith("heads.photos.") for name in report.missing)
    assert "heads.actions.fc1.weight" in report.loaded


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


@pytest.mark.shared_data
def test_cut_file_of_the_published_system_loads_what_it_has(shared: Path) -> None:
    spaces = {"imagenet": LabelSpace("image", num_classes=1000), "kinetics400": LabelSpace("video", num_classes=400)}
    recognizer = Recognizer(Model(depth=50), spaces)
    report = load_initial_weights(recognizer, shared / "reference/published_format.pth", "imagenet", "kinetics400")
    assert len(report.loaded) == 45 and len(report.missing) == 334 - 45
    assert not report.unexpected and not report.mismatched
