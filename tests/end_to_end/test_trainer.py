"""The trainer of a run: what it is built from, and the precision that it validates in."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from omnisource.checkpoints.file import checkpoint_path, read_checkpoint
from omnisource.errors import UserError
from omnisource.models.backbones.slow_only import SlowOnly, slow_only
from omnisource.models.heads import ImageHead, VideoHead
from omnisource.recipe.model import Model
from omnisource.training.train import train
from tests.support.tiny_runs import SAVE_EVERY_STEP, STEPS, difference, mixed_recipe, step_lines, tiny_recipe


def narrow(model: Model) -> SlowOnly:
    return slow_only(model.depth, model.width / 2)


def test_backbone_that_is_given_is_trained_and_goes_on_bit_for_bit(data: Path, tmp_path: Path) -> None:
    recipe = mixed_recipe(data, *SAVE_EVERY_STEP, "validation.interval_epochs=1")
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    state = train(recipe, whole, build_backbone=narrow)
    assert state.model.backbone.out_channels == narrow(recipe.model).out_channels
    train(recipe, resumed, resume=str(checkpoint_path(whole, 2)), build_backbone=narrow)
    ours, theirs = (read_checkpoint(checkpoint_path(folder, STEPS)).state for folder in (resumed, whole))
    assert difference(ours, theirs) == ""
    assert step_lines(resumed) == step_lines(whole)[2:]


def test_float64_run_is_validated_in_float64(data: Path, tmp_path: Path) -> None:
    found: list[torch.dtype] = []

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(module, ImageHead | VideoHead) and not module.training:
            found.append(output.dtype)

    hook = register_module_forward_hook(note)
    try:
        train(tiny_recipe(data, "precision=float64", "ema_decay=0.9"), tmp_path)
    finally:
        hook.remove()
    assert found and set(found) == {torch.float64}


def test_backbone_with_batch_norm_of_torchs_own_is_refused_before_anything_is_loaded(
    data: Path, tmp_path: Path
) -> None:
    def with_other_norm(model: Model) -> SlowOnly:
        backbone = narrow(model)
        backbone.add_module("other_norm", nn.BatchNorm3d(3, affine=False))
        return backbone

    before = set(threading.enumerate())
    with pytest.raises(UserError, match=r"backbone cannot be trained: .*other_norm: a BatchNorm3d .* make it of"):
        train(tiny_recipe(data), tmp_path, build_backbone=with_other_norm)
    assert not {thread for thread in set(threading.enumerate()) - before if thread.is_alive()}
