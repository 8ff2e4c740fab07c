"""Everything that changes in a run."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.amp.grad_scaler import GradScaler

from omnisource.models.recognizer import Recognizer
from omnisource.recipe.recipe import Recipe
from omnisource.training.ema import Ema
from omnisource.training.optimizer import build_optimizer
from omnisource.training.plan import Plan


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
    is_between_steps: bool = True

    def awaits_validation(self, plan: Plan, interval_epochs: int) -> bool:
        """Returns whether the last step ended an epoch that is to be validated, and has not been."""
        return self.validated_step < self.step and plan.ends_epoch(self.step, interval_epochs)

    def state_dict(self) -> dict[str, Any]:
        """Returns the state as tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "samples_seen": dict(self.samples_seen),
            "unreadable": dict(self.unreadable),
            "replacements": dict(self.replacements),
            "ema": self.ema.tensors if self.ema is not None else None,
            "scaler": self.scaler.state_dict(),
            "skipped_steps": list(self.skipped_steps),
            "best_score": self.best_score,
            "best_step": self.best_step,
            "validated_step": self.validated_step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` returned, in this process or another."""
        self.model.load_state_dict(state["model"])
        # torch takes these tensors over as they are: mapped ones would keep the file of a checkpoint open all the time.
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.step = state["step"]
        self.samples_seen = dict(state["samples_seen"])
        self.unreadable = dict(state["unreadable"])
        self.replacements = dict(state.get("replacements", {}))  # checkpoints of version 0.1.0 have none
        if self.ema is not None and state.get("ema") is not None:
            self.ema.load(state["ema"])
        if self.scaler.is_enabled() and state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])
        self.skipped_steps = list(state.get("skipped_steps", []))
        self.best_score = state["best_score"]
        self.best_step = state["best_step"]
        self.validated_step = state["validated_step"]


def new_state(recipe: Recipe, recognizer: Recognizer, device: torch.device) -> TrainState:
    """Returns the state of a run before its first step, around a recognizer that is on `device`."""
    state = TrainState(recognizer, build_optimizer(recipe.optimizer, recognizer))
    state.samples_seen = dict.fromkeys(recipe.sources, 0)
    state.scaler = GradScaler(device.type, enabled=recipe.precision == "float16")
    if recipe.ema_decay is not None:
        state.ema = Ema(recipe.ema_decay, recognizer)
    return state
