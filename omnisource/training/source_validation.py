"""The validation of one source, by all processes: its figures, and a few of its items with their predictions."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from omnisource.data.loading.unreadable import LeftOut
from omnisource.distributed import processes
from omnisource.evaluation.classifier import Scored
from omnisource.evaluation.evaluate import EvaluationTask, evaluate
from omnisource.evaluation.examples import Example, Examples
from omnisource.signals import Interrupted
from omnisource.training.run_context import RunContext
from omnisource.training.state import TrainState


@dataclass(frozen=True)
class SourceValidation:
    """What came of the validation of one source.

    Attributes:
        metrics: Figures by name; those of the moving average of the weights begin with `ema_`.
        left_out: Items that cannot be read.
        examples: A few items, with what is predicted of them.
    """

    metrics: dict[str, float]
    left_out: Sequence[LeftOut]
    examples: Sequence[Example]


def validate_source(run: RunContext, state: TrainState, name: str) -> SourceValidation:
    """Returns the validation of one source: of the weights and, if there is one, of their average.

    Raises:
        Interrupted: If a signal came before the end, and there is one process: several could not agree at once.
        UserError: If more files are unreadable than the recipe permits.
    """
    items, ema = run.validation_items[name], state.ema
    examples, head = Examples(len(items)), run.recipe.sources[name].label_space
    task = EvaluationTask(run.recipe, name, "validation", items)
    share = len(task.local_indices)
    advance = run.report.validating(name, share if ema is None else 2 * share)

    def after_item(index: int, scored: Scored | None) -> None:
        advance()
        if scored is not None:
            examples.add(index, scored.clip, scored.scores[head])
        if run.stop and processes.world_size() == 1:
            raise Interrupted(run.stop[0])

    evaluated = functools.partial(evaluate, state.model, task, run.workers, run.unreadable, on_item=after_item)
    with state.evaluated():
        evaluation = evaluated()
    metrics = evaluation.metrics.as_dict()
    if ema is not None:
        with state.evaluated(average=True):
            averaged = evaluated().metrics.as_dict()
        metrics |= {f"ema_{figure}": value for figure, value in averaged.items() if figure != "count"}
    return SourceValidation(metrics, evaluation.left_out, examples.gather())
