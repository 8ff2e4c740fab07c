"""Writing the page of a run, a test or a comparison: which of them a folder holds, and where the page goes."""

from __future__ import annotations

import sys
from pathlib import Path

from omnisource.errors import UserError
from omnisource.printing import notice
from omnisource.report.comparison import COMPARISON, comparison_page
from omnisource.report.page import Page, write_page
from omnisource.report.run import RECIPE, run_page
from omnisource.report.sources import tested_sources
from omnisource.report.tested import tested_page
from omnisource.reporting.metrics_file import METRICS
from omnisource.reporting.status_file import STATUS

PAGE = "report.html"
MARK = b'<meta name="generator" content="omnisource report">'
_MARK_BYTES = 2000  # of a page, in which the mark stands


def write_report_page(folder: Path, path: Path | None = None) -> Path:
    """Writes the page of what `folder` holds; returns where.

    Args:
        folder: Of a run, a test or a comparison.
        path: The page; `report.html` in the folder unless given.

    Raises:
        UserError: The folder holds none of them, one of its files is damaged, or the page would replace another file.
        OSError: The page cannot be written.
    """
    path = path or folder / PAGE
    page = _page(folder)
    _refuse_other_file(path)
    write_page(page, path)
    return path


def _refuse_other_file(path: Path) -> None:
    """Raises a UserError where a page cannot go, or something lies there that is none."""
    if not path.parent.is_dir():
        raise UserError(f"{path.parent}: no such folder; make it, or name another page with --output")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name the page with --output")
    if path.exists():
        with path.open("rb") as file:
            if MARK not in file.read(_MARK_BYTES):
                raise UserError(f"{path}: is no page of omnisource report, and stays; name another one with --output")


def write_page_after(folder: Path) -> None:
    """Writes the page of what has just ended, and says where; what fails is said too, and never ends the command."""
    try:
        path = write_report_page(folder)
    except Exception as error:  # what was worked for is done, and its files are written
        reason = error if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        notice(f"warning: the report of {folder} could not be written: {reason}")
        return
    notice(f"report: {path}", sys.stdout)


def _page(folder: Path) -> Page:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name that of a run, a test or a comparison")
    if (folder / COMPARISON).is_file():
        return comparison_page(folder)
    if any((folder / name).exists() for name in (STATUS, METRICS, RECIPE)):
        return run_page(folder)
    if tested_sources(folder):
        return tested_page(folder)
    raise UserError(
        f"{folder}: holds no run ({STATUS}, {METRICS} or {RECIPE}), no test (SOURCE/metrics.json) and no {COMPARISON}; "
        "`omnisource runs DIR` lists the runs below a folder"
    )
