"""The recipe's own checks: what does not fit together, each with a message that says what to change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from omnisource.recipe.data import ClipSampling, EvaluationViews, Source, Split, TrainingView
from omnisource.recipe.loading import load_config
from omnisource.recipe.model import LabelSpace, Model
from omnisource.recipe.optimization import Optimizer, Schedule
from omnisource.recipe.recipe import Checkpoints, Recipe, Validation
from tests.support.miniature import PUBLISHED_CONFIG

PUBLISHED = load_config(str(PUBLISHED_CONFIG), Recipe)
VIDEOS, IMAGES = PUBLISHED.sources["kinetics400"], PUBLISHED.sources["imagenet"]


def refused(**changes: Any) -> str:
    with pytest.raises(ValueError) as caught:
        replace(PUBLISHED, **changes)
    return str(caught.value)


def refused_source(source: str = "kinetics400", **changes: Any) -> str:
    changed = replace(PUBLISHED.sources[source], **changes)
    return refused(sources={**PUBLISHED.sources, source: changed})


def refused_label_space(**changes: Any) -> str:
    changed = replace(PUBLISHED.label_spaces["imagenet"], **changes)
    return refused(label_spaces={**PUBLISHED.label_spaces, "imagenet": changed})


def test_published_recipe_says_what_was_published() -> None:
    assert (PUBLISHED.model.depth, PUBLISHED.model.width, PUBLISHED.num_epochs) == (50, 1.0, 256)
    assert (VIDEOS.batch_size, IMAGES.batch_size, IMAGES.ends_with) == (16, None, "kinetics400")
    assert VIDEOS.sampling == ClipSampling(clip_length=8, frame_interval=8)
    assert VIDEOS.training_view == IMAGES.training_view == TrainingView(224, 0.08, 1.0, 3 / 4, 4 / 3, 0.5)
    assert VIDEOS.validation_views == IMAGES.test_views == EvaluationViews(1, 1, short_side=256, crop_size=224)
    assert VIDEOS.test_views == EvaluationViews(num_clips=10, num_crops=3, short_side=256, crop_size=256)
    spaces = PUBLISHED.label_spaces
    assert (spaces["kinetics400"].num_classes, spaces["imagenet"].num_classes) == (400, 1000)
    assert (spaces["kinetics400"].dropout, spaces["imagenet"].dropout) == (0.5, 0.2)
    optimizer, schedule = PUBLISHED.optimizer, PUBLISHED.schedule
    assert (optimizer.method, optimizer.learning_rate, optimizer.momentum) == ("sgd", 0.1, 0.9)
    assert (optimizer.weight_decay, optimizer.max_gradient_norm, optimizer.base_batch_size) == (1e-4, 40.0, 128)
    assert optimizer.decay_norm_and_bias
    assert (schedule.warmup_epochs, schedule.warmup_start_factor, schedule.final_factor) == (34, 0.1, 0.0)
    assert (PUBLISHED.validation.interval_epochs, PUBLISHED.checkpoints.keep_last) == (4, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_epochs": 0}, "num_epochs=0: must be at least 1"),
        ({"accumulation": 0}, "accumulation=0: must be at least 1"),
        ({"views_at_a_time": 0}, "views_at_a_time=0: must be at least 1"),
        ({"num_workers": -1}, "num_workers=-1: must be at least 0"),
        ({"max_unreadable": -1}, "max_unreadable=-1: must be at least 0"),
        ({"log_interval_steps": 0}, "log_interval_steps=0: must be at least 1"),
        ({"seed": -1}, "seed=-1: must be at least 0"),
        ({"item_timeout_seconds": 0.0}, "item_timeout_seconds=0.0: must be above 0"),
        ({"validation": Validation(-1)}, "validation.interval_epochs=-1: must be at least 0"),
        ({"checkpoints": Checkpoints(interval_epochs=0)}, "checkpoints.interval_epochs=0: must be at least 1"),
        ({"checkpoints": Checkpoints(interval_steps=-1)}, "checkpoints.interval_steps=-1: must be at least 0"),
        ({"checkpoints": Checkpoints(keep_last=0)}, "checkpoints.keep_last=0: must be at least 1"),
        ({"schedule": Schedule(warmup_epochs=-1)}, "schedule.warmup_epochs=-1: must be at least 0"),
        ({"schedule": Schedule(warmup_start_factor=-1)}, "schedule.warmup_start_factor=-1: must be at least 0"),
        ({"schedule": Schedule(final_factor=-1)}, "schedule.final_factor=-1: must be at least 0"),
        ({"optimizer": Optimizer(learning_rate=0)}, "optimizer.learning_rate=0: must be above 0"),
        ({"optimizer": Optimizer(base_batch_size=0)}, "optimizer.base_batch_size=0: must be at least 1"),
        ({"optimizer": Optimizer(momentum=-0.1)}, "optimizer.momentum=-0.1: must be at least 0"),
        ({"optimizer": Optimizer(weight_decay=-1)}, "optimizer.weight_decay=-1: must be at least 0"),
        ({"optimizer": Optimizer(max_gradient_norm=0)}, "optimizer.max_gradient_norm=0: must be above 0"),
        ({"optimizer": Optimizer(betas=(0.9, 1.0))}, "optimizer.betas=(0.9, 1.0): both must be in [0, 1)"),
        ({"model": Model(width=0)}, "model.width=0: must be above 0"),
        ({"model": Model(width=100)}, "model.width=100: must be at most 64"),
        ({"main_source": "kinetics"}, "main_source=kinetics: allowed are kinetics400, imagenet"),
        ({"main_source": "imagenet"}, "sources.imagenet.ends_with: the main source sets the pace and follows none"),
        (
            {"sources": {**PUBLISHED.sources, "web": replace(IMAGES, ends_with="", ratio_to="imagenet")}},
            "sources.web.ratio_to=imagenet: allowed are sources with a batch_size: kinetics400",
        ),
        (
            {
                "sources": {
                    **PUBLISHED.sources,
                    "web": replace(IMAGES, ends_with="", ratio_to="kinetics400", ratio=0.06),
                }
            },
            "sources.web.ratio=0.06: of a batch of 16 that is less than one sample, and every microbatch needs one",
        ),
        ({"max_unreadable_share": 1.5}, "max_unreadable_share=1.5: must be in [0, 1]"),
        ({"item_processor_seconds": 0.0}, "item_processor_seconds=0.0: must be above 0"),
        ({"sources": {}}, "a recipe needs at least one source"),
        ({"sources": {**PUBLISHED.sources, "a.b": VIDEOS}}, "source 'a.b': the name may have letters, digits, _ and -"),
        ({"sources": {**PUBLISHED.sources, "../x": VIDEOS}}, "source '../x': the name may have letters"),
        (
            {"label_spaces": {**PUBLISHED.label_spaces, "old": LabelSpace("video", 3)}},
            "label_spaces.old: no source uses it, so its head would never be trained: remove it",
        ),
        (
            {"label_spaces": {**PUBLISHED.label_spaces, "a.b": LabelSpace("video", 3)}},
            "label space 'a.b': the name must",
        ),
        ({"label_spaces": {}}, "sources.kinetics400.label_space=kinetics400: allowed are none"),
        # Python checks no types, so the recipe does, before it compares.
        ({"num_epochs": "3"}, "num_epochs = '3': wants a whole number"),
        ({"num_epochs": None}, "num_epochs = None: wants a whole number"),
        ({"deterministic": 1}, "deterministic = 1: wants True or False"),
        ({"precision": "float8"}, "precision = 'float8': wants one of float32, bfloat16, float16, float64"),
        ({"optimizer": {"learning_rate": 1}}, "optimizer = {'learning_rate': 1}: wants Optimizer(...)"),
        ({"model": Model}, "model = <class 'omnisource.recipe.model.Model'>: wants Model(...)"),
        ({"sources": [VIDEOS]}, "sources must be a group of keys"),
        ({"optimizer": Optimizer(learning_rate=float("nan"))}, "optimizer.learning_rate = nan: wants a finite number"),
    ],
)
def test_recipe_refuses(changes: dict[str, Any], message: str) -> None:
    assert message in refused(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_space": "kinetics"}, "label_space=kinetics: allowed are kinetics400, imagenet"),
        ({"batch_size": 0}, "batch_size=0: must be at least 1"),
        ({"batch_size": 2.5}, "batch_size = 2.5: wants a whole number or None"),
        ({"batch_size": None}, ": set exactly one of batch_size, ends_with and ratio_to"),
        ({"ends_with": "imagenet"}, ": set exactly one of batch_size, ends_with and ratio_to"),
        ({"batch_size": None, "ratio_to": "web"}, "ratio_to: the main source sets the pace and follows none"),
        ({"epoch_items": 5}, "epoch_items=5: with class_power=1 an epoch is every item once"),
        ({"epoch_items": 0, "class_power": 0.5}, "epoch_items=0: must be at least 1"),
        ({"class_power": float("inf")}, "class_power = inf: wants a finite number"),
        ({"loss_weight": -1}, "loss_weight=-1: must be at least 0"),
        ({"media": "audio"}, "media = 'audio': wants one of image, video"),
        ({"root": None}, "root = None: wants text"),
        ({"train": None}, "train = None: wants Split(...)"),
        (
            {"train": Split(folder="x")},
            "train.list: is empty, and format=path_label needs a list (or format=folders none)",
        ),
        ({"test": Split(format="csv")}, "test.list: is empty, and format=csv needs a list"),
        ({"train": Split(list="x", format="json")}, "train.format = 'json': wants one of path_label, "),  # type: ignore
        (
            {"train": Split(list="x", format="frames_folder", frame_template="frame.jpg")},
            "train.frame_template=frame.jpg: wants a place for the number, as img_{:05d}.jpg",
        ),
        (
            {"train": Split(list="x", format="frames_folder", frame_template="{:05d")},
            "train.frame_template={:05d: wants a place for the number",
        ),
        ({"sampling": ClipSampling(0, 8)}, "sampling.clip_length=0: must be at least 1"),
        ({"sampling": ClipSampling(8, 0)}, "sampling.frame_interval=0: must be at least 1"),
        ({"training_view": TrainingView(crop_size=0)}, "training_view.crop_size=0: must be at least 1"),
        (
            {"training_view": TrainingView(min_area=0)},
            "training_view: needs 0 < min_area <= max_area <= 1, has 0 and 1",
        ),
        ({"training_view": TrainingView(max_area=1.5)}, "training_view: needs 0 < min_area <= max_area <= 1, has 0.08"),
        ({"training_view": TrainingView(min_aspect=2)}, "training_view: needs 0 < min_aspect <= max_aspect, has 2 and"),
        ({"training_view": TrainingView(flip_probability=2)}, "training_view.flip_probability=2: must be in [0, 1]"),
        (
            {"validation_views": EvaluationViews(crop_size=300)},
            "validation_views: crop_size=300 must be in 1..short_side",
        ),
        ({"test_views": EvaluationViews(crop_size=0)}, "test_views: crop_size=0 must be in 1..short_side=256"),
        ({"test_views": EvaluationViews(num_clips=0)}, "test_views.num_clips=0: must be at least 1"),
        ({"test_views": EvaluationViews(num_crops=2)}, "test_views.num_crops = 2: wants one of 1, 3"),  # type: ignore
    ],
)
def test_source_refuses(changes: dict[str, Any], message: str) -> None:
    separator = "" if message.startswith(":") else "."
    assert f"sources.kinetics400{separator}{message}" in refused_source(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 0}, "label_spaces.imagenet.num_classes=0: must be at least 1"),
        ({"dropout": 1.0}, "label_spaces.imagenet.dropout=1.0: must be in [0, 1)"),
        ({"label_smoothing": -0.1}, "label_spaces.imagenet.label_smoothing=-0.1: must be in [0, 1)"),
        ({"head": "text"}, "label_spaces.imagenet.head = 'text': wants one of image, video"),
    ],
)
def test_label_space_refuses(changes: dict[str, Any], message: str) -> None:
    assert message in refused_label_space(**changes)


@pytest.mark.parametrize("split_format", ["frames_folder", "video_frames_label"])
def test_forms_of_videos_are_refused_for_images(split_format: Any) -> None:
    message = refused_source("imagenet", validation=Split(list="x", format=split_format))
    assert f"sources.imagenet.validation.format={split_format}: is for videos, the source's media is image" in message


@pytest.mark.parametrize("pace", ["imagenet", "kinetics"])
def test_pace_must_be_set_by_a_source_with_a_batch_size(pace: str) -> None:
    message = refused_source("imagenet", ends_with=pace)
    assert f"sources.imagenet.ends_with={pace}: allowed are sources with a batch_size: kinetics400" in message


def test_all_faults_are_reported_at_once() -> None:
    message = refused(num_epochs=0, seed=-1, sources={"kinetics400": replace(VIDEOS, batch_size=-1)})
    assert len(message.split("; ")) == 4  # these three, and the label space that lost its source
    for fault in ("num_epochs=0", "seed=-1", "sources.kinetics400.batch_size=-1", "label_spaces.imagenet: no source"):
        assert fault in message


def test_whole_number_beyond_all_floats_is_refused() -> None:
    assert "schedule.warmup_epochs = 1000" in refused(schedule=Schedule(warmup_epochs=10**400))


def test_sources_may_share_a_label_space_and_differ_in_media() -> None:
    stills = Source(media="image", label_space="kinetics400", root="x", train=Split(list="x"), batch_size=3)
    recipe = replace(PUBLISHED, sources={**PUBLISHED.sources, "stills": stills})
    assert recipe.sources["stills"].label_space == "kinetics400"
