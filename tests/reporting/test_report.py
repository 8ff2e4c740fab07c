from __future__ import annotations

import errno
import io
import json
import os
import pty
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from omnisource.errors import UserError
from omnisource.reporting.curves import draw_curves
from omnisource.reporting.metrics_file import StepRecord, drop_after, read_metrics
from omnisource.reporting.null_report import NullReport
from omnisource.reporting.report import Report, open_report
from omnisource.reporting.status_file import RunStatus, read_status

TIMES = ("step_seconds", "data_seconds")


def record(step: int, total_steps: int = 40, **changes: object) -> StepRecord:
    values = {
        "step": step,
        "epoch": 1 + step // 20,
        "losses": {"clips": 3 / (step + 2), "images": 1 / 3 + step},
        "total_loss": 3 / (step + 2) + 1 / 3 + step,
        "learning_rate": 0.1 / step,
        "gradient_norm": 2.0**0.5,
        "step_seconds": 0.5,
        "data_seconds": 0.1,
        "samples": {"clips": 4, "images": 21},
        "total_steps": total_steps,
    }
    return StepRecord(**{**values, **changes})  # type: ignore[arg-type]


def plain_console() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=80)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def status_of(work_dir: Path) -> RunStatus:
    status = read_status(work_dir)
    assert status is not None
    return status


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def run_steps(work_dir: Path, first: int, last: int, **options: object) -> Console:
    console = plain_console()
    with Report(work_dir, console=console, tensorboard=False, **options) as report:  # type: ignore[arg-type]
        for step in range(first, last + 1):
            report.step(record(step))
            if step % 20 == 0:
                report.validation(step, step // 20, "clips", {"top1": step / 100, "count": 30})
    return console


def test_each_step_and_each_validation_is_a_line_that_reads_back_exactly(tmp_path: Path) -> None:
    run_steps(tmp_path, 1, 20)
    lines = lines_of(tmp_path / "metrics.jsonl")
    assert [line["kind"] for line in lines] == ["step"] * 20 + ["validation"]
    assert lines[-1]["metrics"] == {"top1": 0.2, "count": 30}
    steps, validations = read_metrics(tmp_path)
    assert steps == [record(step) for step in range(1, 21)]
    assert [(one.step, one.epoch, one.source) for one in validations] == [(20, 1, "clips")]


def test_line_is_in_the_file_when_the_step_has_been_reported(tmp_path: Path) -> None:
    with Report(tmp_path, console=plain_console(), tensorboard=False) as report:
        report.step(record(1))
        assert len(lines_of(tmp_path / "metrics.jsonl")) == 1


def test_lines_of_two_equal_runs_differ_in_their_times_only(tmp_path: Path) -> None:
    for folder, seconds in (("one", 0.5), ("two", 0.75)):
        with Report(tmp_path / folder, console=plain_console(), tensorboard=False) as report:
            report.step(record(1, step_seconds=seconds, data_seconds=seconds / 3))
            report.validation(1, 1, "clips", {"top1": 1 / 3})
    texts = [(tmp_path / folder / "metrics.jsonl").read_text() for folder in ("one", "two")]
    assert texts[0] != texts[1]
    kept = [[json.loads(line) for line in text.splitlines()] for text in texts]
    for lines in kept:
        for key in TIMES:
            del lines[0][key]
    assert json.dumps(kept[0]) == json.dumps(kept[1])  # the same order of the keys too


def test_numbers_that_are_not_finite_leave_valid_json(tmp_path: Path) -> None:
    with Report(tmp_path, console=plain_console(), tensorboard=False) as report:
        report.step(record(1, total_loss=float("nan"), gradient_norm=float("inf")))
    text = (tmp_path / "metrics.jsonl").read_text()
    line = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (line["total_loss"], line["gradient_norm"]) == ("nan", "inf")
    assert read_metrics(tmp_path)[0][0].gradient_norm == float("inf")


def test_resumed_run_leaves_each_step_once_and_keeps_what_it_dropped(tmp_path: Path) -> None:
    run_steps(tmp_path, 1, 25)
    run_steps(tmp_path, 18, 40, resumed_step=17)
    assert [line["step"] for line in lines_of(tmp_path / "metrics.jsonl") if line["kind"] == "step"] == [*range(1, 41)]
    validations = [line["step"] for line in lines_of(tmp_path / "metrics.jsonl") if line["kind"] == "validation"]
    assert validations == [20, 40]
    dropped = lines_of(tmp_path / "metrics.discarded.jsonl")
    assert [(line["kind"], line["step"]) for line in dropped] == [
        *(("step", step) for step in (18, 19, 20)),
        ("validation", 20),
        *(("step", step) for step in (21, 22, 23, 24, 25)),
    ]


def test_dropping_twice_adds_to_the_discarded_lines(tmp_path: Path) -> None:
    run_steps(tmp_path, 1, 10)
    assert drop_after(tmp_path, 8) == 2
    assert drop_after(tmp_path, 5) == 3
    assert [line["step"] for line in lines_of(tmp_path / "metrics.discarded.jsonl")] == [9, 10, 6, 7, 8]
    assert drop_after(tmp_path, 5) == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["metrics.discarded.jsonl", "metrics.jsonl", "run.json", "train.log"]


def test_dropping_nothing_leaves_the_file_as_it_is_and_makes_no_other(tmp_path: Path) -> None:
    assert drop_after(tmp_path, 3) == 0
    run_steps(tmp_path, 1, 3)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    assert drop_after(tmp_path, 3) == 0
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    assert not (tmp_path / "metrics.discarded.jsonl").exists()


def test_folder_that_cannot_be_synced_is_let_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):  # as some network disks do
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    run_steps(tmp_path, 1, 10)
    monkeypatch.setattr(os, "fsync", fsync)
    assert drop_after(tmp_path, 8) == 2


def test_lost_terminal_ends_no_run_and_the_log_has_its_lines(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    with open(slave, "w") as terminal:
        console = Console(file=terminal, force_terminal=True, width=80)
        with Report(tmp_path, console=console, tensorboard=False, interval_steps=1) as report:
            report.step(record(1))
            os.close(master)  # from here on, writing is an input/output error
            report.message("still here")
            for step in range(2, 41):
                report.step(record(step))
            report.validating("clips", 1)()
            report.validation(40, 2, "clips", {"top1": 0.5})
        console.print("nobody sees this")  # nor does it fail
    assert [line["step"] for line in lines_of(tmp_path / "metrics.jsonl")] == [*range(1, 41), 40]
    log = (tmp_path / "train.log").read_text()
    assert "still here" in log and "step 40/40" in log
    assert status_of(tmp_path).state == "complete"


@pytest.mark.parametrize("tail", [b'{"kind": "step", "st', b'{"kind": "step", "step": 1', b"\xc3"])
def test_line_cut_off_by_a_kill_is_discarded_on_resume(tmp_path: Path, tail: bytes) -> None:
    run_steps(tmp_path, 1, 4)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(tail)
    assert [one.step for one in read_metrics(tmp_path)[0]] == [1, 2, 3, 4]  # curves can be drawn meanwhile
    run_steps(tmp_path, 5, 6, resumed_step=4)
    assert [line["step"] for line in lines_of(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert (tmp_path / "metrics.discarded.jsonl").read_bytes() == tail + b"\n"


def test_whole_last_line_without_its_newline_is_kept(tmp_path: Path) -> None:
    run_steps(tmp_path, 1, 4)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    run_steps(tmp_path, 5, 5, resumed_step=4)
    assert [line["step"] for line in lines_of(path)] == [1, 2, 3, 4, 5]


def test_line_in_the_middle_that_no_run_wrote_is_named(tmp_path: Path) -> None:
    run_steps(tmp_path, 1, 3)
    path = tmp_path / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "nonsense", lines[1]]) + "\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl:2: this is no line of a training run"):
        read_metrics(tmp_path)


def test_plain_lines_come_first_then_every_interval_and_at_the_end(tmp_path: Path) -> None:
    text = shown(run_steps(tmp_path, 1, 40, interval_steps=15))
    steps = [line.split("step ")[1].split()[0] for line in text.splitlines() if "lr" in line]
    assert steps == ["1/40", "15/40", "30/40", "40/40"]


def test_plain_line_has_mean_losses_rate_waiting_and_time_left(tmp_path: Path) -> None:
    console = plain_console()
    with Report(tmp_path, console=console, tensorboard=False, interval_steps=2) as report:
        for step, loss in ((1, 9.0), (2, 2.0), (3, 4.0), (4, 5.0)):
            report.step(record(step, losses={"clips": loss, "images": 1.0}, total_loss=loss + 1, learning_rate=0.05))
    last = shown(console).splitlines()[-1]
    assert last == (
        "epoch 1  step 4/40  loss 5.5  clips 4.5  images 1  lr 0.05  gradient 1.414  "
        "50 samples/s  waiting for data 20%  0:00:18 left"
    )


def test_log_holds_the_lines_that_were_shown_with_the_time_of_day(tmp_path: Path) -> None:
    console = plain_console()
    with Report(tmp_path, console=console, tensorboard=False) as report:
        report.message("started\non 2 processes [gloo]")
        report.step(record(1))
        report.validation(1, 1, "images", {"top1": 0.12345})
    logged = (tmp_path / "train.log").read_text().splitlines()
    assert [line[21:] for line in logged] == shown(console).splitlines()
    assert logged[1].endswith("on 2 processes [gloo]")
    assert logged[-1].endswith("epoch 1  step 1  validation of images: top1 0.1235")


def test_terminal_shows_a_bar_and_the_log_still_has_the_plain_lines(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    with Report(tmp_path, console=console, tensorboard=False) as report:
        for step in range(1, 41):
            report.step(record(step))
        report.message("saved step_40.pt")
    text = shown(console)
    assert "step 40/40" in text and "100%  0:00:00 left" in text
    assert "clips 0.07143  images 40.33" in text
    assert "50 samples/s  waiting for data 20%" in text
    assert "saved step_40.pt" in text
    assert "gradient 1.414  50 samples/s  waiting for data 20%  0:00:00 left\n" not in text
    assert (tmp_path / "train.log").read_text().count("samples/s") == 5


def test_bar_leaves_the_cursor_visible_when_the_run_ends_with_an_error(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with pytest.raises(KeyboardInterrupt), Report(tmp_path, console=console, tensorboard=False) as report:
        report.step(record(1))
        raise KeyboardInterrupt
    text = shown(console)
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l") >= 0


def tensorboard_curves(work_dir: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(work_dir / "tensorboard"))
    events.Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_has_the_same_curves_and_each_step_once_after_a_resume(tmp_path: Path) -> None:
    for first, last, resumed_step in ((1, 5, None), (4, 6, 3)):
        with Report(tmp_path, console=plain_console(), resumed_step=resumed_step) as report:
            for step in range(first, last + 1):
                report.step(record(step))
            report.validation(last, 1, "clips", {"top1": last / 8})
    curves = tensorboard_curves(tmp_path)
    assert set(curves) == {
        "loss/clips",
        "loss/images",
        "loss/total",
        "learning_rate",
        "gradient_norm",
        "speed/samples_per_second",
        "speed/share_waiting_for_data",
        "speed/steps_per_second",
        "speed/samples_per_second/clips",
        "speed/samples_per_second/images",
        "memory/process_gib",
        "validation/clips/top1",
    }
    assert [step for step, _ in curves["loss/clips"]] == [1, 2, 3, 4, 5, 6]
    assert [value for _, value in curves["learning_rate"]] == pytest.approx([0.1 / step for step in range(1, 7)])
    assert curves["speed/share_waiting_for_data"][0][1] == pytest.approx(0.2)
    assert curves["validation/clips/top1"] == [(6, 0.75)]


def test_rates_and_memory_have_a_point_with_each_plain_line(tmp_path: Path) -> None:
    with Report(tmp_path, console=plain_console(), interval_steps=4) as report:
        report.watch_memory_of(lambda: [os.getpid(), os.getpid()])
        for step in range(1, 9):
            report.step(record(step, step_seconds=0.25))
    curves = tensorboard_curves(tmp_path)
    for name, rate in (
        ("speed/steps_per_second", 4),
        ("speed/samples_per_second/clips", 16),
        ("speed/samples_per_second/images", 84),
    ):
        assert curves[name] == [(1, rate), (4, rate), (8, rate)]
    assert [step for step, _ in curves["memory/process_gib"]] == [1, 4, 8]
    assert curves["memory/workers_gib"][0][1] == pytest.approx(2 * curves["memory/process_gib"][0][1], rel=0.05)


def test_pictures_are_in_the_event_file_as_they_were_drawn(tmp_path: Path) -> None:
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    picture = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    with Report(tmp_path, console=plain_console()) as report:
        report.picture(7, "examples/clips", lambda: picture)
    with Report(tmp_path / "none", console=plain_console(), tensorboard=False) as report:
        report.picture(7, "examples/clips", lambda: pytest.fail("nobody sees it"))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    [image] = events.Images("examples/clips")
    assert image.step == 7
    with Image.open(io.BytesIO(image.encoded_image_string)) as decoded:
        np.testing.assert_array_equal(np.asarray(decoded), picture)


def test_run_json_tells_how_the_run_goes_and_that_it_is_complete(tmp_path: Path) -> None:
    with Report(tmp_path, console=plain_console(), tensorboard=False, total_steps=40) as report:
        assert status_of(tmp_path).activity == "starting"
        report.step(record(1))
        report.validation(1, 1, "clips", {"top1": 0.5, "loss": float("nan")})
        report.validation(1, 1, "images", {"top1": 0.25})
        report.validation(1, 1, "clips", {"top1": 0.75, "loss": float("nan")})
        report.best(0.75, 1)
    status = status_of(tmp_path)
    assert (status.state, status.step, status.total_steps) == ("complete", 1, 40)
    assert (status.best_score, status.best_step) == (0.75, 1)
    assert {one.source: one.metrics for one in status.validations} == {
        "clips": {"top1": 0.75},
        "images": {"top1": 0.25},
    }


def test_run_json_and_the_log_tell_why_a_run_failed(tmp_path: Path) -> None:
    console = plain_console()
    with pytest.raises(UserError), Report(tmp_path, console=console, tensorboard=False) as report:
        report.step(record(1))
        raise UserError("list.txt:3: no such file\nfix the list")
    assert (status_of(tmp_path).state, status_of(tmp_path).reason) == (
        "failed",
        "list.txt:3: no such file\nfix the list",
    )
    log = (tmp_path / "train.log").read_text()
    assert "  the run failed: list.txt:3: no such file\n" in log and log.endswith("  fix the list\n")
    assert "the run failed" not in shown(console)  # the command line says it


def test_run_json_tells_the_signal_that_stopped_a_run(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError), Report(tmp_path, console=plain_console(), tensorboard=False) as report:
        report.stopped(signal.SIGTERM, tmp_path / "checkpoints/step_000000017.pt")
        raise InterruptedError
    assert status_of(tmp_path).state == "interrupted"
    assert status_of(tmp_path).reason == "SIGTERM, saved as step_000000017.pt"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_run_that_cannot_log_its_failure_is_still_told_as_failed(tmp_path: Path) -> None:
    (tmp_path / "train.log").symlink_to("/dev/full")
    with pytest.raises(UserError), Report(tmp_path, console=plain_console(), tensorboard=False):
        raise UserError("the first error")
    assert (status_of(tmp_path).state, status_of(tmp_path).reason) == ("failed", "the first error")


def test_resumed_run_keeps_the_validations_that_are_not_done_again(tmp_path: Path) -> None:
    with Report(tmp_path, console=plain_console(), tensorboard=False) as report:
        report.validation(5, 1, "images", {"top1": 0.25})
        report.validation(9, 1, "clips", {"top1": 0.5})
    with Report(tmp_path, console=plain_console(), tensorboard=False, resumed_step=6, total_steps=40):
        status = status_of(tmp_path)
    assert (status.step, status.state) == (6, "running")
    assert [(one.step, one.source) for one in status.validations] == [(5, "images")]


def test_validation_moves_on_in_a_terminal_and_its_line_goes_afterwards(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    with Report(tmp_path, console=console, tensorboard=False) as report:
        report.step(record(1))
        advance = report.validating("clips", 30)
        for _ in range(30):
            advance()
        assert "validating clips  30/30 items" in shown(console)
        assert shown(console).endswith("0:00:00 left")
        report.validation(1, 1, "clips", {"top1": 0.5})
    last = shown(console).rpartition("validation of clips")[2]
    assert "step 1/40" in last and "validating" not in last


def test_long_validation_has_plain_lines_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omnisource.reporting.report.VALIDATION_LINE_SECONDS", 0.0)
    console = plain_console()
    with Report(tmp_path, console=console, tensorboard=False) as report:
        advance = report.validating("clips", 3)
        for _ in range(3):
            advance()
    lines = shown(console).splitlines()
    assert [line.split("  ")[:2] for line in lines] == [["validating clips", f"{done}/3 items"] for done in (1, 2, 3)]
    assert [line[21:] for line in (tmp_path / "train.log").read_text().splitlines()] == lines


def test_starving_device_is_warned_of_once_in_the_log_and_on_the_screen(tmp_path: Path) -> None:
    console = plain_console()
    with Report(tmp_path, console=console, tensorboard=False, num_workers=3, interval_steps=1000) as report:
        for step in range(1, 301):
            report.step(record(step, total_steps=1000, step_seconds=0.5, data_seconds=0.2))
    for text in (shown(console), (tmp_path / "train.log").read_text()):
        assert text.count("warning: 40% of the time of the last 100 steps went into waiting for data") == 1
        assert "num_workers is 3, " in text


def test_other_ranks_have_a_report_that_writes_nothing(tmp_path: Path) -> None:
    with open_report(tmp_path / "run", rank=1) as report:
        assert isinstance(report, NullReport)
        report.step(record(1))
        report.watch_memory_of(lambda: pytest.fail("nobody sees it"))
        report.validating("clips", 3)()
        report.validation(1, 1, "clips", {"top1": 0.5})
        report.best(0.5, 1)
        report.picture(1, "examples/clips", lambda: pytest.fail("nobody sees it"))
        report.stopped(signal.SIGTERM, tmp_path)
        report.message("hello")
    assert not (tmp_path / "run").exists()
    with open_report(tmp_path / "run", rank=0) as report:
        assert isinstance(report, Report)


def test_work_dir_that_cannot_be_written_is_an_error_for_the_user(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"file/run/metrics\.jsonl: cannot be written \(Not a directory\)"):
        Report(tmp_path / "file" / "run", console=plain_console(), tensorboard=False)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_full_disk_is_an_error_for_the_user_and_close_still_works(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    report = Report(tmp_path, console=plain_console(), tensorboard=False)
    with pytest.raises(UserError, match=r"metrics\.jsonl: cannot be written \(No space left on device\)"):
        report.step(record(1))
    report.close()
    report.close()


def test_curves_are_drawn_the_same_from_the_same_run(tmp_path: Path) -> None:
    run_steps(tmp_path, 1, 40)
    path = draw_curves(tmp_path)
    assert path == tmp_path / "curves.svg"
    first = path.read_bytes()
    assert first.startswith(b"<?xml") and b"</svg>" in first
    assert draw_curves(tmp_path).read_bytes() == first


def test_curves_of_a_long_run_stay_small_and_of_a_short_one_work(tmp_path: Path) -> None:
    with Report(tmp_path / "long", console=plain_console(), tensorboard=False, interval_steps=1000) as report:
        for step in range(1, 5001):
            report.step(record(step, total_steps=5000, total_loss=float("nan") if step == 7 else 1.0))
    assert draw_curves(tmp_path / "long").stat().st_size < 200_000
    run_steps(tmp_path / "short", 1, 1)
    assert draw_curves(tmp_path / "short").stat().st_size > 5_000


def test_curves_without_a_run_are_an_error_for_the_user(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"metrics\.jsonl: cannot be read"):
        draw_curves(tmp_path)
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(UserError, match="holds no step"):
        draw_curves(tmp_path)


def test_importing_the_report_imports_neither_tensorboard_nor_matplotlib() -> None:
    code = (
        "import sys, omnisource.reporting.report;"
        "print([name for name in ('tensorboard', 'matplotlib', 'torch') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (result.stdout.strip(), result.stderr) == ("[]", "")
