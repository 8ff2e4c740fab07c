"""Examples of a validation: the same few items each time, to see how what is predicted of them changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from omnisource.distributed import processes
from omnisource.reporting.drawing.names import drawn_names
from omnisource.reporting.pictures import contact_picture
from omnisource.types import Clip

NUM_EXAMPLES = 16
"""Items of each source."""

LARGEST_SIDE = 128
"""Pixels to which a picture is made smaller."""

COLUMNS = 8


@dataclass(frozen=True)
class Example:
    """An item and what is predicted of it.

    Attributes:
        picture: [H, W, 3] uint8, 0-255, RGB: the middle frame of its first view.
        label: Its class.
        prediction: The class with the highest score.
        score: That score, in [0, 1].
    """

    picture: np.ndarray
    label: int
    prediction: int
    score: float


class Examples:
    """Collects the examples among the items of one split that this process validates.

    Args:
        num_items: Items of the split; the examples are spread evenly over it.
    """

    def __init__(self, num_items: int) -> None:
        count = min(NUM_EXAMPLES, num_items)
        self._wanted = {position * num_items // count for position in range(count)}
        self._found: dict[int, Example] = {}

    def add(self, index: int, clip: Clip, scores: Tensor) -> None:
        """Looks whether an item is an example; of an item seen twice the last scores count.

        Args:
            index: Its index in the split.
            clip: Its views.
            scores: [classes] float32.
        """
        if index in self._wanted:
            best = int(scores.argmax())
            self._found[index] = Example(_small_picture(clip), clip.label, best, float(scores[best]))

    def gather(self) -> list[Example]:
        """Returns the examples that all processes have found, in the order of the split; all must call it."""
        found = {index: example for part in processes.gather(self._found) for index, example in part.items()}
        return [found[index] for index in sorted(found)]


def draw_examples(examples: Sequence[Example], class_names: Sequence[str]) -> np.ndarray:
    """Returns a sheet of examples, captions green where right and red where wrong: [H, W, 3] uint8, 0-255, RGB.

    Raises:
        ValueError: There is no example.
    """
    captions, class_names = [], drawn_names(class_names)
    for example in examples:
        wrong = "" if example.prediction == example.label else f", is {class_names[example.label]}"
        captions.append(f"{class_names[example.prediction]} {example.score:.0%}{wrong}")
    correct = [example.prediction == example.label for example in examples]
    return contact_picture([example.picture for example in examples], captions, COLUMNS, correct)


def _small_picture(clip: Clip) -> np.ndarray:
    """Returns the middle frame of the first view, made smaller: [H, W, 3] uint8."""
    frame = clip.frames[0, :, clip.frames.shape[2] // 2]  # [V, 3, T, H, W] -> [3, H, W]
    height, width = frame.shape[1:]
    scale = min(1.0, LARGEST_SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return adaptive_avg_pool2d(frame.float(), size).round().byte().permute(1, 2, 0).numpy()  # a copy: the clip may go
