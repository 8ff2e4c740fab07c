"""The processes of one run: who we are, and the few collectives that the run needs."""

from __future__ import annotations

import datetime
import inspect
import os
import re
import subprocess
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from omnisource.errors import UserError
from omnisource.failure_watch import FailureWatch, watch_run

T = TypeVar("T")

TIMEOUT = datetime.timedelta(minutes=30)
"""Longest wait for another process in a collective; validation of one process may be that far behind."""


_watches: list[FailureWatch] = []  # of the process group, if it was joined


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
    """Joins the process group that `torchrun` describes in the environment, if there is one."""
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        return
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise UserError(f"WORLD_SIZE is set but {', '.join(missing)} is not; start many processes with torchrun.")
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    _watches.append(watch_run())


def stop() -> None:
    """Leaves the process group."""
    while _watches:
        _watches.pop().stop()
    if dist.is_initialized():
        dist.destroy_process_group()


def is_own_failure(error: BaseException) -> bool:
    """Returns whether an error of this process is to be shown: not if it only follows from another process's."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return all(watch.is_first(reason) for watch in _watches)


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


def broadcast(value: Any) -> Any:
    """Returns on every process the value that process 0 gave."""
    if not dist.is_initialized():
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
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


def from_first(function: Callable[[], T]) -> T:
    """Returns what `function` returns on process 0, the only one that calls it.

    Raises:
        Exception: On process 0, if the function did.
        SystemExit: On the others then, without a word.
    """
    value: T | None = None
    error: Exception | None = None
    if rank() == 0:
        try:
            value = function()
        except Exception as raised:  # raised again below, once the others know
            error = raised
    fail_together(error)
    return broadcast(value)


def fail_together(error: Exception | None) -> None:
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


def describe_slurm_job() -> None:
    """Sets what `torchrun` would have set from the variables of SLURM, for `srun` with one task a process.

    Raises:
        UserError: If the process was not started by srun.
    """
    missing = [name for name in ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID") if name not in os.environ]
    if missing:
        raise UserError(f"--launcher slurm: {', '.join(missing)} is not set; start the command with srun.")
    os.environ["RANK"] = os.environ["SLURM_PROCID"]
    os.environ["WORLD_SIZE"] = os.environ["SLURM_NTASKS"]
    os.environ["LOCAL_RANK"] = os.environ["SLURM_LOCALID"]
    if "MASTER_ADDR" not in os.environ:
        nodes = os.environ.get("SLURM_NODELIST", "localhost")
        if re.search(r"\[|,", nodes):
            command = ["scontrol", "show", "hostnames", nodes]
            try:
                nodes = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0]
            except (OSError, subprocess.CalledProcessError, IndexError) as error:
                raise UserError(
                    f"--launcher slurm: `{' '.join(command)}` failed ({error}), so the first node is not known; set "
                    "MASTER_ADDR to its name."
                ) from error
        os.environ["MASTER_ADDR"] = nodes
    os.environ.setdefault("MASTER_PORT", "29500")
