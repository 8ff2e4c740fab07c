"""The processes of one run: who we are, and the few collectives that the run needs."""

from __future__ import annotations

import atexit
import contextlib
import datetime
import inspect
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage] (documented, though not listed)
from torch.nn.parallel import DistributedDataParallel

from omnisource.distributed.failure_watch import FailureWatch, MissingProcesses, meet, watch_run
from omnisource.distributed.watch_times import read_watch_times, variable
from omnisource.errors import UserError
from omnisource.printing import notice

T = TypeVar("T")

TIMEOUT = datetime.timedelta(minutes=30)
"""Longest wait for another process in a collective; validation of one process may be that far behind."""

_LOOK_SECONDS = 0.5  # from one look at what process 0 has finished to the next, at most

_watches: list[FailureWatch] = []  # of the process group, if it was joined
_stores: list[Store] = []  # likewise
_tasks = itertools.count()  # numbers what process 0 does for all, alike on all processes


def choose_device() -> torch.device:
    """Returns the GPU of this process, made the current one, or the CPU where there is none.

    Raises:
        UserError: If there are more processes on this machine than GPUs.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if torch.cuda.device_count() == 1 and "SLURM_PROCID" in os.environ:
        return torch.device("cuda", 0)  # SLURM can show each of its tasks the one GPU that is its own
    if local_rank() >= torch.cuda.device_count():
        raise UserError(
            f"process {local_rank()} of this machine has no GPU of its own: there are "
            f"{torch.cuda.device_count()}. Start at most one process a GPU."
        )
    device = torch.device("cuda", local_rank())
    torch.cuda.set_device(device)
    return device


def start(device: torch.device) -> None:
    """Joins the process group that `torchrun` describes in the environment, if there is one.

    Raises:
        UserError: If the environment does not describe it in full or has times that are none, or not all processes
            come in time.
    """
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        return
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise UserError(f"WORLD_SIZE is set but {', '.join(missing)} is not; start many processes with torchrun.")
    me, count, times = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), read_watch_times()
    store = _met(me, count, times.meeting_seconds)
    _watches.append(watch_run(me, count, times))  # before the group: joining it waits for all processes, too
    atexit.register(_leave_failed)
    _stores.append(store)
    store.set_timeout(TIMEOUT)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=me, world_size=count, timeout=TIMEOUT)


def _met(me: int, count: int, limit_seconds: float) -> Store:
    """Returns the store of a run once all its processes have come."""
    try:
        return meet(me, count, limit_seconds)
    except MissingProcesses as error:
        if not error.ranks:
            address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            raise UserError(
                f"MASTER_ADDR:MASTER_PORT={address}: process 0 cannot serve there ({error.reason}). The address must "
                "be of its machine, and the port free: another run may have it."
            ) from error
        missing = ", ".join(map(str, error.ranks[:20]))
        raise UserError(
            f"process {me} has waited {limit_seconds:g} s for process {missing} of {count} ({error.reason}). "
            f"If one failed, its own output says why; if they only start slowly, set {variable('meeting_seconds')}."
        ) from error


def stop() -> None:
    """Leaves the process group, together with the others; not for a process that has failed.

    With NCCL this may wait for the other processes, so the watch over them ends last.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
    _stores.clear()
    while _watches:
        _watches.pop().stop()


def _leave_failed() -> None:
    """Ends the watch of a process that leaves without `stop`: the interpreter has shown its error by now.

    The process group is not destroyed, since that can wait for processes that wait for this one. Should torch wait for
    them all the same while the interpreter goes, the alarm ends the process.
    """
    if _watches:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, _watches[0].times.leaving_seconds)
    while _watches:
        _watches.pop().stop(has_failed=True)


def is_own_failure(error: BaseException) -> bool:
    """Returns whether an error of this process is to be shown: not if it only follows from another process's."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return all(watch.is_first(reason) for watch in _watches)


def say(text: str) -> None:
    """Prints what this process has met: the first on standard output, others on standard error with their number.

    Where nobody reads that any more, the work goes on without it.
    """
    if rank() == 0:
        return notice(text, sys.stdout)
    for line in text.splitlines():
        notice(f"process {rank()}: {line}")


@contextlib.contextmanager
def saving() -> Iterator[None]:
    """Keeps this process from being ended after another's failure while the block saves, within a limit."""
    with contextlib.ExitStack() as stack:
        for watch in _watches:
            stack.enter_context(watch.saving())
        yield


def rank() -> int:
    """Returns the number of this process, 0-based."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Returns the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_rank() -> int:
    """Returns the number of this process on its machine, 0-based."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def gather(value: Any) -> list[Any]:
    """Returns the value that each process gave, in the order of their ranks, on every process."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast(value: Any, source: int = 0) -> Any:
    """Returns on every process the value that process number `source` gave."""
    if not dist.is_initialized():
        return value
    values = [value]
    dist.broadcast_object_list(values, src=source)
    return values[0]


def average(values: torch.Tensor) -> torch.Tensor:
    """Returns the mean of a tensor over the processes."""
    if dist.is_initialized():
        dist.all_reduce(values)
        values = values / dist.get_world_size()
    return values


def gather_tensors(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Returns the tensor that each process gave, in the order of their ranks; all must have the same shape."""
    if not dist.is_initialized():
        return [tensor]
    tensors = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(tensors, tensor)
    return tensors


def add_up(values: torch.Tensor) -> torch.Tensor:
    """Returns the sum of a tensor over the processes; what was given is written over."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def in_parallel(module: nn.Module) -> nn.Module:
    """Returns a module whose gradients are averaged over the processes; the module itself where there is one process.

    Its buffers are left alone: `RunningStatistics` keeps running statistics alike.
    """
    if world_size() == 1:
        return module
    # torch 2.13 gave the argument a new name, and warns of the old one.
    names = inspect.signature(DistributedDataParallel).parameters
    options: dict[str, Any] = {}
    options["forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"] = False
    return DistributedDataParallel(module, **options)


def run_on_rank0(function: Callable[[], T]) -> T:
    """Returns what `function` returns on process 0, the only one that calls it; it may take as long as it lives.

    Raises:
        Exception: On process 0, if the function did.
        SystemExit: On the others then, without a word.
    """
    value: T | None = None
    error: Exception | None = None
    finished = f"process 0 has finished task {next(_tasks)}"
    if rank() == 0:
        try:
            value = function()
        except Exception as raised:  # re-raised below, once the others know
            error = raised
        finally:
            for store in _stores:
                store.set(finished, "")
    else:
        _wait_until(finished)
    raise_on_all_ranks(error)
    return broadcast(value)


def _wait_until(finished: str) -> None:
    """Waits for a key in the store without a limit, other than in a collective; the watch ends it if process 0 is gone.

    The store is asked again and again, since a wait for the key would keep it from others of this process.
    """
    seconds = 0.001
    while not all(store.check([finished]) for store in _stores):
        time.sleep(seconds)
        seconds = min(2 * seconds, _LOOK_SECONDS)


def raise_on_all_ranks(error: Exception | None) -> None:
    """Raises if any process comes with an error, so that none waits for one that is gone.

    Raises:
        Exception: The error, where it happened.
        SystemExit: On the others, without a word: one message is enough.
    """
    failed = any(gather(error is not None))
    if error is not None:
        raise error
    if failed:
        raise SystemExit(2)
