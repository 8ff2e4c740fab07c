"""Everything that changes in a run."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from omnisource.models.recognizer import Recognizer
from omnisource.recipe.recipe import Recipe
from omnisource.training.ema import Ema
from omnisource.training.optimizer import build_optimizer
from omnisource.training.plan import Plan


@dataclass(frozen=True)
class RecomputedStatistics:
    """BatchNorm's statistics, computed again with the weights after `step` steps; a model is evaluated with them.

    Attributes:
        step: Steps done then.
        num_steps: Of how many steps before it the microbatches are that they were computed over.
        of_model: Means and variances by the names of the buffers of the model.
        of_average: The same with the moving average of the weights; empty where there is none.
    """

    step: int
    num_steps: int
    of_model: Mapping[str, Tensor]
    of_average: Mapping[str, Tensor]


@dataclass
class TrainState:
    """What a run must keep to go on as if it had never stopped.

    The order of the samples, their augmentation and dropout are functions of the step, so the step stands for all
    random state.

    Attributes:
        model: The recognizer.
        optimizer: Its optimizer.
        step: Steps done, and so the 0-based number of the next one.
        samples_seen: Samples trained on, by source.
        unreadable: Reason by path, of the files that could not be read. Their samples are replaced, also in a run that
            goes on from here.
        replacements: How often each of these files was replaced in training.
        ema: Moving average of the weights, or None where the recipe wants none.
        scaler: Scales the loss in float16, and does nothing elsewhere.
        skipped_steps: Steps, from 1, that changed no weights because a loss or the gradient was not finite.
        best_score: Highest validation top-1 of the main source so far, in [0, 1]; None before the first validation.
        best_step: Steps done when it was reached.
        validated_step: Steps done at the last validation; 0 before the first. A run that was stopped at the end of an
            epoch, before the validation there, makes up for it.
        recomputed: BatchNorm's statistics for evaluation, as they were last computed again. They are saved in the
            place of the running ones, which stand beside them, so that whoever reads the weights has them.
        is_between_steps: Whether the rest is as after a whole step; False from the first change of a step to its end.
            It is not saved: nothing is saved while it is False.
    """

    model: Recognizer
    optimizer: torch.optim.Optimizer
    step: int = 0
    samples_seen: dict[str, int] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    replacements: dict[str, int] = field(default_factory=dict)
    ema: Ema | None = None
    scaler: GradScaler = field(default_factory=lambda: GradScaler("cpu", enabled=False))
    skipped_steps: list[int] = field(default_factory=list)
    best_score: float | None = None
    best_step: int | None = None
    validated_step: int = 0
    recomputed: RecomputedStatistics | None = None
    is_between_steps: bool = True

    def awaits_validation(self, plan: Plan, *, has_items: bool) -> bool:
        """Returns whether something is due after the last step that has not been done.

        That is the validation of the epoch that it ended, where there are items for it, and BatchNorm's statistics of
        the end of the run, which come with its validation, or alone.
        """
        if has_items and self.validated_step < self.step and plan.ends_validated_epoch(self.step):
            return True
        return self.step == plan.total_steps and plan.recomputed_steps(self.step) > 0 and self._current() is None

    @contextlib.contextmanager
    def evaluated(self, *, average: bool = False) -> Iterator[None]:
        """Gives the model what it is evaluated with for the time of the block, and its own state back afterward.

        Args:
            average: Whether that is the moving average of the weights, which there must be.
        """
        current, weights = self._current(), contextlib.nullcontext()
        if average:
            assert self.ema is not None, "there is no average"
            weights = self.ema.applied(self.model)
        with weights, _replaced(self.model, _of(current, average)):
            yield

    def take_over_recomputed(self) -> None:
        """Gives the model and its average for good what they are evaluated with: there are no more steps."""
        current = self._current()
        buffers = dict(self.model.named_buffers())
        for name, value in _of(current, False).items():
            buffers[name].copy_(value)
        for name, value in _of(current, True).items():
            assert self.ema is not None
            self.ema.tensors[name].copy_(value)

    def _current(self) -> RecomputedStatistics | None:
        """Returns the recomputed statistics if the weights are still those that they were computed with."""
        return self.recomputed if self.recomputed is not None and self.recomputed.step == self.step else None

    def state_dict(self) -> dict[str, Any]:
        """Returns the state as tensors and plain values."""
        model = self.model.state_dict()
        average = self.ema.tensors if self.ema is not None else None
        current, running = self._current(), None
        if current is not None:
            running = {
                "steps": current.num_steps,
                "model": {name: model[name] for name in current.of_model},
                "ema": {name: average[name] for name in current.of_average} if average is not None else {},
            }
        return {
            "model": {**model, **_of(current, False)},
            "running_statistics": running,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "samples_seen": dict(self.samples_seen),
            "unreadable": dict(self.unreadable),
            "replacements": dict(self.replacements),
            "ema": {**average, **_of(current, True)} if average is not None else None,
            "scaler": self.scaler.state_dict(),
            "skipped_steps": list(self.skipped_steps),
            "best_score": self.best_score,
            "best_step": self.best_step,
            "validated_step": self.validated_step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` returned, in this process or another."""
        # Version 0.1.0 wrote none.
        running: dict[str, Any] = state.get("running_statistics") or {"model": {}, "ema": {}}
        self.model.load_state_dict({**state["model"], **running["model"]})
        # torch takes these tensors over as they are: mapped ones would keep the file of a checkpoint open all the time.
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.step = state["step"]
        self.samples_seen = dict(state["samples_seen"])
        self.unreadable = dict(state["unreadable"])
        self.replacements = dict(state.get("replacements", {}))  # checkpoints of version 0.1.0 have none
        if self.ema is not None and state.get("ema") is not None:
            self.ema.load({**state["ema"], **running["ema"]})
        if self.scaler.is_enabled() and state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])
        self.skipped_steps = list(state.get("skipped_steps", []))
        self.best_score = state["best_score"]
        self.best_step = state["best_step"]
        self.validated_step = state["validated_step"]
        self.recomputed = None
        if running["model"]:
            self.recomputed = RecomputedStatistics(
                self.step,
                running["steps"],
                {name: state["model"][name].clone() for name in running["model"]},
                {name: state["ema"][name].clone() for name in running["ema"]},
            )


def _of(recomputed: RecomputedStatistics | None, average: bool) -> Mapping[str, Tensor]:
    if recomputed is None:
        return {}
    return recomputed.of_average if average else recomputed.of_model


@contextlib.contextmanager
def _replaced(module: nn.Module, buffers: Mapping[str, Tensor]) -> Iterator[None]:
    """Gives a module other values of some buffers for the time of the block."""
    named = dict(module.named_buffers())
    own = {name: named[name].clone() for name in buffers}
    for name, value in buffers.items():
        named[name].copy_(value)
    try:
        yield
    finally:
        for name, value in own.items():
            named[name].copy_(value)


def new_state(recipe: Recipe, recognizer: Recognizer, device: torch.device) -> TrainState:
    """Returns the state of a run before its first step, around a recognizer that is on `device`."""
    state = TrainState(recognizer, build_optimizer(recipe.optimizer, recognizer))
    state.samples_seen = dict.fromkeys(recipe.sources, 0)
    state.scaler = GradScaler(device.type, enabled=recipe.precision == "float16")
    if recipe.ema_decay is not None:
        state.ema = Ema(recipe.ema_decay, recognizer)
    return state
