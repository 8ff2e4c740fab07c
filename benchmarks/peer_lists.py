"""Reading a list of 240,000 videos when a run starts, and the memory that it takes, beside the published formulas.

These read every line into a dictionary, and pickle the dictionaries into one array, so that processes can share it
(mmaction/datasets/video_dataset.py of open-mmlab/mmaction2 v1.2.0; mmengine/dataset/base_dataset.py of
open-mmlab/mmengine). They look for no file and for no mistake. Of ours there are two figures: the first reading, which
checks every line and makes a table, and later ones, which map the table; neither looks for the files here.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from beside import Row, in_turn

from omnisource.data.datasets import read_items
from omnisource.data.lists.items import Items
from omnisource.recipe.data import Split

NUM_LINES, NUM_CLASSES = 240_000, 400


def measure(rounds: int) -> list[Row]:
    """Returns the times of reading the list, and the memory that it takes in a process."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_list(root)
        before = os.environ.get("OMNISOURCE_CACHE")

        def first() -> None:
            with tempfile.TemporaryDirectory() as cache:
                os.environ["OMNISOURCE_CACHE"] = cache
                ours(root)

        times = [in_turn(f"list of {NUM_LINES:,} lines, first reading", lambda: theirs(root), first, rounds)]
        os.environ["OMNISOURCE_CACHE"] = str(root / "cache")
        ours(root)
        times.append(in_turn("the same list, later readings", lambda: theirs(root), lambda: ours(root), rounds))
        memory = [[_memory(root, side) for _ in range(rounds)] for side in ("theirs", "ours")]
        if before is None:
            del os.environ["OMNISOURCE_CACHE"]
        else:
            os.environ["OMNISOURCE_CACHE"] = before
    return [*times, Row("memory of the list in one process", *memory, unit="MB")]


def write_list(root: Path) -> None:
    """Writes train.txt of names that are not there, as of Kinetics."""
    with open(root / "train.txt", "w") as file:
        for number in range(NUM_LINES):
            file.write(f"class_{number % NUM_CLASSES}/{number:011x}_{number % 300:06d}_000010.mp4 {number % 400}\n")


def theirs(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pickled items one after the other, uint8, and where each ends, int64."""
    items = []
    with open(root / "train.txt") as file:
        for line in file:
            name, label = line.strip().split()
            items.append({"filename": os.path.join(root, name), "label": int(label)})
    pickled = [np.frombuffer(pickle.dumps(item, protocol=4), dtype=np.uint8) for item in items]
    return np.concatenate(pickled), np.cumsum([len(one) for one in pickled])


def ours(root: Path) -> Items:
    return read_items(str(root), Split(list="train.txt"), "video", None, NUM_CLASSES, "videos", check_files=False)


def _memory(root: Path, side: str) -> float:
    command = [sys.executable, __file__, side, str(root)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _proportional_bytes() -> int:
    """Returns what this process holds, in bytes; of pages that several processes map it counts its share (PSS)."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def main() -> None:
    """Prints the memory that the list has added to this process once every page of it was read."""
    root = Path(sys.argv[2])
    before = _proportional_bytes()
    if sys.argv[1] == "theirs":
        held = theirs(root)
    else:
        held = ours(root)
        held.digest()
    print(_proportional_bytes() - before)
    del held


if __name__ == "__main__":
    main()
