"""Reads thousands of damaged files and holds every frame that comes against a plain sequential decode.

    python benchmarks/fuzz.py                        2,400 variants of all formats
    python benchmarks/fuzz.py --only h264.mkv:8      this one again, with all that was found

Exits with code 1 where a variant broke a rule, could not be judged, or cost us a worker, having named it. The files
are made on the spot; those of ../shared/data/media are added where they are there.
What is checked: tests/support/fuzzing.py.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import av
import PIL

from omnisource.reporting.progress import progress_bar
from omnisource.reporting.tables import print_table
from tests.support.damage import KINDS, Variant, variant
from tests.support.fuzz_media import write_media
from tests.support.fuzzing import Verdict, originals_of, verdicts

MEDIA = Path(__file__).resolve().parents[2] / "shared/data/media"

SHARED_FILES = ("320x240.ogv", "mpeg4-amr_nb.3gp", "h264_10bits.mp4", "flash.flv", "unordered.mov", "h265_video.mp4")
"""Reference media small enough to be damaged often: what our encoders do not make."""

HEADER = (
    "file", "variants", "refused", "read", "refused later", "changed", "from a keyframe", "unstable", "not judged",
    "stricter", "ended workers", "faults",
)  # fmt: skip

LEGEND = """
refused          opening it, or every frame that was asked for, is refused by name
read             all that was asked for came, as the sequential decode gives it
refused later    frames came up to the damage, and are refused from there on
changed          of those read: pixels differ from the undamaged file's, and no decoder noticed (only a checksum can)
from a keyframe  frames that are not those of the sequential decode, but those of one that starts at a keyframe behind
                 a damage that no decoder noticed
unstable         the decoder returns what its buffers held before, other pixels each time: not compared from there on
not judged       the sequential decode itself hung or died
stricter         refused although the sequential decode does not complain
ended workers    workers of ours that died or hung, and were replaced
"""


def main() -> int:
    arguments = _arguments()
    os.environ.setdefault("SVT_LOG", "1")  # the encoder of AV1 prints its settings otherwise
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["OMNISOURCE_CACHE"] = f"{name}/cache"  # not the user's
        files = write_media(folder) | _shared_files()
        wanted = _wanted(arguments, files)
        found, notices = _run(wanted, files, folder)
    _print_faults(found)
    _print_summary(found, notices)
    return int(is_failure(found, notices))


def is_failure(found: Iterable[Verdict], notices: Iterable[tuple[str, str]]) -> bool:
    """Returns whether a variant has a fault or no verdict, or a worker that is not the reference's died or hung.

    Args:
        found: The verdicts.
        notices: (pool, line) of each worker that was replaced.
    """
    is_wrong = any(verdict.faults or verdict.outcome == "not judged" for verdict in found)
    return is_wrong or any(pool != "reference" for pool, _ in notices)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", type=int, default=2400, help="how many in all (default 2400)")
    parser.add_argument("--first", type=int, default=0, help="number of the first variant of each file")
    parser.add_argument("--only", nargs="+", metavar="FILE[:NUMBER]", help="these files, or single variants, only")
    return parser.parse_args()


def _shared_files() -> dict[str, bytes]:
    return {name: (MEDIA / name).read_bytes() for name in SHARED_FILES if (MEDIA / name).is_file()}


def _wanted(arguments: argparse.Namespace, files: Mapping[str, bytes]) -> list[Variant]:
    chosen = [text.partition(":") for text in arguments.only or files]
    for name, _, _ in chosen:
        if name not in files:
            sys.exit(f"there is no file {name}; there are {', '.join(files)}")
    singles = [(name, int(number)) for name, _, number in chosen if number]
    whole = [name for name, _, number in chosen if not number]
    many = [(name, arguments.first + number) for number in range(arguments.variants) for name in whole]
    return [variant(name, number, files) for name, number in singles + many[: arguments.variants]]


def _run(
    wanted: Sequence[Variant], files: Mapping[str, bytes], folder: Path
) -> tuple[list[Verdict], list[tuple[str, str]]]:
    notices: list[tuple[str, str]] = []
    originals = originals_of(files, folder)
    found = []
    with progress_bar("damaged files", len(wanted)) as advance:
        for verdict in verdicts(wanted, folder, originals, lambda pool, line: notices.append((pool, line))):
            found.append(verdict)
            advance()
    return found, notices


def _print_faults(found: Iterable[Verdict]) -> None:
    for verdict in found:
        one = f"{verdict.variant.base}:{verdict.variant.number} ({verdict.variant.damage})"
        if verdict.faults:
            print(f"FAULT {one}", *verdict.faults[:5], sep="\n    ")
        if verdict.is_stricter or verdict.outcome == "not judged":
            print(f"{verdict.outcome} {one}: {'; '.join(verdict.refusals)}")


def _print_summary(found: Sequence[Verdict], notices: Sequence[tuple[str, str]]) -> None:
    of_file: dict[str, Counter[str]] = defaultdict(Counter)
    of_kind: dict[str, Counter[str]] = defaultdict(Counter)
    for verdict in found:
        ended = [line for pool, line in notices if pool != "reference" and verdict.variant.name in line]
        counts = _counts(verdict, len(ended))
        of_file[verdict.variant.base] += counts
        of_kind[list(KINDS)[verdict.variant.number % len(KINDS)]] += counts
    for title, table in (("By file", of_file), ("By damage", of_kind)):
        rows = [[name, *(str(table[name][column]) for column in HEADER[1:])] for name in table]
        total = sum(table.values(), Counter())
        rows.append(["all", *(str(total[column]) for column in HEADER[1:])])
        print_table(title, (title.removeprefix("By "), *HEADER[1:]), rows)
    print(LEGEND)
    for pool, line in notices:
        print(f"{pool}: {line}")
    peak = max((verdict.peak_bytes for verdict in found), default=0)
    print(f"Largest resident memory of a reading worker: {peak / 2**20:.0f} MiB")
    print(f"PyAV {av.__version__}, Pillow {PIL.__version__}, Python {platform.python_version()}, {platform.machine()}")


def _counts(verdict: Verdict, num_ended: int) -> Counter[str]:
    return Counter(
        {
            "variants": 1,
            verdict.outcome: 1,
            "changed": int(verdict.is_changed),
            "from a keyframe": int(verdict.num_elsewhere > 0),
            "unstable": int(verdict.is_unstable),
            "stricter": int(verdict.is_stricter),
            "ended workers": num_ended,
            "faults": int(bool(verdict.faults)),
        }
    )


if __name__ == "__main__":
    sys.exit(main())
