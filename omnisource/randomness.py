"""Random generators as pure functions of where they are used, so that nothing random needs to be replayed.

torch is imported by what seeds it: making lists draws items too, and starts at once.
"""

from __future__ import annotations

import hashlib
import os

import numpy as np


def derived_seed(*parts: int | str) -> int:
    """Returns a 64-bit seed that depends on every part and on their order, the same on every machine.

    Example: `derived_seed(seed, "order", source_name, epoch)`.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def sample_generator(seed: int, source: str, epoch: int, index: int) -> np.random.Generator:
    """Returns the generator of one sample: all that is random about its frames and its augmentation.

    Args:
        seed: Seed of the run.
        source: Name of the source.
        epoch: Epoch of the source, 0-based.
        index: Index of the item in the source's list, 0-based.
    """
    return np.random.Generator(np.random.PCG64(derived_seed(seed, "sample", source, epoch, index)))


def seed_initialization(seed: int) -> None:
    """Seeds torch's global generators for the initial weights of a run."""
    import torch

    torch.manual_seed(derived_seed(seed, "initialization") % 2**63)


def seed_microbatch(seed: int, step: int, microbatch: int) -> None:
    """Seeds torch's global generators for the dropout of one microbatch.

    Dropout is so a function of (seed, step, microbatch): a resumed run needs no stored state, and another number of
    processes draws the same masks.
    """
    import torch

    torch.manual_seed(derived_seed(seed, "dropout", step, microbatch) % 2**63)


def make_deterministic() -> None:
    """Makes torch use deterministic algorithms only, and fail where it has none.

    Has to come before the first matrix product on a GPU: cuBLAS reads its setting then.
    """
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
