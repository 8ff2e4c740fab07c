"""`omnisource prepare`: re-encodes videos and shrinks images, so that training reads them quickly."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from omnisource.cli.arguments import (
    SIZE_FORM,
    add_overrides,
    load_recipe,
    num_bytes,
    path,
    path_text,
    positive,
    whole_number,
)
from omnisource.errors import UserError
from omnisource.printing import show


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds `omnisource prepare`."""
    prepare = commands.add_parser(
        "prepare",
        help="re-encode videos and shrink images, so that training reads them quickly",
        epilog="The same command again goes on where it was ended. The originals are never touched.",
    )
    prepare.add_argument(
        "source", metavar="SOURCE", type=path_text, help="folder, list (`path label`), or CONFIG:NAME of a source"
    )
    prepare.add_argument("out", metavar="OUT", type=path, help="new folder for the prepared files and their lists")
    add_overrides(prepare)
    prepare.add_argument(
        "--short-side", type=_even, default=256, metavar="PIXELS", help="short side, an even number (%(default)s)"
    )
    prepare.add_argument(
        "--keyframe-interval", type=positive, default=5, metavar="N", help="frames to the next keyframe (%(default)s)"
    )
    prepare.add_argument("--workers", type=positive, metavar="N", help="processes (one for each core)")
    prepare.add_argument("--folder", type=path, help="where the paths of a list start (the folder of the list)")
    prepare.add_argument(
        "--shard-size", type=num_bytes, metavar="SIZE", help=f"pack tar shards of about this size: {SIZE_FORM}"
    )
    prepare.set_defaults(command=_prepare)


def _prepare(arguments: argparse.Namespace) -> int:
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


def run_prepare(
    source: str,
    out: Path,
    overrides: Sequence[str],
    short_side: int,
    keyframe_interval: int,
    num_workers: int | None,
    folder: Path | None,
    shard_bytes: int | None,
) -> int:
    """Prepares a folder, a list or a source of a config; returns 0, or 2 if some files could not be prepared.

    Args:
        source: A folder, a list, or CONFIG:NAME.
        out: Where the prepared files go.
        overrides: Changes of the config.
        short_side: Short side in pixels.
        keyframe_interval: Frames from one keyframe of a video to the next.
        num_workers: Processes; None: one for each core that this process may use.
        folder: Where the paths of a list start; None: the folder of the list.
        shard_bytes: Bytes of a tar shard; None: no shards.
    """
    from omnisource.distributed.cores import usable_cores
    from omnisource.prepare.jobs import job_from_folder, job_from_list, job_from_source
    from omnisource.prepare.run import Settings, prepare

    config, colon, name = source.rpartition(":")
    is_config = bool(colon) and config.endswith(".py")
    if overrides and not is_config:
        raise UserError(f"{overrides[0]}: only a source of a config, CONFIG:NAME, has keys that can be overridden")
    if folder is not None and not Path(source).is_file():
        raise UserError(f"--folder {folder}: is for lists; {source} is none")
    if is_config:
        job = job_from_source(load_recipe(config, overrides), name, config)
    elif Path(source).is_dir():
        job = job_from_folder(source)
    elif source.endswith(".py"):
        raise UserError(f"{source}: name a source of this config, as {source}:NAME")
    else:
        job = job_from_list(source, None if folder is None else str(folder))
    settings = Settings(short_side, keyframe_interval)
    preparation = prepare(job, out, settings, num_workers or usable_cores(), shard_bytes)
    show(str(preparation))
    return 2 if preparation.failures else 0


def _even(text: str) -> int:
    number = whole_number(text, minimum=2)
    if number % 2:
        raise argparse.ArgumentTypeError(f"{text}: wants an even number, since videos store color for 2 x 2 pixels")
    return number
