"""`omnisource predict`: classifies images and videos."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING, TextIO

from omnisource.cli.arguments import non_negative, path_text, positive
from omnisource.errors import UnreadableMedia, UserError
from omnisource.printing import notice, printable_name, show, show_json

if TYPE_CHECKING:
    from omnisource.evaluation.predict import FileResult


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds `omnisource predict`."""
    predict = commands.add_parser("predict", help="classify images, videos and folders of them")
    predict.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        type=path_text,
        help="our own or a published checkpoint, or a ViT of another project: a file or a folder",
    )
    predict.add_argument("files", metavar="FILE", nargs="+", type=path_text, help="image, video, or folder of them")
    predict.add_argument("--top", type=positive, default=5, metavar="K", help="classes to name (%(default)s)")
    predict.add_argument("--json", action="store_true", help="print one JSON line a file")
    predict.add_argument(
        "--classes", metavar="FILE", type=path_text, help="class map, where the checkpoint has no names or others"
    )
    predict.add_argument("--ema", action="store_true", help="use the moving average of the weights")
    predict.add_argument(
        "--device",
        default="auto",
        help="auto, cpu, cuda or cuda:N (%(default)s: the GPU where there is one)",
    )
    predict.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16", "float64"),
        help="arithmetic of the forward pass; float16 on a GPU only (that of the weights: float32, or float64 after a "
        "run in float64, so that scores depend on the checkpoint alone)",
    )
    predict.add_argument(
        "--workers",
        type=non_negative,
        metavar="N",
        help="processes that decode ahead; 0: none (0 for fewer than 8 files, otherwise one for each core, at most 8)",
    )
    predict.set_defaults(command=_predict)


def _predict(arguments: argparse.Namespace) -> int:
    """Prints the best classes of every file; returns 0, or 2 if some could not be classified."""
    from omnisource.evaluation.device import device_named
    from omnisource.evaluation.load import load, with_class_names
    from omnisource.evaluation.predict import default_workers, is_few, media_files, predict
    from omnisource.reporting.progress import progress_bar

    device = device_named(arguments.device)
    if arguments.precision == "float16" and device.type == "cpu":
        raise UserError("--precision float16 needs a GPU: on a CPU take bfloat16 or float32")
    loaded = load(arguments.checkpoint, average=arguments.ema, device=device, precision=arguments.precision)
    loaded = with_class_names(loaded, arguments.classes) if arguments.classes else loaded
    for note in loaded.notes:
        notice(f"{arguments.checkpoint}: {note}")
    files = media_files(arguments.files)
    num_workers = default_workers(files) if arguments.workers is None else arguments.workers
    show = _show_json if arguments.json else _show_text
    failed = 0
    # A bar sends what is printed meanwhile to standard error, where it stands: right in a terminal, wrong in a pipe.
    output = None if sys.stdout.isatty() else sys.stdout
    results = predict(loaded, files, arguments.top, num_workers)
    bar = contextlib.nullcontext(lambda: None) if is_few(files) else progress_bar("predicting", len(files))
    with contextlib.closing(results), bar as advance:
        for result in results:
            if result.error is not None:  # one file's fault, so the others are still wanted
                failed += 1
                notice(f"error: {result.error}")
            show(result, arguments.ema, output)
            advance()
    if failed:
        notice(f"{failed} of {len(files)} files could not be classified")
    return 2 if failed else 0


def _show_json(result: FileResult, is_average: bool, output: TextIO | None) -> None:
    """Prints a JSON line for each head, or one with the error."""
    file, error = result.file, result.error
    if error is not None:
        reason = error.reason if isinstance(error, UnreadableMedia) else str(error)
        show_json({"path": file.path, "error": reason}, file=output, flush=True)
    for prediction in result.predictions:
        line = {
            "path": file.path,
            "media": file.media,
            "label_space": prediction.head,
            "ema": is_average,
            "top": [{"class": name, "score": round(score, 6)} for name, score in prediction.top],
        }
        show_json(line, file=output, flush=True)


def _show_text(result: FileResult, is_average: bool, output: TextIO | None) -> None:
    """Prints the file and, below it, the best classes of each head; nothing where there are none."""
    for prediction in result.predictions:
        average = ", moving average of the weights" if is_average else ""
        show(f"{printable_name(result.file.path)} ({prediction.head}{average})", file=output)
        for name, score in prediction.top:
            show(f"  {score:7.2%}  {printable_name(name)}", file=output)
