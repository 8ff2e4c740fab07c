"""Digits in motion (20 classes) with images of digits: scratch, pre-trained, joint and its two relatives.

    python -c "from omnisource.demo.media import make_demo_media; make_demo_media('data/digits', training_clips=15)"
    omnisource compare benchmarks/experiments/digits_in_motion.py --jobs 2

The analysis, written down before the runs: the claim is joint - pretrained at equal compute, top-1 on the held-out
clips, for 2, 6 and 15 clips a class, two-sided at 95 %; each variant has the four rates below, chosen on validation
clusters of the training clips at each amount. Everything else in the tables is description. A scan is a cluster.
"""

from pathlib import Path

from omnisource import (
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
    joint_from_pretrained,
    pretrained,
    scratch,
    still_clips,
)

ROOT = Path("data/digits")
views = EvaluationViews(num_clips=1, num_crops=1, short_side=40, crop_size=40)
view = TrainingView(crop_size=40, min_area=0.6, flip_probability=0.0)

experiment = Experiment(
    recipe=Recipe(
        model=Model(depth=18, width=0.125),
        label_spaces={
            "digit_and_motion": LabelSpace(head="video", dropout=0.3),
            "digit": LabelSpace(head="image", dropout=0.2),
        },
        sources={
            "clips": Source(
                media="video",
                label_space="digit_and_motion",
                root=str(ROOT / "clips"),
                train=Split(list="train.txt"),
                classes="classes.txt",
                batch_size=16,
                sampling=ClipSampling(clip_length=4, frame_interval=5),
                training_view=view,
                validation_views=views,
                test_views=views,
            ),
            "images": Source(
                media="image",
                label_space="digit",
                root=str(ROOT / "images"),
                train=Split(list="train.txt"),
                classes="classes.txt",
                batch_size=32,
                training_view=view,
                validation_views=views,
                test_views=views,
            ),
        },
        main_source="clips",
        num_epochs=50,
        optimizer=Optimizer(method="adamw", learning_rate=6e-3, base_batch_size=16, weight_decay=0.05),
        schedule=Schedule(warmup_epochs=5),
        validation=Validation(interval_epochs=25),
        num_workers=0,
    ),
    variants={
        "scratch": scratch(),
        "pretrained": pretrained(),
        "joint": joint(),
        "joint_from_pretrained": joint_from_pretrained(),
        "still_clips": still_clips(),
    },
    folds={"held_out": Fold(train="train.txt", test="held_out.txt")},
    budgets={"compute": Budget("compute", video_steps=400, of="joint")},
    seeds=(0, 1, 2, 3, 4),
    amounts=(2, 6, None),
    cluster_of=lambda path: path.rpartition("_")[2],
    grid={"optimizer.learning_rate": (1.5e-3, 3e-3, 6e-3, 1.2e-2)},
)
