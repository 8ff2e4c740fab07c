"""The scale of the loss in float16, after steps that change nothing; in other precisions nothing is scaled."""

from __future__ import annotations

from torch.amp.grad_scaler import GradScaler

MIN_SCALE = 1.0
"""Scale of the loss in float16 at which a gradient that overflows is a fault of the run, not of the number format."""


def can_back_off(scaler: GradScaler) -> bool:
    """Returns whether a gradient that is not finite may be one that overflows, as scaled ones do by design."""
    return scaler.is_enabled() and scaler.get_scale() > MIN_SCALE


def back_off(scaler: GradScaler) -> float:
    """Ends a step whose gradient overflowed; returns the scale from now on, which is lower."""
    scale = scaler.get_scale() * scaler.get_backoff_factor()
    end_unchanged_step(scaler, scale)
    return scale


def end_unchanged_step(scaler: GradScaler, scale: float) -> None:
    """Ends a step that changed nothing: from now on the loss is scaled so, and steps without overflow count from 0.

    torch's own update would go by single gradients; here it is their norm that is not finite, or a loss.
    """
    scaler.update(scale)
    scaler.load_state_dict({**scaler.state_dict(), "_growth_tracker": 0})  # which `update` has left as it was
