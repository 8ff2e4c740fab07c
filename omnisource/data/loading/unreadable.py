"""The files that a run could not read, and what was taken instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from omnisource.data.loading.request import SampleRequest
from omnisource.errors import UnreadableMedia, UserError, shortened


@dataclass(frozen=True)
class Replacement:
    """A training sample that took the place of one whose file cannot be read.

    Attributes:
        step: Number of the step that it belongs to, from 1.
        source: Name of the source.
        epoch: Epoch of the source, 0-based; the position in the stream where items are drawn with replacement.
        index: Item whose file cannot be read, 0-based.
        path: That file.
        reason: Why it cannot be read.
        replaced_by: Item that was taken instead.
        replaced_by_path: Its file.
    """

    step: int
    source: str
    epoch: int
    index: int
    path: str
    reason: str
    replaced_by: int
    replaced_by_path: str


@dataclass(frozen=True)
class LeftOut:
    """An item that was left out of the scores of a validation or a test, since its file cannot be read.

    Attributes:
        index: Its position in the list, 0-based.
        path: The file.
        reason: Why it cannot be read.
    """

    index: int
    path: str
    reason: str


@dataclass
class UnreadableLog:
    """The files that could not be read, how many of them a run permits, and the samples that replaced them.

    A file that is in it is not read again: its samples are replaced at once, and it is left out of scores, so that a
    run that goes on from a checkpoint does the same, also where reading failed for a passing reason.

    Attributes:
        permitted: Files that may be unreadable before the run stops.
        reasons: Reason by path.
        notify: Called with one line for each file that is new.
        replacements: How often each file was replaced in training, as far as all processes have agreed.
        pending: Replacements that this process has made since.
    """

    permitted: int
    reasons: dict[str, str] = field(default_factory=dict)
    notify: Callable[[str], None] = print
    replacements: dict[str, int] = field(default_factory=dict)
    pending: list[Replacement] = field(default_factory=list)

    def add(self, error: UnreadableMedia, consequence: str) -> None:
        """Counts a file, or raises where no more are permitted.

        Raises:
            UserError: If more files are unreadable than the recipe permits.
        """
        if error.path in self.reasons:
            return
        self.reasons[error.path] = error.reason
        if len(self.reasons) > self.permitted:
            files = [f"{path}: {reason}" for path, reason in self.reasons.items()]
            raise UserError(
                f"{shortened(files)}\n{len(files)} unreadable, {self.permitted} permitted. Fix or remove the files "
                "(omnisource check CONFIG finds them all), or permit more with max_unreadable=N or "
                "max_unreadable_share=S."
            )
        self.notify(f"unreadable ({len(self.reasons)} of {self.permitted} permitted), {consequence}: {error}")

    def commit(self, replacements: Sequence[Replacement], step: int) -> list[Replacement]:
        """Counts those of the replacements that belong to the first `step` steps, and returns them in their order.

        The others are of a step that was never done: a run that goes on makes them again.
        """
        committed = sorted((one for one in replacements if one.step <= step), key=lambda one: one.step)
        for one in committed:
            self.replacements[one.path] = self.replacements.get(one.path, 0) + 1
        self.pending.clear()
        return committed

    def replace(self, step: int, wanted: SampleRequest, taken: SampleRequest) -> None:
        """Takes note of a replacement in step `step`, from 1."""
        self.pending.append(
            Replacement(
                step=step,
                source=wanted.source,
                epoch=wanted.epoch,
                index=wanted.index,
                path=wanted.path,
                reason=self.reasons[wanted.path],
                replaced_by=taken.index,
                replaced_by_path=taken.path,
            )
        )
