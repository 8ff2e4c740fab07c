"""What a long list costs: memory of the training process and its workers together, and the time to open it.

    python benchmarks/list_memory.py --items 10000000 --workers 4

writes a list of that many images (and one of 1,000 for comparison), opens it as training does, starts the workers,
has them load some real images, and reads every page of the list once, which is the most that can be mapped.
Memory is proportional (PSS): of pages that several processes map each counts its share. `--tree` makes the files of
the list too, so that they are looked for as training does; the others are lists of files that are not there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

REAL_IMAGES = 64
FOLDERS = 1000
BASE_ITEMS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10_000_000, help="length of the long list")
    parser.add_argument("--workers", type=int, default=4, help="loading processes")
    parser.add_argument("--folder", type=Path, help="where list and cache go; a temporary folder unless given")
    parser.add_argument("--tree", action="store_true", help="make every file of the list, empty, and look for them")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measured(arguments.measure, arguments.workers, arguments.tree)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        results = {}
        for count in (BASE_ITEMS, arguments.items):
            root = folder / str(count)
            make_data(root, count, arguments.tree)
            for when in ("first time", "again"):
                results[count, when] = run_apart(root, folder / "cache", arguments)
        report(results, arguments.items, arguments.workers)


def make_data(root: Path, count: int, with_tree: bool) -> None:
    """Writes a list whose paths are as long as those of ImageNet, the first ones of real images."""
    from PIL import Image

    (root / "n00000000").mkdir(parents=True, exist_ok=True)
    for number in range(REAL_IMAGES):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(root / path_of(number * FOLDERS))
    with open(root / "train.txt", "w") as file:
        for number in range(REAL_IMAGES):
            file.write(f"{path_of(number * FOLDERS)} 0\n")
        for number in range(count):
            if number % FOLDERS or number // FOLDERS >= REAL_IMAGES:
                file.write(f"{path_of(number)} {number % FOLDERS}\n")
    if with_tree:
        for number in range(FOLDERS):
            (root / f"n{number:08d}").mkdir(exist_ok=True)
        for number in range(count):
            os.close(os.open(root / path_of(number), os.O_CREAT | os.O_WRONLY))


def path_of(number: int) -> str:
    return f"n{number % FOLDERS:08d}/n{number % FOLDERS:08d}_{number // FOLDERS:08d}.JPEG"


def run_apart(root: Path, cache: Path, arguments: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", str(root), "--workers", str(arguments.workers)]
    environment = {**os.environ, "OMNISOURCE_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    command += ["--tree"] if arguments.tree else []
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measured(root: Path, num_workers: int, with_tree: bool) -> dict[str, float]:
    """Returns bytes and seconds of one process that opens a list and starts workers."""
    from omnisource.data.datasets import read_items
    from omnisource.data.loading.request import request_of
    from omnisource.data.loading.stream import Stream
    from omnisource.data.loading.workers import WorkerPool
    from omnisource.recipe.data import Source, Split

    split = Split(list="train.txt")
    source = Source("image", "classes", str(root), train=split)
    before = memory([os.getpid()])
    peak = Peak()
    start, processor_start = time.perf_counter(), time.process_time()
    items = read_items(str(root), split, "image", None, FOLDERS, "images", check_files=with_tree)
    open_seconds, processor_seconds = time.perf_counter() - start, time.process_time() - processor_start
    opened = memory([os.getpid()])
    peak_private = peak.stop()
    stream = Stream("images", source, items, batch_size=64, seed=0)
    for number in range(100):
        stream.requests(number)
    with WorkerPool(num_workers, 60) as workers:
        tickets = [workers.submit(request_of("images", source, "train", items, index)) for index in range(REAL_IMAGES)]
        for ticket in tickets:
            workers.result(ticket)
        processes = [os.getpid(), *descendants(os.getpid())]
        sparse = memory(processes)
        items.digest()
        items.class_counts(FOLDERS)
        whole = memory(processes)
    return {
        "items": len(items),
        "processes": len(processes),
        "open_seconds": open_seconds,
        "processor_seconds": processor_seconds,
        "private_after_opening": opened["private"] - before["private"],
        "peak_private_while_opening": peak_private - before["private"],
        "pss_in_use": sparse["pss"],
        "pss_after_reading_all": whole["pss"],
        "list_pss": whole["lists"],
        "private": whole["private"],
    }


class Peak:
    """Watches the private memory of this process from a thread."""

    def __init__(self) -> None:
        self.most = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._is_over.wait(0.05):
            self.most = max(self.most, memory([os.getpid()])["private"])

    def stop(self) -> int:
        self._is_over.set()
        self._thread.join()
        return max(self.most, memory([os.getpid()])["private"])


def memory(processes: list[int]) -> dict[str, int]:
    """Returns memory of processes together, in bytes: proportional, private (written to), and mapped from lists."""
    totals = {"pss": 0, "private": 0, "lists": 0}
    for process in processes:
        is_list = False
        for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
            name, *values = line.split()
            if not name.endswith(":"):  # the first line of a mapping ends with its file
                is_list = "/cache/lists/" in line
            elif name == "Pss:":
                totals["pss"] += int(values[0]) * 1024
                totals["lists"] += is_list * int(values[0]) * 1024
            elif name == "Private_Dirty:":
                totals["private"] += int(values[0]) * 1024
    return totals


def descendants(process: int) -> list[int]:
    """Returns the process ids of children, their children and so on."""
    children = [
        int(child)
        for task in Path(f"/proc/{process}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return children + [other for child in children for other in descendants(child)]


def report(results: dict[tuple[int, str], dict[str, float]], count: int, num_workers: int) -> None:
    """Prints the table of docs/data.md."""
    print(f"{count:,} items, parent + {num_workers} workers (Linux, PSS and private dirty pages of all processes)\n")
    print("| | first time | again |\n| --- | --- | --- |")
    base = {when: results[BASE_ITEMS, when] for when in ("first time", "again")}
    found = {when: results[count, when] for when in ("first time", "again")}

    def row(title: str, texts: list[str]) -> None:
        print(f"| {title} | {' | '.join(texts)} |")

    row("seconds to open", [f"{one['open_seconds']:.1f}" for one in found.values()])
    row("seconds of the processor to open", [f"{one['processor_seconds']:.1f}" for one in found.values()])
    for key, title in (
        ("peak_private_while_opening", "most private memory while opening, MB"),
        ("private_after_opening", "private memory after opening, MB"),
        ("pss_in_use", "PSS of all processes in use, MB"),
        ("pss_after_reading_all", "PSS after every page was read, MB"),
        ("list_pss", "of these the list itself, MB"),
    ):
        row(title, [f"{one[key] / 1e6:.0f}" for one in found.values()])
    row("PSS with 1,000 items, MB", [f"{one['pss_after_reading_all'] / 1e6:.0f}" for one in base.values()])
    for key, title in (("pss_in_use", "in use"), ("pss_after_reading_all", "after every page was read")):
        row(f"**bytes an item, {title}**", [f"{(found[w][key] - base[w][key]) / count:.1f}" for w in found])


if __name__ == "__main__":
    main()
