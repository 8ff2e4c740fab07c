"""What is said at the end of a run, and what is made up for where its process did not come to that."""

from __future__ import annotations

import sys
from pathlib import Path

from omnisource.checkpoints.file import best_path, checkpoint_path
from omnisource.errors import UserError, shortened
from omnisource.printing import notice, printable_name
from omnisource.reporting.curves import CURVES, draw_curves
from omnisource.reporting.metrics_file import METRICS, UNREADABLE
from omnisource.reporting.status_file import note_complete
from omnisource.signals import Interrupted
from omnisource.training.state import TrainState


class RunInterrupted(Interrupted):
    """A run that was asked to stop, and saved before it did.

    Attributes:
        checkpoint: Where the run was saved.
    """

    def __init__(self, signal_number: int, checkpoint: Path) -> None:
        super().__init__(signal_number)
        self.checkpoint = checkpoint


def describe_ending(state: TrainState, work_dir: Path) -> str:
    """Returns what has come of a complete run, for people."""
    lines = [f"the run is complete: {state.step} steps"]
    if state.skipped_steps:
        steps = ", ".join(map(str, state.skipped_steps[:20])) + (", ..." if len(state.skipped_steps) > 20 else "")
        count = "1 step" if len(state.skipped_steps) == 1 else f"{len(state.skipped_steps)} steps"
        lines.append(f"{count} changed no weights, not being finite: {steps}; see {work_dir / 'not_finite'}")
    if state.best_score is not None:
        lines.append(f"best validation top-1 {state.best_score:.4f} at step {state.best_step}: {best_path(work_dir)}")
    lines.append(f"last checkpoint: {checkpoint_path(work_dir, state.step)}")
    if state.unreadable:
        times = sum(state.replacements.values())
        count = "1 file" if len(state.unreadable) == 1 else f"{len(state.unreadable)} files"
        lines.append(f"{count} could not be read, training samples replaced: {times}")
        files = [
            f"  {printable_name(path)}: {reason}; replaced {state.replacements.get(path, 0)} times"
            for path, reason in state.unreadable.items()
        ]
        lines.append(shortened(files))
        if (work_dir / UNREADABLE).exists():
            lines.append(f"every replacement and every item left out of a validation: {work_dir / UNREADABLE}")
    return "\n".join(lines)


def make_up_ending(work_dir: Path, state: TrainState) -> None:
    """Does what the process of a complete run did not come to that was killed after its last checkpoint."""
    if not (work_dir / METRICS).exists():  # the run is in another folder, of which a checkpoint was given
        return
    note_complete(work_dir, state.step, state.best_score, state.best_step)
    if not (work_dir / CURVES).exists():
        try:
            notice(f"curves: {draw_curves(work_dir)}", sys.stdout)
        except UserError as error:  # the run is complete without them
            notice(f"the curves cannot be drawn: {error}", sys.stdout)
