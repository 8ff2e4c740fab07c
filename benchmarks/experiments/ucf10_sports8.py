"""UCF10 (10 actions, five folds) with 1,200 web images of 8 sports: does joint training beat pre-training?

    UCF10=FOLDER SPORTS8=FOLDER omnisource compare benchmarks/experiments/ucf10_sports8.py --jobs 2

The analysis, written down before the runs. Headline: joint - pretrained at equal compute with all training clips, top-1
on the test clips of all five folds, 5 seeds, two-sided at 95 %, clusters of look-alike groups as units. Then the same
at 2, 4, 8 and 15 clusters a class. Classes with an image of their sport (Archery, BalanceBeam, BaseballPitch,
Basketball, BasketballDunk, BoxingPunchingBag, Punch) and the controls (JumpingJack, PushUps) are read from `classes`
as description, squats with neither. Rates are chosen on validation for each variant, amount and fold. Controls: one
frame, and scratch, which tell what scenes alone and videos alone give.
"""

import csv
import os
from dataclasses import replace
from pathlib import Path

from omnisource import (
    Checkpoints,
    ClipSampling,
    EvaluationViews,
    LabelSpace,
    Model,
    Optimizer,
    Recipe,
    Schedule,
    Source,
    Split,
    TrainingView,
    Validation,
)
from omnisource.compare.experiment import (
    Budget,
    Experiment,
    Fold,
    Variant,
    joint,
    joint_from_pretrained,
    only,
    pretrained,
    scratch,
)

CLIPS = Path(os.environ.get("UCF10", "data/ucf10"))
IMAGES = Path(os.environ.get("SPORTS8", "data/sports8"))
views = EvaluationViews(num_clips=1, num_crops=1, short_side=56, crop_size=56)

with open(CLIPS / "clips.csv", newline="") as file:
    CLUSTERS = {row["path"]: row["cluster"] for row in csv.DictReader(file)}


def single_frame(recipe: Recipe) -> Recipe:
    """Returns the training on one frame of each video: what scenes alone tell."""
    videos = only(recipe, "video")
    clips = replace(videos.sources["clips"], sampling=ClipSampling(clip_length=1, frame_interval=1))
    return replace(videos, sources={"clips": clips})


experiment = Experiment(
    recipe=Recipe(
        model=Model(depth=18, width=0.25),
        label_spaces={
            "actions": LabelSpace(head="video", dropout=0.3),
            "sports": LabelSpace(head="image", dropout=0.2),
        },
        sources={
            "clips": Source(
                media="video",
                label_space="actions",
                root=str(CLIPS),
                train=Split(folder="videos", list="fold0_train.txt"),
                classes="classes.txt",
                batch_size=16,
                sampling=ClipSampling(clip_length=4, frame_interval=6),
                training_view=TrainingView(crop_size=56, min_area=0.4),
                validation_views=views,
                test_views=replace(views, num_clips=3),
            ),
            "images": Source(
                media="image",
                label_space="sports",
                root=str(IMAGES),
                train=Split(list="train.txt"),
                classes="classes.txt",
                batch_size=32,
                training_view=TrainingView(crop_size=56, min_area=0.3),
                validation_views=views,
                test_views=views,
            ),
        },
        main_source="clips",
        num_epochs=40,
        optimizer=Optimizer(method="adamw", learning_rate=3e-3, base_batch_size=16, weight_decay=0.05),
        schedule=Schedule(warmup_epochs=4),
        validation=Validation(interval_epochs=10),
        checkpoints=Checkpoints(interval_epochs=20, keep_last=1),
        num_workers=0,
    ),
    variants={
        "scratch": scratch(),
        "pretrained": pretrained(),
        "joint": joint(),
        "joint_from_pretrained": joint_from_pretrained(),
        "single_frame": Variant(single_frame),
    },
    folds={
        f"fold{k}": Fold(f"fold{k}_train.txt", f"fold{k}_test.txt", validation=f"fold{k}_val.txt") for k in range(5)
    },
    budgets={"compute": Budget("compute", video_steps=400, of="joint")},
    seeds=(0, 1, 2, 3, 4),
    amounts=(2, 4, 8, 15, None),
    amount_unit="clusters",
    cluster_of=CLUSTERS.__getitem__,
    grid={"optimizer.learning_rate": (1.5e-3, 3e-3, 6e-3)},
)
