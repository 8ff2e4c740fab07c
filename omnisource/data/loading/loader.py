"""From the streams of the sources to the batches of every step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from omnisource.data.loading.collating import Collator, PendingBatch
from omnisource.data.loading.request import SampleRequest
from omnisource.data.loading.stream import Stream
from omnisource.data.loading.unreadable import UnreadableLog
from omnisource.data.loading.workers import WorkerPool
from omnisource.errors import UnreadableMedia, UserError
from omnisource.types import Batch, Clip

CPU = torch.device("cpu")


@dataclass(frozen=True)
class _Wanted:
    """A sample that is under way.

    Attributes:
        request: What the stream asks for.
        submitted: What the workers were given: the same, or its first neighbor that is not known to be unreadable.
        ticket: Under which they return it.
    """

    request: SampleRequest
    submitted: SampleRequest
    ticket: int


@dataclass(frozen=True)
class _WantedBatch:
    """A batch that is under way: its samples, and the batch itself, which the collator may make."""

    samples: list[_Wanted]
    pending: PendingBatch


class Loader:
    """Iterates over the steps of a run: for each, its microbatches, each one batch of every source.

    Args:
        streams: One a source, in the order in which the recognizer takes their batches.
        workers: Loads the samples.
        microbatches: Microbatches in a step, over all processes.
        local_microbatches: Those of them that this process loads, 0-based.
        unreadable: Takes note of files that cannot be read.
        prefetch_steps: Steps that are at least requested ahead of the one returned; more are where their samples would
            not keep all workers busy.
        device: Where the batches will go: those for a GPU lie in page-locked memory.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        workers: WorkerPool,
        microbatches: int,
        local_microbatches: Sequence[int],
        unreadable: UnreadableLog,
        prefetch_steps: int = 2,
        device: torch.device = CPU,
    ) -> None:
        self.streams = list(streams)
        self.workers = workers
        self.microbatches = microbatches
        self.local_microbatches = list(local_microbatches)
        self.unreadable = unreadable
        self.prefetch_steps = prefetch_steps
        self._collator = Collator(workers, device)
        self._step = 0
        self._requested: deque[list[list[_WantedBatch]]] = deque()  # by step and microbatch

    def seek(self, step: int) -> None:
        """Makes `step` (0-based) the next step to be returned."""
        for microbatches in self._requested:
            for wanted in (wanted for batches in microbatches for wanted in batches):
                wanted.pending.claim("owner")
                for ticket in wanted.pending.tickets:
                    self.workers.discard(ticket)
        self._requested.clear()
        self._step = step

    def close(self) -> None:
        """Gives up what was requested, and ends the thread that makes batches; may be called again."""
        self.seek(self._step)
        self._collator.close()

    def __iter__(self) -> Iterator[list[tuple[Batch, ...]]]:
        return self

    def __next__(self) -> list[tuple[Batch, ...]]:
        """Returns the next step: for each microbatch of this process the batches, in the order of the streams.

        Raises:
            UserError: If more files are unreadable than permitted, or a source has none that can be read.
            RuntimeError: If loading failed for a reason that is not the file's: a fault of the program.
        """
        while not self._is_enough_requested():
            self._requested.append(self._request_step(self._step + len(self._requested)))
        step = [
            tuple(self._collect(stream, wanted) for stream, wanted in zip(self.streams, batches, strict=True))
            for batches in self._requested[0]
        ]
        self._requested.popleft()  # only now, so that after an interrupt `seek` gives up what was not fetched
        self._step += 1
        return step

    def _is_enough_requested(self) -> bool:
        """Returns whether the next step is requested, and behind it enough to keep all workers busy."""
        behind = list(self._requested)[1:]
        num_samples = sum(len(wanted.samples) for step in behind for batches in step for wanted in batches)
        return len(self._requested) > self.prefetch_steps and num_samples >= self.workers.num_busy_requests

    def _request_step(self, step: int) -> list[list[_WantedBatch]]:
        numbers = [step * self.microbatches + index for index in self.local_microbatches]
        return [[self._request_batch(stream, number) for stream in self.streams] for number in numbers]

    def _request_batch(self, stream: Stream, microbatch: int) -> _WantedBatch:
        samples = [self._submit(stream, request) for request in stream.requests(microbatch)]
        pending = PendingBatch(stream.name, stream.source, [wanted.ticket for wanted in samples])
        self._collator.add(pending)
        return _WantedBatch(samples, pending)

    def _submit(self, stream: Stream, request: SampleRequest) -> _Wanted:
        submitted = request
        for _ in range(len(stream.items)):
            if submitted.path not in self.unreadable.reasons:
                break
            submitted = stream.neighbor(submitted)
        return _Wanted(request, submitted, self.workers.submit(submitted))

    def _collect(self, stream: Stream, wanted: _WantedBatch) -> Batch:
        """Returns a batch that is due."""
        self.workers.tell()
        pending = wanted.pending
        made = None if pending.claim("owner") else pending.batch()
        if made is not None and all(self._is_as_wanted(sample) for sample in wanted.samples):
            return made
        loaded: list[Clip | None] = [None] * len(wanted.samples) if made is None else list(made.split())
        clips = [self._readable(stream, *sample) for sample in zip(wanted.samples, loaded, strict=True)]
        return self._collator.collate(stream.name, stream.source, clips)

    def _is_as_wanted(self, sample: _Wanted) -> bool:
        return sample.submitted == sample.request and sample.request.path not in self.unreadable.reasons

    def _readable(self, stream: Stream, wanted: _Wanted, loaded: Clip | None) -> Clip:
        """Returns the clip of a sample or, where its file cannot be read, of the nearest neighbor that can.

        What is known when the sample is due decides, not what was known when it was requested: so the sample does not
        depend on how far ahead was requested.

        Args:
            stream: Its stream.
            wanted: The sample.
            loaded: What the workers made of what was submitted, where that was fetched already.
        """
        request = wanted.request
        for _ in range(len(stream.items)):
            is_submitted = request == wanted.submitted
            if request.path not in self.unreadable.reasons:
                result: Clip | UnreadableMedia
                if is_submitted and loaded is not None:
                    result = loaded
                else:
                    result = self.workers.result(wanted.ticket if is_submitted else self.workers.submit(request))
                if isinstance(result, Clip):
                    if request != wanted.request:
                        self.unreadable.replace(self._step + 1, wanted.request, request)
                    return result
                self.unreadable.add(result, "replaced by the next item of its list")
            elif is_submitted:
                self.workers.discard(wanted.ticket)
            request = stream.neighbor(request)
        first, reason = request.path, self.unreadable.reasons[request.path]  # the wanted one again
        raise UserError(
            f"source {stream.name}: none of its {len(stream.items)} items can be read, such as {first}: {reason}\n"
            "omnisource check CONFIG says why each of them cannot; fix them, or take the source out."
        )
