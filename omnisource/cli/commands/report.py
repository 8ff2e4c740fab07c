"""`omnisource report`: writes the page of a run, a test or a comparison."""

from __future__ import annotations

import argparse

from omnisource.cli.arguments import path


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds `omnisource report`."""
    report = commands.add_parser("report", help="write an HTML page of a run, a test or a comparison")
    report.add_argument("folder", metavar="DIR", type=path, help="folder of a run, a test or a comparison")
    report.add_argument("--output", type=path, metavar="PAGE.html", help="where the page goes (DIR/report.html)")
    report.set_defaults(command=_report)


def _report(arguments: argparse.Namespace) -> int:
    from omnisource.printing import show
    from omnisource.report.write import write_report_page

    show(f"report: {write_report_page(arguments.folder, arguments.output)}")
    return 0
