"""`omnisource predict`: classifies images and videos."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from omnisource.cli.arguments import non_negative, path, path_text, positive
from omnisource.cli.predict_windows import add_windows, check_flags, predict_windows, window_settings
from omnisource.errors import UnreadableMedia, UserError
from omnisource.files.atomic import require_folder_of
from omnisource.printing import notice, printable_name, show, show_json

if TYPE_CHECKING:
    from omnisource.evaluation.load import Loaded
    from omnisource.evaluation.outputs.results_file import ResultsFile
    from omnisource.evaluation.predict import FileResult, MediaFile


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds `omnisource predict`."""
    predict = commands.add_parser("predict", help="classify images, videos and folders of them")
    predict.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        type=path_text,
        help="our own or a published checkpoint, an exported file, or a ViT of another project: a file or a folder",
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
    predict.add_argument(
        "--out",
        type=path,
        metavar="RESULTS.jsonl",
        help="write a JSON line a file; with the same command again, files that are in it are not done again",
    )
    predict.add_argument(
        "--features", type=path, metavar="OUT.npz", help="write the pooled features, averaged over views, and no scores"
    )
    predict.add_argument("--each-view", action="store_true", help="with --features: those of each view")
    add_windows(predict)
    predict.set_defaults(command=_predict)


def _predict(arguments: argparse.Namespace) -> int:
    """Prints the best classes of every file; returns 0, or 2 if some could not be classified."""
    from omnisource.evaluation.device import device_named
    from omnisource.evaluation.load import load, with_class_names
    from omnisource.evaluation.outputs.results_file import open_results
    from omnisource.evaluation.predict import default_workers, media_files

    check_flags(arguments)
    _check_outputs(arguments)
    device = device_named(arguments.device)
    if arguments.precision == "float16" and device.type == "cpu":
        raise UserError("--precision float16 needs a GPU: on a CPU take bfloat16 or float32")
    loaded = load(arguments.checkpoint, average=arguments.ema, device=device, precision=arguments.precision)
    loaded = with_class_names(loaded, arguments.classes) if arguments.classes else loaded
    for note in loaded.notes:
        notice(f"{arguments.checkpoint}: {note}")
    files = media_files(arguments.files)
    num_workers = default_workers(files) if arguments.workers is None else arguments.workers
    if arguments.features is not None:
        return _write_features(arguments, loaded, files, num_workers)
    with contextlib.ExitStack() as stack:
        results = None
        if arguments.out is not None:
            results = stack.enter_context(open_results(arguments.out, _settings(arguments)))
        if arguments.windows:
            return predict_windows(arguments, loaded, files, results)
        return _predict_files(arguments, loaded, files, num_workers, results)


def _predict_files(
    arguments: argparse.Namespace,
    loaded: Loaded,
    files: Sequence[MediaFile],
    num_workers: int,
    written: ResultsFile | None,
) -> int:
    """Prints the best classes of every file that is not written yet; returns as `_predict`."""
    from omnisource.evaluation.predict import is_few, predict
    from omnisource.reporting.progress import progress_bar

    num_files = len(files)
    if written is not None:
        files = [file for file in files if file.path not in written.finished]
        if len(files) < num_files:
            notice(f"{num_files - len(files)} of {num_files} files are in {arguments.out}, and are not done again")
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
            if written is not None:
                written.add(_entry(result, arguments.ema))
            advance()
    failed = failed if written is None else written.num_failed
    if failed:
        notice(f"{failed} of {num_files} files could not be classified")
    return 2 if failed else 0


def _write_features(arguments: argparse.Namespace, loaded: Loaded, files: Sequence[MediaFile], num_workers: int) -> int:
    """Writes the features of files; returns 0, or 2 if some could not be read."""
    from omnisource.evaluation.outputs.features import write_features
    from omnisource.reporting.progress import progress_bar

    with progress_bar("features", len(files)) as advance:
        errors = write_features(
            arguments.features, loaded, files, num_workers, each_view=arguments.each_view, on_file=advance
        )
    for error in errors:
        notice(f"error: {error}")
    show(f"written: {printable_name(str(arguments.features))}")
    return 2 if errors else 0


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Checks that what is to be written fits together, and that a file of features is new."""
    if arguments.each_view and arguments.features is None:
        raise UserError("--each-view is for --features OUT.npz")
    if arguments.features is None:
        return
    if arguments.windows or arguments.out is not None:
        raise UserError("--features goes with neither --windows nor --out: it writes no scores")
    if arguments.features.suffix != ".npz":
        raise UserError(f"--features {arguments.features}: the file must end in .npz")
    if arguments.features.exists():
        raise UserError(f"{arguments.features}: exists already; choose another name")
    require_folder_of(arguments.features)


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns what results depend on; a file of results goes on with the same only."""
    checkpoint = os.stat(arguments.checkpoint)
    return {
        "checkpoint": arguments.checkpoint,
        "checkpoint_bytes": checkpoint.st_size,
        "checkpoint_modified": int(checkpoint.st_mtime),
        "ema": arguments.ema,
        "precision": arguments.precision,
        "top": arguments.top,
        **window_settings(arguments),
    }


def _entry(result: FileResult, is_average: bool) -> dict[str, Any]:
    """Returns what a file of results has of one file: one line, so that it is there as a whole or not at all."""
    lines = _lines(result, is_average)
    if result.error is not None:
        return lines[0]
    of_heads = [{"label_space": line["label_space"], "top": line["top"]} for line in lines]
    return {"path": result.file.path, "media": result.file.media, "ema": is_average, "predictions": of_heads}


def _lines(result: FileResult, is_average: bool) -> list[dict[str, Any]]:
    """Returns an entry for each head, or one with the error."""
    file, error = result.file, result.error
    if error is not None:
        reason = error.reason if isinstance(error, UnreadableMedia) else str(error)
        return [{"path": file.path, "error": reason}]
    return [
        {
            "path": file.path,
            "media": file.media,
            "label_space": prediction.head,
            "ema": is_average,
            "top": [{"class": name, "score": round(score, 6)} for name, score in prediction.top],
        }
        for prediction in result.predictions
    ]


def _show_json(result: FileResult, is_average: bool, output: TextIO | None) -> None:
    """Prints a JSON line for each head, or one with the error."""
    for line in _lines(result, is_average):
        show_json(line, file=output, flush=True)


def _show_text(result: FileResult, is_average: bool, output: TextIO | None) -> None:
    """Prints the file and, below it, the best classes of each head; nothing where there are none."""
    for prediction in result.predictions:
        average = ", moving average of the weights" if is_average else ""
        show(f"{printable_name(result.file.path)} ({prediction.head}{average})", file=output)
        for name, score in prediction.top:
            show(f"  {score:7.2%}  {printable_name(name)}", file=output)
