"""`omnisource checkpoint` looks into a checkpoint; `omnisource export` writes one for other programs."""

from __future__ import annotations

import argparse

from omnisource.cli.arguments import path, path_text
from omnisource.printing import printable_name, show, show_json


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds `omnisource export` and `omnisource checkpoint`."""
    _add_export(commands)
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
    export.set_defaults(command=_export_weights)


def _add_export(commands: argparse._SubParsersAction) -> None:
    """Adds `omnisource export`."""
    export = commands.add_parser("export", help="write a checkpoint as ONNX, as a program of torch, or its weights")
    export.add_argument("checkpoint", metavar="CHECKPOINT", type=path, help="our own or a published checkpoint")
    export.add_argument(
        "out", metavar="OUT", type=path, help="file to write: OUT.onnx, OUT.pt2, OUT.safetensors or OUT.pth"
    )
    export.add_argument(
        "--format",
        choices=("onnx", "torch", "safetensors", "published"),
        help="onnx, or torch (.pt2): programs that take uint8 and give scores, checked against the checkpoint; "
        "safetensors, or published (.pth): the weights alone (by the suffix of OUT)",
    )
    export.add_argument("--ema", action="store_true", help="take the moving average of the weights")
    export.add_argument("--media", choices=("image", "video"), help="the only media that a program takes (all)")
    export.add_argument(
        "--int8", action="store_true", help="ONNX: weights of 8 bits, activations quantized as they come"
    )
    export.add_argument(
        "--clips",
        nargs="+",
        default=[],
        metavar="FILE",
        type=path_text,
        help="images, videos and folders to check a program on (clips that the command makes itself)",
    )
    export.set_defaults(command=_export)


def _show(arguments: argparse.Namespace) -> int:
    from omnisource.export.weights import describe_checkpoint, print_checkpoint

    if arguments.json:
        show_json(describe_checkpoint(arguments.file), indent=2)
    else:
        print_checkpoint(arguments.file)
    return 0


def _export_weights(arguments: argparse.Namespace) -> int:
    from omnisource.export.weights import export_checkpoint

    export_checkpoint(arguments.file, arguments.out, average=arguments.ema)
    show(f"written: {arguments.out}")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from omnisource.export.run import ExportChoices, export

    choices = ExportChoices(
        average=arguments.ema,
        media=arguments.media,
        is_quantized=arguments.int8,
        clips=tuple(arguments.clips),
    )
    comparison = export(arguments.checkpoint, arguments.out, arguments.format, choices)
    show(f"written: {printable_name(str(arguments.out))}")
    if comparison is not None:
        show(f"checked against {printable_name(str(arguments.checkpoint))}: {comparison}")
    return 0
