"""What is known of each step and each validation: the records, the rates over the last steps, the lines of a file.

A line depends on the run alone, apart from its "step_seconds" and "data_seconds". Numbers that JSON does not know are
written as the strings "nan", "inf" and "-inf", so that every line is valid JSON.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

WINDOW_STEPS = 50
"""Steps over which rates are taken."""


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


@dataclass(frozen=True)
class Pace:
    """Rates over the last steps.

    Attributes:
        records: These steps, oldest first.
    """

    records: tuple[StepRecord, ...] = ()

    def after(self, record: StepRecord) -> Pace:
        """Returns the pace with one step more, the oldest forgotten where the window is full."""
        return Pace((*self.records[1 - WINDOW_STEPS :], record))

    @property
    def samples_per_second(self) -> float:
        """Returns the samples of all sources and processes in a second."""
        samples = sum(sum(record.samples.values()) for record in self.records)
        return samples / self._seconds if self._seconds else 0.0

    @property
    def samples_per_second_by_source(self) -> dict[str, float]:
        """Returns the samples of each source in a second."""
        samples = Counter[str]()
        for record in self.records:
            samples.update(record.samples)
        return {source: count / self._seconds if self._seconds else 0.0 for source, count in samples.items()}

    @property
    def steps_per_second(self) -> float:
        """Returns the steps in a second."""
        return len(self.records) / self._seconds if self._seconds else 0.0

    @property
    def waiting_share(self) -> float:
        """Returns the share of the time that was spent waiting for data, 0 to 1."""
        return sum(record.data_seconds for record in self.records) / self._seconds if self._seconds else 0.0

    @property
    def seconds_left(self) -> float:
        """Returns the time that the steps still to do take at this pace, without validations."""
        if not self.records:
            return 0.0
        last = self.records[-1]
        return (last.total_steps - last.step) * self._seconds / len(self.records)

    @property
    def _seconds(self) -> float:
        return sum(record.step_seconds for record in self.records)


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
