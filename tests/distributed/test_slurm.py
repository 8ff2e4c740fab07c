"""What SLURM is told and tells: the documented script, and jobs that come to one meeting point."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.tiny_runs import PROJECT, errors_of, started_as_by_srun

TWO_JOBS = """
import os
import sys
import torch
from omnisource.distributed import processes
from omnisource.cli.main import run

def work():
    os.environ[os.environ["DIFFERING"]] = os.environ["RANK"]
    processes.start(torch.device("cpu"))
    return 0

sys.exit(run(work))
"""


@pytest.mark.parametrize("differing", ["SLURM_JOB_ID", "SLURM_STEP_ID"])
def test_processes_of_two_jobs_at_one_port_do_not_meet(tmp_path: Path, differing: str) -> None:
    script = tmp_path / "two_jobs.py"
    script.write_text(TWO_JOBS)
    processes = started_as_by_srun(
        script, SLURM_JOB_ID="7", SLURM_STEP_ID="0", DIFFERING=differing, OMNISOURCE_MEETING_SECONDS="6"
    )
    errors = errors_of(processes)
    assert [process.returncode for process in processes] == [2, 2]
    for rank, error in enumerate(errors):
        assert f"error: process {rank} has waited 6 s for process {1 - rank} of 2 (" in error


@pytest.mark.parametrize(("code", "is_requeued"), [(138, True), (0, False), (2, False), (143, False)])
def test_documented_script_requeues_what_was_stopped_and_keeps_every_other_code(
    tmp_path: Path, code: int, is_requeued: bool
) -> None:
    [script] = re.findall(r"```bash\n(#!/bin/bash\n.*?)```", (PROJECT / "docs/many_gpus.md").read_text(), re.DOTALL)
    for name, ending in (("srun", code), ("scontrol", 0)):
        program = tmp_path / name
        program.write_text(f'#!/bin/bash\necho {name} "$@" >> "{tmp_path}/calls"\nexit {ending}\n')
        program.chmod(0o755)
    variables = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    result = subprocess.run(["bash", "-c", script], env=variables, check=False)
    train, *more = (tmp_path / "calls").read_text().splitlines()
    assert train.startswith("srun python tools/train.py CONFIG --launcher slurm ") and train.endswith(" --resume")
    assert more == (["scontrol requeue 7"] if is_requeued else [])
    assert result.returncode == (0 if is_requeued else code)
