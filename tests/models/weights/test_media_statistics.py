"""Which statistics images and videos have with weights that come from a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from omnisource.models.load_weights import load_all_weights, load_initial_weights, load_into
from omnisource.models.recognizer import Recognizer
from omnisource.models.weights.published import to_published
from tests.support.weights import image_resnet, perturbed

MakeRecognizer = Callable[..., Recognizer]

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8, generator=GENERATOR)
CLIPS = torch.randint(256, (2, 3, 4, 32, 32), dtype=torch.uint8, generator=GENERATOR)


def logits(recognizer: Recognizer) -> tuple[Tensor, Tensor]:
    recognizer.eval()
    with torch.no_grad():
        return recognizer.image_logits(IMAGES), recognizer.video_logits(CLIPS)


def with_untouched(recognizer: Recognizer, media: str) -> dict[str, Tensor]:
    """Returns the weights as a run leaves them that has had nothing of a media."""
    fresh = {"running_mean": 0.0, "running_var": 1.0, "num_batches_tracked": 0}
    prefix = "image_" if media == "image" else ""
    values = {f"{prefix}{name}": value for name, value in fresh.items()}
    return {
        name: torch.full_like(tensor, values[name.rpartition(".")[2]]) if name.rpartition(".")[2] in values else tensor
        for name, tensor in recognizer.state_dict().items()
    }


def test_weights_of_the_published_kind_give_the_same_scores_in_a_model_with_image_statistics(
    make_recognizer: MakeRecognizer, tmp_path: Path
) -> None:
    published = perturbed(make_recognizer())
    torch.save({"state_dict": to_published(published.state_dict(), "photos", "actions")}, tmp_path / "published.pth")
    ours = make_recognizer(image_statistics=True)
    report = load_all_weights(ours, tmp_path / "published.pth", "photos", "actions")
    for one, other in zip(logits(ours), logits(published), strict=True):
        assert torch.equal(one, other)
    assert "BatchNorms have no statistics of images in the file" in report.describe()


def test_videos_begin_with_the_statistics_of_a_run_of_images(make_recognizer: MakeRecognizer, tmp_path: Path) -> None:
    of_images = perturbed(make_recognizer(image_statistics=True))
    state = with_untouched(of_images, "video")
    torch.save({"state_dict": state}, tmp_path / "images.pth")
    for has_image_statistics in (True, False):  # the run that starts may be of the published kind
        ours = make_recognizer(image_statistics=has_image_statistics)
        report = load_initial_weights(ours, tmp_path / "images.pth")
        begun = ours.state_dict()
        for name in ("running_mean", "running_var"):
            assert torch.equal(begun[f"backbone.layer3.0.bn1.{name}"], state[f"backbone.layer3.0.bn1.image_{name}"])
        assert "20 BatchNorms have no statistics of videos in the file" in report.describe()


def test_videos_begin_with_the_statistics_of_images_that_began_with_other_weights(
    make_recognizer: MakeRecognizer, tmp_path: Path
) -> None:
    """What a file has counted is not what its run has: the weights moved on, the videos' statistics did not."""
    torch.save({"state_dict": perturbed(make_recognizer(image_statistics=True)).state_dict()}, tmp_path / "joint.pth")
    of_images = make_recognizer(image_statistics=True)
    load_initial_weights(of_images, tmp_path / "joint.pth")
    begun = {name: tensor.clone() for name, tensor in of_images.state_dict().items()}
    assert not torch.equal(begun["backbone.bn1.image_running_mean"], begun["backbone.bn1.running_mean"])
    torch.save({"state_dict": begun}, tmp_path / "stopped_at_once.pth")  # nothing was counted: both are as they were
    load_initial_weights(of_images, tmp_path / "stopped_at_once.pth")
    assert all(torch.equal(tensor, begun[name]) for name, tensor in of_images.state_dict().items())

    of_images.train()
    of_images.image_logits(IMAGES)
    moved = of_images.state_dict()
    torch.save({"state_dict": moved}, tmp_path / "images.pth")
    of_videos = make_recognizer(image_statistics=True)
    load_initial_weights(of_videos, tmp_path / "images.pth")
    for name in ("running_mean", "running_var"):
        assert torch.equal(of_videos.state_dict()[f"backbone.bn1.{name}"], moved[f"backbone.bn1.image_{name}"])
    published = to_published(moved, "photos", "actions")
    assert torch.equal(published["backbone.bn1.running_mean"], moved["backbone.bn1.image_running_mean"])


def test_statistics_of_both_media_stay_apart(make_recognizer: MakeRecognizer) -> None:
    whole = perturbed(make_recognizer(image_statistics=True))
    ours = make_recognizer(image_statistics=True)
    assert load_into(ours, whole.state_dict(), strict=True).notes == ()
    assert all(torch.equal(tensor, whole.state_dict()[name]) for name, tensor in ours.state_dict().items())
    of_videos = make_recognizer(image_statistics=True)
    load_into(of_videos, with_untouched(whole, "image"), strict=True)
    state = of_videos.state_dict()
    assert torch.equal(state["backbone.bn1.image_running_var"], state["backbone.bn1.running_var"])


@pytest.mark.parametrize("untouched", ["image", "video"])
def test_published_format_has_the_statistics_of_videos_or_those_of_images_alone(
    make_recognizer: MakeRecognizer, untouched: str
) -> None:
    state = with_untouched(perturbed(make_recognizer(image_statistics=True)), untouched)
    published = to_published(state, "photos", "actions")
    assert list(published) == list(to_published(make_recognizer().state_dict(), "photos", "actions"))
    kept = "" if untouched == "image" else "image_"
    assert torch.equal(published["backbone.bn1.running_mean"], state[f"backbone.bn1.{kept}running_mean"])
    # The image head of a joint run has seen images alone.
    assert torch.equal(published["cls_head.fc2d.2.running_mean"], state[f"heads.photos.bn.{kept}running_mean"])


def test_image_resnet_gives_its_statistics_to_both(make_recognizer: MakeRecognizer, tmp_path: Path) -> None:
    torch.save(image_resnet(perturbed(make_recognizer())), tmp_path / "resnet.pth")
    ours = make_recognizer(image_statistics=True)
    load_initial_weights(ours, tmp_path / "resnet.pth")
    state = ours.state_dict()
    assert float(state["backbone.bn1.running_var"].max()) > 1
    assert torch.equal(state["backbone.bn1.image_running_var"], state["backbone.bn1.running_var"])
