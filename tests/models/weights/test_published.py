from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from omnisource.errors import UserError
from omnisource.models.load_weights import load_all_weights, load_initial_weights
from omnisource.models.recognizer import Recognizer
from omnisource.models.weights.published import HeadSize, Sizes, from_published, sizes_of, to_published
from omnisource.recipe.model import LabelSpace, Model
from tests.support.weights import perturbed

MakeRecognizer = Callable[..., Recognizer]


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


@pytest.mark.shared_data
def test_cut_file_of_the_published_system_loads_what_it_has(shared: Path) -> None:
    spaces = {"imagenet": LabelSpace("image", num_classes=1000), "kinetics400": LabelSpace("video", num_classes=400)}
    recognizer = Recognizer(Model(depth=50, image_statistics=False), spaces)
    report = load_initial_weights(recognizer, shared / "reference/published_format.pth", "imagenet", "kinetics400")
    assert len(report.loaded) == 45 and len(report.missing) == 334 - 45
    assert not report.unexpected and not report.mismatched


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
