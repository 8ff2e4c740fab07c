"""The classes of a recipe: their names, from class maps and folders, and their numbers."""

from __future__ import annotations

import os
from dataclasses import replace

from omnisource.data.lists.class_maps import read_class_names
from omnisource.data.lists.folders import class_names_of_folders
from omnisource.errors import UserError
from omnisource.recipe.data import Source, Split
from omnisource.recipe.recipe import Recipe


def class_names_of(source: Source) -> tuple[str, ...] | None:
    """Returns the names of a source's classes in the order of their indices, or None where it has none.

    Raises:
        UserError: If the class map or the folder is missing or wrong.
    """
    if source.classes:
        return read_class_names(os.path.join(source.root, source.classes))
    if isinstance(source.train, Split) and source.train.format == "folders":
        return class_names_of_folders(os.path.join(source.root, source.train.folder))
    return None


def resolve_classes(recipe: Recipe) -> tuple[Recipe, dict[str, tuple[str, ...]]]:
    """Returns the recipe with every number of classes known, and the class names of each label space.

    Where no class map gives names, the names are the indices.

    Raises:
        UserError: If a class map is missing or wrong, or sources that share a label space disagree.
    """
    spaces, names = {}, {}
    for space_name, space in recipe.label_spaces.items():
        found: dict[str, tuple[str, ...]] = {}
        for source_name, source in recipe.sources.items():
            if source.label_space != space_name:
                continue
            source_names = class_names_of(replace(source, root=os.path.expanduser(source.root)))
            if source_names is not None:
                found[source_name] = source_names
        if len(set(found.values())) > 1:
            raise UserError(
                f"sources {', '.join(found)} share the label space {space_name} but their class names or the order of "
                "these differ; give them one class map (classes=...)."
            )
        known = next(iter(found.values()), None)
        if known is None and space.num_classes is None:
            raise UserError(
                f"label_spaces.{space_name}: the number of classes is not known. Set label_spaces.{space_name}"
                ".num_classes=N, or give one of its sources a class map (sources.NAME.classes=FILE)."
            )
        if known is not None and space.num_classes not in (None, len(known)):
            raise UserError(
                f"label_spaces.{space_name}.num_classes={space.num_classes}, but the class names of source "
                f"{next(iter(found))} are {len(known)}."
            )
        num_classes = len(known) if known is not None else space.num_classes
        assert num_classes is not None
        spaces[space_name] = replace(space, num_classes=num_classes)
        names[space_name] = known or tuple(str(index) for index in range(num_classes))
    return replace(recipe, label_spaces=spaces), names
