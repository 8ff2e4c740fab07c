"""What follows from a recipe and the counts of its data: batch sizes, microbatches, steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from omnisource.data.lists.items import Items
from omnisource.data.loading.stream import first_position
from omnisource.recipe.recipe import Recipe

SHORT_RUN = 100
"""Microbatches x momentum of BatchNorm below which a run is short: its running statistics are, in the main, those of
its last 1 / momentum microbatches, and so of at least a hundredth of the run."""

ROUGH_MICROBATCHES = 10
"""Microbatches below which statistics are rough."""


@dataclass(frozen=True)
class Plan:
    """What follows for a run from its recipe and the real counts of its sources.

    Attributes:
        batch_sizes: Samples of each source in a microbatch; fractional where sources keep a fractional ratio, so that
            microbatches have the whole number below or above it.
        microbatches: Microbatches in a step, over all processes and accumulation.
        epoch_steps: Steps in an epoch of the main source.
        total_steps: Steps in the run.
        recomputed_microbatches: Microbatches that BatchNorm's statistics are computed again over at the end of the run;
            0: they are not.
        validation_steps: Steps from one validation to the next; 0: there is none.
    """

    batch_sizes: Mapping[str, Fraction]
    microbatches: int
    epoch_steps: int
    total_steps: int
    recomputed_microbatches: int = 0
    validation_steps: int = 0

    def ends_epoch(self, step: int, interval_epochs: int) -> bool:
        """Returns whether `step` steps end an epoch after which something is done every `interval_epochs`, or all."""
        epoch, rest = divmod(step, self.epoch_steps)
        return rest == 0 and interval_epochs > 0 and (step == self.total_steps or epoch % interval_epochs == 0)

    def ends_validated_epoch(self, step: int) -> bool:
        """Returns whether `step` steps end an epoch that is validated."""
        return self.ends_epoch(step, self.validation_steps // self.epoch_steps)

    def recomputed_steps(self, step: int) -> int:
        """Returns over how many steps before `step` BatchNorm's statistics are computed again there, if they are.

        Within the run as many as there were since the last validation, so that this costs a share of the training, but
        not so few that the statistics are rough.
        """
        wanted = self.recomputed_microbatches
        if self.validation_steps and step < self.total_steps:
            wanted = min(wanted, max(self.validation_steps * self.microbatches, ROUGH_MICROBATCHES))
        return min(step, -(-wanted // self.microbatches))

    def samples_before(self, step: int) -> dict[str, int]:
        """Returns how many samples of each source the run has seen when it has done `step` steps."""
        return {name: first_position(size, step * self.microbatches) for name, size in self.batch_sizes.items()}


def make_plan(recipe: Recipe, counts: Mapping[str, int], num_processes: int) -> Plan:
    """Returns the plan of a run.

    Args:
        recipe: The recipe.
        counts: Training items of each source, at least 1.
        num_processes: Training processes.
    """
    microbatches = num_processes * recipe.accumulation
    epoch_items = {name: recipe.sources[name].epoch_items or count for name, count in counts.items()}

    def epoch_steps(name: str) -> int:
        batch_size = recipe.sources[name].batch_size
        assert batch_size is not None
        return max(1, epoch_items[name] // (batch_size * microbatches))

    batch_sizes: dict[str, Fraction] = {}
    for name, source in recipe.sources.items():
        if source.batch_size is not None:
            batch_sizes[name] = Fraction(source.batch_size)
        elif source.ratio_to:
            pace = recipe.sources[source.ratio_to].batch_size
            assert pace is not None
            batch_sizes[name] = pace * Fraction(str(source.ratio))  # 0.1 is a tenth, which no float is
        else:
            batch_sizes[name] = Fraction(max(1, epoch_items[name] // (epoch_steps(source.ends_with) * microbatches)))
    steps = epoch_steps(recipe.main_source)
    total_steps = steps * recipe.num_epochs
    is_short = total_steps * microbatches * recipe.model.batch_norm_momentum < SHORT_RUN
    is_recomputed = {"if_short": is_short, "always": True, "never": False}[recipe.recompute_batch_norm]
    has_batch_norm = recipe.model.vit is None or any(space.head != "linear" for space in recipe.label_spaces.values())
    return Plan(
        batch_sizes,
        microbatches,
        steps,
        total_steps,
        recomputed_microbatches=recipe.recomputed_microbatches if is_recomputed and has_batch_norm else 0,
        validation_steps=recipe.validation.interval_epochs * steps,
    )


def with_scaled_learning_rate(recipe: Recipe, num_processes: int) -> Recipe:
    """Returns the recipe with its learning rate times the clips of the main source a step / `base_batch_size`."""
    batch_size = recipe.sources[recipe.main_source].batch_size
    assert batch_size is not None
    global_batch_size = batch_size * num_processes * recipe.accumulation
    scaled = recipe.optimizer.learning_rate * global_batch_size / recipe.optimizer.base_batch_size
    return replace(recipe, optimizer=replace(recipe.optimizer, learning_rate=scaled))


def batch_size_text(batch_size: Fraction) -> str:
    """Returns a batch size for people."""
    return f"{float(batch_size):g}"


def describe_plan(recipe: Recipe, plan: Plan, items: Mapping[str, Items]) -> str:
    """Returns the plan for people, a line a source and one for the run; `items`: the training items by source."""
    lines = []
    for name, source in recipe.sources.items():
        pace = f", ends with {source.ends_with}" if source.ends_with else ""
        if source.ratio_to:
            pace = f", {source.ratio:g} for each sample of {source.ratio_to}"
        if source.class_power != 1:
            pace += f", drawn with replacement, classes by count^{source.class_power:g}"
        lines.append(
            f"source {name}: {len(items[name])} {source.media}s, batch {batch_size_text(plan.batch_sizes[name])} x "
            f"{plan.microbatches} microbatches a step{pace}, loss weight {source.loss_weight:g}"
        )
    lines.append(
        f"{recipe.num_epochs} epochs of {plan.epoch_steps} steps of {recipe.main_source} = "
        f"{plan.total_steps} steps, learning rate {recipe.optimizer.learning_rate:g}, {recipe.precision}"
    )
    if plan.recomputed_microbatches:
        batches, momentum = plan.total_steps * plan.microbatches, recipe.model.batch_norm_momentum
        lag = f", since {batches} microbatches x momentum {momentum:g} = {batches * momentum:g} < {SHORT_RUN}"
        lines.append(
            "BatchNorm's statistics are computed again for each validation and for the end of the run, then over "
            f"{plan.recomputed_microbatches} microbatches{lag if recipe.recompute_batch_norm == 'if_short' else ''}"
        )
    if recipe.schedule.warmup_epochs >= recipe.num_epochs:
        lines.append(
            f"warning: the run ends within its warm-up of {recipe.schedule.warmup_epochs:g} epochs, so the learning "
            "rate only rises; lower schedule.warmup_epochs"
        )
    return "\n".join(lines)
