"""Labels as text: class indices or names of classes."""

from __future__ import annotations

import unicodedata
from collections import Counter

from omnisource.data.lists.text import is_number

MAX_INT32 = 2**31 - 1
"""Labels and frame counts are kept as int32."""


class LabelReader:
    """Reads labels: class indices or, where the classes have names, names. A number is always an index.

    Args:
        class_names: Names that may stand for labels, in the order of their indices, or None where there are none.
        num_classes: Number of classes; None: as many as there are names, or any number.
    """

    def __init__(self, class_names: tuple[str, ...] | None, num_classes: int | None) -> None:
        self.class_names = class_names
        self._names = {name: index for index, name in enumerate(class_names or ())}
        # macOS writes names of folders in another form of Unicode (NFD) than keyboards do.
        forms = Counter(_composed(name) for name in self._names)
        self._composed = {form: index for name, index in self._names.items() if forms[form := _composed(name)] == 1}
        self._limit = num_classes if num_classes is not None else len(self._names) or MAX_INT32
        self._known: dict[str, int] = {}
        has_names = any(not is_number(name) for name in self._names)  # others are called by their indices
        self._allowed = "0 or more" if self._limit == MAX_INT32 else f"0 to {self._limit - 1}"
        self._allowed += " or the name of a class" if has_names else ""

    @property
    def num_classes(self) -> int | None:
        """How many classes there are; None where any number may be."""
        return None if self._limit == MAX_INT32 else self._limit

    def is_label(self, text: str) -> bool:
        """Returns whether the text looks like a label, be it one of these classes or not."""
        return is_number(text) or self.index_of(text) is not None

    def index_of(self, name: str) -> int | None:
        """Returns the index of the class of that name, in whichever form of Unicode; None where there is none."""
        index = self._names.get(name)
        return index if index is not None or name.isascii() else self._composed.get(_composed(name))

    def read(self, text: str) -> int | str:
        """Returns the label, or what is wrong with it."""
        label = self._known.get(text)
        if label is not None:
            return label
        if is_number(text):
            label = int(text) if len(text) <= 10 else MAX_INT32
        elif (index := self.index_of(text)) is not None:
            label = index
        else:
            kind = "not the name of a class" if self._names else "not a number"
            return f"label {text!r} is {kind} (allowed: {self._allowed})"
        if not 0 <= label < self._limit:
            return f"label {text} is outside the classes (allowed: {self._allowed})"
        self._known[text] = label
        return label

    def options(self) -> tuple[object, ...]:
        """Returns all that decides what a text is read as."""
        return (self.class_names, self._limit)


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
