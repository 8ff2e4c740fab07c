"""`omnisource show`: prints a recipe."""

from __future__ import annotations

import argparse

from omnisource.cli.arguments import add_config, add_overrides, load_recipe


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds `omnisource show`."""
    show = commands.add_parser("show", help="print a recipe, its sizes and its cost; needs no data")
    add_config(show)
    add_overrides(show)
    show.add_argument("--keys", action="store_true", help="list every key with its value and meaning instead")
    show.set_defaults(command=_show)


def _show(arguments: argparse.Namespace) -> int:
    recipe = load_recipe(arguments.config, arguments.overrides)
    if arguments.keys:
        from omnisource.show.keys import print_keys

        print_keys(recipe)
    else:
        from omnisource.show.show import print_recipe

        print_recipe(recipe)
    return 0
