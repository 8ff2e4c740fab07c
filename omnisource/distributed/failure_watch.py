"""Ends all processes of a run when one of them has failed or is gone, its own error shown first.

A process that fails says so in the store through which the processes of a run have met. The heart of each process beats
there, and each looks after the next one's in a circle, so that the load on the store stays small with many processes.
A thread of its own does this: the main one may be waiting for a process that is gone. `WatchTimes` has the times.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import torch.distributed as dist

# Documented, though not listed among the names that the module exports.
from torch.distributed import PrefixStore, Store, TCPStore  # pyright: ignore[reportPrivateImportUsage]

from omnisource.distributed.watch_times import WatchTimes
from omnisource.printing import notice

T = TypeVar("T")

_FAILED = "failed"


class NoAnswer(Exception):
    """The store gives no answer: the process that serves it hangs, or its machine is gone without a word."""


class MissingProcesses(Exception):
    """Processes of a run that the others have waited for in vain.

    Attributes:
        ranks: Their numbers; none where this process is the one that cannot serve as the meeting point.
        reason: What the store says.
    """

    def __init__(self, ranks: list[int], reason: str) -> None:
        super().__init__(ranks, reason)
        self.ranks = ranks
        self.reason = reason


class FailureWatch:
    """Watches over the processes of a run from one of them.

    Args:
        store: The store of the run; used by this watch alone, by one thread at a time.
        rank: Number of this process.
        world_size: Number of processes.
        times: When it gives up what.
    """

    def __init__(self, store: Store, rank: int, world_size: int, times: WatchTimes) -> None:
        self.times = times
        self._store = store
        self._savings = 0  # blocks of `saving` that are under way
        self._saved = threading.Condition()
        self._rank = rank
        self._next = (rank + 1) % world_size
        self._asked = (_heartbeat_of(self._next), _FAILED)
        self._questions: queue.SimpleQueue[tuple[Callable[[], Any], queue.SimpleQueue[Any]]] = queue.SimpleQueue()
        self._is_over = threading.Event()
        self._is_to_leave = threading.Event()
        # All are started now: while the interpreter leaves, no thread can be started any more.
        self._thread = self._started(self._run, "")
        self._started(self._answer_questions, "-answers")
        self._started(self._see_it_leave, "-leaving")

    def _started(self, run: Callable[[], None], name: str) -> threading.Thread:
        thread = threading.Thread(target=run, name=f"omnisource-failure-watch{name}", daemon=True)
        thread.start()
        return thread

    def is_first(self, reason: str) -> bool:
        """Says that this process fails; returns whether it is the first, so that its error is the one to be shown.

        Args:
            reason: Why, in a line.
        """
        own = f"process {self._rank}: {reason}"
        try:
            limit = self.times.answer_seconds
            return self._answer(lambda: self._store.compare_set(_FAILED, "", own).decode() == own, limit)
        except NoAnswer:  # whatever the others have, nobody else will say what is wrong here
            return True
        except (RuntimeError, ValueError):  # the process with the store is gone: it failed before
            return False

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Keeps this process from being ended while the block saves, within a limit."""
        with self._saved:
            self._savings += 1
        try:
            yield
        finally:
            with self._saved:
                self._savings -= 1
                self._saved.notify_all()

    def stop(self, *, has_failed: bool = False) -> None:
        """Ends the watch: this process is done, which is no failure, or has failed, which the others know by now."""
        self._is_over.set()
        # A thread that the store answers while the interpreter leaves would abort it. Where all is well, the store is
        # waited for even if its process stands still: the others are to learn that this one is done.
        times = self.times
        self._thread.join(times.answer_seconds if has_failed else times.silence_seconds + 2 * times.heartbeat_seconds)

    def _run(self) -> None:
        beats, last_beat, silent_seconds, looked_at = 0, "", 0.0, time.monotonic()
        limit = self.times.silence_seconds
        try:
            while not self._is_over.wait(self.times.heartbeat_seconds):
                beats += 1
                beat, failure = self._answer(functools.partial(self._beat, str(beats)), limit)
                # What this process itself stood still for does not count: the others may have stood still with it.
                now = time.monotonic()
                silent_seconds += min(now - looked_at, 3 * self.times.heartbeat_seconds)
                looked_at = now
                if beat != last_beat:
                    last_beat, silent_seconds = beat, 0.0
                if failure and not failure.startswith(f"process {self._rank}:"):
                    self._end("")
                    return
                if beat != "done" and silent_seconds > limit:
                    words = f"no heartbeat for {limit:g} s, so the run is ended"
                    said = f"process {self._next}: {words}"
                    self._answer(functools.partial(self._store.compare_set, _FAILED, "", said), limit)
                    self._end(f"error: process {self._next} gave {words}")
                    return
            self._answer(lambda: self._store.set(_heartbeat_of(self._rank), "done"), limit)
        except NoAnswer:
            words = f"has given no answer for {limit:g} s, so the run is ended"
            self._end(f"error: the process that the others have met through {words}")
        except (RuntimeError, ValueError) as error:
            if self._is_over.is_set():
                return  # the store went with a process that was done before
            self._end(f"error: the process that the others have met through is gone ({str(error).splitlines()[0]})")

    def _beat(self, beat: str) -> tuple[str, str]:
        """Gives a heartbeat; returns that of the next process, and which process failed ("": none)."""
        self._store.set(_heartbeat_of(self._rank), beat)
        found = [self._store.get(key).decode() if self._store.check([key]) else "" for key in self._asked]
        return found[0], found[1]

    def _answer(self, ask: Callable[[], T], limit_seconds: float) -> T:
        """Returns what `ask`, which asks the store, returns.

        The store has no time limits of its own for all that it is asked, so another thread waits for it.

        Raises:
            NoAnswer: If none comes in time. What this process is stopped for (Ctrl-Z) does not count.
            RuntimeError: If the store is gone.
            ValueError: If the store is gone.
        """
        answers: queue.SimpleQueue[tuple[T, None] | tuple[None, Exception]] = queue.SimpleQueue()
        self._questions.put((ask, answers))
        interval = self.times.heartbeat_seconds
        for _ in range(math.ceil(limit_seconds / interval)):  # of which a stop uses up one at most
            with contextlib.suppress(queue.Empty):
                answer, error = answers.get(timeout=interval)
                if error is not None:
                    raise error
                return cast(T, answer)
        raise NoAnswer

    def _answer_questions(self) -> None:
        """Asks the store, for `_answer`: one question after the other, for as long as the process lives."""
        while True:
            ask, answers = self._questions.get()
            try:
                answers.put((ask(), None))
            except Exception as error:  # `_answer` raises it
                answers.put((None, error))

    def _end(self, words: str) -> None:
        """Waits for this process to end by itself, and then ends it."""
        if self._is_over.wait(self.times.grace_seconds):
            self._is_to_leave.set()
            return
        if words:
            notice(words)
        self._exit()

    def _see_it_leave(self) -> None:
        """Ends this process, which has stopped its watch after another's failure, if something keeps it."""
        self._is_to_leave.wait()
        time.sleep(self.times.grace_seconds)
        self._exit()

    def _exit(self) -> None:
        """Ends this process, which may hang, as soon as it does not save, or has had its time for that."""
        with self._saved:
            self._saved.wait_for(lambda: not self._savings, self.times.saving_seconds)
            os._exit(1)


def meet(rank: int, world_size: int, limit_seconds: float) -> Store:
    """Returns the store of a run, at the address that `torchrun` gives in the environment, once all have come.

    It holds nothing of what an earlier start of the processes has left at that address.

    Raises:
        MissingProcesses: If some do not come in time: they may have failed before, each with an error of its own.
    """
    limit = datetime.timedelta(seconds=limit_seconds)
    is_serving = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"  # or torchrun is
    keys = [f"met {number}" for number in range(world_size)]
    try:
        served = TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=is_serving,
            timeout=limit,
            wait_for_workers=False,
            multi_tenant=True,  # `watch_run` asks the same server
        )
    except dist.DistError as error:
        raise MissingProcesses([] if is_serving else [0], str(error).splitlines()[0]) from error
    store = PrefixStore(f"omnisource {_attempt()}", served)
    store.set(keys[rank], "")
    try:
        store.wait(keys, limit)
    except dist.DistError as error:
        raise MissingProcesses(_missing(store, keys), str(error).splitlines()[0]) from error
    return store


def _missing(store: Store, keys: list[str]) -> list[int]:
    """Returns the numbers of the processes that have not come: the first where it is gone, and the store with it."""
    try:
        return [number for number, key in enumerate(keys) if not store.check([key])]
    except dist.DistError:
        return [0]


def _attempt() -> str:
    """Returns what tells this start of the processes from others.

    torchrun can start them again in one store. Under srun a process can come to the store of another job, at whose
    first node and port it looks for its own.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:  # whose agents may be in a job step each
        return f"{os.environ['TORCHELASTIC_RUN_ID']}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    return f"{os.environ.get('SLURM_JOB_ID', '')}.{os.environ.get('SLURM_STEP_ID', '')}/0"


def watch_run(rank: int, world_size: int, times: WatchTimes) -> FailureWatch:
    """Returns a watch over the processes that have met at the address that `torchrun` gives in the environment."""
    # A client of its own: a collective that waits through the other one would hold this one up.
    store = TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=False,
        timeout=datetime.timedelta(seconds=times.silence_seconds),  # its process may stand still
    )
    return FailureWatch(PrefixStore(f"omnisource failures {_attempt()}", store), rank, world_size, times)


def _heartbeat_of(rank: int) -> str:
    """Returns the key under which the last heartbeat of a process is in the store."""
    return f"heartbeat of {rank}"
