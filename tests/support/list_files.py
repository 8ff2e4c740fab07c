"""What the tests of the makers of lists share: empty files, lists read back, names that are hard to write."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

from omnisource.data.datasets import read_items
from omnisource.recipe.data import Split
from omnisource.types import Media

ODD = st.text(st.sampled_from(" ,\t\r#;\"'ä語\u3000\u2028\ufeff\x1c01.-ab"), min_size=1, max_size=8)


def make_files(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()


def read_back(folder: Path, list_path: Path, media: Media = "video") -> list[tuple[str, int]]:
    items = read_items(str(folder), Split("", str(list_path)), media, None, None, "tiny")
    return [(item.key, item.label) for item in items]
