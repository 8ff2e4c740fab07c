"""What a process takes: time, memory, and energy where the machine counts it."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys
import time
from pathlib import Path

_KIB_PER_GIB = 2**20
_POWERCAP = Path("/sys/class/powercap")


class Usage:
    """Counts from when it is made."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._processor_started = _processor_seconds()
        self._packages = _package_microjoules()
        self._gpus = _gpu_millijoules()

    def so_far(self) -> dict[str, float]:
        """Returns what was taken so far, by name; what this machine does not tell is left out.

        "seconds"; "processor_seconds" of this process and of its ended children; "process_gib", the most memory of
        this process; "child_gib", that of its largest ended child; "gpu_gib", the most that tensors have taken at once;
        "processor_joules" of all processor packages and "gpu_joules" of all GPUs of the machine, whoever used them.
        """
        taken = {
            "seconds": time.monotonic() - self._started,
            "processor_seconds": _processor_seconds() - self._processor_started,
            "process_gib": _peak_gib(resource.RUSAGE_SELF),
            "child_gib": _peak_gib(resource.RUSAGE_CHILDREN),
        }
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            taken["gpu_gib"] = torch.cuda.max_memory_allocated() / 2**30
        for name, before, now, unit in (
            ("processor_joules", self._packages, _package_microjoules(), 1e-6),
            ("gpu_joules", self._gpus, _gpu_millijoules(), 1e-3),
        ):
            # A counter that has begun again from 0 tells nothing.
            if before and before.keys() == now.keys() and all(now[key] >= before[key] for key in before):
                taken[name] = unit * sum(now[key] - before[key] for key in before)
        return taken


def _processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _peak_gib(who: int) -> float:
    peak = resource.getrusage(who).ru_maxrss  # KiB, but bytes on macOS
    return peak / (_KIB_PER_GIB * (1024 if sys.platform == "darwin" else 1))


def _package_microjoules() -> dict[str, int]:
    """Returns the energy counter of each processor package; most systems let only root read them."""
    found: dict[str, int] = {}
    for path in sorted(_POWERCAP.glob("intel-rapl:[0-9]*/energy_uj")):
        if path.parent.name.count(":") == 1:  # parts of a package are counted with it
            with contextlib.suppress(OSError, ValueError):
                found[path.parent.name] = int(path.read_text())
    return found


def _gpu_millijoules() -> dict[str, int]:
    """Returns the energy counter of each NVIDIA GPU of the machine, from Volta on; none without its driver.

    Source: nvmlDeviceGetTotalEnergyConsumption of NVML, in millijoules since the driver was loaded.
    """
    found: dict[str, int] = {}
    with contextlib.suppress(OSError, AttributeError):
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        if nvml.nvmlInit_v2():
            return {}
        try:
            count = ctypes.c_uint()
            nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
            for index in range(count.value):
                device, energy = ctypes.c_void_p(), ctypes.c_ulonglong()
                failed = nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device))
                if not failed and not nvml.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(energy)):
                    found[str(index)] = energy.value
        finally:
            nvml.nvmlShutdown()
    return found
