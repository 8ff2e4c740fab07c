"""`omnisource lists`: makes the lists of a dataset."""

from __future__ import annotations

import argparse
from pathlib import Path

from omnisource.cli.arguments import non_negative, path, share
from omnisource.printing import show


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds `omnisource lists`."""
    lists = commands.add_parser("lists", help="make the lists of a dataset")
    kinds = lists.add_subparsers(title="kinds", metavar="KIND", required=True)
    kinetics = kinds.add_parser("kinetics", help="from a Kinetics CSV file and a folder of videos")
    kinetics.add_argument("csv", metavar="CSV", type=path, help="columns label,youtube_id,time_start,time_end,split")
    kinetics.add_argument("videos", metavar="VIDEOS", type=path, help="folder of the clips, flat or one folder a class")
    folders = kinds.add_parser("folders", help="from a folder with one folder a class")
    folders.add_argument("folder", metavar="FOLDER", type=path, help="folder that holds one folder a class")
    folders.add_argument("--media", choices=("image", "video"), required=True, help="which files count, by suffix")
    folders.add_argument(
        "--validation-share",
        type=share,
        default=0.0,
        metavar="SHARE",
        help="share of each class to hold out: 0.2 or 20%%",
    )
    folders.add_argument("--validation-out", type=path, metavar="LIST", help="list of the items held out")
    folders.add_argument("--seed", type=non_negative, default=0, help="seed of what is held out (%(default)s)")
    folders.add_argument(
        "--group-pattern", metavar="REGEX", help="items with the same match in their path stay on one side of the split"
    )
    for kind in (kinetics, folders):
        kind.add_argument("--out", type=path, required=True, metavar="LIST", help="list to write")
        kind.add_argument("--classes", type=path, metavar="FILE", help="class map: read if it exists, else written")
        kind.add_argument("--overwrite", action="store_true", help="replace lists that exist")
    kinetics.set_defaults(command=_kinetics)
    folders.set_defaults(command=_folders)


def _kinetics(arguments: argparse.Namespace) -> int:
    from omnisource.make_lists.kinetics import make_kinetics_list
    from omnisource.reporting.progress import counted_progress

    with counted_progress("looking for clips", "folders") as progress:
        report = make_kinetics_list(
            str(arguments.csv),
            str(arguments.videos),
            str(arguments.out),
            _text(arguments.classes),
            overwrite=arguments.overwrite,
            progress=progress,
        )
    show(str(report))
    return 0


def _folders(arguments: argparse.Namespace) -> int:
    from omnisource.make_lists.folders import make_folder_lists
    from omnisource.reporting.progress import counted_progress

    with counted_progress("reading folders", "folders") as progress:
        report = make_folder_lists(
            str(arguments.folder),
            str(arguments.out),
            arguments.media,
            _text(arguments.classes),
            validation_path=_text(arguments.validation_out),
            validation_share=arguments.validation_share,
            seed=arguments.seed,
            group_pattern=arguments.group_pattern,
            overwrite=arguments.overwrite,
            progress=progress,
        )
    show(str(report))
    return 0


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
