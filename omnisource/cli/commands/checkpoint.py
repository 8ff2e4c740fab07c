"""`omnisource checkpoint`: looks into a checkpoint, or takes its weights out."""

from __future__ import annotations

import argparse

from omnisource.cli.arguments import path
from omnisource.printing import show, show_json


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds `omnisource checkpoint`."""
    checkpoint = commands.add_parser("checkpoint", help="look into a checkpoint, or take its weights out")
    actions = checkpoint.add_subparsers(title="actions", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="verify a checkpoint and print what it holds")
    show.add_argument("file", metavar="FILE", type=path, help="checkpoint of a run")
    show.add_argument("--json", action="store_true", help="print everything but the tensors as JSON")
    show.set_defaults(command=_show)
    export = actions.add_parser("export", help="write the weights alone")
    export.add_argument("file", metavar="FILE", type=path, help="checkpoint of a run")
    export.add_argument(
        "out", metavar="OUT", type=path, help="OUT.safetensors with our names, or OUT.pth in the published format"
    )
    export.add_argument("--ema", action="store_true", help="take the moving average of the weights")
    export.set_defaults(command=_export)


def _show(arguments: argparse.Namespace) -> int:
    from omnisource.export.weights import describe_checkpoint, print_checkpoint

    if arguments.json:
        show_json(describe_checkpoint(arguments.file), indent=2)
    else:
        print_checkpoint(arguments.file)
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from omnisource.export.weights import export_checkpoint

    export_checkpoint(arguments.file, arguments.out, average=arguments.ema)
    show(f"written: {arguments.out}")
    return 0
