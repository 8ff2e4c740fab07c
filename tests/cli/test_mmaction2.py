"""The published command lines: every flag works or is refused with the reason, and old keys get a hint."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from omnisource.cli.mmaction2 import RENAMED_KEYS, test_main, train_main
from omnisource.recipe.keys import describe_keys
from omnisource.recipe.loading import load_config
from omnisource.recipe.overrides import apply_overrides
from omnisource.recipe.recipe import Recipe
from tests.support.miniature import PUBLISHED_CONFIG, make_published_layout, tiny_overrides

test_main.__test__ = False  # type: ignore[attr-defined] (pytest takes it for a test)

CONFIG = str(PUBLISHED_CONFIG)
# Four frames, since oneDNN (in torch 2.13) leaves elements of the weight gradient unset in a bfloat16 convolution over
# two frames with a temporal kernel of three.
OVERRIDES = tiny_overrides(more=["sources.kinetics400.sampling.clip_length=4"])
LAUNCH_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
SLURM = {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_LOCALID": "0", "SLURM_NODELIST": "node7"}


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Starts without launcher variables, and takes away those that a command sets."""
    before = dict(os.environ)
    for name in before:
        if name in LAUNCH_VARIABLES or name.startswith("SLURM_"):
            monkeypatch.delenv(name)
    yield
    for name in LAUNCH_VARIABLES:
        os.environ.pop(name, None)
    os.environ.update({name: before[name] for name in LAUNCH_VARIABLES if name in before})
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a miniature of this file alone: its runs go into it."""
    folder = tmp_path_factory.mktemp("miniature")
    make_published_layout(folder)
    return folder


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str], in_empty_folder: Path) -> Callable[..., str]:
    """Runs a command that must end with exit code 2, and returns its message."""

    def message_of(command: Callable[[list[str]], int], *arguments: str) -> str:
        try:
            code = command(list(arguments))
        except SystemExit as end:  # argparse's way
            code = end.code
        error = capsys.readouterr().err
        assert code == 2, error
        assert "Traceback" not in error
        return error

    return message_of


# Flags that are refused, with the reason.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--diff-rank-seed"], "no two processes share a microbatch; leave the flag out"),
        (
            ["--launcher", "mpi"],
            "--launcher mpi: is not supported; start the processes with torchrun (pytorch) or srun",
        ),
        (["--launcher", "pytorch"], "torchrun --nproc-per-node GPUS tools/train.py CONFIG --launcher pytorch"),
        (["--launcher", "slurm"], "start the command with srun"),
        (["--launcher", "ssh"], "invalid choice: 'ssh'"),
        (["--seed", "x"], "argument --seed"),
        (["--seed", "-3"], "seed=-3: must be at least 0"),
        (
            ["--cfg-options", "resume=maybe"],
            "resume=maybe: wants True or False; continue from a certain file with --resume",
        ),
        (["--cfg-options", "noequals"], "'noequals': an override is written key=value"),
        (["--cfg-options"], "argument --cfg-options: expected at least one argument"),
        (["--cfg-options", "sources.kinetics.root=x"], "Did you mean sources.kinetics400.root?"),
        (["--cfg-options", "num_epochs=ten"], "num_epochs=ten: wants a whole number"),
        (["--work", "x"], "unrecognized arguments: --work x"),
        (["--deterministi"], "unrecognized arguments: --deterministi"),
        (["num_epochs=3"], "unrecognized arguments: num_epochs=3"),
        (["--cfg-options", "load_from=none.pth", "work_dir=run"], "the data is not here"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_train_refuses_with_the_reason(arguments: list[str], message: str, refusal: Callable[..., str]) -> None:
    assert message in refusal(train_main, CONFIG, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--show"], "no windows are opened; write pictures with --show-dir FOLDER instead"),
        (["--wait-time", "2"], "no windows are opened; write pictures with --show-dir FOLDER instead"),
        (["--interval", "2"], "--interval 2: goes with --show-dir, and must be at least 1"),
        (["--interval", "0", "--show-dir", "x"], "--interval 0: goes with --show-dir, and must be at least 1"),
        (["--dump", "scores.json"], "--dump scores.json: the file must end in .pkl or .pickle"),
        (["--launcher", "mpi"], "--launcher mpi: is not supported"),
        (["--launcher", "pytorch"], "must be started by torchrun"),
        (["--cfg-options", "resume=True"], "a test resumes nothing; name the checkpoint"),
        (["--cfg-options", "load_from=x.pth"], "a test loads the checkpoint that is named after the config"),
        (
            ["--cfg-options", "test_dataloader.batch_size=1"],
            "test_dataloader.batch_size: a key of the published configs",
        ),
        (["--show-d", "x"], "unrecognized arguments: --show-d x"),
        (["--seed", "1"], "unrecognized arguments: --seed 1"),
        ([], "the data is not here"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_test_refuses_with_the_reason(arguments: list[str], message: str, refusal: Callable[..., str]) -> None:
    assert message in refusal(test_main, CONFIG, "checkpoint.pth", *arguments)


def test_missing_arguments_are_reported(refusal: Callable[..., str]) -> None:
    assert "the following arguments are required: config" in refusal(train_main)
    assert "the following arguments are required: checkpoint" in refusal(test_main, CONFIG)


def test_scripts_end_with_code_2_and_no_traceback(project: Path, in_empty_folder: Path) -> None:
    script = [sys.executable, str(project / "tools/train.py"), CONFIG, "--launcher", "mpi"]
    result = subprocess.run(script, capture_output=True, text=True, timeout=100)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: --launcher mpi: ") and "Traceback" not in result.stderr


# Keys of the published configs.


@pytest.mark.parametrize("key", RENAMED_KEYS)
def test_key_of_the_published_configs_gets_a_hint_at_ours(key: str, refusal: Callable[..., str]) -> None:
    for given in (key, f"{key}.more"):
        message = refusal(train_main, CONFIG, "--cfg-options", f"{given}=1")
        assert f"{given}: a key of the published configs; here it is {RENAMED_KEYS[key]}" in message
        assert "omnisource show CONFIG --keys" in message and "docs/coming_from_mmaction2.md" in message


def test_hints_name_keys_that_are_there() -> None:
    splits = [f"sources.kinetics400.{split}.folder=x" for split in ("validation", "test")]
    lists = [f"sources.kinetics400.{split}.list=x" for split in ("validation", "test")]
    recipe = apply_overrides(load_config(CONFIG, Recipe), [*splits, *lists])
    keys = {key for key, _, _ in describe_keys(recipe)}
    for name in ("kinetics400", "imagenet"):
        keys |= {key.replace(f"sources.{name}", "sources.NAME") for key in keys}
        keys |= {key.replace(f"label_spaces.{name}", "label_spaces.NAME") for key in keys}
    groups = {key.rsplit(".", depth)[0] for key in keys for depth in (1, 2)}
    for old, ours in RENAMED_KEYS.items():
        if not ours.startswith(("the flag --", "nothing: ")):
            assert ours.split()[0] in keys | groups, f"{old} -> {ours}"


def test_all_old_keys_are_reported_at_once(refusal: Callable[..., str]) -> None:
    options = ["train_dataloader.batch_size=3", "optim_wrapper.optimizer.lr=1", "train_cfg.max_epochs=3", "x"]
    message = refusal(train_main, CONFIG, "--cfg-options", *options)
    for part in ("sources.NAME.batch_size", "optimizer.learning_rate", "num_epochs", "'x': an override"):
        assert part in message


# Launchers.


@pytest.fixture
def refusal_under_slurm(refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Starts a training with variables of SLURM, which ends before it connects, and returns its message."""

    def run(**variables: str) -> str:
        for name, value in {**SLURM, **variables}.items():
            monkeypatch.setenv(name, value)
        return refusal(train_main, CONFIG, "--launcher", "slurm", "--cfg-options", "no_such_key=1")

    return run


def test_slurm_launcher_describes_the_process_as_torchrun_would(refusal_under_slurm: Callable[..., str]) -> None:
    refusal_under_slurm(SLURM_PROCID="3", SLURM_NTASKS="8", SLURM_LOCALID="1")
    assert (os.environ["RANK"], os.environ["WORLD_SIZE"], os.environ["LOCAL_RANK"]) == ("3", "8", "1")
    assert os.environ["MASTER_ADDR"] == "node7"
    assert int(os.environ["MASTER_PORT"]) > 1024


@pytest.mark.parametrize(
    ("variables", "port"),
    [
        ({"SLURM_JOB_ID": "1000", "SLURM_STEP_ID": "0"}, "21000"),
        ({"SLURM_JOB_ID": "1001", "SLURM_STEP_ID": "0"}, "21031"),
        ({"SLURM_JOB_ID": "1000", "SLURM_STEP_ID": "2"}, "21002"),
        ({"SLURM_JOB_ID": "4294967295", "SLURM_STEP_ID": "0"}, "16145"),
        ({}, "10000"),
        ({"SLURM_JOB_ID": "1000", "SLURM_STEP_ID": "0", "MASTER_PORT": "4711"}, "4711"),
    ],
)
def test_jobs_and_steps_of_slurm_meet_at_ports_of_their_own(
    variables: dict[str, str], port: str, refusal_under_slurm: Callable[..., str]
) -> None:
    refusal_under_slurm(**variables)
    assert os.environ["MASTER_PORT"] == port


@pytest.mark.parametrize(
    ("variables", "tasks_here"),
    [
        ({"SLURM_TASKS_PER_NODE": "4(x2),3", "SLURM_NODEID": "0"}, "4"),
        ({"SLURM_TASKS_PER_NODE": "4(x2),3", "SLURM_NODEID": "1"}, "4"),
        ({"SLURM_TASKS_PER_NODE": "4(x2),3", "SLURM_NODEID": "2"}, "3"),
        ({"SLURM_TASKS_PER_NODE": "2,1(x3),16", "SLURM_NODEID": "3"}, "1"),
        ({"SLURM_TASKS_PER_NODE": "8"}, "8"),
        ({"SLURM_NTASKS_PER_NODE": "8", "SLURM_NODEID": "5"}, "8"),
        # The step has fewer tasks than the job.
        ({"SLURM_NTASKS_PER_NODE": "8", "SLURM_TASKS_PER_NODE": "8(x2)", "SLURM_STEP_TASKS_PER_NODE": "2(x2)"}, "2"),
        ({}, None),
    ],
)
def test_slurm_launcher_counts_the_processes_of_the_machine(
    refusal_under_slurm: Callable[..., str], variables: dict[str, str], tasks_here: str | None
) -> None:
    refusal_under_slurm(SLURM_NTASKS="11", **variables)
    assert os.environ.get("LOCAL_WORLD_SIZE") == tasks_here


def test_slurm_counts_of_an_unknown_form_are_refused(refusal_under_slurm: Callable[..., str]) -> None:
    message = refusal_under_slurm(SLURM_NTASKS="2", SLURM_TASKS_PER_NODE="4(y2)")
    assert "SLURM_TASKS_PER_NODE=4(y2): not of the form of SLURM, such as 4(x2),3" in message


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({"SLURM_NODELIST": "node1", "SLURM_JOB_NODELIST": "node2", "SLURM_STEP_NODELIST": "node3"}, "node3"),
        ({"SLURM_NODELIST": "node1", "SLURM_JOB_NODELIST": "node2"}, "node2"),
        ({"SLURM_NODELIST": "node1", "SLURM_STEP_NODELIST": ""}, "node1"),
        ({}, None),
    ],
)
def test_job_step_of_slurm_meets_at_its_own_first_node(
    variables: dict[str, str], address: str | None, refusal_under_slurm: Callable[..., str]
) -> None:
    message = refusal_under_slurm(**{"SLURM_NODELIST": "", **variables})
    assert os.environ.get("MASTER_ADDR") == address
    assert ("SLURM_STEP_NODELIST, SLURM_JOB_NODELIST, SLURM_NODELIST is set" in message) == (address is None)


def test_slurm_launcher_keeps_an_address_that_is_set(
    refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_LOCALID": "0", "SLURM_NODELIST": "a[1-4]"}
    for name, value in {**variables, "MASTER_ADDR": "10.0.0.7", "MASTER_PORT": "1234"}.items():
        monkeypatch.setenv(name, value)
    refusal(test_main, CONFIG, "x.pth", "--launcher", "slurm", "--cfg-options", "no_such_key=1")
    assert (os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]) == ("10.0.0.7", "1234")


@pytest.mark.parametrize("flag", ["--local-rank", "--local_rank"])
def test_local_rank_is_taken_where_the_launcher_sets_none(
    flag: str, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [CONFIG, flag, "5", "--cfg-options", "no_such_key=1"]
    refusal(train_main, *arguments)
    assert os.environ["LOCAL_RANK"] == "5"
    monkeypatch.setenv("LOCAL_RANK", "2")
    refusal(train_main, *arguments)
    assert os.environ["LOCAL_RANK"] == "2"


# Flags that work.


@pytest.fixture(scope="module")
def run(miniature: Path) -> Path:
    """A run of the published config on a miniature of its data, started with every flag that works."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(miniature)
        flags = ["--seed", "7", "--deterministic", "--amp", "--no-validate", "--auto-scale-lr", "--work-dir", "run"]
        options = [*OVERRIDES, "seed=3", "work_dir=elsewhere"]
        try:
            assert train_main([CONFIG, *flags, "--cfg-options", *options[:5], "--cfg-options", *options[5:]]) == 0
            assert torch.are_deterministic_algorithms_enabled()
        finally:
            torch.use_deterministic_algorithms(False)
    return miniature / "run"


def test_every_training_flag_does_what_it_says(run: Path) -> None:
    recipe = json.loads((run / "recipe.json").read_text())
    assert recipe["seed"] == 7  # although the options set 3: a flag goes before the config
    assert recipe["deterministic"] is True
    assert recipe["precision"] == "bfloat16"
    assert recipe["validation"]["interval_epochs"] == 0
    assert recipe["optimizer"]["learning_rate"] == pytest.approx(0.01 * 2 / 128)  # 2 clips a step, 0.01 is for 128
    assert not (run.parent / "elsewhere").exists()
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if record["kind"] == "step"] == [1, 2, 3, 4, 5, 6]
    assert not any("validation" in json.dumps(record) for record in records)


def test_resume_as_option_continues_the_run(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent)
    flags = ["--seed", "7", "--deterministic", "--amp", "--no-validate", "--auto-scale-lr", "--work-dir", "run"]
    before = (run / "metrics.jsonl").read_text()
    assert train_main([CONFIG, *flags, "--cfg-options", *OVERRIDES]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert train_main([CONFIG, *flags, "--cfg-options", *OVERRIDES, "resume=True"]) == 0
    assert train_main([CONFIG, *flags, "--resume", "--cfg-options", *OVERRIDES, "resume=False"]) == 0
    assert (run / "metrics.jsonl").read_text() == before  # the run had ended: there was nothing left to do


def test_resume_takes_a_checkpoint(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent)
    assert train_main([CONFIG, "--resume", "none.pt", "--work-dir", "new", "--cfg-options", *OVERRIDES]) == 2
    assert "none.pt" in capsys.readouterr().err


def test_every_testing_flag_does_what_it_says(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parent)
    checkpoint = str(sorted((run / "checkpoints").glob("*.pt"))[-1])
    flags = ["--work-dir", "tested", "--dump", "out/result.pkl", "--show-dir", "pictures", "--interval", "4"]
    assert test_main([CONFIG, checkpoint, *flags, "--cfg-options", *OVERRIDES]) == 0
    results = pickle.loads(Path("out/result.pkl").read_bytes())
    assert len(results) == 6
    assert set(results[0]) == {"pred_score", "pred_label", "gt_label", "num_classes", "img_shape", "key"}
    assert (run.parent / "tested/kinetics400/per_class.csv").is_file()
    assert list(Path("pictures").rglob("*.png"))
    assert not (run / "checkpoints/test").exists()
