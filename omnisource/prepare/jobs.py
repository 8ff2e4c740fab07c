"""What is to be prepared: the media files of a folder, a list or a source of a recipe, and where each of them goes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from omnisource.data.classes import class_names_of
from omnisource.data.datasets import find_problems, read_items
from omnisource.data.lists.items import Items
from omnisource.data.lists.media_files import IMAGE_SUFFIXES, VIDEO_SUFFIXES, files_below, media_by_suffix
from omnisource.data.lists.text import Problem, some
from omnisource.errors import UserError, shortened
from omnisource.recipe.data import Source, Split, SplitName, TarShards
from omnisource.recipe.recipe import Recipe
from omnisource.types import Media

PREPARED_SUFFIX = ".mp4"
"""Suffix of prepared videos."""


@dataclass(frozen=True, slots=True)
class MediaFile:
    """One file to be prepared.

    Attributes:
        media: "image" or "video".
        path: Absolute path of the original.
        output: Path of the prepared file, below the output folder.
    """

    media: Media
    path: str
    output: str


@dataclass(frozen=True)
class SplitPlan:
    """The items of one split, and the list that is to be written of them.

    Attributes:
        name: "train", "validation" or "test"; the name of the file where there is only a list.
        split: How its list is to be read.
        items: Its items.
        original: The list; "" where there is none.
        output: Where the list goes, below the output folder; "" where there is none.
        folder: Folder below the output folder that the paths of the list start from.
        outputs: Prepared files of each item, below that folder: one, or its raw frames.
    """

    name: str
    split: Split
    items: Items
    original: str
    output: str
    folder: str
    outputs: list[list[str]]


@dataclass(frozen=True)
class SourcePlan:
    """Everything that is to be prepared.

    Attributes:
        name: What the output folder remembers it by.
        places: Folders that the originals lie in.
        files: The files.
        splits: The lists, and the files that belong to them; none for a folder.
        class_map: Path of the class map and where it goes below the output folder, or None.
        notes: What else the user should know, a sentence each.
    """

    name: str
    places: list[str]
    files: list[MediaFile]
    splits: list[SplitPlan] = field(default_factory=list)
    class_map: tuple[str, str] | None = None
    notes: list[str] = field(default_factory=list)


def plan_folder(folder: str) -> SourcePlan:
    """Returns the plan for all images and videos of a folder, at any depth, known by their suffixes.

    Raises:
        UserError: If the folder cannot be listed, or has none.
    """
    problems: list[Problem] = []
    root = os.path.abspath(folder)
    paths = files_below(root, problems)
    if problems:
        raise UserError(shortened([str(problem) for problem in problems]))
    known: list[tuple[str, Media]] = []
    for path in paths:
        media = media_by_suffix(path)
        if media is not None:
            known.append((path, media))
    if not known:
        suffixes = ", ".join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
        raise UserError(f"{folder}: no images and no videos in it (known by {suffixes})")
    names = _output_names(known)
    files = [MediaFile(media, os.path.join(root, path), names[path]) for path, media in known]
    others = [path for path in paths if path not in names]
    notes = [f"files that are no media, left out: {len(others)} ({some(others)})"] if others else []
    return SourcePlan(root, [root], _distinct(files), notes=notes)


def plan_list(list_path: str, folder: str | None) -> SourcePlan:
    """Returns the plan for the files of a list of the form `path label`, the labels numbers.

    Args:
        list_path: The list.
        folder: Folder that its paths start from; None: the folder of the list.

    Raises:
        UserError: For all that is wrong with the list, or if a suffix does not tell images from videos.
    """
    original = os.path.abspath(list_path)
    if not os.path.isfile(original):
        raise UserError(f"{list_path}: is neither a folder, nor a list, nor a source of a config, CONFIG.py:NAME")
    root = os.path.abspath(folder or os.path.dirname(original))
    name = os.path.basename(original)
    split = Split(list=original)
    items, problems = find_problems(root, split, "video", None, None, name)
    if problems:
        lines = shortened([str(problem) for problem in problems])
        raise UserError(
            f"{lines}\nCorrect the list, or say with --folder where its paths start. Lists of other forms than `path "
            "label`, and names for labels, need a config: CONFIG.py:NAME."
        )
    unknown = [key for key in items.keys if media_by_suffix(key) is None]
    if unknown:
        raise UserError(
            f"{list_path}: neither images nor videos by their suffixes: {some(unknown)}. Prepare the source of a "
            "config, which says what its files are: CONFIG:NAME."
        )
    part, files = _plan_split(os.path.splitext(name)[0], split, items, None, original, name, "")
    return SourcePlan(original, [root], _distinct(files), [part])


def plan_source(recipe: Recipe, name: str, config_path: str) -> SourcePlan:
    """Returns the plan for a source of a recipe: the files of all its splits, their lists and the class map.

    Args:
        recipe: The recipe.
        name: Name of the source.
        config_path: Its config.

    Raises:
        UserError: If there is no such source, it consists of shards, or for all that is wrong with a list.
    """
    if name not in recipe.sources:
        raise UserError(f"{config_path}: no source {name!r}; its sources are {', '.join(recipe.sources)}")
    source = recipe.sources[name]
    source = replace(source, root=os.path.abspath(os.path.expanduser(source.root)))
    class_names = _class_names(recipe, source.label_space)
    num_classes = recipe.label_spaces[source.label_space].num_classes
    overrides = [f"sources.{name}.root=OUT"]
    parts: list[tuple[SplitPlan, list[MediaFile]]] = []
    for split_name, split in _splits(name, source).items():
        items = read_items(source.root, split, source.media, class_names, num_classes, name)
        parts.append(_place_split(overrides, f"sources.{name}.{split_name}", split_name, source, split, items))
    class_map = None
    if source.classes:
        place = _place(overrides, f"sources.{name}.classes", source.classes, "classes.txt")
        class_map = os.path.join(source.root, source.classes), place
    return SourcePlan(
        f"{os.path.realpath(config_path)}:{name}",
        [source.root, *(part.items.folder for part, _ in parts)],
        _distinct([file for _, files in parts for file in files]),
        [part for part, _ in parts],
        class_map,
        [f"train on them with {' '.join(overrides)}"],
    )


def _splits(name: str, source: Source) -> dict[SplitName, Split]:
    """Returns the distinct splits of a source by their names."""
    named: dict[SplitName, Split | TarShards | None] = {
        "train": source.train,
        "validation": source.validation,
        "test": source.test,
    }
    found: dict[SplitName, Split] = {}
    for split_name, split in named.items():
        if isinstance(split, TarShards):
            raise UserError(f"sources.{name}.{split_name}: its items lie in shards; prepare the files that were packed")
        if split is not None and split not in found.values():
            found[split_name] = split
    return found


def _class_names(recipe: Recipe, label_space: str) -> tuple[str, ...] | None:
    """Returns the class names of a label space, from whichever of its sources has them."""
    sources = [source for source in recipe.sources.values() if source.label_space == label_space]
    found = (class_names_of(replace(source, root=os.path.expanduser(source.root))) for source in sources)
    return next((names for names in found if names is not None), None)


def _place_split(
    overrides: list[str], key: str, name: str, source: Source, split: Split, items: Items
) -> tuple[SplitPlan, list[MediaFile]]:
    """Returns the plan of one split of a source, and its files; adds to `overrides` what does not keep its place."""
    folder = _place(overrides, f"{key}.folder", split.folder, name)
    if split.format == "folders":
        return _plan_split(name, split, items, source.media, "", "", folder)
    original = os.path.join(source.root, split.list)
    output = _place(overrides, f"{key}.list", split.list, f"{name}_{os.path.basename(split.list)}")
    return _plan_split(name, split, items, source.media, original, output, folder)


def _place(overrides: list[str], key: str, path: str, otherwise: str) -> str:
    """Returns where something of a source goes: to the same place below the root, if it is below the root."""
    place = os.path.normpath(path) if path else ""
    if os.path.isabs(place) or place.split("/")[0] == "..":
        overrides.append(f"{key}={otherwise}")
        return otherwise
    return "" if place == "." else place


def _plan_split(
    name: str, split: Split, items: Items, media: Media | None, original: str, output: str, folder: str
) -> tuple[SplitPlan, list[MediaFile]]:
    """Returns the plan of the items of one list, and their files; media None: known by the suffixes."""
    originals = [_originals(items, index, split) for index in range(len(items))]

    def media_of(path: str) -> Media:
        if split.format == "frames_folder":
            return "image"
        kind = media or media_by_suffix(path)
        assert kind is not None, path
        return kind

    below = {path: _below(path, items.folder) for paths in originals for path in paths}
    names = _output_names([(place, media_of(place)) for place in below.values()])
    outputs = [[names[below[path]] for path in paths] for paths in originals]
    files = [MediaFile(media_of(path), path, os.path.join(folder, names[place])) for path, place in below.items()]
    return SplitPlan(name, split, items, original, output, folder, outputs), files


def _originals(items: Items, index: int, split: Split) -> list[str]:
    """Returns the files of an item: one, or the raw frames of a folder."""
    item = items[index]
    if item.num_frames is None:
        return [item.path]
    return [os.path.join(item.path, split.frame_template.format(number + 1)) for number in range(item.num_frames)]


def _below(path: str, folder: str) -> str:
    """Returns a path below the folder that its list starts from; one that leads out of it keeps its whole path."""
    relative = os.path.relpath(path, folder)
    return os.path.normpath(path).lstrip("/") if relative.split("/")[0] == ".." else relative


def _output_names(files: Iterable[tuple[str, Media]]) -> dict[str, str]:
    """Returns the name of each prepared file: videos get the suffix .mp4, images keep theirs.

    Where that would give two videos one name, as a.avi and a.mp4, the first keeps its suffix too: a.avi.mp4.
    """
    names = {}
    for path, media in files:
        stem, suffix = os.path.splitext(path)
        if media == "image" or suffix.lower() == PREPARED_SUFFIX:
            names[path] = path
        else:
            names[path] = (stem if suffix.lower() in VIDEO_SUFFIXES else path) + PREPARED_SUFFIX
    counts = Counter(names.values())
    return {path: path + PREPARED_SUFFIX if name != path and counts[name] > 1 else name for path, name in names.items()}


def _distinct(files: Sequence[MediaFile]) -> list[MediaFile]:
    """Returns the files without repetitions.

    Raises:
        UserError: If two different files would get one name.
    """
    of_output: dict[str, MediaFile] = {}
    for file in files:
        other = of_output.setdefault(file.output, file)
        if os.path.normpath(other.path) != os.path.normpath(file.path):
            raise UserError(f"{other.path} and {file.path} would both become {file.output}; rename one of them")
    return list(of_output.values())
