"""metrics.jsonl: one JSON line a step and one a validation, written as they happen and read back for curves."""

from __future__ import annotations

import json
import math
from pathlib import Path

from omnisource.errors import UserError
from omnisource.files.jsonl import move_lines
from omnisource.reporting.lines import cannot_write
from omnisource.reporting.records import StepRecord, ValidationRecord, read_line

METRICS = "metrics.jsonl"
UNREADABLE = "unreadable.jsonl"


def read_metrics(work_dir: str | Path) -> tuple[list[StepRecord], list[ValidationRecord]]:
    """Returns what metrics.jsonl holds, in its order; a last line that was cut off is left out.

    Raises:
        UserError: The file is missing, or holds a line that a run did not write.
    """
    path = Path(work_dir) / METRICS
    steps: list[StepRecord] = []
    validations: list[ValidationRecord] = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); it is written by a training run") from error
    for number, line in enumerate(lines, start=1):
        try:
            record = read_line(line)
        except ValueError as error:
            if number == len(lines):
                break  # the process was killed while it wrote
            raise UserError(f"{path}:{number}: this is no line of a training run ({error})") from error
        if isinstance(record, StepRecord):
            steps.append(record)
        else:
            validations.append(record)
    return steps, validations


def drop_after(work_dir: str | Path, step: int, validated_step: int | None = None) -> int:
    """Moves the lines of later steps from NAME.jsonl to the end of NAME.discarded.jsonl: metrics and unreadable files.

    A run that is resumed does these steps again, so that each stands in the file once. A line that was cut off when its
    process was killed is moved too. The file is replaced in one go; a kill in between can repeat lines in
    NAME.discarded.jsonl, and loses none.

    Args:
        work_dir: Folder of the run. A file that is not there stays so.
        step: Steps that the run goes on from; the lines up to it, with it, stay.
        validated_step: Steps at the last validation that the run does not do again: a run that was killed after it
            reported one, and before that was saved, repeats it. None: `step`.

    Returns:
        Number of lines moved.

    Raises:
        UserError: The files cannot be written to.
    """
    validated = step if validated_step is None else validated_step
    return sum(_drop_after(Path(work_dir) / name, step, validated) for name in (METRICS, UNREADABLE))


def _drop_after(path: Path, step: int, validated_step: int) -> int:
    if not path.exists():
        return 0

    def is_later(line: bytes) -> bool:
        return _step_of(line) > (validated_step if b'"kind": "validation"' in line else step)

    try:
        return move_lines(path, path.with_suffix(".discarded.jsonl"), is_later)
    except OSError as error:
        raise cannot_write(path, error) from error


def _step_of(line: bytes) -> float:
    """Returns the step of a line; infinity for a line that was cut off."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return math.inf
