"""Pictures for people: the confusion matrix, the classes' sizes, and sheets of frames with a caption each."""

from __future__ import annotations

import contextlib
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from omnisource.files.atomic import atomic_write
from omnisource.reporting.drawing.names import cut, drawable, drawn_names, fonts_for, monospace, width_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_LABELED_CLASSES = 60
_MAX_NUMBERED_CLASSES = 25
_LISTED_CONFUSIONS = 25
_LISTED_CLASSES = 12
_DPI = 110
_PICTURE_HEIGHT, _MIN_WIDTH, _MAX_WIDTH, _MARGIN = 1.5, 1.6, 16.0, 0.1  # inches, of a contact sheet
_PNG = b"\x89PNG\r\n\x1a\n"  # how such files begin
_MARK_KEY, _MARK_BYTES = "Source", 1024  # of the text chunk, which stands before the pixels
_RIGHT, _WRONG, _BARS = "#2a8a3e", "#c0392b", "#4878a8"


def draw_confusion(matrix: ArrayLike, class_names: Sequence[str], path: str | Path) -> Path:
    """Draws a confusion matrix, each row as shares of its class; returns the path of the picture.

    Up to 60 classes the axes carry their names, up to 25 the cells their percentages. With more classes the most
    frequent confusions are listed beside the matrix, because nobody finds them in it.

    Args:
        matrix: [K, K] counts; rows are labels, columns predictions.
        class_names: K names.
        path: Picture to write; its suffix says which kind.

    Raises:
        ValueError: A matrix that is not square, or another number of names.
    """
    from matplotlib.figure import Figure  # a second of imports, needed for pictures only

    counts = np.asarray(matrix, dtype=np.int64)
    if counts.shape != (len(class_names), len(class_names)):
        raise ValueError(f"a confusion matrix of {len(class_names)} classes is square, got {list(counts.shape)}")
    num_classes = len(counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(max(4.0, 0.34 * num_classes), 12.0) if num_classes <= _MAX_LABELED_CLASSES else 9.0  # inches
    with fonts_for(class_names):
        figure = Figure(figsize=(side, side), dpi=_DPI)
        _draw_matrix(figure, counts, shares, drawn_names(class_names))
        figure.savefig(path, bbox_inches="tight", pad_inches=0.15)
    return Path(path)


def _draw_matrix(figure: Figure, counts: np.ndarray, shares: np.ndarray, class_names: Sequence[str]) -> None:
    from matplotlib.colors import PowerNorm

    num_classes, side = len(counts), figure.get_figwidth()
    axes = figure.add_axes((0, 0, 1, 1))  # what stands around it, the tight box around the picture takes in
    gamma = 1.0 if num_classes <= _MAX_NUMBERED_CLASSES else 0.5  # rare confusions are seen in small cells too
    image = axes.imshow(shares, cmap="Blues", interpolation="nearest", norm=PowerNorm(gamma, vmin=0, vmax=1))
    axes.set(xlabel="prediction", ylabel="label", title=_confusion_title(counts))
    _name_classes(axes, class_names)
    if num_classes <= _MAX_NUMBERED_CLASSES:
        _number_cells(axes, shares)
    bar = figure.add_axes((1 + 0.2 / side, 0.2, 0.2 / side, 0.6))
    figure.colorbar(image, cax=bar, label="share of the class's samples")
    if num_classes > _MAX_NUMBERED_CLASSES:
        text = _frequent_confusions(counts, class_names)
        figure.text(1 + 1.2 / side, 1, text, va="top", family=monospace(), size=9, parse_math=False)


def draw_class_histogram(counts: Mapping[str, Sequence[int]], class_names: Sequence[str], path: str | Path) -> Path:
    """Draws how many items each class has, the splits of a source beside one another; returns the path of the picture.

    Up to 60 classes each has a row with its name. More of them are drawn as a curve, each split from its most frequent
    class to its least frequent one, with the names of some at either end.

    Args:
        counts: By split, K counts.
        class_names: K names.
        path: Picture to write; its suffix says which kind.
    """
    from matplotlib.figure import Figure  # a second of imports, needed for pictures only

    has_rows = len(class_names) <= _MAX_LABELED_CLASSES
    height = max(1.6, 0.7 + 0.22 * len(class_names)) if has_rows else 4.5  # inches
    with fonts_for(class_names):
        figure = Figure(figsize=(1.5 + 4.5 * len(counts), height), dpi=_DPI, layout="constrained")
        panels = figure.subplots(1, len(counts), squeeze=False, sharey=has_rows)[0]
        for axes, (split, numbers) in zip(panels, counts.items(), strict=True):
            (_draw_class_rows if has_rows else _draw_class_curve)(axes, np.asarray(numbers), drawn_names(class_names))
            sizes = f"{min(numbers)} to {max(numbers)} a class, median {np.median(numbers):g}"
            axes.set_title(f"{split}: {sum(numbers)} items\n{sizes}", fontsize=10)
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path)
    return Path(path)


def contact_sheet(
    pictures: Sequence[ArrayLike],
    captions: Sequence[str],
    path: str | Path,
    columns: int,
    correct: Sequence[bool | None] | None = None,
    title: str = "",
    height_inches: float = _PICTURE_HEIGHT,
    mark: str = "",
) -> Path:
    """Draws pictures or strips of frames in a grid, each with its caption; returns the path of the sheet.

    Args:
        pictures: Each [H, W, 3] or, a strip of frames from left to right, [T, H, W, 3]; uint8, 0-255, RGB.
        captions: One a picture; lines are broken where they do not fit.
        path: Picture to write, whole or not at all; its suffix says which kind.
        columns: Pictures in a row.
        correct: Whether each caption is right: it is then written in green or red. None: in black.
        title: Stands above all.
        height_inches: How high a picture should be; wide ones that fill their column are less high.
        mark: What a PNG file says of itself, for `has_mark`.

    Raises:
        ValueError: No pictures, pictures of another form, or another number of captions.
    """
    path = Path(path)
    with fonts_for([*captions, title]), atomic_write(path) as file:
        figure = _contact_figure(pictures, captions, columns, correct, title, height_inches)
        figure.savefig(file, format=path.suffix.removeprefix("."), metadata={_MARK_KEY: mark} if mark else None)
    return path


def has_mark(path: Path, mark: str) -> bool:
    """Returns whether a file is a PNG picture that was written with this mark."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        beginning = file.read(_MARK_BYTES)
        return beginning.startswith(_PNG) and f"tEXt{_MARK_KEY}\0{mark}".encode("latin-1") in beginning
    return False


def contact_picture(
    pictures: Sequence[ArrayLike], captions: Sequence[str], columns: int, correct: Sequence[bool] | None = None
) -> np.ndarray:
    """Returns what `contact_sheet` draws as a picture, [H, W, 3] uint8, 0-255, RGB."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with fonts_for(captions):
        canvas = FigureCanvasAgg(_contact_figure(pictures, captions, columns, correct))
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _contact_figure(
    pictures: Sequence[ArrayLike],
    captions: Sequence[str],
    columns: int,
    correct: Sequence[bool | None] | None,
    title: str = "",
    height_inches: float = _PICTURE_HEIGHT,
) -> Figure:
    from matplotlib.figure import Figure

    strips = [_strip(picture) for picture in pictures]
    if not strips or len(captions) != len(strips) or len(correct or strips) != len(strips):
        raise ValueError(
            f"a contact sheet needs pictures, and for each a caption and, if any, a verdict: "
            f"got {len(strips)}, {len(captions)} and {len(correct or ())}"
        )
    columns = min(columns, len(strips))
    rows = math.ceil(len(strips) / columns)
    width, height = _cell(strips, columns, height_inches)
    texts = [_broken(caption, characters=int(width * 14)) for caption in captions]
    text_height = 0.05 + 0.15 * max(text.count("\n") + 1 for text in texts)
    full_width, full_height = _MARGIN + columns * (width + _MARGIN), _MARGIN + rows * (height + text_height + _MARGIN)
    title_height = 0.3 if title else 0.0
    figure = Figure(figsize=(full_width, full_height + title_height), dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, 1))  # one for all, in inches: axes take longer to make than pictures to draw
    axes.axis("off")
    for index, (strip, text) in enumerate(zip(strips, texts, strict=True)):
        row, column = divmod(index, columns)
        middle = _MARGIN + column * (width + _MARGIN) + width / 2
        top = full_height - row * (height + text_height + _MARGIN) - text_height - _MARGIN
        shown_height = min(height, width * strip.shape[0] / strip.shape[1])
        shown_width = shown_height * strip.shape[1] / strip.shape[0]
        extent = (middle - shown_width / 2, middle + shown_width / 2, top - shown_height, top)
        enlarged = strip.shape[0] < _DPI * height
        axes.imshow(strip, extent=extent, aspect="auto", interpolation="nearest" if enlarged else "antialiased")
        verdict = None if correct is None else correct[index]
        color = "black" if verdict is None else (_RIGHT if verdict else _WRONG)
        # parse_math: a dollar sign in a file name or a class name is a dollar sign.
        where = {"ha": "center", "va": "bottom", "linespacing": 1.1, "parse_math": False}
        axes.text(middle, top + 0.04, text, fontsize=8, color=color, **where)
    axes.text(_MARGIN, full_height + title_height - _MARGIN, drawable(title), fontsize=11, va="top", parse_math=False)
    axes.set(xlim=(0, full_width), ylim=(0, full_height + title_height))
    return figure


def _confusion_title(counts: np.ndarray) -> str:
    samples = counts.sum()
    return f"top-1 {counts.trace() / max(samples, 1):.1%} of {samples} samples, {len(counts)} classes"


def _name_classes(axes: Axes, class_names: Sequence[str]) -> None:
    """Writes the names at the axes where they fit, and the indices of some classes where they do not."""
    num_classes = len(class_names)
    if num_classes > _MAX_LABELED_CLASSES:
        return
    fontsize = 9 if num_classes <= _MAX_NUMBERED_CLASSES else 7
    names = [cut(name, 24) for name in class_names]
    slanted = num_classes > 8 or max(len(name) for name in names) > 6
    axes.set_xticks(range(num_classes), names, fontsize=fontsize, rotation=90 if slanted else 0, parse_math=False)
    axes.set_yticks(range(num_classes), names, fontsize=fontsize, parse_math=False)


def _number_cells(axes: Axes, shares: np.ndarray) -> None:
    for (row, column), share in np.ndenumerate(shares):
        if share > 0:  # an empty matrix is easier to read without its zeros
            color = "white" if share > 0.55 else "black"
            axes.text(column, row, f"{100 * share:.0f}", color=color, fontsize=8, ha="center", va="center")


def _frequent_confusions(counts: np.ndarray, class_names: Sequence[str]) -> str:
    mistakes = counts - np.diag(counts.diagonal())
    order = np.argsort(-mistakes, axis=None, kind="stable")[:_LISTED_CONFUSIONS]
    lines = ["Most frequent confusions", "", "samples  of class  label → prediction"]
    numbered = len(counts) > _MAX_LABELED_CLASSES  # the axes then have indices
    names = [
        f"{index} {cut(name.removeprefix(f'{index} '), 30)}" if numbered else cut(name, 30)
        for index, name in enumerate(class_names)
    ]
    for cell in order:
        label, prediction = divmod(int(cell), len(counts))
        count = mistakes[label, prediction]
        if count:
            share = count / counts[label].sum()
            lines.append(f"{count:7d}  {share:8.0%}  {names[label]} → {names[prediction]}")
    return "\n".join(lines) if len(lines) > 3 else "No confusions"


def _draw_class_rows(axes: Axes, counts: np.ndarray, class_names: Sequence[str]) -> None:
    from matplotlib.ticker import MaxNLocator

    rows = np.arange(len(counts))
    bars = axes.barh(rows, counts, color=_BARS, height=0.75)
    axes.bar_label(bars, padding=2, fontsize=7, color="0.3")
    axes.set_yticks(rows, [cut(name, 24) for name in class_names], fontsize=8, parse_math=False)
    axes.set_ylim(len(counts) - 0.4, -0.6)  # the first class on top
    axes.set_xlim(0, 1.12 * max(counts.max(), 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("items")


def _draw_class_curve(axes: Axes, counts: np.ndarray, class_names: Sequence[str]) -> None:
    order = np.argsort(-counts, kind="stable")
    axes.fill_between(np.arange(len(counts)), counts[order], step="mid", color=_BARS, linewidth=0)
    axes.set(xlabel="classes, most frequent first", ylabel="items", xlim=(-0.5, len(counts) - 0.5))
    axes.set_ylim(0, 1.05 * max(counts.max(), 1))
    names = [cut(name, 24) for name in class_names]
    listed = [f"{counts[index]:7d}  {names[index]}" for index in order]
    text = "\n".join([*listed[:_LISTED_CLASSES], "      …", *listed[-_LISTED_CLASSES:]])
    axes.text(1.02, 1, text, transform=axes.transAxes, va="top", family=monospace(), size=7, parse_math=False)


def _strip(picture: ArrayLike) -> np.ndarray:
    """Returns one picture [H, W, 3] uint8; frames [T, H, W, 3] are put side by side."""
    frames = np.asarray(picture)
    if frames.dtype != np.uint8 or frames.ndim not in (3, 4) or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(f"a picture is [H, W, 3] or [T, H, W, 3] uint8, got {list(frames.shape)} {frames.dtype}")
    if frames.ndim == 3:
        return frames
    gap = np.full((frames.shape[1], max(1, frames.shape[2] // 40), 3), 255, dtype=np.uint8)
    parts = [part for frame in frames for part in (gap, frame)]
    return np.concatenate(parts[1:], axis=1)


def _cell(strips: Sequence[np.ndarray], columns: int, wanted_height: float) -> tuple[float, float]:
    """Returns width and height of the cell of one picture, in inches."""
    shapes = [strip.shape[1] / strip.shape[0] for strip in strips]
    width = max(1.0, min(max(wanted_height * max(shapes), _MIN_WIDTH), _MAX_WIDTH / columns))
    return width, min(width / min(shapes), 1.5 * wanted_height)


def _broken(caption: str, characters: int) -> str:
    broken = []
    for line in drawable(caption).splitlines():
        fitting = max(1, characters * len(line) // max(width_of(line), 1))  # wide characters take the place of two
        broken += textwrap.wrap(line, fitting, break_long_words=True) or [""]
    return "\n".join(broken)
