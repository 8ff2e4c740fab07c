"""Memory of a parent and its workers that load images of a list of 240,000, beside torch's loader with forked workers.

The peer's side is what mmengine builds of its configs (runner/runner.py and dataset/base_dataset.py of
open-mmlab/mmengine): a DataLoader with forked, persistent workers and a data set of pickled items, OpenCV reading the
images. The registries and libraries of the published system are not imported, which would add to it.
"""

from __future__ import annotations

import itertools
import os
import pickle
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import peer_lists
from beside import Row

NUM_FILES, NUM_LOADED, BATCH = 20, 1600, 16
NUMBERS_OF_WORKERS = (2, 8)


def measure(rounds: int) -> list[Row]:
    """Returns the memory of all processes together (PSS) once 1,600 images were loaded."""
    from peer_images import write_photograph

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number in range(NUM_FILES):
            write_photograph(_file(root, number), 500, 375)
        peer_lists.write_list(root)
        rows = []
        for workers in NUMBERS_OF_WORKERS:
            peer, mine = ([_memory(root, side, workers) for _ in range(rounds)] for side in ("theirs", "ours"))
            rows.append(Row(f"memory of a parent and {workers} workers that load images", peer, mine, unit="MB"))
    return rows


def _file(root: Path, index: int) -> Path:
    """Returns the file that stands for an item of the list: there are fewer files than items."""
    return root / f"{index % NUM_FILES}.jpg"


def _memory(root: Path, side: str, workers: int) -> float:
    command = [sys.executable, __file__, side, str(root), str(workers)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _proportional_bytes() -> int:
    """Returns what this process and all that descend from it hold, in bytes: shared pages count in shares (PSS)."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        fields = status.read_text().rpartition(")")[2].split()
        parents[int(status.parent.name)] = int(fields[1])
    family = {os.getpid()}
    for _ in range(10):
        family |= {process for process, parent in parents.items() if parent in family}
    total = 0
    for process in family:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        total += 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def theirs(root: Path, num_workers: int) -> int:
    import cv2
    import numpy as np
    from peer_images import theirs as load
    from torch.utils.data import DataLoader, Dataset

    cv2.setNumThreads(0)

    class Images(Dataset):
        def __init__(self) -> None:
            self.items, self.ends = peer_lists.theirs(root)

        def __len__(self) -> int:
            return len(self.ends)

        def __getitem__(self, index: int) -> dict[str, object]:
            start = self.ends[index - 1] if index else 0
            item = pickle.loads(memoryview(self.items[start : self.ends[index]]))
            return {"inputs": load(_file(root, index), index), "label": item["label"]}

    loader = DataLoader(
        Images(),
        BATCH,
        shuffle=True,
        num_workers=num_workers,
        multiprocessing_context="fork",
        persistent_workers=True,
        collate_fn=lambda samples: samples,
    )
    batches = iter(loader)
    for batch in itertools.islice(batches, NUM_LOADED // BATCH):
        np.stack([sample["inputs"] for sample in batch])
    return _proportional_bytes()


def ours(root: Path, num_workers: int) -> int:
    from omnisource.data.datasets import read_items
    from omnisource.data.loading.collating import collate
    from omnisource.data.loading.stream import Stream
    from omnisource.data.loading.workers import WorkerPool
    from omnisource.recipe.data import Source, Split

    split = Split(list="train.txt")
    items = read_items(str(root), split, "image", None, peer_lists.NUM_CLASSES, "images", check_files=False)
    source = Source(media="image", label_space="images", root=str(root), train=split, batch_size=BATCH)
    stream = Stream("images", source, items, BATCH, 0)

    def submit(microbatch: int) -> list[int]:
        requests = [replace(one, path=str(_file(root, one.index))) for one in stream.requests(microbatch)]
        return [workers.submit(request) for request in requests]

    with WorkerPool(num_workers, 60.0) as workers:
        ahead = [submit(0)]
        for microbatch in range(1, NUM_LOADED // BATCH + 1):
            ahead.append(submit(microbatch))
            collate("images", source, [workers.result(ticket) for ticket in ahead.pop(0)])
        return _proportional_bytes()


if __name__ == "__main__":
    print({"theirs": theirs, "ours": ours}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3])))
