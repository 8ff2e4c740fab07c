from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from omnisource.data.lists.items import Items, PackedStrings
from omnisource.data.loading.collating import collate
from omnisource.data.loading.loader import Loader
from omnisource.data.loading.order import items_at
from omnisource.data.loading.request import Request, SampleRequest, request_of
from omnisource.data.loading.sample import load_clip
from omnisource.data.loading.stream import Stream
from omnisource.data.loading.unreadable import UnreadableLog
from omnisource.data.loading.workers import WorkerPool
from omnisource.errors import UnreadableMedia, UserError
from omnisource.recipe.data import ClipSampling, EvaluationViews, Source, Split, SplitName, TrainingView, split_of
from omnisource.types import Batch, Clip, Media
from tests.support.media import moving_square, write_image, write_video

Pair = tuple[int, int]
"""Epoch and index of a sample."""


def labeled(request: SampleRequest) -> Clip:
    """Returns a clip whose pixels tell its epoch and its index; files whose name says so are damaged."""
    if "damaged" in request.key:
        raise UnreadableMedia(request.path, "damaged")
    num_frames = 1 if request.media == "image" else 2
    pixels = torch.tensor([request.epoch % 256, request.index, 0], dtype=torch.uint8)
    frames = pixels[None, :, None, None, None].expand(1, 3, num_frames, 4, 4).contiguous()
    return Clip(frames, request.label, request.key, request.media)


def sized_by_label(request: SampleRequest) -> Clip:
    """Returns a clip whose size depends on its label: no batch can be made of two of them."""
    return Clip(torch.zeros(1, 3, 2, 4, 4 + request.label, dtype=torch.uint8), request.label, request.key, "video")


def pairs_of(batch: Batch) -> list[Pair]:
    return [(int(clip[0, 0, 0, 0, 0]), int(clip[0, 1, 0, 0, 0])) for clip in batch.clips]


def items_named(names: Sequence[str], folder: str = "/data") -> Items:
    return Items(folder, PackedStrings(names), np.arange(len(names), dtype=np.int32) % 7)


def stream_of(
    count: int, batch_size: int, name: str = "clips", media: Media = "video", damaged: Sequence[int] = (), seed: int = 0
) -> Stream:
    names = [f"damaged{index}" if index in damaged else f"file{index}" for index in range(count)]
    source = Source(media=media, label_space=f"classes of {name}", root="/data", train=Split())
    return Stream(name, source, items_named(names), batch_size, seed)


def loader_of(
    streams: Sequence[Stream],
    local: Sequence[int] = (0,),
    microbatches: int = 1,
    permitted: int = 0,
    notify: Callable[[str], None] = lambda line: None,
    prefetch_steps: int = 2,
) -> Loader:
    log = UnreadableLog(permitted, notify=notify)
    return Loader(streams, WorkerPool(0, 60, load=labeled), microbatches, local, log, prefetch_steps)


def steps_of(loader: Loader, count: int) -> list[list[tuple[Batch, ...]]]:
    return list(islice(loader, count))


def assert_equal_steps(one: list[list[tuple[Batch, ...]]], other: list[list[tuple[Batch, ...]]]) -> None:
    assert len(one) == len(other)
    for microbatches, other_microbatches in zip(one, other, strict=True):
        assert len(microbatches) == len(other_microbatches)
        for batches, other_batches in zip(microbatches, other_microbatches, strict=True):
            for batch, other_batch in zip(batches, other_batches, strict=True):
                assert torch.equal(batch.clips, other_batch.clips)
                assert torch.equal(batch.labels, other_batch.labels)
                assert (batch.source, batch.media, batch.head, batch.keys) == (
                    other_batch.source,
                    other_batch.media,
                    other_batch.head,
                    other_batch.keys,
                )


class TestLoader:
    def test_a_step_has_a_batch_of_every_source_in_order(self) -> None:
        streams = [stream_of(10, 4), stream_of(5, 3, "pictures", "image")]
        ((videos, images),) = next(loader_of(streams))
        assert (videos.source, videos.media, videos.head) == ("clips", "video", "classes of clips")
        assert (images.source, images.media, images.head) == ("pictures", "image", "classes of pictures")
        assert videos.clips.shape == (4, 1, 3, 2, 4, 4) and images.clips.shape == (3, 1, 3, 1, 4, 4)
        for batch, count in ((videos, 10), (images, 5)):
            epochs, indices = items_at(0, batch.source, count, 0, len(batch))
            assert pairs_of(batch) == list(zip(epochs.tolist(), indices.tolist(), strict=True))
            assert batch.keys == tuple(f"file{index}" for index in indices)
            assert batch.labels.tolist() == [index % 7 for index in indices]

    @pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (3, 8), (1, 2), (6, 6)])
    def test_batches_run_across_the_borders_of_epochs_and_lose_nothing(self, count: int, batch_size: int) -> None:
        steps = steps_of(loader_of([stream_of(count, batch_size)]), count)
        batches = [batch for step in steps for batches in step for batch in batches]
        assert [len(batch) for batch in batches] == [batch_size] * count
        # `count` batches are `batch_size` epochs.
        assert Counter(pair for batch in batches for pair in pairs_of(batch)) == Counter(
            (epoch, index) for epoch in range(batch_size) for index in range(count)
        )

    def test_no_source_is_cut_short_by_another(self) -> None:
        steps = steps_of(loader_of([stream_of(12, 4), stream_of(5, 3, "pictures", "image")]), 10)
        pictures = [pair for ((_, batch),) in steps for pair in pairs_of(batch)]
        assert Counter(pictures) == Counter((epoch, index) for epoch in range(6) for index in range(5))

    def test_seeking_equals_continuing(self) -> None:
        streams = [stream_of(10, 4), stream_of(5, 3, "pictures", "image")]
        whole = steps_of(loader_of(streams), 12)
        for step in (0, 1, 4, 7):  # in the middle of epochs, of either source
            late = loader_of(streams)
            late.seek(step)
            assert_equal_steps(steps_of(late, 3), whole[step : step + 3])

    def test_seeking_back_and_forth_replays_the_same_steps(self) -> None:
        loader = loader_of([stream_of(10, 4)])
        whole = steps_of(loader, 12)
        for step in (3, 3, 9, 0, 5):
            loader.seek(step)
            assert_equal_steps(steps_of(loader, 2), whole[step : step + 2])

    def test_steps_do_not_depend_on_how_many_are_prefetched(self) -> None:
        one, other = (steps_of(loader_of([stream_of(10, 4)], prefetch_steps=ahead), 6) for ahead in (0, 5))
        assert_equal_steps(one, other)

    def test_far_steps_are_as_near_as_the_first(self) -> None:
        loader = loader_of([stream_of(3, 2)])
        loader.seek(3 * 10**12)
        ((batch,),) = next(loader)
        epochs, indices = items_at(0, "clips", 3, 6 * 10**12, 2)
        assert batch.keys == tuple(f"file{index}" for index in indices) and epochs.tolist() == [2 * 10**12] * 2

    def test_microbatches_split_over_processes_equal_the_whole(self) -> None:
        streams = [stream_of(10, 2), stream_of(5, 3, "pictures", "image")]
        whole = steps_of(loader_of(streams, local=[0, 1, 2, 3], microbatches=4), 5)
        for split in ([[0, 1], [2, 3]], [[0], [1], [2], [3]], [[0, 1, 2], [3]]):
            parts = [steps_of(loader_of(streams, local=local, microbatches=4), 5) for local in split]
            joined = [[batches for part in parts for batches in part[step]] for step in range(5)]
            assert_equal_steps(joined, whole)

    def test_a_step_of_many_microbatches_has_the_samples_of_one_large_batch(self) -> None:
        split = steps_of(loader_of([stream_of(10, 2)], local=[0, 1, 2], microbatches=3), 4)
        large = steps_of(loader_of([stream_of(10, 6)]), 4)
        for microbatches, ((batch,),) in zip(split, large, strict=True):
            assert [pair for (part,) in microbatches for pair in pairs_of(part)] == pairs_of(batch)

    def test_seeds_have_different_orders(self) -> None:
        one, other = (steps_of(loader_of([stream_of(50, 20, seed=seed)]), 1) for seed in (0, 1))
        assert one[0][0][0].keys != other[0][0][0].keys

    def test_seeking_gives_up_what_was_requested(self) -> None:
        loader = loader_of([stream_of(10, 4)])
        next(loader)
        loader.seek(7)
        for ticket in range(12):  # the first step and the two that were prefetched
            with pytest.raises(KeyError):
                loader.workers.result(ticket)

    def test_real_files_give_the_same_steps_with_and_without_workers(self, tmp_path: Path) -> None:
        for index in range(3):
            write_video(tmp_path / f"{index}.mp4", moving_square(12, 40, 48, seed=index))
            write_image(tmp_path / f"{index}.png", moving_square(1, 40, 48, seed=index)[0])
        (tmp_path / "2.png").write_bytes(b"damaged")
        sampling, view = ClipSampling(2, 2), TrainingView(crop_size=16)
        sources: list[tuple[str, Media]] = [("mp4", "video"), ("png", "image")]
        streams = [
            Stream(
                name,
                Source(media, name, str(tmp_path), Split(), sampling=sampling, training_view=view),
                items_named([f"{index}.{name}" for index in range(3)], str(tmp_path)),
                2,
                seed=4,
            )
            for name, media in sources
        ]
        with WorkerPool(0, 60) as workers:
            whole = steps_of(Loader(streams, workers, 1, [0], UnreadableLog(1, notify=lambda line: None)), 6)
        with WorkerPool(2, 60) as workers:
            loader = Loader(streams, workers, 1, [0], UnreadableLog(1, notify=lambda line: None))
            assert_equal_steps(steps_of(loader, 4), whole[:4])
            loader.seek(2)
            assert_equal_steps(steps_of(loader, 4), whole[2:])
        assert whole[0][0][0].clips.shape == (2, 1, 3, 2, 16, 16)


class CountingPool(WorkerPool):
    """A pool that counts what was submitted."""

    num_submitted = 0

    def submit(self, request: Request) -> int:
        self.num_submitted += 1
        return super().submit(request)


def wait_until_made(loader: Loader) -> None:
    """Waits until the thread of the loader has made all batches that are requested."""
    for step in loader._requested:
        for batches in step:
            for wanted in batches:
                wanted.pending.batch()


class TestPrefetch:
    @pytest.mark.parametrize(("batch_size", "ahead"), [(1, 12), (5, 15), (8, 16), (40, 80)])
    def test_keeps_every_worker_busy_with_small_batches_and_takes_no_more_memory_with_large_ones(
        self, batch_size: int, ahead: int
    ) -> None:
        with CountingPool(6, 60, load=labeled) as workers:
            log = UnreadableLog(0)
            loader = Loader([stream_of(50, batch_size)], workers, 1, [0], log)
            steps = []
            for number in range(1, 4):
                steps.append(next(loader))
                assert workers.num_submitted == number * batch_size + ahead  # each worker holds two, at least two steps
            loader.close()
        assert_equal_steps(steps, steps_of(loader_of([stream_of(50, batch_size)]), 3))

    def test_counts_the_samples_of_all_sources_and_microbatches_of_this_process(self) -> None:
        with CountingPool(6, 60, load=labeled) as workers:
            streams = [stream_of(10, 1), stream_of(5, 2, "pictures", "image")]
            loader = Loader(streams, workers, 6, [2, 3], UnreadableLog(0))
            next(loader)
            assert workers.num_submitted == 6 + 12
            loader.close()

    def test_batches_are_made_ahead_by_another_thread(self) -> None:
        streams = [stream_of(10, 4), stream_of(5, 3, "pictures", "image")]
        with WorkerPool(2, 60, load=labeled) as workers:
            loader = Loader(streams, workers, 2, [0, 1], UnreadableLog(0))
            steps = steps_of(loader, 2)
            wait_until_made(loader)
            steps += steps_of(loader, 4)
            loader.seek(1)
            again = steps_of(loader, 3)
            loader.close()
            loader.close()
        assert_equal_steps(steps, steps_of(loader_of(streams, local=[0, 1], microbatches=2), 6))
        assert_equal_steps(again, steps[1:4])

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_batches_for_a_gpu_lie_in_page_locked_memory(self, num_workers: int) -> None:
        streams = [stream_of(10, 4), stream_of(5, 3, "pictures", "image", damaged=(2,))]
        device = torch.device("cuda", torch.cuda.current_device())
        with WorkerPool(num_workers, 60, load=labeled) as workers:
            log = UnreadableLog(1, notify=lambda line: None)
            loader = Loader(streams, workers, 1, [0], log, device=device)
            steps = steps_of(loader, 6)
            loader.close()
        for ((videos, images),) in steps:
            assert all(tensor.is_pinned() for batch in (videos, images) for tensor in (batch.clips, batch.labels))
        assert_equal_steps(steps, steps_of(loader_of(streams, permitted=1), 6))

    def test_fault_of_the_program_is_raised_when_its_step_is_due(self) -> None:
        with WorkerPool(1, 60, load=sized_by_label) as workers:
            loader = Loader([stream_of(3, 2)], workers, 1, [0], UnreadableLog(0))
            with pytest.raises(ValueError, match="shape"):
                next(loader)
            loader.close()

    def test_closed_pool_leaves_no_thread_waiting(self) -> None:
        before = set(threading.enumerate())
        workers = WorkerPool(1, 60, load=labeled)
        loader = Loader([stream_of(10, 4)], workers, 1, [0], UnreadableLog(0))
        next(loader)
        workers.close()
        loader.close()
        assert set(threading.enumerate()) <= before


class TestUnreadableFiles:
    def test_are_replaced_by_the_next_item_in_the_same_epoch(self) -> None:
        damaged = (3, 4, 9)  # two in a row, and the last of the list
        replaced_by = {3: 5, 4: 5, 9: 0}
        notices: list[str] = []
        streams = [stream_of(10, 4, damaged=damaged)]
        loader = loader_of(streams, permitted=3, notify=notices.append)
        pairs = [pair for ((batch,),) in steps_of(loader, 5) for pair in pairs_of(batch)]
        whole = [pair for ((batch,),) in steps_of(loader_of([stream_of(10, 4)]), 5) for pair in pairs_of(batch)]
        assert pairs == [(epoch, replaced_by.get(index, index)) for epoch, index in whole]
        # Each file is counted and named once, however often it was met.
        assert loader.unreadable.reasons == {f"/data/damaged{index}": "damaged" for index in damaged}
        assert len(notices) == 3
        for number, line in enumerate(notices, start=1):
            assert line.startswith(f"unreadable ({number} of 3 permitted), replaced by the next item of its list: ")
        assert sorted(line.split(": ", 1)[1] for line in notices) == [f"/data/damaged{i}: damaged" for i in damaged]

    def test_are_replaced_the_same_after_seeking(self) -> None:
        streams = [stream_of(10, 4, damaged=(3, 4, 9))]
        whole = steps_of(loader_of(streams, permitted=3), 8)
        late = loader_of(streams, permitted=3)
        late.seek(5)
        assert_equal_steps(steps_of(late, 3), whole[5:])

    def test_are_not_read_again(self) -> None:
        read: list[str] = []

        def noted(request: SampleRequest) -> Clip:
            read.append(request.key)
            return labeled(request)

        log = UnreadableLog(3, notify=lambda line: None)
        loader = Loader([stream_of(10, 4, damaged=(3, 4, 9))], WorkerPool(0, 60, load=noted), 1, [0], log)
        steps_of(loader, 20)
        assert [read.count(f"damaged{index}") for index in (3, 4, 9)] == [1, 1, 1]

    def test_are_replaced_though_they_were_readable_when_they_were_requested(self) -> None:
        # A run that goes on from a checkpoint knows of them; so must one that had requested them before it knew.
        def loaded(prefetch_steps: int, num_workers: int = 0) -> list[list[tuple[Batch, ...]]]:
            with WorkerPool(num_workers, 60, load=labeled) as workers:
                loader = Loader([stream_of(5, 5)], workers, 1, [0], UnreadableLog(1), prefetch_steps)
                first = steps_of(loader, 1)
                if num_workers:
                    wait_until_made(loader)
                loader.unreadable.reasons["/data/file2"] = "a decoder hung over it"
                rest = steps_of(loader, 3)
                loader.close()
            return first + rest

        steps = loaded(prefetch_steps=2)
        assert_equal_steps(steps, loaded(prefetch_steps=0))
        assert_equal_steps(steps, loaded(prefetch_steps=2, num_workers=2))  # though the batches were made already
        indices = [[index for _, index in pairs_of(batch)] for ((batch,),) in steps]
        assert sorted(indices[0]) == [0, 1, 2, 3, 4]
        assert [sorted(of_step) for of_step in indices[1:]] == [[0, 1, 3, 3, 4]] * 3

    def test_leave_a_note_of_every_replacement(self) -> None:
        loader = loader_of([stream_of(10, 4, damaged=(3, 4, 9))], permitted=3)
        steps_of(loader, 5)  # two epochs
        notes = [(note.epoch, note.index, note.replaced_by) for note in loader.unreadable.pending]
        assert sorted(notes) == [(epoch, *pair) for epoch in (0, 1) for pair in ((3, 5), (4, 5), (9, 0))]
        for note in loader.unreadable.pending:
            assert note.path == f"/data/damaged{note.index}" and note.reason == "damaged"
            assert note.replaced_by_path == f"/data/file{note.replaced_by}"
            epochs, indices = items_at(0, "clips", 10, 4 * (note.step - 1), 4)
            assert (note.epoch, note.index) in zip(epochs.tolist(), indices.tolist(), strict=True)

    def test_that_were_met_in_a_step_that_was_never_done_are_not_counted(self) -> None:
        loader = loader_of([stream_of(10, 4, damaged=(3, 4, 9))], permitted=3)
        steps_of(loader, 5)
        notes = list(loader.unreadable.pending)
        early = [note for note in notes if note.step <= 2]
        assert 0 < len(early) < len(notes)
        assert loader.unreadable.commit(loader.unreadable.pending, step=2) == early
        assert sum(loader.unreadable.replacements.values()) == len(early)
        assert loader.unreadable.pending == []

    def test_stop_the_run_where_none_is_permitted(self) -> None:
        loader = loader_of([stream_of(4, 4, damaged=[2])])
        with pytest.raises(UserError, match=r"(?s)^/data/damaged2: damaged\n1 unreadable, 0 permitted.*max_unreadable"):
            next(loader)

    def test_stop_the_run_with_the_first_one_too_many_and_all_are_reported(self) -> None:
        loader = loader_of([stream_of(10, 10, damaged=[1, 4, 7])], permitted=2)
        with pytest.raises(UserError) as error:
            next(loader)
        lines = str(error.value).splitlines()
        assert sorted(lines[:3]) == [f"/data/damaged{index}: damaged" for index in (1, 4, 7)]
        assert lines[3].startswith("3 unreadable, 2 permitted.")

    def test_of_all_sources_count_together(self) -> None:
        streams = [stream_of(2, 2, damaged=[0]), stream_of(2, 2, "pictures", "image", damaged=[1])]
        next(loader_of(streams, permitted=2))
        with pytest.raises(UserError, match="2 unreadable, 1 permitted"):
            next(loader_of(streams, permitted=1))

    def test_stop_the_run_where_there_are_no_others(self) -> None:
        loader = loader_of([stream_of(3, 2, damaged=range(3))], permitted=100)
        with pytest.raises(UserError) as error:
            next(loader)
        first, remedy = str(error.value).splitlines()
        assert first == "source clips: none of its 3 items can be read, such as /data/damaged0: damaged"
        assert remedy.startswith("omnisource check CONFIG says why")
        assert len(loader.unreadable.reasons) == 3

    def test_that_an_interrupted_run_has_met_are_not_counted_again(self) -> None:
        reasons = {"/data/damaged1": "damaged"}
        log = UnreadableLog(1, reasons, notify=lambda line: pytest.fail(line))
        log.add(UnreadableMedia("/data/damaged1", "damaged"), "replaced")
        assert log.reasons is reasons and len(reasons) == 1


class TestSource:
    def test_tests_on_the_validation_items_where_it_has_no_others(self) -> None:
        train, validation, test = Split(list="train"), Split(list="validation"), Split(list="test")
        source = Source("video", "classes", "/data", train, validation, test)
        assert [split_of(source, name) for name in ("train", "validation", "test")] == [train, validation, test]
        source = Source("video", "classes", "/data", train, validation)
        assert split_of(source, "test") is validation
        source = Source("video", "classes", "/data", train)
        assert split_of(source, "validation") is None and split_of(source, "test") is None

    def test_takes_the_views_of_its_split(self, tmp_path: Path) -> None:
        write_video(tmp_path / "0.mp4", moving_square(12, 20, 24))
        source = Source(
            "video",
            "classes",
            "/data",
            Split(),
            validation=Split(),
            validation_views=EvaluationViews(2, 1, 20, 16),
            test_views=EvaluationViews(3, 3, 20, 16),
        )
        expected: list[tuple[SplitName, int]] = [("validation", 2), ("test", 9)]
        for split, num_views in expected:
            clip = load_clip(request_of("clips", source, split, items_named(["0.mp4"], str(tmp_path)), 0))
            assert clip.frames.shape == (num_views, 3, 8, 16, 16)

    def test_gives_requests_that_say_everything(self) -> None:
        source = Source("video", "classes", "/data", Split(frame_template="{:03d}.png"), sampling=ClipSampling(5, 2))
        items = Items(
            "/data/raw", PackedStrings(["a", "b"]), np.array([4, 5]), np.array([20, 30]), PackedStrings(["x/a", "x/b"])
        )
        assert request_of("clips", source, "train", items, 1, seed=8, epoch=2) == SampleRequest(
            source="clips",
            media="video",
            path="/data/raw/x/b",
            key="b",
            label=5,
            num_frames=30,
            frame_template="{:03d}.png",
            sampling=ClipSampling(5, 2),
            view=source.training_view,
            seed=8,
            epoch=2,
            index=1,
        )

    def test_clips_are_collated_in_order(self) -> None:
        source = Source("image", "classes", "/data", Split())
        clips = [Clip(torch.full((2, 3, 1, 4, 4), n, dtype=torch.uint8), n, f"key{n}", "image") for n in (5, 1, 3)]
        batch = collate("pictures", source, clips)
        assert batch.clips.shape == (3, 2, 3, 1, 4, 4) and batch.clips[:, 0, 0, 0, 0, 0].tolist() == [5, 1, 3]
        assert batch.labels.dtype == torch.int64 and batch.labels.tolist() == [5, 1, 3]
        assert (batch.source, batch.media, batch.head) == ("pictures", "image", "classes")
        assert batch.keys == ("key5", "key1", "key3")
