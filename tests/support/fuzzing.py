"""Reads damaged files through worker processes and judges what came out by a plain sequential decode of the same bytes.

Three pools take each file: one decodes it in order with nothing of ours, one asks `VideoFile` or `decode_image` for
frames in several orders, and one is the loader as it is, `load_clip`.
"""

from __future__ import annotations

import functools
import resource
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from omnisource.data.decoding.images import decode_image
from omnisource.data.decoding.video import FewerFrames, VideoFile
from omnisource.data.loading.clip_sampling import evaluation_indices, training_indices
from omnisource.data.loading.request import SampleRequest
from omnisource.data.loading.sample import load_clip
from omnisource.data.loading.workers import WorkerPool
from omnisource.data.transforms import views
from omnisource.errors import UnreadableMedia
from omnisource.randomness import sample_generator
from omnisource.recipe.data import ClipSampling, EvaluationViews, TrainingView
from omnisource.types import Clip
from tests.support.damage import Variant, media_of
from tests.support.reference_decode import SequentialDecode, decode_in_order, digest

ITEM_TIMEOUT_SECONDS = 20.0
"""Wall time after which a worker counts as hung."""

AHEAD = 4
"""Files that are under way at once, in each pool."""

MOST_CORRECTIONS = 3
"""Once corrected, a length is right; a file whose length is corrected more often than this would be read for ever."""

MOST_FRAMES = 400
"""Frames that are asked for at once of a file that has more, or says so."""

SAMPLING = ClipSampling(clip_length=4, frame_interval=3)
EVALUATION = EvaluationViews(num_clips=2, num_crops=1, short_side=48, crop_size=48)
TRAINING = TrainingView(crop_size=48)


@dataclass(frozen=True)
class Read:
    """One attempt to read frames.

    Attributes:
        indices: The frames that were asked for.
        digests: What came, one for each; None where the file was refused.
        refusal: The path and the reason with which it was refused.
    """

    indices: tuple[int, ...]
    digests: tuple[str, ...] | None
    refusal: str = ""


@dataclass(frozen=True)
class Reading:
    """What our side made of one file.

    Attributes:
        num_promised: The length that was stated when the file was opened.
        num_frames: The length that was stated after all frames were asked for.
        reads: What was asked for, and what came.
        peak_bytes: The most memory that the process ever had.
    """

    num_promised: int
    num_frames: int
    reads: tuple[Read, ...]
    peak_bytes: int = 0


@dataclass(frozen=True)
class Verdict:
    """What one variant came to.

    Attributes:
        variant: The file.
        outcome: "refused" whole, "read" whole, or "refused later": in part.
        faults: What must not be, in words.
        refusals: The reasons, without the path.
        is_unstable: Whether frames could not be compared, since the decoder does not repeat them.
        is_changed: Whether frames differ from those of the undamaged file although nothing complained.
        is_stricter: Whether it was refused, or ends sooner, although the sequential decode does not complain.
        num_elsewhere: Frames that are not those of the sequential decode, but what a plain decoder makes of them that
            starts at a keyframe: something before it is damaged.
        peak_bytes: The most memory that the reading process ever had.
    """

    variant: Variant
    outcome: str
    faults: tuple[str, ...]
    refusals: tuple[str, ...] = ()
    is_unstable: bool = False
    is_changed: bool = False
    is_stricter: bool = False
    num_elsewhere: int = 0
    peak_bytes: int = 0


def read_frames(request: SampleRequest) -> Reading:
    """Returns what our readers make of a request's file, in several orders. Runs in the workers."""
    rng = np.random.default_rng(request.index)
    content = Path(request.path).read_bytes()
    if request.media == "image":
        from_path = _attempt((0,), lambda: [decode_image(request.path)])
        from_content = _attempt((0,), lambda: [decode_image(request.path, content=content)])
        return Reading(1, 1, (from_path, from_content), _peak_bytes())
    reads: list[Read] = []
    lengths: list[int] = []
    # One opened file for several draws, and others for one: what the first finds out must not mislead the next.
    for orders, given in (
        (("one", "clip", "all", "two backwards", "last"), None),
        (("one",), None),
        (("last", "clip", "all"), content),
    ):
        try:
            with VideoFile(request.path, given) as video:
                lengths.append(video.num_frames)
                reads += [_read(video, order, rng) for order in orders]
                lengths.append(video.num_frames)
        except UnreadableMedia as error:
            reads.append(Read((), None, str(error)))
    num_promised, num_frames, *_ = lengths or (0, 0)
    return Reading(num_promised, num_frames, tuple(reads), _peak_bytes())


def clip_requests(variant: Variant, path: Path) -> list[SampleRequest]:
    """Returns what `load_clip` is asked for: the views of an evaluation, and the random one of training."""
    return [_request(variant, path, view) for view in (EVALUATION, TRAINING)]


def judge(
    variant: Variant, expected: SequentialDecode, reading: Reading, clips: Sequence[Any], original: SequentialDecode
) -> Verdict:
    """Returns the verdict on one variant.

    Args:
        variant: The file.
        expected: The sequential decode of the same bytes.
        reading: What our readers made of it.
        clips: What `load_clip` made of the `clip_requests`: Clips, or UnreadableMedia.
        original: The sequential decode of the undamaged file.
    """
    faults, num_elsewhere = _judged_frames(expected, reading)
    refusals = [read.refusal for read in reading.reads if read.digests is None]
    refusals += [str(clip) for clip in clips if isinstance(clip, UnreadableMedia)]
    faults += [f"not named: {refusal}" for refusal in refusals if f"{variant.name}: " not in refusal]
    is_without_notice = expected.first_notice is None
    is_shorter = not refusals and is_without_notice and reading.num_frames < len(expected.digests)
    if not refusals and is_without_notice and reading.num_frames > len(expected.digests):
        faults.append(f"its length is stated as {reading.num_frames}, and is {len(expected.digests)}")
    for request, clip in zip(clip_requests(variant, Path(variant.name)), clips, strict=True):
        if isinstance(clip, Clip) and not _is_clip_of(request, clip, expected, reading):
            faults.append(f"the clip of {type(request.view).__name__} is not that of the sequential decode")
    return Verdict(
        variant,
        _outcome(reading, refusals),
        tuple(dict.fromkeys(faults)),
        tuple(dict.fromkeys(refusal.partition(f"{variant.name}: ")[2] for refusal in refusals)),
        is_unstable=expected.first_unstable is not None,
        is_changed=not refusals and is_without_notice and expected.digests != original.digests,
        is_stricter=is_shorter or (bool(refusals) and is_without_notice and bool(expected.digests)),
        num_elsewhere=num_elsewhere,
        peak_bytes=reading.peak_bytes,
    )


def verdicts(
    variants: Iterable[Variant],
    folder: Path,
    originals: Mapping[str, SequentialDecode],
    notify: Callable[[str, str], None],
) -> Iterator[Verdict]:
    """Yields the verdict on each variant, in their order.

    Args:
        variants: What to read; they are written to `folder`, and removed again.
        folder: Where there is room.
        originals: Sequential decodes of the undamaged files, by name.
        notify: Called with ("reference", "frames" or "clips", line) for each worker that was replaced.
    """
    with ExitStack() as stack:
        pools = [
            stack.enter_context(WorkerPool(1, ITEM_TIMEOUT_SECONDS, notify=functools.partial(notify, name), load=load))
            for name, load in (("reference", decode_in_order), ("frames", read_frames), ("clips", load_clip))
        ]
        under_way: deque[tuple[Variant, Path, list[list[int]]]] = deque()
        coming = iter(variants)
        while True:
            while len(under_way) <= AHEAD and (variant := next(coming, None)) is not None:
                path = variant.write(folder)
                frames = [_request(variant, path, EVALUATION)]
                asked = (frames, frames, clip_requests(variant, path))
                tickets = [[pool.submit(one) for one in ours] for pool, ours in zip(pools, asked, strict=True)]
                under_way.append((variant, path, tickets))
            if not under_way:
                return
            variant, path, tickets = under_way.popleft()
            expected, reading, clips = [
                [_result(pool, one) for one in ours] for pool, ours in zip(pools, tickets, strict=True)
            ]
            path.unlink()
            yield _verdict(variant, expected[0], reading[0], clips, originals[variant.base])


def originals_of(files: Mapping[str, bytes], folder: Path) -> dict[str, SequentialDecode]:
    """Returns the sequential decodes of undamaged files, by name."""
    with WorkerPool(1, ITEM_TIMEOUT_SECONDS, load=decode_in_order) as workers:
        tickets = {}
        for name, data in files.items():
            whole = Variant(name, 0, "none", name, media_of(name), data)
            request = _request(whole, whole.write(folder), EVALUATION)
            tickets[name] = workers.submit(request)
        return {name: workers.result(ticket) for name, ticket in tickets.items()}


def _outcome(reading: Reading, refusals: Sequence[str]) -> str:
    if not refusals:
        return "read"
    return "refused later" if any(read.digests for read in reading.reads) else "refused"


def _request(variant: Variant, path: Path, view: EvaluationViews | TrainingView) -> SampleRequest:
    number = variant.number
    return SampleRequest("fuzz", variant.media, str(path), variant.name, 0, None, "", SAMPLING, view, number, 0, number)


def _result(pool: WorkerPool, ticket: int) -> Any:
    try:
        return pool.result(ticket)
    except RuntimeError as error:  # a fault of the program, which the verdict will state
        return error


def _verdict(variant: Variant, expected: Any, reading: Any, clips: list[Any], original: SequentialDecode) -> Verdict:
    crashes = [str(result) for result in (expected, reading, *clips) if isinstance(result, RuntimeError)]
    if crashes:
        return Verdict(variant, "refused", tuple(crashes))
    if isinstance(expected, UnreadableMedia):  # the sequential decode hung, or its worker died
        return Verdict(variant, "not judged", (), (expected.reason,))
    if isinstance(reading, UnreadableMedia):  # ours did
        reading = Reading(0, 0, (Read((), None, str(reading)),))
    return judge(variant, expected, reading, clips, original)


def _read(video: VideoFile, order: str, rng: np.random.Generator) -> Read:
    if video.num_frames == 0:
        return Read((), ())  # as the reader has said by refusing what was asked for before
    for _ in range(1 + MOST_CORRECTIONS):
        indices = _drawn(video.num_frames, order, rng)
        try:
            return _attempt(indices, functools.partial(video.frames, indices))
        except FewerFrames as found:
            assert found.actual == video.num_frames
    raise AssertionError(f"the length of {video.path} is corrected again and again")


def _drawn(num_frames: int, order: str, rng: np.random.Generator) -> tuple[int, ...]:
    indices = {
        "one": lambda: rng.integers(0, num_frames, 1),
        "clip": lambda: training_indices(num_frames, SAMPLING, rng),
        "all": lambda: np.arange(min(num_frames, MOST_FRAMES)),
        "two backwards": lambda: np.sort(rng.integers(0, num_frames, 2))[::-1],
        "last": lambda: np.array([num_frames - 1]),
    }[order]()
    return tuple(indices.tolist())


def _attempt(indices: tuple[int, ...], read: Callable[[], Sequence[np.ndarray] | np.ndarray]) -> Read:
    try:
        return Read(indices, tuple(digest(pixels) for pixels in read()))
    except UnreadableMedia as error:
        return Read(indices, None, str(error))


def _judged_frames(expected: SequentialDecode, reading: Reading) -> tuple[list[str], int]:
    """Returns what is wrong with the frames that came, and how many are those of a decode from a keyframe."""
    faults, num_elsewhere = [], 0
    for read in reading.reads:
        for index, came in zip(read.indices, read.digests or (), strict=False):
            if expected.first_unstable is not None and expected.first_unstable <= index < expected.num_trusted:
                continue
            if index < expected.num_trusted and came == expected.digests[index]:
                continue
            if came in expected.elsewhere(index):
                num_elsewhere += 1
            else:
                what = f"from {expected.num_trusted} on: {expected.notice or 'there are none'}"
                faults.append(f"frame {index}, read with {read.indices}, is not that of the sequential decode; {what}")
    return faults, num_elsewhere


def _is_clip_of(request: SampleRequest, clip: Clip, expected: SequentialDecode, reading: Reading) -> bool:
    """Returns whether a clip is what the same views make of the frames of the sequential decode."""
    if request.media == "image" and isinstance(request.view, TrainingView):
        return expected.first_notice is None  # pixels of a JPEG that is decoded at a smaller size are others
    if expected.pixels is None or expected.first_unstable is not None:
        return True  # it cannot be told
    allowed = functools.partial(_allowed, expected)
    return any(
        _shows(request, clip.frames, length, expected.pixels, allowed)
        for length in {reading.num_promised, reading.num_frames} - {0}
    )


def _allowed(expected: SequentialDecode, index: int) -> list[str]:
    """Returns the digests that frame `index` may have, that of the sequential decode first; none if it is refused."""
    in_order = [expected.digests[index]] if index < expected.num_trusted else []
    return in_order + sorted(expected.elsewhere(index).difference(in_order))


def _shows(
    request: SampleRequest,
    views: torch.Tensor,
    length: int,
    pictures: Mapping[str, np.ndarray],
    allowed: Callable[[int], list[str]],
) -> bool:
    """Returns whether views [V, 3, T, H, W] are of a file of `length` frames, each frame one of those it may be.

    A frame may be one picture only in most files, and few where a damage lies before it. What the views make of a frame
    does not depend on the others, so each is compared by itself: there may be a great many ways to put them together.
    """
    rng = sample_generator(request.seed, request.source, request.epoch, request.index)
    indices = _indices(request, length, rng)
    state = rng.bit_generator.state
    choices = {index: [pictures[one] for one in allowed(index)] for index in np.unique(indices).tolist()}
    # [crops, clips, 3, T, H, W]; training has one clip.
    shown = views.unflatten(0, (-1, len(indices) if indices.ndim == 2 else 1))

    def is_shown(index: int, picture: np.ndarray) -> bool:
        rng.bit_generator.state = state
        made = _views_of(request, np.broadcast_to(picture, (*indices.shape, *picture.shape)), rng)
        return made.shape == views.shape and all(
            torch.equal(made.unflatten(0, shown.shape[:2])[:, clip, :, place], shown[:, clip, :, place])
            for clip, place in np.argwhere(np.atleast_2d(indices) == index).tolist()
        )

    return any(
        all(any(is_shown(index, one) for one in of_index if one.shape == shape) for index, of_index in choices.items())
        for shape in {one.shape for of_index in choices.values() for one in of_index}  # the same for all frames
    )


def _views_of(request: SampleRequest, pixels: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """Returns the views of frames: [V, 3, T, H, W] uint8."""
    if isinstance(request.view, TrainingView):
        return views.training_view(pixels, request.view, rng)[None]
    return views.evaluation_views(pixels, request.view)


def _indices(request: SampleRequest, length: int, rng: np.random.Generator) -> np.ndarray:
    if request.media == "image":
        return np.zeros((1, 1), np.int64)
    if isinstance(request.view, TrainingView):
        return training_indices(length, request.sampling, rng)
    return evaluation_indices(length, request.sampling, request.view.num_clips)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
