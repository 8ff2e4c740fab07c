"""From clips to batches: in a thread of its own, so that training need not wait for memory to be copied."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from omnisource.data.loading.workers import WorkerPool
from omnisource.recipe.data import Source
from omnisource.types import Batch, Clip


def collate(name: str, source: Source, clips: Sequence[Clip], *, pinned: bool = False) -> Batch:
    """Returns clips of one source as a batch.

    Args:
        name: Name of the source.
        source: Its description.
        clips: At least one.
        pinned: Whether the tensors lie in page-locked memory, from which a GPU copies while it computes.
    """
    frames = torch.empty((len(clips), *clips[0].frames.shape), dtype=torch.uint8, pin_memory=pinned)
    # By NumPy: torch would copy with as many threads as training computes with, and those are taken.
    np.stack([clip.frames.numpy() for clip in clips], out=frames.numpy())
    return Batch(
        source=name,
        media=source.media,
        head=source.label_space,
        clips=frames,
        labels=torch.tensor([clip.label for clip in clips], dtype=torch.int64, pin_memory=pinned),
        keys=tuple(clip.key for clip in clips),
    )


Claimant = Literal["owner", "thread"]


class PendingBatch:
    """A batch whose samples are being loaded. Whoever claims it first, the thread or its owner, makes it.

    Attributes:
        name: Name of the source.
        source: Its description.
        tickets: Of its samples.
    """

    def __init__(self, name: str, source: Source, tickets: Sequence[int]) -> None:
        self.name = name
        self.source = source
        self.tickets = list(tickets)
        self._lock = threading.Lock()
        self._claimed_by: Claimant | None = None
        self._is_made = threading.Event()
        self._batch: Batch | None = None
        self._error: BaseException | None = None

    @property
    def is_claimed(self) -> bool:
        """Whether somebody makes it, or has given it up."""
        return self._claimed_by is not None

    def claim(self, claimant: Claimant) -> bool:
        """Returns whether the batch is the claimant's, and so are the results of its tickets."""
        with self._lock:
            self._claimed_by = self._claimed_by or claimant
            return self._claimed_by == claimant

    def batch(self) -> Batch:
        """Returns the batch that the thread makes, or has made; raises what it raised."""
        self._is_made.wait()
        if self._error is not None:
            raise self._error
        assert self._batch is not None
        return self._batch

    def make(self, clips: Sequence[Clip], *, pinned: bool) -> None:
        """Makes the batch, for `batch` to return it."""
        try:
            self._batch = collate(self.name, self.source, clips, pinned=pinned)
        except BaseException as error:  # it is the owner's to hear of
            self._error = error
        finally:
            self._is_made.set()


class Collator:
    """Makes batches, one after the other, as soon as all their samples are there, in a thread of its own.

    Batches with a sample that cannot be read are left to their owner, who knows what replaces it, and so are those that
    the owner claims since they are due.

    Args:
        workers: Loads the samples. Without worker processes there is no thread, and all batches are their owner's.
        device: Where the batches will go; those for a GPU are made in page-locked memory.
    """

    def __init__(self, workers: WorkerPool, device: torch.device) -> None:
        self._workers = workers
        self._device = device
        self._waiting: deque[PendingBatch] = deque()
        self._changed = threading.Condition()
        self._is_closing = False
        self._thread: threading.Thread | None = None
        if workers.num_workers:
            self._thread = threading.Thread(target=self._run, name="omnisource-collator", daemon=True)
            self._thread.start()

    def collate(self, name: str, source: Source, clips: Sequence[Clip]) -> Batch:
        """Returns a batch at once, by the thread that asks for it."""
        return collate(name, source, clips, pinned=self._device.type == "cuda")

    def add(self, pending: PendingBatch) -> None:
        """Has a batch made, after those that were added before."""
        if self._thread is not None:
            with self._changed:
                self._waiting.append(pending)
                self._changed.notify()

    def close(self) -> None:
        """Ends the thread; may be called again."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        is_for_gpu = self._device.type == "cuda"
        if is_for_gpu:
            torch.cuda.set_device(self._device)  # or memory would be taken on the first GPU
        while (pending := self._next()) is not None:
            clips = self._workers.wait_for_results(
                pending.tickets, lambda pending=pending: not (pending.is_claimed or self._is_closing)
            )
            if self._workers.is_closed:
                return
            if clips is None or not all(isinstance(clip, Clip) for clip in clips) or not pending.claim("thread"):
                continue
            for ticket in pending.tickets:
                self._workers.discard(ticket)  # its clip is here
            pending.make(clips, pinned=is_for_gpu)

    def _next(self) -> PendingBatch | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closing)
            return None if self._is_closing else self._waiting.popleft()
