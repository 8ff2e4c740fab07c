"""Folders, lists and shards that a recipe names and that are not there, all said at once."""

from __future__ import annotations

import os
from pathlib import Path

from omnisource.data.shards.read import shard_places
from omnisource.errors import UserError, shortened
from omnisource.files.byte_ranges import is_url
from omnisource.recipe.data import SplitName, TarShards, split_of
from omnisource.recipe.recipe import Recipe


def require_data(recipe: Recipe, splits: tuple[SplitName, ...], config_path: str = "") -> None:
    """Checks that every folder and list that the recipe names is there.

    Raises:
        UserError: Naming all that is missing, on one screen, and the page that tells how to make it.
    """
    missing: list[str] = []
    for name, source in recipe.sources.items():
        if all(split_of(source, split_name) is None for split_name in splits):
            continue
        root = os.path.expanduser(source.root) or "."
        wanted = {root: ("folder", f"sources.{name}.root")}
        if source.classes:
            wanted.setdefault(os.path.join(root, source.classes), ("class map", f"sources.{name}.classes"))
        for split_name in splits:
            split = split_of(source, split_name)
            if split is None:
                continue
            # Without test items of its own, a source is tested on those of validation: that is the key to change.
            key = f"sources.{name}.{'validation' if split == source.validation else split_name}"
            if isinstance(split, TarShards):
                # Servers are asked when the shards are read.
                local = [url for url in shard_places(root, split) if not is_url(url)]
                wanted |= {path: ("shard", f"{key}.urls") for path in local}
                continue
            wanted.setdefault(os.path.join(root, split.folder) if split.folder else root, ("folder", f"{key}.folder"))
            if split.format != "folders":
                wanted.setdefault(os.path.join(root, split.list), ("list", f"{key}.list"))
        for path, (kind, key) in wanted.items():
            exists = Path(path).is_dir() if kind == "folder" else Path(path).is_file()
            if not exists:
                is_dangling = os.path.islink(path) and not os.path.exists(path)
                why = f" (a link that leads nowhere, to {os.readlink(path)})" if is_dangling else ""
                missing.append(f"  {path:<60} {kind}, {key}={why}")
    if missing:
        raise UserError(
            f"{config_path or 'the recipe'}: the data is not here. Missing:\n"
            + shortened(missing)
            + "\nHow to lay out and list the data: docs/data.md. Another place: sources.NAME.root=FOLDER."
        )
