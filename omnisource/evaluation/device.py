"""The device that a user names."""

from __future__ import annotations

import re

import torch

from omnisource.distributed.processes import choose_device
from omnisource.errors import UserError


def device_named(name: str) -> torch.device:
    """Returns a device by its name.

    Args:
        name: "auto" (the GPU where there is one, and the CPU otherwise), "cpu", "cuda" (the first GPU) or "cuda:N".

    Raises:
        UserError: If the name is none of these, or torch sees no such GPU.
    """
    if name == "auto":
        return choose_device()
    if name == "cpu":
        return torch.device("cpu")
    named = re.fullmatch(r"cuda(?::([0-9]{1,4}))?", name)
    if named is None:
        raise UserError(f"device {name}: allowed are auto, cpu, cuda and cuda:N")
    count, index = torch.cuda.device_count(), int(named[1] or 0)
    if not count:
        raise UserError(f"device {name}: torch {torch.__version__} sees no GPU here; take auto or cpu")
    if index >= count:
        there = ", ".join(f"cuda:{number}" for number in range(count))
        raise UserError(f"device {name}: there is no such GPU; there is {there}")
    return torch.device("cuda", index)
