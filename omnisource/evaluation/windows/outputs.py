"""Segments for people and programs: plain values, CSV, and a picture of the timeline."""

from __future__ import annotations

import csv
import dataclasses
import io
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from omnisource.errors import UserError
from omnisource.evaluation.windows.scoring import WindowScores
from omnisource.evaluation.windows.segments import Segment
from omnisource.files.atomic import atomic_write, require_folder_of
from omnisource.printing import printable_name

COLUMNS = ("path", *(field.name for field in dataclasses.fields(Segment)))

_MARK = "<!-- omnisource timeline -->"
_WIDTH, _LEFT, _ROW, _TOP = 960, 220, 24, 34  # pixels
_COLORS = ("#3b6fb6", "#c1582f", "#3d8a5a", "#8a5aa8", "#a8812a", "#2f8f9b", "#b54a74", "#6b7280")
_MAX_ROWS = 40
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)  # seconds between marks


def file_entry(found: WindowScores, segments: Sequence[Segment]) -> dict[str, Any]:
    """Returns what is written of one video, ready for JSON; with an `error` where it was not read to its end."""
    entry: dict[str, Any] = {
        "path": found.path,
        "frames": found.num_frames,
        "frames_per_second": round(found.frames_per_second, 6),
        "window_frames": found.span.length,
        "stride_frames": found.span.stride,
        "segments": [segment_entry(segment) for segment in segments],
    }
    return entry if found.error is None else {**entry, "error": found.error.reason}


def segment_entry(segment: Segment) -> dict[str, Any]:
    """Returns a segment ready for JSON."""
    entry = dataclasses.asdict(segment)
    digits = {"score": 6, "start_seconds": 3, "end_seconds": 3}
    return {name: round(value, digits[name]) if name in digits else value for name, value in entry.items()}


def check_csv(path: Path) -> None:
    """Checks before the work that a CSV file can be written without losing another one.

    Raises:
        UserError: There is a file that was not written here.
        OSError: Its folder is missing, or may not be written to; it names the folder.
    """
    require_folder_of(path)
    if not path.exists():
        return
    with path.open("rb") as file:
        if not path.is_file() or file.readline().rstrip(b"\r\n") != ",".join(COLUMNS).encode():
            raise UserError(f"{path}: exists already and holds no segments of ours; choose another name")


def write_csv(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Writes the segments of the entries of files, one a line.

    Raises:
        OSError: It cannot be written; it names the file.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for entry in entries:
        for segment in entry.get("segments", ()):
            row = {"path": entry["path"], **segment}
            writer.writerow([row[column] for column in COLUMNS])
    with atomic_write(path) as file:
        file.write(text.getvalue().encode("utf-8", "surrogateescape"))


def check_timelines(folder: Path) -> None:
    """Checks before the work that timelines can be written into a folder.

    Raises:
        UserError: There is something else of this name.
        OSError: The folder that it is to lie in is missing, or may not be written to; it names that folder.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: exists already and is no folder; choose another name")
    require_folder_of(folder / "timeline.svg" if folder.is_dir() else folder)


def timeline_path(folder: Path, path: str) -> Path:
    """Returns where the timeline of a video lies; videos of one name in several folders have one each."""
    return folder / f"{Path(path).name}.{zlib.crc32(path.encode('utf-8', 'surrogateescape')):08x}.svg"


def write_timeline(folder: Path, found: WindowScores, segments: Sequence[Segment]) -> None:
    """Writes the timeline of a video into a folder, which is made.

    Raises:
        UserError: There is a file that was not written here.
        OSError: It cannot be written; it names the file.
    """
    folder.mkdir(exist_ok=True)
    target = timeline_path(folder, found.path)
    if target.exists() and _MARK not in target.read_text("utf-8", "replace")[:300]:
        raise UserError(f"{target}: exists already and is no timeline of ours; choose another folder")
    with atomic_write(target, sync=False) as file:
        file.write(timeline_svg(found, segments).encode())


def timeline_svg(found: WindowScores, segments: Sequence[Segment]) -> str:
    """Returns the picture: a row a class, those shown longest first, and time from left to right."""
    rows: dict[tuple[str, str], float] = {}
    for one in segments:
        key = (one.label_space, one.class_name)
        rows[key] = rows.get(key, 0.0) + one.end_seconds - one.start_seconds
    shown = sorted(rows, key=lambda key: -rows[key])[:_MAX_ROWS]
    duration = max(found.border_seconds[-1], 1e-9)
    height = _TOP + _ROW * max(1, len(shown)) + 30
    title = escape(printable_name(found.path))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        f'font-size="12" role="img">{_MARK}',
        f"<title>{title}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="8" y="20" font-weight="bold">{title}</text>',
    ]
    bottom = height - 24
    for seconds in _marks(duration):
        x = _x(seconds, duration)
        parts.append(f'<path d="M{x:.1f} {_TOP}V{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{_clock(seconds)}</text>')
    for number, key in enumerate(shown):
        y = _TOP + number * _ROW
        name = escape(printable_name(key[1]))
        short = name if len(key[1]) <= 30 else escape(printable_name(key[1][:29])) + "…"
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 16}" text-anchor="end">{short}</text>')
        for one in segments:
            if (one.label_space, one.class_name) == key:
                x, end = _x(one.start_seconds, duration), _x(one.end_seconds, duration)
                told = f"{name} {_clock(one.start_seconds)} to {_clock(one.end_seconds)}, {one.score:.0%}"
                parts.append(
                    f'<rect x="{x:.1f}" y="{y + 4}" width="{max(end - x, 1):.1f}" height="{_ROW - 8}" '
                    f'fill="{_COLORS[number % len(_COLORS)]}" fill-opacity="{0.4 + 0.6 * min(one.score, 1):.2f}">'
                    f"<title>{told}</title></rect>"
                )
    if not shown:
        parts.append(f'<text x="{_LEFT}" y="{_TOP + 16}">no segments</text>')
    return "\n".join([*parts, "</svg>", ""])


def _x(seconds: float, duration: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - 30) * min(max(seconds / duration, 0.0), 1.0)


def _marks(duration: float) -> list[int]:
    step = next((step for step in _STEPS if duration / step <= 10), _STEPS[-1] * (1 + int(duration / _STEPS[-1] / 10)))
    return list(range(0, int(duration) + 1, step))


def _clock(seconds: float) -> str:
    whole = int(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
