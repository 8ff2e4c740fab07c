"""How all processes of a run come to the same unreadable files, and to the same replacements."""

from __future__ import annotations

from omnisource.data.loading.unreadable import Replacement, UnreadableLog
from omnisource.distributed import processes
from omnisource.errors import UserError, shortened


def agree_on_unreadable(unreadable: UnreadableLog, step: int) -> list[Replacement]:
    """Gives all processes the unreadable files that any has met; called by all of them together.

    Returns:
        The replacements that all processes have made in the first `step` steps and that were not committed before.

    Raises:
        UserError: If these are, together, more than the recipe permits. The first process then has the replacements of
            all, to save with the steps that are done.
    """
    parts = processes.gather((unreadable.reasons, unreadable.pending))
    known = [reasons for reasons, _ in parts]
    for reasons in known:
        for path, reason in reasons.items():
            unreadable.reasons.setdefault(path, reason)
    pending = [one for _, of_process in parts for one in of_process]
    count, error = len(unreadable.reasons), None
    is_first = processes.rank() == 0
    is_too_many = count > max(unreadable.permitted, *map(len, known))
    if is_too_many:
        unreadable.pending[:] = pending if is_first else []
    if is_too_many and is_first:
        files = [f"{path}: {reason}" for path, reason in unreadable.reasons.items()]
        error = UserError(
            f"{shortened(files)}\n{count} unreadable in all processes, {unreadable.permitted} permitted. Fix or "
            "remove the files (omnisource check CONFIG finds them all), or permit more with max_unreadable=N or "
            "max_unreadable_share=S."
        )
    processes.raise_on_all_ranks(error)
    return unreadable.commit(pending, step)
