"""The one config tree of a run, and its cross-field checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from omnisource.recipe.checks import cross_field_faults
from omnisource.recipe.data import Mixing, Source
from omnisource.recipe.marks import (
    MAY_DIFFER,
    Formerly,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Share,
    ShareBelowOne,
)
from omnisource.recipe.model import LabelSpace, Model, model_faults
from omnisource.recipe.optimization import Optimizer, Schedule
from omnisource.recipe.paths import path_changes
from omnisource.recipe.values import bound_faults, type_faults


@dataclass(frozen=True)
class Validation:
    """When a run is validated."""

    interval_epochs: NonNegativeInt = 4
    """Epochs from one validation to the next; the last epoch is always validated. 0: never."""


@dataclass(frozen=True)
class Checkpoints:
    """When a run is saved, and what is kept."""

    interval_epochs: PositiveInt = 4
    """Epochs from one checkpoint to the next; the end of the run is always saved."""

    interval_steps: NonNegativeInt = 0
    """Steps from one checkpoint to the next, besides those at epochs. 0: none."""

    interval_minutes: NonNegativeFloat = 0.0
    """Minutes from one checkpoint to the next, besides the others. 0: none."""

    keep_last: PositiveInt = 3
    """Newest checkpoints that are kept; the best one is kept besides."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run."""

    label_spaces: Mapping[str, LabelSpace]
    """Label spaces by name; each has a head."""

    sources: Mapping[str, Source]
    """Datasets by name; every step trains on one batch of each."""

    main_source: str
    """Name of the source whose epochs are the epochs of the run, and whose top-1 chooses the best checkpoint."""

    num_epochs: PositiveInt
    """Epochs of the main source."""

    model: Model = field(default_factory=Model)
    """The backbone."""

    optimizer: Optimizer = field(default_factory=Optimizer)
    """How the weights are changed."""

    schedule: Schedule = field(default_factory=Schedule)
    """The learning rate over the run."""

    accumulation: Annotated[PositiveInt, MAY_DIFFER] = 1  # its product with the number of processes may not
    """Microbatches whose gradients are averaged in one step of one process."""

    sync_batch_norm: bool = False
    """Whether BatchNorm's batch statistics are those of all processes together, a microbatch of each at a time, for
    images, videos and heads."""

    recompute_batch_norm: Annotated[Literal["if_short", "always", "never"], Formerly("never")] = "if_short"
    """Whether BatchNorm's statistics are computed again for every validation and for the end of the run: with the
    weights of that moment, over the last microbatches that were trained on. Training keeps its running statistics;
    checkpoints hold both. "if_short": where microbatches x model.batch_norm_momentum of the whole run are below 100, so
    that the running statistics lag behind the weights."""

    recomputed_microbatches: PositiveInt = 50
    """Microbatches that BatchNorm's statistics are computed again over, in whole steps; within a run not many more than
    were trained on since the last validation."""

    precision: Literal["float32", "bfloat16", "float16", "float64"] = "float32"
    """Arithmetic of the forward pass: float32, or autocast to bfloat16 or float16, the latter with a scaled loss and on
    a GPU only. Weights stay float32. float64: weights too, for checking; slow."""

    validation: Annotated[Validation, MAY_DIFFER] = field(default_factory=Validation)
    """When the run is validated."""

    checkpoints: Annotated[Checkpoints, MAY_DIFFER] = field(default_factory=Checkpoints)
    """When the run is saved."""

    views_at_a_time: Annotated[PositiveInt, MAY_DIFFER] = 32
    """Views that evaluation sends through the model at once; bounds its memory."""

    num_workers: Annotated[NonNegativeInt, MAY_DIFFER] = 8
    """Loading processes for each training process. 0: load in the training process."""

    item_processor_seconds: Annotated[PositiveFloat, MAY_DIFFER] = 120.0
    """Processor time that one item may take to load before its worker is ended and the file counts as unreadable; a
    video, for every 256 frames that are decoded of it."""

    item_timeout_seconds: Annotated[PositiveFloat, MAY_DIFFER] = 600.0
    """The same for wall time, waiting for disk and network with it; generous, for machines that are busy."""

    ema_decay: ShareBelowOne | None = None
    """Share of the moving average of the weights that a step keeps; it is evaluated beside them. None: no average."""

    max_skipped_steps: Annotated[NonNegativeInt, MAY_DIFFER] = 0
    """Steps whose loss or gradient is not finite that may be left out; each is reported and its batch kept."""

    max_unreadable: Annotated[NonNegativeInt, MAY_DIFFER] = 0
    """Files that may be unreadable; each is reported, and in training replaced by the next item of its list."""

    max_unreadable_share: Annotated[Share, MAY_DIFFER] = 0.0
    """The same as a share of all items that the run reads; the larger of the two limits holds."""

    log_interval_steps: Annotated[PositiveInt, MAY_DIFFER] = 20
    """Steps from one log line to the next where there is no terminal; metrics.jsonl has every step."""

    seed: NonNegativeInt = 0
    """Seed of the initial weights, the order, the augmentation and dropout."""

    deterministic: bool = False
    """Whether only deterministic algorithms are used."""

    def only_head(self, kind: Literal["image", "video"]) -> str | None:
        """Returns the label space whose head is the only one of its kind, or None where there are none or several.

        A published checkpoint has one head of each kind: this is where its weights go.
        """
        heads = [name for name, space in self.label_spaces.items() if space.head == kind]
        return heads[0] if len(heads) == 1 else None

    def mixings(self) -> dict[str, Mixing]:
        """Returns how the sources mix their samples, by source, for those that do."""
        return {name: source.mixing for name, source in self.sources.items() if source.mixing is not None}

    def class_counts(self) -> dict[str, int]:
        """Returns the number of classes of each label space whose number is known."""
        return {name: count for name, space in self.label_spaces.items() if (count := space.num_classes) is not None}

    def permitted_unreadable(self, num_items: int) -> int:
        """Returns how many of `num_items` items may be unreadable."""
        return max(self.max_unreadable, int(self.max_unreadable_share * num_items))

    def __post_init__(self) -> None:
        faults = type_faults(self)
        if not faults:  # only values of the right types can be compared
            faults = [*bound_faults(self), *cross_field_faults(self.label_spaces, self.sources, self.main_source)]
        if not faults:
            faults = model_faults(self.model, self.sources)
        if faults:
            raise ValueError("; ".join(faults))
        for name, value in path_changes(self).items():
            object.__setattr__(self, name, value)  # nobody has it yet
