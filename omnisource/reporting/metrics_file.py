"""metrics.jsonl: one JSON line a step and one a validation, written as they happen and read back for curves.

A line depends on the run alone, apart from its "step_seconds" and "data_seconds". Numbers that JSON does not know are
written as the strings "nan", "inf" and "-inf", so that every line is valid JSON.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnisource.errors import UserError
from omnisource.files.jsonl import AppendFile, move_lines

METRICS = "metrics.jsonl"
UNREADABLE = "unreadable.jsonl"
LOG = "train.log"


@dataclass(frozen=True)
class StepRecord:
    """What one step of the optimizer did.

    Attributes:
        step: How many steps the run has done, with this one: 1 to total_steps.
        epoch: Epoch that the step belongs to, from 1.
        losses: Mean loss of each source, before its weight in the sum.
        total_loss: The weighted sum, which was minimized.
        learning_rate: Learning rate of the step.
        gradient_norm: Norm of the gradient of all parameters together, before clipping.
        step_seconds: Duration of the step, with the time it waited for data.
        data_seconds: Time it waited for data; of several processes, that of the one that waited longest.
        samples: Samples of each source, over all processes.
        total_steps: Steps of the whole run.
        samples_digest: Hex digest of the keys of all samples and of the microbatches that they stood in; equal for
            equal steps, whatever the number of processes. "" in the files of version 0.1.0.
    """

    step: int
    epoch: int
    losses: dict[str, float]
    total_loss: float
    learning_rate: float
    gradient_norm: float
    step_seconds: float
    data_seconds: float
    samples: dict[str, int]
    total_steps: int
    samples_digest: str = ""


@dataclass(frozen=True)
class ValidationRecord:
    """The figures of one source's validation.

    Attributes:
        step: How many steps the run had done.
        epoch: Epoch of the last of them, from 1.
        source: Name of the source.
        metrics: Figures by name.
    """

    step: int
    epoch: int
    source: str
    metrics: dict[str, float]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_FITS: dict[str, Callable[[Any], bool]] = {
    "int": _is_count,
    "float": _is_number,
    "str": lambda value: isinstance(value, str),
    "dict[str, int]": lambda value: isinstance(value, dict) and all(map(_is_count, value.values())),
    "dict[str, float]": lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
}
"""Whether a value is what a field of a record is declared to be, by the declaration."""


class LineFile:
    """A file that lines are added to; each is in the hands of the operating system when `write` returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = AppendFile(path)
        except OSError as error:
            raise _cannot_write(path, error) from error

    def write(self, line: str) -> None:
        """Adds a line.

        Raises:
            UserError: The file cannot be written to, for example because the disk is full.
        """
        try:
            self._file.append(line.encode() + b"\n")
        except OSError as error:
            raise _cannot_write(self._path, error) from error

    def close(self) -> None:
        """Closes the file; closing twice does nothing more."""
        self._file.close()


def metrics_line(record: StepRecord | ValidationRecord) -> str:
    """Returns the JSON line of a record, without the newline; its keys are the names of the record's fields."""
    kind = "step" if isinstance(record, StepRecord) else "validation"
    return json.dumps({"kind": kind, **json_value(dataclasses.asdict(record))}, allow_nan=False)


def read_line(line: bytes) -> StepRecord | ValidationRecord:
    """Returns the record that a line of metrics.jsonl holds.

    Raises:
        ValueError: A run did not write this line, or not to its end.
    """
    try:
        values = _read(json.loads(line))
        kind = StepRecord if values.pop("kind") == "step" else ValidationRecord
        record = kind(**values)
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    for field in dataclasses.fields(record):
        if not _FITS[str(field.type)](getattr(record, field.name)):
            raise ValueError(f"{field.name} is no {field.type}")
    return record


def read_metrics(work_dir: str | Path) -> tuple[list[StepRecord], list[ValidationRecord]]:
    """Returns what metrics.jsonl tells, in its order; a last line that was cut off is left out.

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
        raise _cannot_write(path, error) from error


def _step_of(line: bytes) -> float:
    """Returns the step of a line; infinity for a line that was cut off."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return math.inf


def json_value(value: Any) -> Any:
    """Returns plain data in which the numbers that JSON does not know are the strings "nan", "inf" and "-inf"."""
    if isinstance(value, dict):
        return {key: json_value(entry) for key, entry in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    return value


def _read(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _read(entry) for key, entry in value.items()}
    return float(value) if value in ("nan", "inf", "-inf") else value


def _cannot_write(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path}: cannot be written ({error.strerror}); free or allow the place, then continue with --resume auto"
    )
