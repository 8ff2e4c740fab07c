"""What something took, and how it can be done again, from what processes noted of themselves."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from omnisource.report.page import Reproduction, Table
from omnisource.reporting.lines import clock


def usage_table(starts: Sequence[Mapping[str, Any]], title: str) -> Table | None:
    """Returns what each start of a run or a test took; None where nobody noted it."""
    if not starts:
        return None
    rows = tuple(_usage_row(start) for start in starts)
    columns = ("begun", "from step", "took", "processor time", "memory", "GPU memory", "energy", "on")
    remark = (
        "Memory is the most that the first process had at once, and the largest of its ended children. Energy is that "
        "of the whole machine, whoever used it, where its counters can be read."
    )
    return Table(title, columns, rows, remark)


def _usage_row(start: Mapping[str, Any]) -> tuple[Any, ...]:
    usage = start.get("usage") or {}
    begun = start.get("unix_seconds")
    memory = " + ".join(f"{usage[name]:.2f}" for name in ("process_gib", "child_gib") if usage.get(name))
    return (
        time.strftime("%Y-%m-%d %H:%M", time.localtime(begun)) if begun else "",
        start.get("from_step", ""),
        (clock(usage["seconds"]), usage["seconds"]) if "seconds" in usage else "not noted: ended by force",
        (clock(usage["processor_seconds"]), usage["processor_seconds"]) if "processor_seconds" in usage else "",
        f"{memory} GiB" if memory else "",
        f"{usage['gpu_gib']:.2f} GiB" if "gpu_gib" in usage else "",
        energy(usage) or "not told",
        ", ".join(filter(None, [str(start.get("host", "")), *_devices(start)])),
    )


def energy(usage: Mapping[str, Any]) -> str:
    """Returns the energy that was counted; "" where the machine does not tell."""
    names = {"processor_joules": "processors", "gpu_joules": "GPUs"}
    return ", ".join(f"{usage[key] / 3600:.2f} Wh {name}" for key, name in names.items() if key in usage)


def reproduction(process: Mapping[str, Any]) -> Reproduction:
    """Returns how something can be done again, from what its process noted."""
    versions = process.get("versions") or {}
    facts = {
        "folder": process.get("folder", ""),
        "processes": process.get("processes", ""),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "machine": ", ".join(filter(None, [str(process.get("host", "")), str(process.get("system", ""))])),
        "processor": process.get("processor", ""),
        "cores": process.get("cores", ""),
        "GPUs": ", ".join(map(str, process.get("gpus") or [])),
        "checkpoint": process.get("checkpoint", ""),
        "weights": "their moving average" if process.get("ema") else "",
    }
    known = tuple((name, str(value)) for name, value in facts.items() if value not in ("", None))
    return Reproduction(str(process.get("command", "")), known)


def _devices(process: Mapping[str, Any]) -> list[str]:
    gpus = process.get("gpus") or []
    if gpus:
        return [f"{len(gpus)} × {gpus[0]}"]
    return [str(process.get("processor", "")), f"{process.get('cores')} cores" if process.get("cores") else ""]
