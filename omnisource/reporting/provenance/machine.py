"""How something was made: the command, the versions, the machine."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shlex
import socket
import sys
from pathlib import Path
from typing import Any

from omnisource.distributed.cores import usable_cores

_PACKAGES = ("omnisource", "torch", "numpy", "av", "pillow")


def describe_process() -> dict[str, Any]:
    """Returns what is needed to do again what this process does, ready for JSON.

    "command" as a shell takes it, "folder" it was given in, "versions" by name, "host", "processor", "cores" that may
    be used, and "gpus", as far as torch is loaded and knows them.
    """
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "command": _command(),
        "folder": _current_folder(),
        "versions": versions,
        "host": socket.gethostname(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": usable_cores(),
        "gpus": _gpus(),
    }


def _command() -> str:
    """Returns the command line of this process; `omnisource` where it was started by that name, or as a module."""
    program, *arguments = sys.argv
    name = Path(program).name
    starts = {"omnisource": ["omnisource"], "__main__.py": ["python", "-m", "omnisource"]}
    return shlex.join([*starts.get(name, ["python", program]), *arguments])


def _current_folder() -> str:
    with contextlib.suppress(OSError):  # it may have been removed
        return os.getcwd()
    return ""


def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpus() -> list[str]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
