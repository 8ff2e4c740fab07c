"""The trainer of a run: `fit`, and what it is made of, `step`, `validate` and `save`."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from omnisource.data.loading.loader import Loader
from omnisource.data.loading.stream import Stream
from omnisource.distributed import processes
from omnisource.errors import UserError
from omnisource.evaluation.examples import draw_examples
from omnisource.evaluation.precision import autocast
from omnisource.models.batch_norm import RunningStatistics
from omnisource.randomness import seed_microbatch
from omnisource.reporting.records import StepRecord
from omnisource.signals import Interrupted
from omnisource.training.optimizer import learning_rate
from omnisource.training.resuming.ending import RunInterrupted
from omnisource.training.run_context import RunContext
from omnisource.training.saver import Saver
from omnisource.training.source_validation import validate_source
from omnisource.training.state import TrainState
from omnisource.training.statistics import mixed_batches, recompute_statistics
from omnisource.training.stepping.exchange import LocalStep, reduce_step
from omnisource.training.stepping.loss_scaling import back_off, can_back_off, end_unchanged_step
from omnisource.training.stepping.nonfinite_batches import skip_nonfinite_step
from omnisource.training.stepping.sample_digest import digest_parts
from omnisource.training.stepping.unreadable_agreement import agree_on_unreadable
from omnisource.types import Batch


@dataclass(frozen=True)
class StepResult:
    """What a step did, the same on all processes but for the time that it took.

    Attributes:
        record: For the report.
        stop_signal: The signal that asked any of the processes to stop, or 0: all of them stop at one step.
        is_saving_asked: Whether the first process asked for a checkpoint.
        skipped: Why the weights were not changed, or "".
    """

    record: StepRecord
    stop_signal: int
    is_saving_asked: bool
    skipped: str


class Trainer:
    """Trains a run from the step that its state has come to.

    Args:
        run: The run.
        state: What the steps change.
        model: The recognizer of the state, in parallel over the processes.

    Raises:
        UserError: If the model has a BatchNorm of torch's own, whose statistics would differ between processes.
    """

    def __init__(self, run: RunContext, state: TrainState, model: nn.Module) -> None:
        self.run, self.state, self.model = run, state, model
        try:
            self._statistics = RunningStatistics(model)  # before the loader, which starts a thread
        except ValueError as error:
            raise UserError(f"the backbone cannot be trained: {error}") from error
        recipe, first = run.recipe, processes.rank() * run.recipe.accumulation
        self.local_microbatches = range(first, first + recipe.accumulation)  # of a step, 0-based
        streams = [
            Stream(name, source, run.train_items[name], run.plan.batch_sizes[name], recipe.seed)
            for name, source in recipe.sources.items()
        ]
        self.loader = Loader(
            streams, run.workers, run.plan.microbatches, self.local_microbatches, run.unreadable, device=run.device
        )
        self.loader.seek(state.step)
        self._saver = Saver(run, state)

    def fit(self) -> bool:
        """Does the steps that are left, and validates and saves where it is due; the last checkpoint is on the disk.

        Returns:
            Whether there was a step to do: a run can have stopped before its last validation.

        Raises:
            RunInterrupted: If a signal asked the run to stop; it is saved.
            UserError: For everything that a user can fix; the run is saved if that is possible.
        """
        is_trained = False
        try:
            while self._is_incomplete():
                stop_signal, is_saving_due, is_best = 0, False, False
                is_made_up = self._awaits_validation()  # stopped between the last step of an epoch and its validation
                if not is_made_up:
                    is_trained = True
                    result = self._reported_step()
                    stop_signal, is_saving_due = result.stop_signal, result.is_saving_asked or self._saver.is_due()
                if self._awaits_validation() and not stop_signal:
                    if is_saving_due or processes.world_size() > 1:
                        # A validation is long, and the process may be killed in it; several do not stop within one.
                        self.save()
                    self._agree_on_unreadable()
                    try:
                        with self._saver.saved_if_failing():
                            is_best = self.validate()
                    except Interrupted as asked:
                        stop_signal = asked.signal_number
                if stop_signal or is_best or is_made_up or is_saving_due:
                    saved = self.save(is_best=is_best)
                    if stop_signal and self._is_incomplete():
                        processes.run_on_rank0(self._saver.wait)  # who leaves before may make a launcher end all
                        self.run.report.stopped(stop_signal, saved)
                        raise RunInterrupted(stop_signal, saved)
        finally:
            self.loader.close()
            self._saver.wait()
        return is_trained

    def _reported_step(self) -> StepResult:
        with self._saver.saved_if_failing():
            self._saver.raise_failure()
            result = self.step()
        self.run.report.step(result.record)
        if result.skipped:
            self.run.report.message(result.skipped)
        return result

    def _is_incomplete(self) -> bool:
        return self.state.step < self.run.plan.total_steps or self._awaits_validation()

    def _awaits_validation(self) -> bool:
        return self.state.awaits_validation(self.run.plan, has_items=bool(self.run.validation_items))

    def step(self) -> StepResult:
        """Does one step and counts it: forward and backward over the local microbatches, one change of the weights.

        Raises:
            UserError: If a loss or the gradient is not finite and the recipe permits no more such steps, or too many
                files cannot be read; the weights are as before.
        """
        started = time.perf_counter()
        run, state, recipe = self.run, self.state, self.run.recipe
        microbatches = next(self.loader)
        data_seconds = time.perf_counter() - started
        rate = learning_rate(recipe.optimizer, recipe.schedule, state.step, run.plan.epoch_steps, recipe.num_epochs)
        for group in state.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        with self._statistics.recording():
            losses = self._accumulate_gradients(microbatches)
        state.scaler.unscale_(state.optimizer)  # nothing but in float16
        max_norm = recipe.optimizer.max_gradient_norm or math.inf
        norm = nn.utils.clip_grad_norm_(state.model.parameters(), max_norm, error_if_nonfinite=False)
        digest, is_due = digest_parts(self.local_microbatches, microbatches), self._saver.is_due_by_clock()
        reduced = reduce_step(LocalStep(losses.mean(dim=0), data_seconds, digest, run.stop, is_due))
        skipped = self._change_weights(microbatches, losses, reduced.losses, float(norm))
        samples = self._count_step()
        by_source = dict(zip(recipe.sources, reduced.losses, strict=True))
        step_seconds = time.perf_counter() - started
        record = StepRecord(
            step=state.step,
            epoch=(state.step - 1) // run.plan.epoch_steps + 1,
            losses=by_source,
            total_loss=sum(recipe.sources[name].loss_weight * loss for name, loss in by_source.items()),
            learning_rate=rate,
            gradient_norm=float(norm),
            step_seconds=step_seconds,
            data_seconds=min(reduced.data_seconds, step_seconds),  # another may have begun to wait a little earlier
            samples=samples,
            total_steps=run.plan.total_steps,
            samples_digest=reduced.samples_digest,
        )
        return StepResult(record, reduced.stop_signal, reduced.is_saving_asked, skipped)

    def _accumulate_gradients(self, microbatches: Sequence[Sequence[Batch]]) -> Tensor:
        """Returns the losses of this process, [microbatches, sources] float64."""
        recipe, state = self.run.recipe, self.state
        self.model.train()
        state.optimizer.zero_grad(set_to_none=True)
        losses = []
        for microbatch, batches in zip(self.local_microbatches, microbatches, strict=True):
            seed_microbatch(recipe.seed, state.step, microbatch)
            mixed = mixed_batches(self.run, batches, state.step, microbatch)
            with _gradient_sync(self.model, microbatch == self.local_microbatches[-1]):
                with autocast(self.run.device, recipe.precision):
                    by_source: dict[str, Tensor] = self.model(mixed)
                weighted = (recipe.sources[name].loss_weight * loss for name, loss in by_source.items())
                total = sum(weighted, torch.zeros((), device=self.run.device)) / len(microbatches)
                state.scaler.scale(total).backward()
            losses.append(torch.stack([loss.detach().double() for loss in by_source.values()]))
        return torch.stack(losses)

    def _change_weights(
        self, microbatches: Sequence[Sequence[Batch]], losses: Tensor, reduced: Sequence[float], gradient_norm: float
    ) -> str:
        """Changes the weights, unless a loss or the gradient is not finite; returns why it did not, or ""."""
        state = self.state
        if all(map(math.isfinite, (*reduced, gradient_norm))):
            self._statistics.combine()  # its collective and its sums, which can fail, come before its changes
            state.is_between_steps = False
            state.scaler.step(state.optimizer)
            state.scaler.update()
            if state.ema is not None:
                state.ema.update(state.model, state.step + 1)
            return ""
        if all(map(math.isfinite, reduced)) and can_back_off(state.scaler):
            # The scaled gradient overflows now and then, by design: the step is left out, and the loss scaled less.
            scaled = f"the loss is scaled by {back_off(state.scaler):g} from now on"
            return f"step {state.step + 1}: the float16 gradient overflowed; {scaled}"
        # Mixed again, since keeping every step's until its end would take memory: it is a function of the step.
        pairs = zip(self.local_microbatches, microbatches, strict=True)
        mixed = [mixed_batches(self.run, batches, state.step, microbatch) for microbatch, batches in pairs]
        skipped = skip_nonfinite_step(self.run, state, mixed, losses, gradient_norm)
        end_unchanged_step(state.scaler, state.scaler.get_scale())
        return skipped

    def _count_step(self) -> dict[str, int]:
        """Counts the step as done; returns how many samples of each source it had, over all processes."""
        state, plan = self.state, self.run.plan
        before, after = plan.samples_before(state.step), plan.samples_before(state.step + 1)
        samples = {name: after[name] - before[name] for name in after}
        for name, count in samples.items():
            state.samples_seen[name] += count
        state.step += 1
        state.is_between_steps = True
        return samples

    def validate(self) -> bool:
        """Validates every source that has validation items; returns whether the main one is better than ever.

        Before, BatchNorm's statistics are computed again where the recipe wants that.

        Raises:
            Interrupted: If a signal came before the end, and there is one process: several could not agree at once.
            UserError: If too many files cannot be read.
        """
        run, state = self.run, self.state
        state.recomputed = recompute_statistics(run, state, self.loader.streams, self.local_microbatches)
        found = {name: validate_source(run, state, name) for name in run.validation_items}
        for name, of_source in found.items():
            run.report.validation(state.step, state.step // run.plan.epoch_steps, name, of_source.metrics)
            run.report.left_out(state.step, name, of_source.left_out)
            if of_source.examples:
                names = run.class_names[run.recipe.sources[name].label_space]
                draw = functools.partial(draw_examples, of_source.examples, names)
                run.report.picture(state.step, f"examples/{name}", draw)
        # Who keeps an average uses it in the end, so it chooses the best.
        figure = "top1" if state.ema is None else "ema_top1"
        main = found.get(run.recipe.main_source)
        score = None if main is None else main.metrics.get(figure)
        is_best = score is not None and (state.best_score is None or score > state.best_score)
        if is_best:
            run.report.best(score, state.step)
            state.best_score, state.best_step = score, state.step
        state.validated_step = state.step  # last, so that a validation that failed at its end is done again
        return is_best

    def save(self, *, is_best: bool = False) -> Path:
        """Begins to write a checkpoint, and returns where it will lie; called by all processes together.

        Raises:
            UserError: If this checkpoint or the one before it cannot be written, or more files are unreadable than
                the recipe permits.
        """
        self._agree_on_unreadable()
        with self._saver.saved_if_failing():
            return self._saver.write(is_best=is_best)

    def _agree_on_unreadable(self) -> None:
        with self._saver.saved_if_failing():
            self.run.report.replacements(agree_on_unreadable(self.run.unreadable, self.state.step))


def _gradient_sync(model: nn.Module, is_last_microbatch: bool) -> contextlib.AbstractContextManager[Any]:
    if isinstance(model, DistributedDataParallel) and not is_last_microbatch:
        return model.no_sync()
    return contextlib.nullcontext()
