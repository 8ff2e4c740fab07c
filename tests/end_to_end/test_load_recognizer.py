from __future__ import annotations

from pathlib import Path

import pytest
import torch

import omnisource
from omnisource import Recognizer, UserError
from omnisource.checkpoints.file import checkpoint_path, read_checkpoint
from omnisource.models.weights.published import to_published
from omnisource.training.train import train
from tests.support.tiny_runs import tiny_recipe


def images_and_clips() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8, generator=generator)
    clips = torch.randint(0, 256, (2, 3, 4, 40, 40), dtype=torch.uint8, generator=generator)
    return images, clips


def normalized(pixels: torch.Tensor) -> torch.Tensor:
    """Returns what a user's own code would give: floating point, normalized by the published mean and deviation."""
    shape = (3, *(1,) * (pixels.ndim - 2))
    mean = torch.tensor([123.675, 116.28, 103.53]).reshape(shape)
    deviation = torch.tensor([58.395, 57.12, 57.375]).reshape(shape)
    return (pixels.float() - mean) / deviation


def test_own_checkpoint_gives_the_logits_of_the_trained_recognizer(data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(data, "sources.kinetics400.batch_size=6", "validation.interval_epochs=0")
    train(recipe, tmp_path)
    path = checkpoint_path(tmp_path, 2)
    recognizer = omnisource.load_recognizer(path)
    assert not recognizer.training
    assert recognizer.label_spaces["kinetics400"].num_classes == 3

    trained = Recognizer(recipe.model, recipe.label_spaces)
    trained.load_state_dict(read_checkpoint(path).state["model"])
    trained.eval()
    images, clips = images_and_clips()
    with torch.inference_mode():
        assert torch.equal(recognizer.image_logits(images), trained.image_logits(images))
        assert torch.equal(recognizer.video_logits(clips), trained.video_logits(clips))
        assert recognizer.image_logits(images).shape == recognizer.video_logits(clips).shape == (2, 3)
        torch.testing.assert_close(recognizer.image_logits(normalized(images)), recognizer.image_logits(images))
        torch.testing.assert_close(recognizer.video_logits(normalized(clips)), recognizer.video_logits(clips))


@pytest.mark.parametrize(("depth", "width"), [(18, 0.0625), (34, 0.0625), (50, 0.03125)])
def test_published_checkpoint_is_loaded_with_the_sizes_of_its_weights(
    data: Path, tmp_path: Path, depth: int, width: float
) -> None:
    torch.manual_seed(1)
    recipe = tiny_recipe(data, f"model.depth={depth}", f"model.width={width}", "label_spaces.imagenet.num_classes=7")
    original = Recognizer(recipe.model, recipe.label_spaces).eval()
    state = to_published(original.state_dict(), "imagenet", "kinetics400")
    torch.save({"meta": {"epoch": 256}, "state_dict": state, "message_hub": {}}, tmp_path / "published.pth")
    recognizer = omnisource.load_recognizer(str(tmp_path / "published.pth"))
    assert {name: space.num_classes for name, space in recognizer.label_spaces.items()} == {"image": 7, "video": 3}
    images, clips = images_and_clips()
    with torch.inference_mode():
        assert torch.equal(recognizer.image_logits(images), original.image_logits(images))
        assert torch.equal(recognizer.video_logits(clips), original.video_logits(clips))
        # Any head takes either media.
        assert torch.equal(recognizer.video_logits(clips, "image"), original.video_logits(clips, "imagenet"))


def test_files_that_are_no_recognizer_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.pth"):
        omnisource.load_recognizer(tmp_path / "missing.pth")
    torch.save({"state_dict": {"backbone.conv1.weight": torch.zeros(4, 3, 1, 7, 7)}}, tmp_path / "part.pth")
    with pytest.raises(UserError, match="not those of a SlowOnly ResNet"):
        omnisource.load_recognizer(tmp_path / "part.pth")


@pytest.mark.shared_data
def test_published_file_that_is_cut_is_refused_clearly(shared: Path) -> None:
    with pytest.raises(UserError) as refused:
        omnisource.load_recognizer(shared / "reference/published_format.pth")
    assert "the weights are not those of a SlowOnly ResNet of depth 18, 34, 50, 101 or 152" in str(refused.value)
