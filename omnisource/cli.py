"""The commands: arguments and nothing else. Everything heavy is imported when a command runs."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omnisource.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code.

    0: done. 2: a mistake in what was given. 128 + n: stopped by signal n, after saving.
    """
    return run(lambda: _dispatch(arguments))


def run(command: Callable[[], int]) -> int:
    """Runs `command` and returns its exit code; a user's mistake becomes a message and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        # File names are bytes: one that is no text here is shown escaped, and must not end the command.
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    try:
        return command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, `head` perhaps, has seen enough
        sys.stderr.close()
        return 141
    except OSError as error:  # a full disk, no permission, a folder where a file should be
        if error.filename is None:
            raise
        print(f"error: {os.fsdecode(error.filename)}: {error.strerror}", file=sys.stderr)
        return 2


def _dispatch(arguments: Sequence[str] | None) -> int:
    parser = _parser()
    # argparse takes the last positional arguments only in one row; those that stand after a flag come back as unknown.
    parsed, unknown = parser.parse_known_args(arguments)
    if any(text.startswith("-") for text in unknown):
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if hasattr(parsed, "overrides"):
        parsed.overrides = [*parsed.overrides, *unknown]
    elif hasattr(parsed, "files"):
        parsed.files = [*parsed.files, *unknown]
    elif unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return parsed.command(parsed)


class _Parser(argparse.ArgumentParser):
    """Takes flags in full only: an abbreviation would change its meaning when a flag is added."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)


def _parser() -> argparse.ArgumentParser:
    from omnisource import __version__

    parser = _Parser(
        prog="omnisource", description="Trains one recognizer on image and video datasets together, and uses it."
    )
    parser.add_argument("--version", action="version", version=f"omnisource {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_train(commands)
    _add_test(commands)
    _add_predict(commands)
    _add_show(commands)
    _add_check(commands)
    _add_prepare(commands)
    _add_lists(commands)
    _add_checkpoint(commands)
    _add_runs(commands)
    _add_watch(commands)
    _add_demo(commands)
    return parser


def _add_train(commands: argparse._SubParsersAction) -> None:
    train = commands.add_parser(
        "train", help="train a recipe", epilog="omnisource show CONFIG --keys lists every key with its meaning."
    )
    train.add_argument("config", metavar="CONFIG", help="Python file that builds `recipe`")
    _add_overrides(train)
    train.add_argument("--seed", type=_non_negative, help="seed of the run; the same as seed=N")
    train.add_argument("--deterministic", action="store_true", help="use deterministic algorithms only")
    train.add_argument("--work-dir", type=Path, help="where the run goes (work_dirs/NAME OF THE CONFIG)")
    train.add_argument(
        "--resume", default="", metavar="auto|PATH", help="continue from the newest checkpoint of the run, or from PATH"
    )
    train.add_argument(
        "--auto-scale-lr", action="store_true", help="scale the learning rate to the real number of clips a step"
    )
    train.set_defaults(command=_train)


def _train(arguments: argparse.Namespace) -> int:
    from omnisource.commands import run_training

    overrides = list(arguments.overrides)
    if arguments.seed is not None:
        overrides.append(f"seed={arguments.seed}")
    if arguments.deterministic:
        overrides.append("deterministic=True")
    return run_training(
        arguments.config, overrides, arguments.work_dir, arguments.resume, auto_scale_lr=arguments.auto_scale_lr
    )


def _add_test(commands: argparse._SubParsersAction) -> None:
    test = commands.add_parser("test", help="test a checkpoint on the test items of a recipe")
    test.add_argument("config", metavar="CONFIG", help="Python file that builds `recipe`")
    test.add_argument("checkpoint", metavar="CHECKPOINT", help="our own or a published checkpoint")
    _add_overrides(test)
    test.add_argument("--dump", type=Path, metavar="RESULT.pkl", help="write the scores in the published form")
    test.add_argument("--work-dir", type=Path, help="where the report goes (a folder `test` beside the checkpoint)")
    test.add_argument("--ema", action="store_true", help="test the moving average of the weights")
    test.set_defaults(command=_test)


def _test(arguments: argparse.Namespace) -> int:
    from omnisource.commands import run_test

    return run_test(
        arguments.config,
        arguments.checkpoint,
        arguments.overrides,
        arguments.work_dir,
        arguments.dump,
        average=arguments.ema,
    )


def _add_predict(commands: argparse._SubParsersAction) -> None:
    predict = commands.add_parser("predict", help="classify images, videos and folders of them")
    predict.add_argument("checkpoint", metavar="CHECKPOINT", help="our own or a published checkpoint")
    predict.add_argument("files", metavar="FILE", nargs="+", help="image, video, or folder of them")
    predict.add_argument("--top", type=_positive, default=5, metavar="K", help="classes to name (%(default)s)")
    predict.add_argument("--json", action="store_true", help="print one JSON line a file")
    predict.add_argument("--ema", action="store_true", help="use the moving average of the weights")
    predict.set_defaults(command=_predict)


def _predict(arguments: argparse.Namespace) -> int:
    from omnisource.commands import run_predict

    return run_predict(arguments.checkpoint, arguments.files, arguments.top, arguments.json, average=arguments.ema)


def _add_show(commands: argparse._SubParsersAction) -> None:
    show = commands.add_parser("show", help="print a recipe, its sizes and its cost; needs no data")
    show.add_argument("config", metavar="CONFIG", help="Python file that builds `recipe`")
    _add_overrides(show)
    show.add_argument("--keys", action="store_true", help="list every key with its value and meaning instead")
    show.set_defaults(command=_show)


def _show(arguments: argparse.Namespace) -> int:
    from omnisource.commands import run_show

    return run_show(arguments.config, arguments.overrides, only_keys=arguments.keys)


def _add_check(commands: argparse._SubParsersAction) -> None:
    check = commands.add_parser("check", help="read every list and every file of a recipe, and list all that is wrong")
    check.add_argument("config", metavar="CONFIG", help="Python file that builds `recipe`")
    _add_overrides(check)
    check.add_argument(
        "--report", type=Path, metavar="DIR", help="where the report goes (work_dirs/NAME OF THE CONFIG/check)"
    )
    check.add_argument(
        "--pictures", type=Path, metavar="DIR", help="first draw training samples of each source, augmented, into DIR"
    )
    check.set_defaults(command=_check)


def _check(arguments: argparse.Namespace) -> int:
    from omnisource.commands import run_check

    return run_check(arguments.config, arguments.overrides, arguments.report, arguments.pictures)


def _add_checkpoint(commands: argparse._SubParsersAction) -> None:
    checkpoint = commands.add_parser("checkpoint", help="look into a checkpoint, or take its weights out")
    actions = checkpoint.add_subparsers(title="actions", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="verify a checkpoint and print what it holds")
    show.add_argument("file", metavar="FILE", type=Path, help="checkpoint of a run")
    show.add_argument("--json", action="store_true", help="print everything but the tensors as JSON")
    show.set_defaults(command=_checkpoint_show)
    export = actions.add_parser("export", help="write the weights alone")
    export.add_argument("file", metavar="FILE", type=Path, help="checkpoint of a run")
    export.add_argument(
        "out", metavar="OUT", type=Path, help="OUT.safetensors with our names, or OUT.pth in the published format"
    )
    export.add_argument("--ema", action="store_true", help="take the moving average of the weights")
    export.set_defaults(command=_checkpoint_export)


def _checkpoint_show(arguments: argparse.Namespace) -> int:
    from omnisource.commands import run_checkpoint_show

    return run_checkpoint_show(arguments.file, as_json=arguments.json)


def _checkpoint_export(arguments: argparse.Namespace) -> int:
    from omnisource.commands import run_checkpoint_export

    return run_checkpoint_export(arguments.file, arguments.out, average=arguments.ema)


def _add_prepare(commands: argparse._SubParsersAction) -> None:
    prepare = commands.add_parser(
        "prepare",
        help="re-encode videos and shrink images, so that training reads them quickly",
        epilog="The same command again goes on where it was ended. The originals are never touched.",
    )
    prepare.add_argument("source", metavar="SOURCE", help="folder, list (`path label`), or CONFIG:NAME of a source")
    prepare.add_argument("out", metavar="OUT", type=Path, help="new folder for the prepared files and their lists")
    _add_overrides(prepare)
    prepare.add_argument(
        "--short-side", type=_even, default=256, metavar="256|320", help="short side in pixels (%(default)s)"
    )
    prepare.add_argument(
        "--keyframe-interval", type=_positive, default=5, metavar="N", help="frames to the next keyframe (%(default)s)"
    )
    prepare.add_argument("--workers", type=_positive, metavar="N", help="processes (one for each core)")
    prepare.add_argument("--folder", type=Path, help="where the paths of a list start (the folder of the list)")
    prepare.add_argument("--shard-size", type=_bytes, metavar="SIZE", help="pack tar shards of about this size, as 1GB")
    prepare.set_defaults(command=_prepare)


def _prepare(arguments: argparse.Namespace) -> int:
    from omnisource.commands import run_prepare

    return run_prepare(
        arguments.source,
        arguments.out,
        arguments.overrides,
        arguments.short_side,
        arguments.keyframe_interval,
        arguments.workers,
        arguments.folder,
        arguments.shard_size,
    )


def _add_lists(commands: argparse._SubParsersAction) -> None:
    lists = commands.add_parser("lists", help="make the lists of a dataset")
    kinds = lists.add_subparsers(title="kinds", metavar="KIND", required=True)
    kinetics = kinds.add_parser("kinetics", help="from a Kinetics CSV file and a folder of videos")
    kinetics.add_argument("csv", metavar="CSV", type=Path, help="columns label,youtube_id,time_start,time_end,split")
    kinetics.add_argument("videos", metavar="VIDEOS", type=Path, help="folder of the clips, flat or one folder a class")
    folders = kinds.add_parser("folders", help="from a folder with one folder a class")
    folders.add_argument("folder", metavar="FOLDER", type=Path, help="folder that holds one folder a class")
    folders.add_argument("--media", choices=("image", "video"), required=True, help="which files count, by suffix")
    folders.add_argument("--validation-share", type=float, default=0.0, help="share of each class to hold out")
    folders.add_argument("--validation-out", type=Path, metavar="LIST", help="list of the items held out")
    folders.add_argument("--seed", type=_non_negative, default=0, help="seed of what is held out (%(default)s)")
    folders.add_argument(
        "--group-pattern", metavar="REGEX", help="items with the same match in their path stay on one side of the split"
    )
    for kind in (kinetics, folders):
        kind.add_argument("--out", type=Path, required=True, metavar="LIST", help="list to write")
        kind.add_argument("--classes", type=Path, metavar="FILE", help="class map: read if it exists, else written")
        kind.add_argument("--overwrite", action="store_true", help="replace lists that exist")
    kinetics.set_defaults(command=_lists_kinetics)
    folders.set_defaults(command=_lists_folders)


def _lists_kinetics(arguments: argparse.Namespace) -> int:
    from omnisource.commands import run_lists_kinetics

    return run_lists_kinetics(
        arguments.csv, arguments.videos, arguments.out, arguments.classes, overwrite=arguments.overwrite
    )


def _lists_folders(arguments: argparse.Namespace) -> int:
    from omnisource.commands import run_lists_folders

    return run_lists_folders(
        arguments.folder,
        arguments.media,
        arguments.out,
        arguments.classes,
        arguments.validation_share,
        arguments.validation_out,
        arguments.seed,
        arguments.group_pattern,
        overwrite=arguments.overwrite,
    )


def _add_runs(commands: argparse._SubParsersAction) -> None:
    runs = commands.add_parser("runs", help="list runs with their state, step, best score and age")
    runs.add_argument(
        "folder", metavar="DIR", nargs="?", type=Path, default=Path("work_dirs"), help="where they are (%(default)s)"
    )
    runs.add_argument("--json", action="store_true", help="print one JSON line a run")
    runs.set_defaults(command=_runs)


def _runs(arguments: argparse.Namespace) -> int:
    from omnisource.run_table import print_runs

    return print_runs(arguments.folder, is_json=arguments.json)


def _add_watch(commands: argparse._SubParsersAction) -> None:
    watch = commands.add_parser("watch", help="follow a run from another terminal, until it ends")
    watch.add_argument("run", metavar="RUN", type=Path, help="work dir of the run")
    watch.add_argument("--once", action="store_true", help="show how it stands, and leave")
    watch.set_defaults(command=_watch)


def _watch(arguments: argparse.Namespace) -> int:
    from omnisource.watch import watch

    return watch(arguments.run, is_once=arguments.once)


def _add_demo(commands: argparse._SubParsersAction) -> None:
    demo = commands.add_parser("demo", help="make small media, train on them jointly, test, and predict (CPU, minutes)")
    demo.add_argument("--work-dir", type=Path, default=Path("work_dirs/demo"), help="where it goes (%(default)s)")
    demo.set_defaults(command=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from omnisource.demo import run_demo

    return run_demo(arguments.work_dir)


def _add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", metavar="key=value", nargs="*", default=[], help="override a key of the recipe")


def _positive(text: str) -> int:
    return _whole_number(text, least=1)


def _non_negative(text: str) -> int:
    return _whole_number(text, least=0)


def _even(text: str) -> int:
    number = _whole_number(text, least=2)
    if number % 2:
        raise argparse.ArgumentTypeError(f"{text}: wants an even number, since videos store colour for 2 x 2 pixels")
    return number


def _bytes(text: str) -> int:
    found = re.fullmatch(r"([1-9][0-9]{0,5})(MB|GB)", text.upper())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text}: wants a number of MB or GB, such as 1GB")
    return int(found[1]) * (10**6 if found[2] == "MB" else 10**9)


def _whole_number(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text}: wants a whole number of at least {least}")
    return int(text)
