"""UT-Interaction (train on set1, test on set2) with sports images as a second source; runs on a CPU.

    DATA/ut_interaction/  videos/*.avi, set1.txt, set2.txt, classes.txt      60 + 60 clips of 6 interactions
    DATA/sports22/        CLASS/*.jpg, train.txt, val.txt, classes.txt  4,840 + 880 images of 22 sports

    omnisource train configs/examples/ut_interaction_sports.py \
        sources.ut_interaction.root=DATA/ut_interaction sources.sports.root=DATA/sports22

The reverse split: sources.ut_interaction.train.list=set2.txt sources.ut_interaction.validation.list=set1.txt. The same
recipe without the images is ut_interaction_scratch.py.
"""

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

views = EvaluationViews(num_clips=1, num_crops=1, short_side=80, crop_size=80)

recipe = Recipe(
    model=Model(depth=18, width=0.5),
    label_spaces={
        "interactions": LabelSpace(head="video", dropout=0.5),
        "sports": LabelSpace(head="image", dropout=0.2),
    },
    sources={
        "ut_interaction": Source(
            media="video",
            label_space="interactions",
            root="data/ut_interaction",
            train=Split(folder="videos", list="set1.txt"),
            validation=Split(folder="videos", list="set2.txt"),
            classes="classes.txt",
            batch_size=10,
            sampling=ClipSampling(clip_length=8, frame_interval=6),
            training_view=TrainingView(crop_size=80, min_area=0.4),
            validation_views=views,
            test_views=EvaluationViews(num_clips=10, num_crops=3, short_side=80, crop_size=80),
        ),
        "sports": Source(
            media="image",
            label_space="sports",
            root="data/sports22",
            train=Split(list="train.txt"),
            validation=Split(list="val.txt"),
            classes="classes.txt",
            batch_size=32,
            training_view=TrainingView(crop_size=80, min_area=0.2),
            validation_views=views,
            test_views=views,
        ),
    },
    main_source="ut_interaction",
    num_epochs=100,
    optimizer=Optimizer(method="adamw", learning_rate=1e-3, base_batch_size=10, weight_decay=0.05),
    schedule=Schedule(warmup_epochs=5),
    validation=Validation(interval_epochs=25),
    checkpoints=Checkpoints(interval_epochs=25, keep_last=2),
    num_workers=1,
    seed=0,
)
