"""What whole runs need: the miniature data sets, and torch left as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.runs.tiny_runs import make_data


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the `data` folder of the published layout in miniature, with raw frames beside it. Not to be changed."""
    return make_data(tmp_path_factory.mktemp("miniature"))


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    """Takes back what `deterministic=True` and training change for the whole process."""
    state = torch.get_rng_state()
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False
    torch.set_rng_state(state)
