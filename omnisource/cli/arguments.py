"""The arguments that several commands share, and what they mean."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from omnisource.errors import UserError
from omnisource.paths import NoHomeFolder, with_home_folder

if TYPE_CHECKING:
    from omnisource.recipe.recipe import Recipe


def add_config(parser: argparse.ArgumentParser) -> None:
    """Adds CONFIG, the first argument of the commands that work on a recipe."""
    parser.add_argument("config", metavar="CONFIG", type=path_text, help="Python file that builds `recipe`")


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Adds the overrides, which follow the other positional arguments."""
    parser.add_argument("overrides", metavar="key=value", nargs="*", default=[], help="override a key of the recipe")


def load_recipe(config_path: str, overrides: Sequence[str]) -> Recipe:
    """Returns the recipe of a config file with the overrides applied.

    Raises:
        UserError: If the config cannot be loaded, or an override is none of this recipe.
    """
    from omnisource.recipe.loading import load_config
    from omnisource.recipe.overrides import apply_overrides
    from omnisource.recipe.paths import home_faults
    from omnisource.recipe.recipe import Recipe

    recipe = apply_overrides(load_config(config_path, Recipe), overrides)
    if faults := home_faults(recipe):
        raise UserError("\n".join(faults))
    return recipe


def default_work_dir(config_path: str) -> Path:
    """Returns the work dir of a run that is given none."""
    return Path("work_dirs") / Path(config_path).stem


def path(text: str) -> Path:
    """Returns the path that an argument gives.

    Raises:
        argparse.ArgumentTypeError: If it is empty, has a zero byte, or begins with `~` where that is no home folder.
    """
    return Path(path_text(text))


def path_text(text: str) -> str:
    """Returns the path that an argument gives, otherwise as it is written; raises as `path` does."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty; the current folder is .")
    if "\0" in text:
        raise argparse.ArgumentTypeError(f"{text}: no path has a zero byte in it")
    try:
        return with_home_folder(text)
    except NoHomeFolder as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def resumed(text: str) -> str:
    """Returns what --resume gives: "" for a new run, "auto", or a path; raises as `path` does."""
    return text if text in ("", "auto") else path_text(text)


SIZE_FORM = "a number with B, KB, MB, GB, TB, KiB, MiB, GiB or TiB, such as 200MB or 1.5GB"
"""How a size is written, in every flag that takes one; small letters mean the same."""

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+) ?(?:([kmgt])(i?))?b", re.IGNORECASE | re.ASCII)


def num_bytes(text: str) -> int:
    """Returns the bytes of a size that an argument gives.

    Raises:
        argparse.ArgumentTypeError: If it is none, or less than a byte.
    """
    found = _SIZE.fullmatch(text.strip())
    size = 0
    if found is not None:
        number, prefix, is_binary = found.groups()
        power = " kmgt".index((prefix or " ").lower())
        size = int(Fraction(number) * (1024 if is_binary else 1000) ** power)  # exact, however large
    if size < 1:
        raise argparse.ArgumentTypeError(f"{text}: wants {SIZE_FORM}")
    return size


def share(text: str) -> float:
    """Returns the share of a whole that an argument gives, as 0.2 or as 20%; which shares make sense, its command says.

    Raises:
        argparse.ArgumentTypeError: If it is no number.
    """
    number = text.strip().removesuffix("%")
    try:
        return float(number) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: wants a share, such as 0.2 or 20%") from None


def positive(text: str) -> int:
    """Returns the whole number above 0 that an argument gives."""
    return whole_number(text, minimum=1)


def non_negative(text: str) -> int:
    """Returns the whole number, 0 or above, that an argument gives."""
    return whole_number(text, minimum=0)


def whole_number(text: str, minimum: int) -> int:
    """Returns the whole number that an argument gives.

    Raises:
        argparse.ArgumentTypeError: If it is none, or below `minimum`.
    """
    if not text.isdecimal() or int(text) < minimum:
        raise argparse.ArgumentTypeError(f"{text}: wants a whole number of at least {minimum}")
    return int(text)
