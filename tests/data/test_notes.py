"""What commands tell of items beside their mistakes: the same words everywhere."""

from __future__ import annotations

from pathlib import Path

from omnisource.data.datasets import read_items
from omnisource.data.lists.items import Items
from omnisource.data.notes import split_notes
from omnisource.recipe.data import Split

NAMES = ("hug", "kick", "run")


def items_of(folder: Path, *labels: int) -> Items:
    (folder / "list.txt").write_text("".join(f"{number}.mp4 {label}\n" for number, label in enumerate(labels)))
    return read_items(str(folder), Split(list="list.txt"), "video", NAMES, None, "tiny", check_files=False)


def test_classes_without_items_are_told_where_training_has_them(tmp_path: Path) -> None:
    trained = items_of(tmp_path, 0, 1, 1)
    assert split_notes(trained, NAMES) == ["classes without items: 1 of 3 (run)"]
    assert split_notes(items_of(tmp_path, 0), NAMES, trained) == ["classes without items: 1 of 2 (kick)"]
    assert split_notes(items_of(tmp_path, 0, 1), NAMES, trained) == []


def test_labels_that_seem_to_begin_with_one_are_told(tmp_path: Path) -> None:
    *_, note = split_notes(items_of(tmp_path, 1, 2), NAMES)
    assert note == "no item has the label 0, so the labels seem to begin with 1: if they do, subtract 1 from each"
    assert len(split_notes(items_of(tmp_path, 2), NAMES)) == 1
