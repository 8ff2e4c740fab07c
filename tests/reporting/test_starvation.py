from __future__ import annotations

from omnisource.reporting.starvation import Starvation
from tests.support.reported_runs import record


def warnings_of(
    num_steps: int, share: float, step_seconds: float = 0.1, watched: Starvation | None = None
) -> dict[int, str]:
    """Returns the warnings by step of a run whose steps all wait the same share of their time."""
    watched = watched or Starvation(num_workers=2, local_processes=1, cores=16)
    found = {}
    for step in range(1, num_steps + 1):
        warning = watched.add(record(step, step_seconds=step_seconds, data_seconds=share * step_seconds))
        if warning is not None:
            found[step] = warning
    return found


def test_waiting_is_warned_of_once_a_window_of_steps_is_full() -> None:
    found = warnings_of(1000, share=0.43)
    assert list(found) == [110]  # 10 of warm-up, 100 of the window
    assert found[110].startswith("warning: 43% of the time of the last 100 steps went into waiting for data; ")


def test_little_waiting_is_not_warned_of() -> None:
    assert warnings_of(1000, share=0.25) == {}
    assert list(warnings_of(1000, share=0.26)) == [110]


def test_first_steps_which_wait_for_the_workers_do_not_count() -> None:
    watched = Starvation(num_workers=2, local_processes=1, cores=16)
    assert warnings_of(10, share=1.0, step_seconds=60, watched=watched) == {}
    assert warnings_of(500, share=0.1, watched=watched) == {}


def test_long_steps_are_judged_after_minutes() -> None:
    found = warnings_of(100, share=0.5, step_seconds=25)
    assert min(found) == 22  # 12 steps of 25 s after the warm-up
    assert "the last 12 steps" in found[22]
    assert min(warnings_of(25, share=0.5, step_seconds=600)) == 20  # but never of fewer than 10 steps


def test_warning_comes_once() -> None:
    assert list(warnings_of(10_000, share=0.5, step_seconds=1.0)) == [110]


def test_waiting_that_begins_late_is_noticed_and_its_end_too() -> None:
    watched = Starvation(num_workers=2, local_processes=1, cores=16)
    assert warnings_of(500, share=0.0, step_seconds=1.0, watched=watched) == {}
    assert list(warnings_of(100, share=1.0, step_seconds=1.0, watched=watched)) == [26]
    assert warnings_of(30_000, share=0.0, watched=watched) == {}


def test_advice_has_the_numbers_of_the_machine() -> None:
    def advice(num_workers: int, local_processes: int, cores: int) -> str:
        [warning] = warnings_of(110, 0.5, watched=Starvation(num_workers, local_processes, cores)).values()
        return warning.partition("; ")[2]

    assert advice(2, 1, 16).startswith("num_workers is 2, on 16 cores: raise it, up to num_workers=16 ")
    assert advice(2, 8, 64).startswith("num_workers is 2 for each of 8 processes, on 64 cores: raise it, up to ")
    assert "num_workers=8 " in advice(2, 8, 64)
    assert advice(16, 1, 16).startswith("num_workers is 16, and there are no more than 16 cores")
    assert advice(4, 1, 1).startswith("num_workers is 4, and there are no more than 1 core,")
    for numbers in ((2, 1, 16), (16, 1, 16)):
        assert "`omnisource prepare`" in advice(*numbers)
