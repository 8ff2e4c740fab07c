"""What SLURM tells of a job step, in the words of `torchrun`."""

from __future__ import annotations

import os
import re
import subprocess

from omnisource.errors import UserError

FIRST_PORT, PORTS = 10000, 20000
"""Ports that runs under SLURM meet at: below those that Linux gives to connections, from 32768 on."""


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
    if local_world_size := _tasks_here():
        os.environ["LOCAL_WORLD_SIZE"] = str(local_world_size)
    if "MASTER_ADDR" not in os.environ:
        nodes = _nodes()
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
    os.environ.setdefault("MASTER_PORT", str(_port()))


def _nodes() -> str:
    """Returns the nodes of the job step as SLURM writes them; those of the job where it names no others.

    Raises:
        UserError: If SLURM names none.
    """
    names = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")  # a step may have a part of the job's
    nodes = next((os.environ[name] for name in names if os.environ.get(name)), None)
    if nodes is None:
        raise UserError(f"--launcher slurm: none of {', '.join(names)} is set; set MASTER_ADDR to the first node.")
    return nodes


def _port() -> int:
    """Returns the port of a job step: jobs that share a node, and steps of one job, seldom have the same."""
    job, step = os.environ.get("SLURM_JOB_ID", ""), os.environ.get("SLURM_STEP_ID", "")
    # Steps are counted from 0, and jobs that run at once often follow each other.
    number = 31 * (int(job) if job.isdecimal() else 0) + (int(step) if step.isdecimal() else 0)
    return FIRST_PORT + number % PORTS


def _tasks_here() -> int | None:
    """Returns how many tasks of the job step are on this node; None where SLURM does not say.

    Raises:
        UserError: If a variable of SLURM is not of the form that its manual gives, such as 4(x2),3.
    """
    # The step's own counts first: a step may have fewer tasks than its job was given.
    for name in ("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE", "SLURM_NTASKS_PER_NODE"):
        text = os.environ.get(name)
        if not text:
            continue
        counts: list[int] = []
        for part in text.split(","):
            found = re.fullmatch(r"([1-9]\d{0,5})(?:\(x([1-9]\d{0,5})\))?", part.strip())
            if found is None:
                raise UserError(f"--launcher slurm: {name}={text}: not of the form of SLURM, such as 4(x2),3")
            counts += [int(found[1])] * int(found[2] or 1)
        node = os.environ.get("SLURM_NODEID", "0")
        # One number is that of every node; where they differ, there is one for each.
        return counts[int(node)] if node.isdecimal() and int(node) < len(counts) else counts[-1]
    return None
