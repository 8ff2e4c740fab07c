"""One step of training: forward and backward over the microbatches of this process, one change of the weights."""

from __future__ import annotations

import contextlib
import hashlib
import math
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from omnisource.data.transforms.mixing import mix_batches
from omnisource.distributed import processes
from omnisource.errors import UserError, shortened
from omnisource.evaluation.precision import autocast
from omnisource.models.batch_norm import RunningStatistics
from omnisource.randomness import seed_microbatch
from omnisource.recipe.recipe import Recipe
from omnisource.reporting.metrics_file import StepRecord
from omnisource.training.nonfinite_batches import keep_batches
from omnisource.training.optimizer import learning_rate
from omnisource.training.plan import Plan
from omnisource.training.resume import STOP_SIGNALS
from omnisource.training.state import TrainState
from omnisource.types import Batch

DIGEST_PARTS = 4
"""16-bit parts of the digest of a step's samples."""

LEAST_SCALE = 1.0
"""Scale of the loss in float16 at which a gradient that overflows is a fault of the run, not of the number format."""


@dataclass(frozen=True)
class StepResult:
    """What a step did, the same on all processes but for the times.

    Attributes:
        record: For the report; its `step_seconds` cover the step alone, not the wait for the data.
        stop_signal: The signal that asked any of the processes to stop, or 0: all of them stop at one step.
        is_saving_asked: Whether the first process asked for a checkpoint.
        skipped: Why the weights were not changed, or "".
    """

    record: StepRecord
    stop_signal: int
    is_saving_asked: bool
    skipped: str


class Stepper:
    """Does the steps of a run.

    Args:
        recipe: The run.
        plan: Its plan.
        state: What the steps change.
        model: The recognizer of the state, in parallel over the processes.
        mine: The microbatches of a step that this process does, 0-based.
        device: Where the model is.
        stop: The signals that this process has received.
        work_dir: Where a batch is kept whose loss is not finite.
    """

    def __init__(
        self,
        recipe: Recipe,
        plan: Plan,
        state: TrainState,
        model: nn.Module,
        mine: Sequence[int],
        device: torch.device,
        stop: Sequence[int],
        work_dir: Path,
    ) -> None:
        self.recipe = recipe
        self.plan = plan
        self.state = state
        self.model = model
        self.mine = mine
        self.device = device
        self.stop = stop
        self.work_dir = work_dir
        self._statistics = RunningStatistics(model)

    def step(
        self, microbatches: Sequence[Sequence[Batch]], data_seconds: float = 0.0, *, asks_saving: bool = False
    ) -> StepResult:
        """Does one step and counts it.

        Args:
            microbatches: For each microbatch of this process one batch of every source.
            data_seconds: Time that this process has waited for them.
            asks_saving: Whether this process wants a checkpoint now; the first process is heard.

        Raises:
            UserError: If a loss or the gradient is not finite and the recipe permits no more such steps; the weights
                are as before.
        """
        started = time.perf_counter()
        state, recipe = self.state, self.recipe
        rate = learning_rate(recipe.optimizer, recipe.schedule, state.step, self.plan.epoch_steps, recipe.num_epochs)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        with self._statistics.recording():
            losses = self._accumulate_gradients(microbatches)
        state.scaler.unscale_(state.optimizer)  # nothing but in float16
        gradient_norm = nn.utils.clip_grad_norm_(
            state.model.parameters(), recipe.optimizer.max_gradient_norm or math.inf, error_if_nonfinite=False
        )
        # What processes tell one another travels with the losses: a collective of its own would cost every step a wait.
        asked = [float(number in self.stop) for number in STOP_SIGNALS]
        asked.append(float(asks_saving and processes.rank() == 0))
        waits = [0.0] * processes.world_size()
        waits[processes.rank()] = data_seconds
        told = torch.tensor(
            [*asked, *waits, *self._digest_parts(microbatches)], dtype=torch.float64, device=self.device
        )
        averages = processes.average(torch.cat([losses.mean(dim=0), told])).tolist()
        by_source = dict(zip(recipe.sources, averages, strict=False))
        told_by_all = averages[len(by_source) :]
        signals, saving = told_by_all[: len(STOP_SIGNALS)], told_by_all[len(STOP_SIGNALS)]
        longest_wait = max(told_by_all[len(STOP_SIGNALS) + 1 : -DIGEST_PARTS]) * processes.world_size()
        skipped = self._change_weights(microbatches, losses, by_source, float(gradient_norm))
        samples = self._count()
        record = StepRecord(
            step=state.step,
            epoch=(state.step - 1) // self.plan.epoch_steps + 1,
            losses=by_source,
            total_loss=sum(recipe.sources[name].loss_weight * loss for name, loss in by_source.items()),
            learning_rate=rate,
            gradient_norm=float(gradient_norm),
            step_seconds=time.perf_counter() - started,
            data_seconds=longest_wait,
            samples=samples,
            total_steps=self.plan.total_steps,
            samples_digest="".join(
                f"{round(part * processes.world_size()) % 2**16:04x}" for part in told_by_all[-DIGEST_PARTS:]
            ),
        )
        return StepResult(
            record=record,
            stop_signal=max((n for n, share in zip(STOP_SIGNALS, signals, strict=True) if share), default=0),
            is_saving_asked=saving > 0,
            skipped=skipped,
        )

    def _accumulate_gradients(self, microbatches: Sequence[Sequence[Batch]]) -> Tensor:
        """Returns the losses of this process, [microbatches, sources] float64."""
        state = self.state
        self.model.train()
        state.optimizer.zero_grad(set_to_none=True)
        losses = []
        for number, (place, batches) in enumerate(zip(self.mine, microbatches, strict=True)):
            is_last = number == len(microbatches) - 1
            seed_microbatch(self.recipe.seed, state.step, place)
            batches = self._mixed(batches, place)
            with _gradient_sync(self.model, is_last):
                with autocast(self.device, self.recipe.precision):
                    by_source: dict[str, Tensor] = self.model(batches)
                weighted = (self.recipe.sources[name].loss_weight * loss for name, loss in by_source.items())
                total = sum(weighted, torch.zeros((), device=self.device)) / len(microbatches)
                state.scaler.scale(total).backward()
            losses.append(torch.stack([loss.detach().double() for loss in by_source.values()]))
        return torch.stack(losses)

    def _mixed(self, batches: Sequence[Batch], place: int) -> list[Batch]:
        """Returns the batches of microbatch `place` as the model takes them in this step: on the device, and mixed."""
        on_device = [_on_device(batch, self.device) for batch in batches]
        mixing = self.recipe.mixings(), self.recipe.class_counts(), self.recipe.seed
        return mix_batches(on_device, *mixing, self.state.step, place)

    def _digest_parts(self, microbatches: Sequence[Sequence[Batch]]) -> list[float]:
        """Returns a digest of the samples of this process, as 16-bit numbers: their sums digest those of all.

        Sums do not depend on which process has which microbatch, and so few bits survive being averaged as float64.
        """
        sums = [0] * DIGEST_PARTS
        for place, batches in zip(self.mine, microbatches, strict=True):
            keys = [str(place), *(text for batch in batches for text in (batch.source, *batch.keys))]
            digest = hashlib.blake2b("\x1f".join(keys).encode("utf-8", "surrogateescape"), digest_size=2 * DIGEST_PARTS)
            for number, part in enumerate(struct.unpack(f"<{DIGEST_PARTS}H", digest.digest())):
                sums[number] += part
        return [float(part) for part in sums]

    def _change_weights(
        self,
        microbatches: Sequence[Sequence[Batch]],
        losses: Tensor,
        by_source: Mapping[str, float],
        gradient_norm: float,
    ) -> str:
        """Changes the weights; returns why they were not changed, or ""."""
        state = self.state
        are_losses_finite = all(map(math.isfinite, by_source.values()))
        if are_losses_finite and math.isfinite(gradient_norm):
            self._statistics.combine()  # its collective and its sums, which can fail, come before its changes
            state.is_between_steps = False
            state.scaler.step(state.optimizer)
            state.scaler.update()
            if state.ema is not None:
                state.ema.update(state.model, state.step + 1)
            return ""
        if are_losses_finite and state.scaler.is_enabled() and state.scaler.get_scale() > LEAST_SCALE:
            # The scaled gradient overflows now and then, by design: the step is left out, and the loss scaled less.
            scale = state.scaler.get_scale() * state.scaler.get_backoff_factor()
            self._set_scale(scale)
            return (
                f"step {state.step + 1}: the float16 gradient overflowed; the loss is scaled by {scale:g} from now on"
            )
        skipped = self._fault(microbatches, losses, gradient_norm)
        state.skipped_steps.append(state.step + 1)
        self._set_scale(state.scaler.get_scale())
        return skipped

    def _set_scale(self, scale: float) -> None:
        """Ends a step that changed nothing: the loss is scaled so, and the steps in a row without one count again.

        torch's own update would go by single gradients; here it is their norm that is not finite, or a loss.
        """
        scaler = self.state.scaler
        scaler.update(scale)
        scaler.load_state_dict({**scaler.state_dict(), "_growth_tracker": 0})  # which `update` has left as it was

    def _count(self) -> dict[str, int]:
        """Counts the step as done; returns how many samples of each source it had, over all processes."""
        state = self.state
        before, after = self.plan.samples_before(state.step), self.plan.samples_before(state.step + 1)
        samples = {name: after[name] - before[name] for name in after}
        for name, count in samples.items():
            state.samples_seen[name] += count
        state.step += 1
        state.is_between_steps = True
        return samples

    def _fault(self, microbatches: Sequence[Sequence[Batch]], losses: Tensor, gradient_norm: float) -> str:
        """Keeps the batches of a step that is not finite, mixed; returns what is wrong, and where they are kept.

        Raises:
            UserError: If no more such steps are permitted.
        """
        step, permitted = self.state.step + 1, self.recipe.max_skipped_steps
        bad = [
            (number, source)
            for number, of_microbatch in enumerate(losses.tolist())
            for source, loss in enumerate(of_microbatch)
            if not math.isfinite(loss)
        ]
        # Made again, since keeping every step's until its end would take memory: mixing is a function of the step.
        mixed = [self._mixed(batches, place) for place, batches in zip(self.mine, microbatches, strict=True)]
        chosen = [mixed[number][source] for number, source in bad]
        lines = [
            f"step {step}: the loss of source {batch.source} is not finite. Its samples:\n"
            + shortened(list(batch.keys), 10)
            for batch in chosen
        ]
        told = processes.gather(lines)
        words = [line for of_process in told for line in of_process]
        words = words or [f"step {step}: the gradient is not finite (norm {gradient_norm})"]
        chosen = chosen or [batch for batches in mixed for batch in batches]
        ranks = [rank for rank, of_process in enumerate(told) if of_process]
        words += keep_batches(self.work_dir, step, ranks or range(processes.world_size()), chosen)
        if len(self.state.skipped_steps) >= permitted:
            raise UserError(
                "\n".join(words)
                + "\nThe weights were not changed. Let such steps be left out with max_skipped_steps=N "
                + f"(now {permitted}), or start a new run from a checkpoint (model.weights=FILE) with a lower "
                + f"optimizer.learning_rate (now {self.recipe.optimizer.learning_rate:g})."
            )
        left = permitted - len(self.state.skipped_steps) - 1
        return "\n".join([*words, f"the step changed no weights; {left} more such steps are permitted"])


def _on_device(batch: Batch, device: torch.device) -> Batch:
    return batch.pin_memory().to(device) if device.type == "cuda" else batch


def _gradient_sync(model: nn.Module, is_last_microbatch: bool) -> contextlib.AbstractContextManager[Any]:
    if isinstance(model, DistributedDataParallel) and not is_last_microbatch:
        return model.no_sync()
    return contextlib.nullcontext()
