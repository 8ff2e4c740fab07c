from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from omnisource.signals import STOP_SIGNALS, Interrupted, noted_signals, stopped_by_signals


@pytest.fixture(autouse=True)
def hang_up_ends_the_process() -> Iterator[None]:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored
    yield
    signal.signal(signal.SIGHUP, before)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in STOP_SIGNALS]


def test_signals_are_noted_in_their_order_and_end_nothing() -> None:
    before = handlers()
    with noted_signals() as received:
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.raise_signal(number)
        assert received == [signal.SIGTERM, signal.SIGUSR1]
    assert handlers() == before


def test_hang_up_that_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with noted_signals() as received:
        signal.raise_signal(signal.SIGHUP)
    assert received == []


def test_second_signal_that_is_ctrl_c_ends_the_block() -> None:
    before = handlers()
    with pytest.raises(KeyboardInterrupt) as raised, noted_signals() as received:
        signal.raise_signal(signal.SIGINT)
        assert received == [signal.SIGINT]
        signal.raise_signal(signal.SIGINT)
    assert not isinstance(raised.value, Interrupted)  # nothing was kept
    assert handlers() == before


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_signal_ends_a_block_at_once_and_is_known_afterward(number: int) -> None:
    before = handlers()
    with pytest.raises(Interrupted) as raised, stopped_by_signals():
        signal.raise_signal(number)
        raise AssertionError("the block went on")
    assert raised.value.signal_number == number
    assert handlers() == before
