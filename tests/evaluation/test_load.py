"""Checkpoints of our own and published ones, back as a recognizer and what their files say about its use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import omnisource
from omnisource import Model, Recognizer
from omnisource.checkpoints.file import Checkpoint, save_checkpoint
from omnisource.errors import UserError
from omnisource.evaluation.load import ItemLimits, load
from omnisource.evaluation.predict import media_files, predict
from omnisource.models.backbones.slow_only import SlowOnly, slow_only
from omnisource.recipe.plain import to_plain
from tests.support.miniature import write_images
from tests.support.tiny_checkpoints import (
    NAMES,
    save_both_formats,
    save_untrained,
    untrained_recipe,
    untrained_recognizer,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with `own.pt` and `published.pth`, of the same weights."""
    folder = tmp_path_factory.mktemp("loaded")
    save_both_formats(folder)
    return folder


def test_both_formats_give_the_same_recognizer_ready_for_evaluation(folder: Path) -> None:
    clips = torch.randint(0, 256, (2, 3, 2, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    ours = omnisource.load_recognizer(folder / "own.pt")
    published = omnisource.load_recognizer(folder / "published.pth")
    assert not ours.training and not published.training
    expected = untrained_recognizer(untrained_recipe()).eval()
    for recognizer in (ours, published):
        torch.testing.assert_close(recognizer.video_logits(clips), expected.video_logits(clips))
        torch.testing.assert_close(recognizer.image_logits(clips[:, :, 0]), expected.image_logits(clips[:, :, 0]))


def test_protocol_is_that_of_testing(folder: Path) -> None:
    recipe = untrained_recipe()
    ours = load(folder / "own.pt").classifier.protocol
    for name, media in (("kinetics400", "video"), ("imagenet", "image")):
        of_media = ours.by_media[media]  # type: ignore[index]
        assert (of_media.heads, of_media.views) == ((name,), recipe.sources[name].test_views)
        assert of_media.sampling == recipe.sources[name].sampling
    assert ours.views_at_a_time == recipe.views_at_a_time
    published = load(folder / "published.pth").classifier.protocol
    assert published.by_media["video"].num_views("video") == published.views_at_a_time == 30
    assert published.by_media["image"].num_views("image") == 1
    assert published.by_media["image"].views.crop_size == 224


def test_class_names_are_kept_in_their_order(folder: Path) -> None:
    assert load(folder / "own.pt").class_names["imagenet"] == ("red", "grün", "blue")


def test_checkpoint_whose_recipe_is_no_recipe_is_refused(tmp_path: Path) -> None:
    recipe = untrained_recipe()
    plain = {**to_plain(recipe), "num_epochs": 0}
    state = {"model": untrained_recognizer(recipe).state_dict()}
    save_checkpoint(Checkpoint(plain, NAMES, {}, state), tmp_path / "x.pt", keep_last=1)
    with pytest.raises(UserError, match=r"x\.pt: num_epochs=0: must be at least 1"):
        load(tmp_path / "x.pt")


def test_weights_of_a_run_in_float64_are_not_rounded(tmp_path: Path) -> None:
    recipe = untrained_recipe("precision=float64")
    weights = untrained_recognizer(recipe).double()
    with torch.no_grad():
        for parameter in weights.parameters():
            parameter.mul_(1 + 2**-40)  # which float32 cannot hold
    path = save_untrained(recipe, weights, tmp_path / "double.pt")
    loaded = load(path).classifier
    assert loaded.precision == "float64"
    for name, tensor in loaded.recognizer.state_dict().items():
        assert torch.equal(tensor, weights.state_dict()[name])
    asked = load(path, precision="float32").classifier
    assert {parameter.dtype for parameter in asked.recognizer.parameters()} == {torch.float32}


def of_basic_blocks(model: Model) -> SlowOnly:
    """Returns a backbone of another depth than the recipe says."""
    return slow_only(34, model.width)


def test_backbone_of_the_users_own_is_loaded_and_predicted_with(tmp_path: Path) -> None:
    recipe = untrained_recipe()
    original = Recognizer(recipe.model, recipe.label_spaces, backbone=of_basic_blocks(recipe.model)).eval()
    path = save_untrained(recipe, original, tmp_path / "own.pt")
    with pytest.raises(UserError, match="does not fit the model"):
        omnisource.load_recognizer(path)
    recognizer = omnisource.load_recognizer(path, build_backbone=of_basic_blocks)
    clips = torch.randint(0, 256, (2, 3, 2, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(recognizer.video_logits(clips), original.video_logits(clips))
    (image,) = write_images(tmp_path, "n01440764", 1)
    loaded = load(path, build_backbone=of_basic_blocks)
    (result,) = predict(loaded, media_files([str(image)]), top=3)
    (prediction,) = result.predictions
    assert sum(score for _, score in prediction.top) == pytest.approx(1)


def test_limits_of_a_published_checkpoint_are_those_of_a_recipe_by_default() -> None:
    recipe = untrained_recipe()
    assert ItemLimits() == ItemLimits(recipe.item_timeout_seconds, recipe.item_processor_seconds)
