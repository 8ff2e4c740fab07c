"""Floating point types: of the weights, and of the forward pass."""

from __future__ import annotations

import contextlib
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16", "float16", "float64"]
"""As `Recipe.precision`: the last holds for the weights too, which are float32 with the others."""


def weight_type(precision: Precision) -> torch.dtype:
    """Returns the floating point type that the weights have."""
    return torch.float64 if precision == "float64" else torch.float32


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[object]:
    """Returns the context in which the forward pass has a precision."""
    if precision in ("float32", "float64"):
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))
