"""Properties of resuming, tried at whatever steps, sizes and numbers of processes and workers hypothesis thinks of."""

from __future__ import annotations

import functools
import shutil
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from omnisource.checkpoints.file import best_path, checkpoint_path, read_checkpoint, save_checkpoint
from omnisource.data.lists.items import Items, PackedStrings
from omnisource.data.loading.loader import Loader
from omnisource.data.loading.request import SampleRequest
from omnisource.data.loading.stream import Stream
from omnisource.data.loading.unreadable import UnreadableLog
from omnisource.data.loading.workers import WorkerPool
from omnisource.errors import UnreadableMedia
from omnisource.recipe.data import Source, Split
from omnisource.recipe.recipe import Recipe
from omnisource.training.train import train
from omnisource.types import Batch, Clip
from tests.support.killing import RUNS
from tests.support.tiny_runs import difference, lines_of, mixed_recipe

EPOCHS = 3


def labeled(request: SampleRequest) -> Clip:
    """Returns a clip whose pixels tell its item and its epoch; some files are damaged."""
    if request.index % 7 == 3:
        raise UnreadableMedia(request.path, "damaged")
    pixels = torch.tensor([request.epoch % 256, request.index % 256, request.index // 256], dtype=torch.uint8)
    return Clip(pixels[None, :, None, None, None].contiguous(), request.label, request.key, "image")


sources = st.lists(
    st.tuples(
        st.integers(1, 40),  # items: sources wrap around within a few steps
        st.fractions(min_value=1, max_value=5, max_denominator=6),  # samples in a microbatch
        st.sampled_from([1.0, 1.0, 0.5, 0.0]),  # class power
    ),
    min_size=1,
    max_size=3,
)


def loader_of(
    described: list[tuple[int, Fraction, float]], microbatches: int, local_microbatches: range, prefetch_steps: int
) -> Loader:
    streams = []
    for number, (count, batch_size, power) in enumerate(described):
        items = Items(
            "/data", PackedStrings(f"{number}/{index}" for index in range(count)), np.arange(count, dtype=np.int32) % 3
        )
        source = Source("image", "classes", "/data", Split(), class_power=power)
        streams.append(Stream(f"source{number}", source, items, batch_size, seed=1))
    log = UnreadableLog(10**6, notify=lambda line: None)
    return Loader(streams, WorkerPool(0, 60, load=labeled), microbatches, local_microbatches, log, prefetch_steps)


def samples(batches: tuple[Batch, ...]) -> list[tuple[tuple[str, ...], list[int]]]:
    return [(batch.keys, batch.clips.flatten().tolist()) for batch in batches]


@settings(max_examples=60, deadline=None)
@given(
    described=sources,
    processes=st.sampled_from([1, 2, 3]),
    accumulation=st.integers(1, 3),
    first=st.integers(0, 10**6),
    skipped=st.integers(0, 3),
    prefetch_steps=st.integers(0, 3),
)
@example([(1, Fraction(1), 1.0)], 1, 1, 0, 0, 0)
@example([(3, Fraction(5), 1.0), (40, Fraction(7, 6), 0.0)], 3, 2, 0, 1, 2)
def test_steps_are_the_same_whoever_loads_them_and_wherever_one_begins(
    described: list[tuple[int, Fraction, float]],
    processes: int,
    accumulation: int,
    first: int,
    skipped: int,
    prefetch_steps: int,
) -> None:
    microbatches = processes * accumulation
    alone = loader_of(described, microbatches, range(microbatches), prefetch_steps=2)
    alone.seek(first)
    whole = [next(alone) for _ in range(skipped + 2)]
    shared: list[list[tuple[Batch, ...]]] = [[] for _ in range(2)]
    for process in range(processes):
        local_microbatches = range(process * accumulation, (process + 1) * accumulation)
        part = loader_of(described, microbatches, local_microbatches, prefetch_steps)
        part.seek(first + skipped)
        for step in shared:
            step += next(part)
    for ours, theirs in zip(shared, whole[skipped:], strict=True):
        assert [samples(batches) for batches in ours] == [samples(batches) for batches in theirs]


@functools.cache
def whole_run(data: Path, kind: str, accumulation: int, validation_epochs: int, num_workers: int) -> tuple[Path, int]:
    """Returns the work dir of an uninterrupted run with a checkpoint of each step, and the number of its steps."""
    work_dir = Path(tempfile.mkdtemp(prefix="omnisource-whole-")) / "run"
    state = train(recipe_of(data, kind, accumulation, validation_epochs, num_workers), work_dir)
    return work_dir, state.step


def recipe_of(data: Path, kind: str, accumulation: int, validation_epochs: int, num_workers: int) -> Recipe:
    return mixed_recipe(
        data,
        f"num_epochs={EPOCHS}",
        f"accumulation={accumulation}",
        f"validation.interval_epochs={validation_epochs}",
        f"num_workers={num_workers}",
        *RUNS[kind],
        "checkpoints.interval_steps=1",
        "checkpoints.keep_last=999",
    )


def unvalidated(whole: Path, step: int, folder: Path) -> Path:
    """Returns the checkpoint of a step as it is between the step and its validation, among copies of the others."""
    shutil.copytree(whole / "checkpoints", folder / "checkpoints")
    path = checkpoint_path(folder, step)
    checkpoint, before = read_checkpoint(path), read_checkpoint(checkpoint_path(whole, step - 1)).state
    for name in ("validated_step", "best_score", "best_step"):
        checkpoint.state[name] = before[name]
    save_checkpoint(checkpoint, path, keep_last=999)
    if before["best_step"] is not None:
        shutil.copy(checkpoint_path(whole, before["best_step"]), best_path(folder))
    return path


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(["float32", "float32", "bfloat16"]),
    accumulation=st.sampled_from([1, 3]),
    validation_epochs=st.sampled_from([1, 2]),
    share=st.floats(0, 1),
    workers=st.sampled_from([(0, 0), (0, 0), (0, 0), (0, 2), (2, 0), (2, 1)]),
    before_validation=st.booleans(),
    given_accumulation=st.sampled_from([0, 0, 1, 2]),
)
# After the first step, and after the last one.
@example("float32", 3, 1, 0.0, (0, 0), False, 0)
@example("float32", 3, 2, 1.0, (0, 0), False, 0)
# At an epoch's end, after its validation and before it, and where there is none.
@example("float32", 1, 1, 2 / 3, (0, 2), False, 0)
@example("float32", 1, 1, 2 / 3, (0, 0), True, 0)
@example("float32", 1, 2, 1 / 3, (0, 0), False, 0)
# Before the validation that ends the run.
@example("float32", 3, 1, 1.0, (0, 0), True, 0)
# With fewer workers, and with another accumulation, which becomes that of the run.
@example("float32", 1, 2, 0.5, (2, 1), False, 0)
@example("float32", 3, 1, 0.5, (0, 0), False, 2)
# In bfloat16.
@example("bfloat16", 3, 1, 0.4, (2, 1), False, 0)
def test_run_resumed_after_any_step_equals_the_whole_run(
    data: Path,
    kind: str,
    accumulation: int,
    validation_epochs: int,
    share: float,
    workers: tuple[int, int],
    before_validation: bool,
    given_accumulation: int,
) -> None:
    before, after = workers
    whole, last = whole_run(data, kind, accumulation, validation_epochs, before)
    step = max(1, round(share * last))
    validations = {line["step"] for line in lines_of(whole) if line["kind"] == "validation"}
    is_made_up = before_validation and step in validations
    with tempfile.TemporaryDirectory() as folder:
        origin = unvalidated(whole, step, Path(folder)) if is_made_up else checkpoint_path(whole, step)
        resumed = Path(folder) / "run"
        recipe = recipe_of(data, kind, given_accumulation or accumulation, validation_epochs, after)
        train(recipe, resumed, resume=str(origin))
        if step == last and not is_made_up:  # complete already: nothing is done, nothing written
            assert not resumed.exists()
            return
        ours, theirs = (read_checkpoint(checkpoint_path(folder, last)).state for folder in (resumed, whole))
        assert difference(ours, theirs) == ""
        later = [line for line in lines_of(whole) if line["step"] > step]
        if is_made_up:
            later = [line for line in lines_of(whole) if line["step"] == step and line["kind"] == "validation"] + later
        assert lines_of(resumed) == later
        assert difference(*(read_checkpoint(best_path(folder)).state for folder in (resumed, whole))) == ""
