"""What whole runs need: the miniature data sets, and torch left as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from omnisource.training.train import train
from tests.support.tiny_runs import SAVE_EVERY_STEP, make_data, mixed_recipe


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the `data` folder of the published layout in miniature, with raw frames beside it. Not to be changed."""
    return make_data(tmp_path_factory.mktemp("miniature"))


@pytest.fixture(scope="session")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the work dir of a run of 2 epochs of 3 steps: three sources, accumulation, dropout, validation.

    Not to be changed.
    """
    work_dir = tmp_path_factory.mktemp("uninterrupted") / "run"
    train(mixed_recipe(data, *SAVE_EVERY_STEP), work_dir)
    return work_dir


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    """Takes back what `deterministic=True` and training change for the whole process."""
    state = torch.get_rng_state()
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False
    torch.set_rng_state(state)
