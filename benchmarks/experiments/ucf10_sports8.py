"""UCF10 (10 actions) with 1,200 web images of 8 sports: does joint training beat pre-training?

    python benchmarks/experiments/small_clips.py UCF10 SMALL
    UCF10=SMALL SPORTS8=FOLDER omnisource compare benchmarks/experiments/ucf10_sports8.py

The analysis, written down before the runs. Headline: joint - pretrained at equal compute, top-1 on the test clips of
two of the five folds, 3 seeds, two-sided at 95 %, at 4 clusters a class and at all; clusters of look-alike groups are
the units. Rates are chosen on validation for each variant, amount and fold, three trials each. Description, not claims:
the classes with an image of their sport (`twin`) and without (`control`) apart, and the differences to scratch.

It is small, so that one core does it in about an hour: a net of an eighth of the channels, 56 pixels, 4 frames.
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
    joint,
    pretrained,
    scratch,
)

CLIPS = Path(os.environ.get("UCF10", "data/ucf10"))
IMAGES = Path(os.environ.get("SPORTS8", "data/sports8"))
views = EvaluationViews(num_clips=1, num_crops=1, short_side=56, crop_size=56)

with open(CLIPS / "clips.csv", newline="") as file:
    CLUSTERS = {row["path"]: row["cluster"] for row in csv.DictReader(file)}


experiment = Experiment(
    recipe=Recipe(
        model=Model(depth=18, width=0.125, batch_norm_momentum=0.1),
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
                sampling=ClipSampling(clip_length=4, frame_interval=2),
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
        validation=Validation(interval_epochs=20),
        checkpoints=Checkpoints(interval_epochs=20, keep_last=1),
        recomputed_microbatches=10,
        num_workers=0,
    ),
    variants={"scratch": scratch(), "pretrained": pretrained(), "joint": joint()},
    folds={
        f"fold{k}": Fold(f"fold{k}_train.txt", f"fold{k}_test.txt", validation=f"fold{k}_val.txt") for k in range(2)
    },
    budgets={"compute": Budget("compute", video_steps=200, of="joint")},
    seeds=(0, 1, 2),
    amounts=(4, None),
    amount_unit="clusters",
    cluster_of=CLUSTERS.__getitem__,
    class_groups={
        "twin": (
            "Archery",
            "BalanceBeam",
            "BaseballPitch",
            "Basketball",
            "BasketballDunk",
            "BoxingPunchingBag",
            "Punch",
        ),
        "control": ("JumpingJack", "PushUps"),
    },
    grid={"optimizer.learning_rate": (1.5e-3, 3e-3, 6e-3)},
)
