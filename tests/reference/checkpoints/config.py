"""The run of the checkpoints that lie here, in the words of every version that wrote one."""

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

VIEWS = EvaluationViews(short_side=16, crop_size=16)

recipe = Recipe(
    model=Model(depth=18, width=1 / 64),
    label_spaces={"actions": LabelSpace(head="video"), "things": LabelSpace(head="image")},
    sources={
        "videos": Source(
            media="video",
            label_space="actions",
            root="data/videos",
            train=Split(list="train.txt"),
            validation=Split(list="train.txt"),
            classes="classes.txt",
            batch_size=2,
            sampling=ClipSampling(clip_length=2, frame_interval=2),
            training_view=TrainingView(crop_size=16),
            validation_views=VIEWS,
            test_views=VIEWS,
        ),
        "images": Source(
            media="image",
            label_space="things",
            root="data/images",
            train=Split(format="folders"),
            ends_with="videos",
            training_view=TrainingView(crop_size=16),
            validation_views=VIEWS,
            test_views=VIEWS,
        ),
    },
    main_source="videos",
    num_epochs=2,
    optimizer=Optimizer(learning_rate=0.01),
    schedule=Schedule(warmup_epochs=0),
    validation=Validation(interval_epochs=1),
    num_workers=0,
)
