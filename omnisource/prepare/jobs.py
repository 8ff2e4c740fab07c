"""What is to be prepared: the files and the lists of a folder, of a list or of a source of a recipe."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field, replace

from omnisource.data.classes import class_names_of
from omnisource.data.datasets import find_problems, read_items
from omnisource.data.lists.folders import files_below
from omnisource.data.lists.items import Items
from omnisource.data.lists.media_files import IMAGE_SUFFIXES, VIDEO_SUFFIXES, left_out_note, media_by_suffix
from omnisource.data.lists.text import Problem, some
from omnisource.data.notes import run_notes, split_notes
from omnisource.errors import UserError, shortened
from omnisource.prepare.outputs import FileJob, distinct_files, output_names, path_below
from omnisource.recipe.data import Source, Split, SplitName, TarShards
from omnisource.recipe.recipe import Recipe
from omnisource.types import Media


@dataclass(frozen=True)
class SplitJob:
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
class PrepareJob:
    """Everything that is to be prepared.

    Attributes:
        name: What the output folder remembers it by.
        original_folders: Folders that the originals lie in.
        files: The files.
        splits: The lists, and the files that belong to them; none for a folder.
        class_map: Path of the class map and where it goes below the output folder, or None.
        notes: What else the user should know, a sentence each.
    """

    name: str
    original_folders: list[str]
    files: list[FileJob]
    splits: list[SplitJob] = field(default_factory=list)
    class_map: tuple[str, str] | None = None
    notes: list[str] = field(default_factory=list)


def job_from_folder(folder: str) -> PrepareJob:
    """Returns the job of preparing all images and videos of a folder, at any depth, known by their suffixes.

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
    names = output_names(known)
    files = [FileJob(media, os.path.join(root, path), names[path]) for path, media in known]
    left_out = Counter(os.path.splitext(path)[1].lower() for path in paths if path not in names)
    notes = [left_out_note(folder, left_out, None)] if left_out else []
    return PrepareJob(root, [root], distinct_files(files), notes=notes)


def job_from_list(list_path: str, folder: str | None) -> PrepareJob:
    """Returns the job of preparing the files of a list of the form `path label`, the labels numbers.

    Args:
        list_path: The list.
        folder: Folder that its paths start from; None: the folder of the list.

    Raises:
        UserError: For all that is wrong with the list, or if a suffix is neither that of an image nor of a video.
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
    split_job, files = _split_job(os.path.splitext(name)[0], split, items, None, original, name, "")
    return PrepareJob(original, [root], distinct_files(files), [split_job], notes=split_notes(items, ()))


def job_from_source(recipe: Recipe, name: str, config_path: str) -> PrepareJob:
    """Returns the job of preparing a source of a recipe: the files of all its splits, their lists and the class map.

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
    names = class_names or [str(index) for index in range(num_classes or 0)]
    overrides = [f"sources.{name}.root=OUT"]
    split_jobs: list[tuple[SplitJob, list[FileJob]]] = []
    found: dict[SplitName, dict[str, Items]] = {}
    for split_name, split in _splits(name, source).items():
        items = read_items(source.root, split, source.media, class_names, num_classes, name)
        found[split_name] = {name: items}
        split_jobs.append(
            _split_job_of_source(overrides, f"sources.{name}.{split_name}", split_name, source, split, items)
        )
    class_map = None
    if source.classes:
        output = _path_below_root(overrides, f"sources.{name}.classes", source.classes, "classes.txt")
        class_map = os.path.join(source.root, source.classes), output
    return PrepareJob(
        f"{os.path.realpath(config_path)}:{name}",
        [source.root, *(split_job.items.folder for split_job, _ in split_jobs)],
        distinct_files([file for _, files in split_jobs for file in files]),
        [split_job for split_job, _ in split_jobs],
        class_map,
        [*run_notes(recipe, {source.label_space: names}, found), f"train on them with {' '.join(overrides)}"],
    )


def _splits(name: str, source: Source) -> dict[SplitName, Split]:
    """Returns the distinct splits of a source by their names."""
    all_splits: dict[SplitName, Split | TarShards | None] = {
        "train": source.train,
        "validation": source.validation,
        "test": source.test,
    }
    found: dict[SplitName, Split] = {}
    for split_name, split in all_splits.items():
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


def _split_job_of_source(
    overrides: list[str], key: str, name: str, source: Source, split: Split, items: Items
) -> tuple[SplitJob, list[FileJob]]:
    """Returns the job of one split of a source, and its files; adds to `overrides` what does not keep its path."""
    folder = _path_below_root(overrides, f"{key}.folder", split.folder, name)
    if split.format == "folders":
        return _split_job(name, split, items, source.media, "", "", folder)
    original = os.path.join(source.root, split.list)
    output = _path_below_root(overrides, f"{key}.list", split.list, f"{name}_{os.path.basename(split.list)}")
    return _split_job(name, split, items, source.media, original, output, folder)


def _path_below_root(overrides: list[str], key: str, path: str, otherwise: str) -> str:
    """Returns the path of a list, folder or class map below the output folder: the same as below the source's root.

    One that lies outside the root goes to `otherwise`, and the key that then has to be set is added to `overrides`.
    """
    normal = os.path.normpath(path) if path else ""
    if os.path.isabs(normal) or normal.split("/")[0] == "..":
        overrides.append(f"{key}={otherwise}")
        return otherwise
    return "" if normal == "." else normal


def _split_job(
    name: str, split: Split, items: Items, media: Media | None, original: str, output: str, folder: str
) -> tuple[SplitJob, list[FileJob]]:
    """Returns the job of the items of one list, and their files; media None: known by the suffixes."""
    originals = [_originals(items, index, split) for index in range(len(items))]

    def media_of(path: str) -> Media:
        if split.format == "frames_folder":
            return "image"
        kind = media or media_by_suffix(path)
        assert kind is not None, path
        return kind

    below = {path: path_below(path, items.folder) for paths in originals for path in paths}
    names = output_names([(relative, media_of(relative)) for relative in below.values()])
    outputs = [[names[below[path]] for path in paths] for paths in originals]
    files = [FileJob(media_of(path), path, os.path.join(folder, names[relative])) for path, relative in below.items()]
    return SplitJob(name, split, items, original, output, folder, outputs), files


def _originals(items: Items, index: int, split: Split) -> list[str]:
    """Returns the files of an item: one, or the raw frames of a folder."""
    item = items[index]
    if item.num_frames is None:
        return [item.path]
    return [os.path.join(item.path, split.frame_template.format(number + 1)) for number in range(item.num_frames)]
