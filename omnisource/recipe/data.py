"""Where samples come from and what is done to them: sources, their lists, clips, views, augmentation."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Interval

from omnisource.recipe.marks import MAY_DIFFER, PATH, NonNegativeFloat, PositiveInt, Share
from omnisource.types import Media

SHARD_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
"""A range of numbers in the name of shards: {000000..000012}."""

NUM_OPERATIONS = 15
"""Operations that RandAugment draws from; the table `OPERATIONS` of data/transforms/augment.py has as many."""

ListFormat = Literal["path_label", "video_frames_label", "frames_folder", "csv", "folders"]


@dataclass(frozen=True)
class Split:
    """One list of a source: the items it is trained, validated or tested on."""

    folder: Annotated[str, MAY_DIFFER, PATH] = ""
    """Folder that the paths of the list start from, below the source's root."""

    list: Annotated[str, MAY_DIFFER, PATH] = ""
    """List file, below the source's root; not read where the format is "folders"."""

    format: ListFormat = "path_label"
    """Form of the list: "path_label" (`path label`), "video_frames_label" (`video_id frames label`, the id without
    suffix and the count ignored), "frames_folder" (`folder num_frames label`), "csv" (with a header) or "folders"
    (no list: one folder a class)."""

    path_column: str = "path"
    """Column of a CSV list that holds the path."""

    label_column: str = "label"
    """Column of a CSV list that holds the label: a class index or, where the classes have names, a name."""

    frame_template: str = "img_{:05d}.jpg"
    """File name of a raw frame, given its number; the first is 1."""


@dataclass(frozen=True)
class TarShards:
    """Tar files of the webdataset convention: the items that a source is trained, validated or tested on."""

    urls: Annotated[tuple[str, ...], MAY_DIFFER, PATH] = ()
    """The shards: paths below the source's root, or URLs. {000000..000012} stands for all numbers from one to the
    other."""

    media_suffix: str = ""
    """Suffix of the members that hold the media, as mp4. Empty: all suffixes of the source's media."""

    label_suffix: str = "cls"
    """Suffix of the members that hold the labels: class indices or, where the classes have names, names."""

    label_field: str = ""
    """Field that holds the label, where the members with the labels are JSON. Empty: they are the label itself."""


@dataclass(frozen=True)
class ClipSampling:
    """How a clip is taken from a video."""

    clip_length: PositiveInt = 8
    """Frames in a clip."""

    frame_interval: PositiveInt = 8
    """Frames of the video from one frame of the clip to the next."""


HIGHEST_MAGNITUDE = 10.0
"""Magnitude at which the operations of RandAugment are at their strongest."""


@dataclass(frozen=True)
class ColorJitter:
    """Brightness, contrast, saturation and hue changed by chance, in an order drawn by chance."""

    brightness: NonNegativeFloat = 0.4
    """Brightness is multiplied by a factor from max(0, 1 - this) to 1 + this. 0: left as it is."""

    contrast: NonNegativeFloat = 0.4
    """Contrast is multiplied by a factor from max(0, 1 - this) to 1 + this. 0: left as it is."""

    saturation: NonNegativeFloat = 0.4
    """Saturation is multiplied by a factor from max(0, 1 - this) to 1 + this. 0: left as it is."""

    hue: Annotated[float, Interval(ge=0, le=0.5)] = 0.0
    """Hue is turned by -this to this, in turns of the color circle, at most 0.5. 0: left as it is."""

    probability: Share = 1.0
    """Probability that colors are changed at all, one draw a clip."""


@dataclass(frozen=True)
class RandAugment:
    """A few operations drawn from fifteen, of one magnitude: timm's rand-m9-n2-mstd0.5-inc1, unless set otherwise."""

    num_operations: Annotated[int, Interval(ge=0, le=NUM_OPERATIONS)] = 2  # more would leave nothing of any clip
    """Operations that are drawn, with replacement, and applied one after another."""

    magnitude: Annotated[float, Interval(ge=0, le=HIGHEST_MAGNITUDE)] = 9.0
    """Strength of the operations, from 0 to 10 as in timm and PySlowFast; torchvision's 0 to 30 is three times it."""

    magnitude_std: Annotated[float, Interval(ge=0, le=HIGHEST_MAGNITUDE)] = 0.5
    """Standard deviation of the normal noise on the magnitude of each operation. 0: no noise."""

    probability: Share = 0.5
    """Probability that an operation which was drawn is applied; 1 in the RandAugment paper and in torchvision."""


@dataclass(frozen=True)
class RandomErasing:
    """A box of the frame filled in by chance, the same box with the same pixels in all frames of a clip."""

    probability: Share = 0.25
    """Probability that a box is erased, one draw a clip."""

    min_area: float = 0.02
    """Smallest area of the box, as a share of the frame's."""

    max_area: float = 1 / 3
    """Largest area of the box, as a share of the frame's."""

    min_aspect: float = 0.3
    """Smallest ratio of width to height of the box."""

    max_aspect: float = 10 / 3
    """Largest ratio of width to height of the box."""

    fill: Literal["mean", "color", "noise"] = "mean"
    """What fills the box: the mean color (zero after normalizing), one random color, or one for each pixel."""


@dataclass(frozen=True)
class TrainingView:
    """The random view that training takes of an image or, the same for all its frames, of a clip."""

    crop_size: PositiveInt = 224
    """Height and width of the crop after resizing, in pixels."""

    min_area: float = 0.08
    """Smallest area of the crop, as a share of the frame's."""

    max_area: float = 1.0
    """Largest area of the crop, as a share of the frame's."""

    min_aspect: float = 3 / 4
    """Smallest ratio of width to height of the crop."""

    max_aspect: float = 4 / 3
    """Largest ratio of width to height of the crop."""

    flip_probability: Share = 0.5
    """Probability of a horizontal flip, one draw a clip."""

    rand_augment: RandAugment | None = None
    """RandAugment, after the flip: num_operations, magnitude, magnitude_std, probability. None: none."""

    color_jitter: ColorJitter | None = None
    """Color jitter, after RandAugment: brightness, contrast, saturation, hue, probability. None: none."""

    random_erasing: RandomErasing | None = None
    """Random erasing, last: probability, min_area, max_area, min_aspect, max_aspect, fill. None: none."""


@dataclass(frozen=True)
class EvaluationViews:
    """The fixed views of an item that evaluation averages over."""

    num_clips: PositiveInt = 1
    """Clips taken evenly from a video; images have one."""

    num_crops: Literal[1, 3] = 1
    """1: the center crop; 3: both ends and the center of the longer side."""

    short_side: int = 256
    """Short side to which frames are resized before cropping, in pixels."""

    crop_size: int = 224
    """Height and width of each crop, in pixels."""


@dataclass(frozen=True)
class Mixing:
    """How the samples of a source are mixed with others in training: by mixup, by CutMix, or by either."""

    mixup_alpha: NonNegativeFloat = 0.0
    """Mixup draws a sample's weight from Beta(alpha, alpha); 0.8 is common. 0: no mixup."""

    cutmix_alpha: NonNegativeFloat = 0.0
    """CutMix draws the share that a sample keeps from Beta(alpha, alpha); 1 is common. 0: no CutMix."""

    probability: Share = 1.0
    """Probability that a sample is mixed, one draw a sample."""

    switch_probability: Share = 0.5
    """Probability of CutMix where both are on; mixup has the rest."""

    partner: str = ""
    """Source that the other samples come from, of the same label space. Empty: the same batch."""


@dataclass(frozen=True)
class Source:
    """One dataset of a recipe."""

    media: Media
    """What the items are: "image" or "video" (raw frames count as video)."""

    label_space: str
    """Name of the label space that the labels belong to."""

    root: Annotated[str, MAY_DIFFER, PATH]
    """Folder of the dataset, from the current folder; the other paths of the source start from it."""

    train: Split | TarShards
    """Items to train on."""

    validation: Annotated[Split | TarShards | None, MAY_DIFFER] = None
    """Items to validate on, every few epochs. None: not validated."""

    test: Annotated[Split | TarShards | None, MAY_DIFFER] = None
    """Items to test on. None: the validation items."""

    classes: Annotated[str, MAY_DIFFER, PATH] = ""
    """Class map below the root: `name index` or one name a line. Empty: the names of the class folders, where the
    format is "folders", and no names otherwise."""

    batch_size: PositiveInt | None = None
    """Samples in a microbatch. None: from `ends_with`."""

    ends_with: str = ""
    """Name of the source that this one ends an epoch together with; its batch size then follows from the counts."""

    ratio_to: str = ""
    """Name of the source that this one keeps a ratio to; its batch size then is `ratio` times the other's."""

    ratio: float = 1.0
    """Samples for each sample of `ratio_to`. Where a microbatch would get a fractional number, it gets one more or
    less."""

    class_power: float = 1.0
    """A class of n items is drawn in proportion to n^class_power. 1: every item once an epoch; 0: all classes alike.
    Unless it is 1, items are drawn with replacement."""

    epoch_items: PositiveInt | None = None
    """Samples in an epoch where items are drawn with replacement. None: as many as there are items."""

    loss_weight: NonNegativeFloat = 1.0
    """Factor on the loss of this source in the sum."""

    sampling: ClipSampling = field(default_factory=ClipSampling)
    """How clips are taken from videos."""

    training_view: TrainingView = field(default_factory=TrainingView)
    """The random view taken in training."""

    mixing: Mixing | None = None
    """Mixup and CutMix: mixup_alpha, cutmix_alpha, probability, switch_probability, partner. None: none."""

    validation_views: Annotated[EvaluationViews, MAY_DIFFER] = field(default_factory=EvaluationViews)
    """The views averaged in validation."""

    test_views: Annotated[EvaluationViews, MAY_DIFFER] = field(default_factory=EvaluationViews)
    """The views averaged in testing."""


SplitName = Literal["train", "validation", "test"]


def split_of(source: Source, split: SplitName) -> Split | TarShards | None:
    """Returns the split of that name; testing falls back to the validation items."""
    if split == "test":
        return source.test or source.validation
    return source.train if split == "train" else source.validation
