"""My folder of videos and my folder of images, trained together.

    my_data/videos/train/CLASS/*.mp4       my_data/images/train/CLASS/*.jpg
    my_data/videos/validation/CLASS/*.mp4  my_data/images/validation/CLASS/*.jpg

The two may have different classes. Run it:

    omnisource check configs/examples/own_data.py
    omnisource train configs/examples/own_data.py
    omnisource test configs/examples/own_data.py work_dirs/own_data/checkpoints/best.pt

Other places: sources.videos.root=FOLDER sources.images.root=FOLDER. Start from an image ResNet-50 with torchvision's
names: model.weights=resnet50.pth.
"""

from omnisource import EvaluationViews, LabelSpace, Model, Optimizer, Recipe, Schedule, Source, Split, Validation

recipe = Recipe(
    model=Model(depth=50),
    label_spaces={
        "video_classes": LabelSpace(head="video", dropout=0.5),
        "image_classes": LabelSpace(head="image", dropout=0.2),
    },
    sources={
        "videos": Source(
            media="video",
            label_space="video_classes",
            root="my_data/videos",
            train=Split(folder="train", format="folders"),
            validation=Split(folder="validation", format="folders"),
            batch_size=8,
            test_views=EvaluationViews(num_clips=10, num_crops=3, short_side=256, crop_size=256),
        ),
        "images": Source(
            media="image",
            label_space="image_classes",
            root="my_data/images",
            train=Split(folder="train", format="folders"),
            validation=Split(folder="validation", format="folders"),
            ends_with="videos",
        ),
    },
    main_source="videos",
    num_epochs=50,
    # 0.1 is for 128 clips a step; this is for 8 on one GPU. With more, give --auto-scale-lr.
    optimizer=Optimizer(learning_rate=0.1 * 8 / 128, base_batch_size=8),
    schedule=Schedule(warmup_epochs=5),
    validation=Validation(interval_epochs=1),
    num_workers=4,
)
