"""`omnisource show`: prints a recipe, or what a file of weights holds."""

from __future__ import annotations

import argparse
from pathlib import Path

from omnisource.cli.arguments import add_overrides, load_recipe, path_text
from omnisource.errors import UserError

WEIGHTS_SUFFIXES = (".pth", ".pt", ".safetensors", ".bin", ".ckpt", ".pyth", ".tar")
"""What files of weights end in."""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds `omnisource show`."""
    show = commands.add_parser(
        "show", help="print a recipe, its sizes and its cost, which needs no data; or what a file of weights holds"
    )
    show.add_argument(
        "config",
        metavar="CONFIG",
        type=path_text,
        help="Python file that builds `recipe`, or a file or folder of weights",
    )
    add_overrides(show)
    show.add_argument("--keys", action="store_true", help="list every key with its value and meaning instead")
    show.set_defaults(command=_show)


def _show(arguments: argparse.Namespace) -> int:
    path = Path(arguments.config)
    if path.is_dir() or path.suffix in WEIGHTS_SUFFIXES:
        if arguments.overrides or arguments.keys:
            raise UserError(f"{path}: weights have no keys; give a config, or the file alone")
        from omnisource.show.weights import print_weights

        print_weights(path)
        return 0
    recipe = load_recipe(arguments.config, arguments.overrides)
    if arguments.keys:
        from omnisource.show.keys import print_keys

        print_keys(recipe)
    else:
        from omnisource.show.show import print_recipe

        print_recipe(recipe)
    return 0
