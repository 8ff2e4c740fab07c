"""Pages of reports as their readers see them: what a test wrote of a few classes, and the parts of an HTML file."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from matplotlib.image import imsave

VOID = {"meta", "link", "br", "img", "input"}


def write_tested(folder: Path, classes: Sequence[str], num_items: int, paths: Sequence[str] = ()) -> Path:
    """Writes what `omnisource test` writes: two items of three are right, others taken for the next class."""
    source = folder / "clips"
    source.mkdir(parents=True)
    num_classes, rows = len(classes), []
    for index in range(num_items):
        label = index % num_classes
        predicted = label if index % 3 else (label + 1) % num_classes
        score = 0.5 + 0.49 * (index % 7) / 7
        rest = [[other, 0.01] for other in range(num_classes) if other not in (label, predicted)][:3]
        middle = [] if predicted == label else [[label, 0.2]]
        rows.append(
            {
                "index": index,
                "path": paths[index] if index < len(paths) else f"/data/clip {index}.mp4",
                "label": label,
                "label_score": score if predicted == label else 0.2,
                "label_rank": 1 if predicted == label else 2,
                "top": [[predicted, score], *middle, *rest],
            }
        )
    about = {
        "form": 1,
        "source": "clips",
        "split": "test",
        "media": "video",
        "checkpoint": "run/checkpoints/best.pt",
        "command": "omnisource test a.py best.pt",
        "versions": {"torch": "2.13.0"},
        "usage": {"seconds": 61.0, "process_gib": 1.5, "gpu_joules": 7200.0},
        "recipe": {"main_source": "clips", "seed": 3, "sources": {"clips": {"media": "video", "batch_size": 8}}},
        "classes": list(classes),
        "left_out": [["/data/broken.mp4", "moov atom not found"]],
    }
    (source / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (about, *rows)))
    (source / "metrics.json").write_text("{}")
    with zipfile.ZipFile(source / "thumbnails.zip", "w") as archive:
        for index in range(num_items):
            archive.writestr(f"{index}.jpg", jpeg())
    return folder


def jpeg() -> bytes:
    """Returns a small picture."""
    buffer = io.BytesIO()
    imsave(buffer, np.full((8, 32, 3), 128, np.uint8), format="jpg")
    return buffer.getvalue()


@dataclasses.dataclass
class Element:
    """An element of a page: its tag, attributes, and the text in it."""

    tag: str
    attributes: dict[str, str]
    text: str = ""


class Document(HTMLParser):
    """The elements of a page in their order; raises AssertionError where tags do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(text)
        self.close()
        assert self._open == [], "every element is closed"

    def all(self, tag: str) -> list[Element]:
        """Returns the elements of a kind."""
        return [element for element in self.elements if element.tag == tag]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(self.elements[-1])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1].tag == tag, f"</{tag}> ends {self._open[-1].tag if self._open else None}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data
