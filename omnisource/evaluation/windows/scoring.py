"""What a recognizer says of every window of a long video, decoded once, in memory that its length does not change."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from omnisource.data.decoding.rgb import StreamedFrame, stream_rgb
from omnisource.data.decoding.video import FewerFrames, VideoFile
from omnisource.data.transforms.views import evaluation_views
from omnisource.errors import UnreadableMedia
from omnisource.evaluation.classifier import Classifier
from omnisource.evaluation.windows.plan import WindowFrames, WindowSpan, clip_positions, window_span, window_starts
from omnisource.types import Clip


@dataclass(frozen=True)
class WindowSeconds:
    """What windows are asked for: their length, and from one start to the next; None as `window_span` says."""

    length: float | None = None
    stride: float | None = None


@dataclass(frozen=True)
class WindowScores:
    """What the heads say of the windows of one video.

    Attributes:
        path: The video.
        num_frames: Its frames; those before the damage where it is damaged.
        frames_per_second: Their mean rate.
        span: Length and stride of the windows, in frames.
        starts: The first frame of each window.
        scores: By head [windows, classes] float32.
        border_seconds: When the frames at multiples of the stride are shown, and where the last one ends.
        error: Why it was not read to its end, or None.
    """

    path: str
    num_frames: int
    frames_per_second: float
    span: WindowSpan
    starts: tuple[int, ...]
    scores: Mapping[str, Tensor]
    border_seconds: tuple[float, ...]
    error: UnreadableMedia | None = None


def score_windows(
    path: str, classifier: Classifier, seconds: WindowSeconds, on_window: Callable[[int, int], None]
) -> WindowScores:
    """Returns the scores of all windows of a video; each is looked at as testing looks at a video of its length.

    What lies before damage counts. In memory are the frames of the windows under way, cropped, and a group of windows
    that go through the model together.

    Args:
        path: The video.
        classifier: With a protocol for videos.
        seconds: Length and stride of the windows.
        on_window: Called with the number of windows that are scored, and of all.

    Raises:
        UnreadableMedia: No window of it can be read, or it tells no frame rate.
    """
    how = classifier.protocol.by_media["video"]
    with VideoFile(path) as video:
        rate = float(video.frames_per_second or 0)
        if not rate:
            raise UnreadableMedia(path, "it tells no frame rate, so that it has no seconds; convert it to mp4")
        span = window_span(how.sampling, rate, seconds.length, seconds.stride)
        windows = _Windows(path, classifier, span, video.num_frames, on_window)
        error = None
        frame = None
        try:
            with closing(video.all_frames()) as frames:
                for frame in stream_rgb(path, frames, video.time_base, windows.is_wanted):
                    windows.take(frame)
        except UnreadableMedia as damage:
            error = damage
        num_frames = 0 if frame is None else frame.position + 1
        if error is None and num_frames < windows.num_frames:
            _read_end_again(windows, video, num_frames)  # the container had promised more
        windows.finish()
    if not windows.starts:
        raise error or UnreadableMedia(path, "none of its windows can be read")
    return WindowScores(
        path=path,
        num_frames=num_frames,
        frames_per_second=rate,
        span=span,
        starts=tuple(windows.starts),
        scores={head: torch.cat(parts) for head, parts in windows.scores.items()},
        border_seconds=windows.borders(num_frames, rate),
        error=error,
    )


class _Windows:
    """The windows of a video while its frames go by."""

    def __init__(
        self,
        path: str,
        classifier: Classifier,
        span: WindowSpan,
        num_frames: int,
        on_window: Callable[[int, int], None],
    ) -> None:
        self.path = path
        self.num_frames = num_frames
        self.span = span
        self.starts: list[int] = []  # of the windows that are whole
        self.scores: dict[str, list[Tensor]] = {}
        self._classifier = classifier
        self._how = classifier.protocol.by_media["video"]
        self._frames = WindowFrames(min(span.length, num_frames), self._how.sampling, self._how.views.num_clips)
        self._coming = deque(window_starts(num_frames, span))
        self._total = len(self._coming)
        self._open: deque[int] = deque()  # starts of the windows that have begun
        self._crops: dict[int, Tensor] = {}  # [crops, 3, S, S] by position
        self._group: list[Clip] = []
        self._on_window = on_window
        self._seconds: list[float | None] = []  # of the frames at multiples of the stride

    def is_wanted(self, position: int) -> bool:
        """Returns whether a window looks at the next frame."""
        while self._coming and self._coming[0] <= position:
            self._open.append(self._coming.popleft())
        return self._frames.is_wanted(position, list(self._open))

    def take(self, frame: StreamedFrame) -> None:
        """Takes the next frame, and scores the windows that it completes."""
        if frame.position % self.span.stride == 0:
            self._seconds.append(frame.seconds)
        if frame.pixels is not None:
            self._crops[frame.position] = evaluation_views(frame.pixels[None], self._how.views)[:, :, 0]
        while self._open and self._open[0] + self._frames.last <= frame.position:
            self._add(clip_positions(self._open[0], self._frames), self._open.popleft())
            if not self._open or frame.position < self._open[0]:
                self._crops.clear()
            else:
                for position in [one for one in self._crops if one < self._open[0]]:
                    del self._crops[position]

    def add_read(self, start: int, positions: np.ndarray, pixels: np.ndarray) -> None:
        """Adds a window whose frames [N, H, W, 3] at `positions` [clips, T] were read on their own."""
        crops = [evaluation_views(one[None], self._how.views)[:, :, 0] for one in pixels]
        self._crops = dict(zip(positions.ravel().tolist(), crops, strict=True))
        self._add(positions, start)

    def finish(self) -> None:
        """Scores the windows that wait for others."""
        if not self._group:
            return
        for head, scores in self._classifier.scores(self._group).items():
            self.scores.setdefault(head, []).append(scores)
        self._group = []
        self._on_window(len(self.starts), self._total)

    def borders(self, num_frames: int, rate: float) -> tuple[float, ...]:
        """Returns when the frames at multiples of the stride are shown, from 0 on, and where the video ends."""
        first = self._seconds[0] if self._seconds else None
        times = [
            number * self.span.stride / rate if seconds is None or first is None else seconds - first
            for number, seconds in enumerate(self._seconds)
        ]
        last = (len(times) - 1) * self.span.stride
        return (*times, times[-1] + (num_frames - last) / rate)

    def _add(self, positions: np.ndarray, start: int) -> None:
        # [clips, T] of [crops, 3, S, S] -> [crops, clips, 3, T, S, S] -> views in the order of testing
        clips = [torch.stack([self._crops[one] for one in clip.tolist()], dim=2) for clip in positions]
        views = torch.stack(clips, dim=1).flatten(0, 1)
        self._group.append(Clip(views, 0, self.path, "video"))
        self.starts.append(start)
        if (len(self._group) + 1) * len(views) > self._classifier.protocol.views_at_a_time:
            self.finish()


def _read_end_again(windows: _Windows, video: VideoFile, num_frames: int) -> None:
    """Adds the last window of a video that has fewer frames than its container had promised."""
    how = windows._how
    length = min(windows.span.length, num_frames)
    start = num_frames - length
    if windows.starts and windows.starts[-1] >= start:
        return
    frames = WindowFrames(length, how.sampling, how.views.num_clips)
    positions = clip_positions(start, frames)
    try:
        windows.add_read(start, positions, video.frames(positions.ravel()))
    except FewerFrames:
        return  # it was counted when it was decoded
