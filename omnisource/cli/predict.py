"""`omnisource predict`: classifies images and videos."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from omnisource.cli.arguments import positive
from omnisource.errors import UnreadableMedia, UserError


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds `omnisource predict`."""
    predict = commands.add_parser("predict", help="classify images, videos and folders of them")
    predict.add_argument("checkpoint", metavar="CHECKPOINT", help="our own or a published checkpoint")
    predict.add_argument("files", metavar="FILE", nargs="+", help="image, video, or folder of them")
    predict.add_argument("--top", type=positive, default=5, metavar="K", help="classes to name (%(default)s)")
    predict.add_argument("--json", action="store_true", help="print one JSON line a file")
    predict.add_argument("--ema", action="store_true", help="use the moving average of the weights")
    predict.set_defaults(command=_predict)


def _predict(arguments: argparse.Namespace) -> int:
    return run_predict(arguments.checkpoint, arguments.files, arguments.top, arguments.json, average=arguments.ema)


def run_predict(checkpoint: str, files: Sequence[str], top: int, as_json: bool, *, average: bool = False) -> int:
    """Prints the best classes of every file; returns 0, or 2 if some could not be classified.

    Args:
        checkpoint: Our own or a published checkpoint.
        files: Images, videos and folders of them.
        top: Classes to name.
        as_json: Whether to print a JSON line a file and head.
        average: Whether to take the moving average of the weights in place of the weights.
    """
    from omnisource.distributed import processes
    from omnisource.evaluation.predict import load, media_files, predict

    loaded = load(checkpoint, average=average)
    loaded.recognizer.to(processes.choose_device())
    found = media_files(files)
    failed = 0
    for path, media in found:
        try:
            predictions = list(predict(loaded, path, media, top))
        except UserError as error:  # one file's fault, so the others are still wanted
            failed += 1
            print(f"error: {error}", file=sys.stderr)
            if as_json:
                reason = error.reason if isinstance(error, UnreadableMedia) else str(error)
                print(json.dumps({"path": path, "error": reason}, ensure_ascii=False), flush=True)
            continue
        for prediction in predictions:
            if as_json:
                top_classes = [{"class": name, "score": round(score, 6)} for name, score in prediction.top]
                line = {
                    "path": path,
                    "media": media,
                    "label_space": prediction.head,
                    "ema": average,
                    "top": top_classes,
                }
                print(json.dumps(line, ensure_ascii=False), flush=True)
            else:
                print(f"{path} ({prediction.head}{', moving average of the weights' if average else ''})")
                for name, score in prediction.top:
                    print(f"  {score:7.2%}  {name}")
    if failed:
        print(f"{failed} of {len(found)} files could not be classified", file=sys.stderr)
    return 2 if failed else 0
