"""`omnisource test`: tests a checkpoint."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from omnisource.cli.arguments import add_config, add_overrides, load_recipe, path, path_text
from omnisource.errors import UserError


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds `omnisource test`."""
    test = commands.add_parser("test", help="test a checkpoint on the test items of a recipe")
    add_config(test)
    test.add_argument("checkpoint", metavar="CHECKPOINT", type=path_text, help="our own or a published checkpoint")
    add_overrides(test)
    test.add_argument("--dump", type=path, metavar="RESULT.pkl", help="write the scores in the published form")
    test.add_argument("--work-dir", type=path, help="where the report goes (a folder `test` beside the checkpoint)")
    test.add_argument("--ema", action="store_true", help="test the moving average of the weights")
    test.set_defaults(command=_test)


def _test(arguments: argparse.Namespace) -> int:
    return run_test(
        arguments.config,
        arguments.checkpoint,
        arguments.overrides,
        arguments.work_dir,
        arguments.dump,
        average=arguments.ema,
    )


def run_test(
    config_path: str,
    checkpoint: str,
    overrides: Sequence[str],
    work_dir: Path | None,
    dump: Path | None,
    show_dir: Path | None = None,
    show_interval: int = 1,
    *,
    average: bool = False,
) -> int:
    """Tests a checkpoint, or the moving average in it, on every source that has test items; returns 0."""
    from omnisource.distributed import processes
    from omnisource.evaluation.report import ReportFiles
    from omnisource.evaluation.test import test
    from omnisource.report.write import write_page_after

    if dump is not None and dump.suffix not in (".pkl", ".pickle"):
        raise UserError(f"--dump {dump}: the file must end in .pkl or .pickle")
    recipe = load_recipe(config_path, overrides)
    files = ReportFiles(work_dir or Path(checkpoint).parent / "test", dump, show_dir, show_interval)
    try:
        test(recipe, checkpoint, files, config_name=config_path, average=average)
    except (Exception, KeyboardInterrupt) as error:
        if processes.is_own_failure(error):  # as in `run_training`
            raise
        return 1
    if processes.rank() == 0:
        write_page_after(files.folder)
    processes.stop()
    return 0
