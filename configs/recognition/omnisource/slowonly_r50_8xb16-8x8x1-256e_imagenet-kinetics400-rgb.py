"""SlowOnly ResNet-50, 8x8, trained on ImageNet and Kinetics-400 together.

Published result on 8 GPUs, 256 epochs: top-1 77.30, top-5 93.23 on the 19,796 validation videos, with 10 clips x 3
crops at 256 pixels and 54.75 G multiply-adds a view. (From scratch: 75.15; pre-trained on ImageNet: 76.45.) It was
published with open-mmlab/mmaction2 v1.2.0; this repository has not repeated the full run.

Data:
    data/kinetics400/
        kinetics400_train_list_videos.txt     `path label`, paths below videos_train
        kinetics400_val_list_videos.txt       `path label`, paths below videos_val
        videos_train/
        videos_val/
    data/imagenet/
        meta/train.txt                        `n01440764/n01440764_10026.JPEG 0`, paths below train
        train/
Other places: sources.kinetics400.root=FOLDER sources.imagenet.root=FOLDER. How to make the lists: docs/data.md.

The batch of images is sized so that both sources end an epoch together: with 1,281,167 images and 240,435 videos on 8
GPUs it is 85 a GPU.
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

center_crop = EvaluationViews(num_clips=1, num_crops=1, short_side=256, crop_size=224)

recipe = Recipe(
    model=Model(depth=50, batch_norm_momentum=0.01, image_statistics=False),
    recompute_batch_norm="never",
    label_spaces={
        "kinetics400": LabelSpace(head="video", num_classes=400, dropout=0.5),
        "imagenet": LabelSpace(head="image", num_classes=1000, dropout=0.2),
    },
    sources={
        "kinetics400": Source(
            media="video",
            label_space="kinetics400",
            root="data/kinetics400",
            train=Split(folder="videos_train", list="kinetics400_train_list_videos.txt"),
            validation=Split(folder="videos_val", list="kinetics400_val_list_videos.txt"),
            batch_size=16,
            sampling=ClipSampling(clip_length=8, frame_interval=8),
            training_view=TrainingView(crop_size=224),
            validation_views=center_crop,
            test_views=EvaluationViews(num_clips=10, num_crops=3, short_side=256, crop_size=256),
        ),
        "imagenet": Source(
            media="image",
            label_space="imagenet",
            root="data/imagenet",
            train=Split(folder="train", list="meta/train.txt"),
            ends_with="kinetics400",
            training_view=TrainingView(crop_size=224),
            validation_views=center_crop,
            test_views=center_crop,
        ),
    },
    main_source="kinetics400",
    num_epochs=256,
    optimizer=Optimizer(
        method="sgd",
        learning_rate=0.1,
        base_batch_size=128,
        momentum=0.9,
        weight_decay=1e-4,
        max_gradient_norm=40.0,
    ),
    schedule=Schedule(warmup_epochs=34, warmup_start_factor=0.1),
    validation=Validation(interval_epochs=4),
    checkpoints=Checkpoints(interval_epochs=4, keep_last=3),
    num_workers=8,
)
