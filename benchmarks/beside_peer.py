"""The same work done by the published system's formulas and by this package, in turn: docs/performance.md.

    OMP_NUM_THREADS=1 python benchmarks/beside_peer.py ../shared/data/media
    OMP_NUM_THREADS=1 python benchmarks/beside_peer.py ../shared/data/media --only test --rounds 5

The published system is open-mmlab/mmaction2 v1.2.0. It is not installed: its parts are written here from its formulas.
Processor seconds, medians; the ratio is the median of those round by round, and above 1 ours takes less.
Videos need decord and opencv-python-headless (the extra `benchmarks`), images the latter.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
from beside import Row, print_table


def main() -> None:
    parts: dict[str, Callable[[Path, int], list[Row]]] = {
        "training": training,
        "test": test,
        "images": images,
        "videos": videos,
        "lists": lists,
        "memory": memory,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("media", type=Path, help="folder with mma_test.mp4")
    parser.add_argument("--only", choices=parts, help="one part alone")
    parser.add_argument("--rounds", type=int, default=3, help="counted rounds of each comparison (%(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{date.today()}, {platform.machine()} {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__},")
    print(f"Python {platform.python_version()}, one thread\n")
    rows = [
        row
        for name, part in parts.items()
        if arguments.only in (None, name)
        for row in part(arguments.media, arguments.rounds)
    ]
    print_table(rows)


# Each part imports its own: what one of them lacks keeps no other from running.


def training(media: Path, rounds: int) -> list[Row]:
    from peer_model import training_step

    return [training_step(2, 8, rounds)]


def test(media: Path, rounds: int) -> list[Row]:
    from peer_model import ten_by_three

    return [ten_by_three(2, rounds)]


def images(media: Path, rounds: int) -> list[Row]:
    from peer_images import measure

    return measure(4 * rounds)


def videos(media: Path, rounds: int) -> list[Row]:
    from peer_videos import measure

    return measure(media / "mma_test.mp4", 4 * rounds)


def lists(media: Path, rounds: int) -> list[Row]:
    from peer_lists import measure

    return measure(rounds)


def memory(media: Path, rounds: int) -> list[Row]:
    from peer_memory import measure

    return measure(rounds)


if __name__ == "__main__":
    main()
