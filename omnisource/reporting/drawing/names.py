"""Names in pictures: in fonts of this machine that have their characters, or with the index of the class beside."""

from __future__ import annotations

import contextlib
import functools
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from omnisource.printing import printable

MISSING = "□"
"""What stands for a character that no font of this machine has."""

_USELESS_FONTS = ("Last Resort", "Color Emoji")  # boxes for everything; colors, which matplotlib does not draw
_INVISIBLE = ("Cf", "Mn", "Me")  # categories of joiners, variation selectors, accents: left out where no font has them


def drawable(text: str) -> str:
    """Returns text that fonts have glyphs for; control characters and bytes that are no text are shown escaped."""
    text = printable(text).expandtabs(4)
    if text.isascii():
        return text
    return "".join(
        character
        if character == "\n" or _family_of(character) is not None
        else ("" if unicodedata.category(character) in _INVISIBLE else MISSING)
        for character in text
    )


def drawn_names(class_names: Sequence[str]) -> list[str]:
    """Returns class names as they are drawn, in one line; with the index where a name cannot be drawn as it is read."""
    names = []
    for index, name in enumerate(class_names):
        drawn = drawable(name.replace("\n", "\\n"))
        is_readable = MISSING not in drawn or MISSING in name
        names.append(drawn if is_readable and (_shapes_text() or not _runs_leftward(name)) else f"{index} {drawn}")
    return names


def cut(text: str, characters: int) -> str:
    """Returns text that is drawn in the place of so many Latin characters; what is left out shows as an ellipsis."""
    text = drawable(text)
    if width_of(text) <= characters:
        return text
    while width_of(text) > characters - 1:
        text = text[:-1]
    return text + "…"


def width_of(text: str) -> int:
    """Returns the width of text in Latin characters: those of Chinese, Japanese and Korean are twice as wide."""
    return len(text) + sum(unicodedata.east_asian_width(character) in "WF" for character in text)


@contextlib.contextmanager
def fonts_for(texts: Iterable[str]) -> Iterator[None]:
    """Lets figures that are made and drawn in the block take further fonts for what the default one lacks."""
    from matplotlib import rc_context, rcParams

    characters = sorted({character for text in texts if not text.isascii() for character in text})
    families = dict.fromkeys(family for character in characters if (family := _family_of(character)))
    with rc_context({"font.family": [*rcParams["font.family"], *families]}):
        yield


def monospace() -> list[str]:
    """Returns the families for text in columns, within the block of `fonts_for`."""
    from matplotlib import rcParams

    return ["monospace", *rcParams["font.family"]]


@functools.cache
def _family_of(character: str) -> str | None:
    """Returns the family that has a character: "" for the default one, None if no font of this machine has it."""
    from matplotlib.font_manager import FontProperties, findfont

    if ord(character) in _codes_of(findfont(FontProperties())):
        return ""
    return next((family for family, codes in _further_fonts() if ord(character) in codes), None)


@functools.lru_cache(maxsize=1)
def _further_fonts() -> list[tuple[str, frozenset[int]]]:
    """Returns the families of this machine with the code points of the font that matplotlib takes of each."""
    from matplotlib.font_manager import FontProperties, findfont, fontManager

    # Of families without a regular font matplotlib takes another one, with a warning.
    families = sorted({font.name for font in fontManager.ttflist if font.style == "normal" and font.weight == 400})
    useful = [name for name in families if not any(word in name for word in _USELESS_FONTS)]
    return [(name, _codes_of(findfont(FontProperties(family=name)))) for name in useful]


@functools.cache
def _codes_of(path: str) -> frozenset[int]:
    """Returns the code points that a font has; none if it cannot be read or drawn at any size."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
        font.set_size(10, 100)  # fails for fonts of bitmaps
        return frozenset(font.get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


def _runs_leftward(name: str) -> bool:
    return any(unicodedata.bidirectional(character) in ("R", "AL") for character in name)


def _shapes_text() -> bool:
    """Returns whether matplotlib orders and joins the letters of Arabic and Hebrew, as it does from 3.11 on."""
    from matplotlib import ft2font

    return hasattr(ft2font, "__libraqm_version__")
