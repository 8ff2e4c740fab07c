from __future__ import annotations

import pytest

from omnisource.cli.commands.compare import shard_of_environment
from omnisource.cli.main import main


@pytest.mark.parametrize(
    ("variables", "shard"),
    [
        ("", (0, 1)),
        ("RANK=2 WORLD_SIZE=3 LOCAL_RANK=0", (2, 3)),
        ("SLURM_ARRAY_TASK_ID=4 SLURM_ARRAY_TASK_COUNT=4 SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_STEP=1", (3, 4)),
        ("SLURM_ARRAY_TASK_ID=9 SLURM_ARRAY_TASK_COUNT=3 SLURM_ARRAY_TASK_MIN=5 SLURM_ARRAY_TASK_STEP=2", (2, 3)),
        ("SLURM_ARRAY_TASK_ID=7 SLURM_ARRAY_TASK_COUNT=3 SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_STEP=1", (0, 3)),
    ],
)
def test_torchrun_and_arrays_of_slurm_say_which_part_a_command_does(
    monkeypatch: pytest.MonkeyPatch, variables: str, shard: tuple[int, int]
) -> None:
    for name in ("RANK", "WORLD_SIZE", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    for variable in variables.split():
        monkeypatch.setenv(*variable.split("="))
    assert shard_of_environment() == shard


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b"])
def test_part_that_is_none_is_refused(capsys: pytest.CaptureFixture[str], shard: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(["compare", "experiment.py", "--shard", shard])
    assert end.value.code == 2 and "wants I/N with I from 1 to N" in capsys.readouterr().err
