"""`omnisource check`: reads every list and every file of a recipe."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omnisource.cli.arguments import add_config, add_overrides, default_work_dir, load_recipe, path
from omnisource.errors import UserError
from omnisource.printing import notice
from omnisource.signals import Interrupted

if TYPE_CHECKING:
    from omnisource.recipe.recipe import Recipe


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds `omnisource check`."""
    check = commands.add_parser("check", help="read every list and every file of a recipe, and list all that is wrong")
    add_config(check)
    add_overrides(check)
    check.add_argument(
        "--report", type=path, metavar="DIR", help="where the report goes (work_dirs/NAME OF THE CONFIG/check)"
    )
    check.add_argument(
        "--pictures", type=path, metavar="DIR", help="first draw training samples of each source, augmented, into DIR"
    )
    check.set_defaults(command=_check)


def _check(arguments: argparse.Namespace) -> int:
    return run_check(arguments.config, arguments.overrides, arguments.report, arguments.pictures)


def run_check(
    config_path: str, overrides: Sequence[str], report: Path | None = None, pictures: Path | None = None
) -> int:
    """Checks all lists and files of a recipe; returns 0 if nothing is wrong, 2 if something is, 128 + n after signal n.

    Args:
        config_path: The config.
        overrides: Changes of it.
        report: Folder of the report; None: `check` in the folder of the config's runs.
        pictures: Gets a sheet of training samples of each source, before the files are read. None: none are drawn.

    Raises:
        UserError: If one of the folders has files of others with the names of ours, or nothing can be read at all.
    """
    from omnisource.check.preview_batches import require_own
    from omnisource.check.run import check

    recipe = load_recipe(config_path, overrides)
    folder = report or default_work_dir(config_path) / "check"
    if pictures is not None:
        require_own(recipe, pictures)
    is_drawn = pictures is None or _draw_batches(recipe, config_path, pictures)
    try:
        found = check(recipe, config_path, folder, overrides)
    except Interrupted as stop:
        flags = ["--report", str(folder), *([] if pictures is None else ["--pictures", str(pictures)])]
        again = shlex.join([config_path, *overrides, *flags])
        notice(f"stopped; what was read is kept in {folder}\ncontinue with: omnisource check {again}", sys.stdout)
        return 128 + stop.signal_number
    return 2 if found.errors or not is_drawn else 0


def _draw_batches(recipe: Recipe, config_path: str, folder: Path) -> bool:
    """Draws training samples of each source; returns whether that succeeded. The check reports what is wrong."""
    from omnisource.check.preview_batches import draw_batches

    try:
        for path in draw_batches(recipe, config_path, folder):
            notice(f"training samples: {path}", sys.stdout)
    except UserError as error:
        notice(f"error: no pictures: {error}")
        return False
    return True
