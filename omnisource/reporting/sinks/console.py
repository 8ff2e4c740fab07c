"""What a run shows on the screen: lines at the foot of a terminal, plain lines elsewhere, and messages."""

from __future__ import annotations

from rich.console import Console, RenderableType

from omnisource.printing import printable
from omnisource.reporting.events import Event, IntervalDone, ItemValidated, Message, RunEnded, StepDone, ValidationDone
from omnisource.reporting.lines import figures_line, plain_line, progress_line, validation_line
from omnisource.reporting.terminal import Foot, show_line


class ConsoleSink:
    """Shows a run: how far it is and how it goes, and a validation while it lasts.

    A terminal that is lost, or a pipe whose reader has ended, is no reason to end the run: its log has the same lines.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._foot = Foot(console) if console.is_terminal else None
        self._run_lines: tuple[RenderableType, ...] = ()
        self._shows_validation = False

    def handle(self, event: Event) -> None:
        """Shows a step, a validation or a message."""
        match event:
            case StepDone() if self._foot is not None:
                self._show_step(self._foot, event)
            case ItemValidated() if self._foot is not None:
                self._show_validation(self._foot, event)
            case IntervalDone(records, pace) if self._foot is None:
                self._show(plain_line(records, pace))
            case ItemValidated() if event.wants_line:
                self._show(str(event.progress))
            case ValidationDone(record):
                if self._foot is not None and self._shows_validation:
                    self._foot.draw(*self._run_lines)
                self._shows_validation = False
                self._show(validation_line(record))
            case Message(text):
                self._show(text)
            case _:
                pass

    def close(self, ended: RunEnded | None) -> None:
        """Leaves the foot of the terminal as it stands; how the run ended, its command says."""
        if self._foot is not None:
            self._foot.stop()

    def _show_step(self, foot: Foot, event: StepDone) -> None:
        """Shows a step at the foot; the last step of the run always, the others where a drawing is due."""
        self._run_lines = progress_line(event.record, event.pace), figures_line(event.record, event.pace)
        if foot.is_due or event.record.step == event.record.total_steps:
            foot.draw(*self._run_lines)

    def _show_validation(self, foot: Foot, event: ItemValidated) -> None:
        """Shows below it how far a validation is; its last item always, the others where a drawing is due."""
        self._shows_validation = True
        if foot.is_due or event.progress.done == event.progress.total:
            foot.draw(*self._run_lines, event.progress.line())

    def _show(self, text: str) -> None:
        for line in printable(text).splitlines():
            show_line(self._console, line)
