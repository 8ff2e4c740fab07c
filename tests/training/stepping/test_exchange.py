from __future__ import annotations

import signal
from collections.abc import Sequence

import pytest
import torch

from omnisource.training.stepping.exchange import LocalStep, ReducedStep, reduce_step
from omnisource.training.stepping.sample_digest import digest_text


def reduced(signals: Sequence[int] = (), *, asks_saving: bool = False) -> ReducedStep:
    losses = torch.tensor([1.25, float("nan"), 0.1], dtype=torch.float64)
    return reduce_step(LocalStep(losses, 0.75, [1.0, 2.0, 65535.0, 70000.0], signals, asks_saving))


def test_what_one_process_tells_comes_back_as_it_is() -> None:
    found = reduced()
    assert found.losses[0] == 1.25 and found.losses[1] != found.losses[1] and found.losses[2] == 0.1
    assert (found.data_seconds, found.stop_signal, found.is_saving_asked) == (0.75, 0, False)
    assert found.samples_digest == digest_text([1, 2, 65535, 70000]) == "00010002ffff1170"
    assert reduced(asks_saving=True).is_saving_asked


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_signal_that_was_received_stops_the_run(number: int) -> None:
    assert reduced([number]).stop_signal == number
