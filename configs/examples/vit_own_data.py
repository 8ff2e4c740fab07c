"""A vision transformer on my folder of videos and my folder of images, trained together; both as in own_data.py.

    omnisource train configs/examples/vit_own_data.py model.weights=vit_small_patch16_224.safetensors

The weights are a ViT-S/16 of timm, such as vit_small_patch16_224.augreg_in21k. For others, say of which family and size
they are: model.vit.family=dinov2 model.vit.patch=14 (and crops of 224 pixels stay multiples of 14), or
model.vit.family=videomae model.vit.size=base. docs/weights.md lists them.

Where the values come from: MCG-NJU/VideoMAE 14ef8d8, run_class_finetuning.py and scripts/kinetics, which fine-tune on
Kinetics-400 so: 16 frames, every 4th; AdamW, 1e-3 for 256 clips a step, weight decay 0.05, 0.75 a layer; warm-up
of 5 epochs; skipped blocks 0.1; RandAugment 4 x 7; random erasing 0.25; mixup 0.8 and CutMix 1.0; label smoothing 0.1;
5 clips of 3 crops in testing. Gradients are not clipped there. The images have the augmentation of the videos.
"""

from omnisource import (
    ClipSampling,
    EvaluationViews,
    LabelSpace,
    Mixing,
    Model,
    Optimizer,
    RandAugment,
    RandomErasing,
    Recipe,
    Schedule,
    Source,
    Split,
    TrainingView,
    Validation,
    ViT,
)

CLIPS = 8  # a step; with more, on several GPUs, give --auto-scale-lr

training_view = TrainingView(
    rand_augment=RandAugment(num_operations=4, magnitude=7, magnitude_std=0.5),
    random_erasing=RandomErasing(probability=0.25),
)
mixing = Mixing(mixup_alpha=0.8, cutmix_alpha=1.0)

recipe = Recipe(
    model=Model(vit=ViT(family="vit", size="small", patch=16, tubelet=2, clip_length=16, stochastic_depth=0.1)),
    label_spaces={
        "video_classes": LabelSpace(head="linear", dropout=0.0, label_smoothing=0.1),
        "image_classes": LabelSpace(head="linear", dropout=0.0, label_smoothing=0.1),
    },
    sources={
        "videos": Source(
            media="video",
            label_space="video_classes",
            root="my_data/videos",
            train=Split(folder="train", format="folders"),
            validation=Split(folder="validation", format="folders"),
            batch_size=CLIPS,
            sampling=ClipSampling(clip_length=16, frame_interval=4),
            training_view=training_view,
            mixing=mixing,
            test_views=EvaluationViews(num_clips=5, num_crops=3, short_side=224, crop_size=224),
        ),
        "images": Source(
            media="image",
            label_space="image_classes",
            root="my_data/images",
            train=Split(folder="train", format="folders"),
            validation=Split(folder="validation", format="folders"),
            ends_with="videos",
            training_view=training_view,
            mixing=mixing,
        ),
    },
    main_source="videos",
    num_epochs=50,
    optimizer=Optimizer(
        method="adamw",
        learning_rate=1e-3 * CLIPS / 256,
        base_batch_size=CLIPS,
        weight_decay=0.05,
        decay_norm_and_bias=False,
        layer_decay=0.75,
        max_gradient_norm=None,
    ),
    schedule=Schedule(warmup_epochs=5),
    validation=Validation(interval_epochs=1),
    num_workers=4,
)
