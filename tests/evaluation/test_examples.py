from __future__ import annotations

import numpy as np
import pytest
import torch

from omnisource.evaluation.examples import LARGEST_SIDE, NUM_EXAMPLES, Examples, draw_examples
from omnisource.types import Clip


def clip(index: int, size: tuple[int, int] = (24, 32), views: int = 2, frames: int = 3) -> Clip:
    """A clip whose middle frame of the first view, and no other, has the red value `index`."""
    pixels = torch.full((views, 3, frames, *size), 99, dtype=torch.uint8)
    pixels[0, :, frames // 2] = torch.tensor([index, 20, 200], dtype=torch.uint8)[:, None, None]
    return Clip(pixels, label=index % 4, key=f"item{index}", media="video")


def scores_for(prediction: int = 1) -> torch.Tensor:
    scores = torch.full((4,), 0.1)
    scores[prediction] = 0.7
    return scores


def shown_indices(num_items: int) -> list[int]:
    examples = Examples(num_items)
    for index in range(num_items):
        examples.add(index, clip(index, size=(4, 4)), scores_for())
    return [int(example.picture[0, 0, 0]) for example in examples.gather()]


def test_examples_are_spread_over_the_split_and_the_same_each_time() -> None:
    assert shown_indices(160) == shown_indices(160) == list(range(0, 160, 10))
    assert shown_indices(3) == [0, 1, 2]
    spread = shown_indices(250)
    assert len(spread) == NUM_EXAMPLES
    assert max(np.diff(spread)) - min(np.diff(spread)) <= 1


def test_example_has_the_middle_frame_of_the_first_view_and_the_highest_score() -> None:
    examples = Examples(2)
    examples.add(0, clip(0), torch.tensor([0.1, 0.2, 0.6, 0.1]))
    examples.add(1, clip(1), torch.tensor([0.25, 0.3, 0.25, 0.2]))
    first, second = examples.gather()
    assert first.picture.dtype == np.uint8 and first.picture.shape == (24, 32, 3)
    assert (first.picture == [0, 20, 200]).all() and (second.picture == [1, 20, 200]).all()
    assert [(one.label, one.prediction) for one in (first, second)] == [(0, 2), (1, 1)]
    assert [one.score for one in (first, second)] == pytest.approx([0.6, 0.3])


def test_large_pictures_are_made_smaller_and_do_not_keep_their_clip() -> None:
    examples = Examples(2)
    examples.add(0, clip(0, size=(256, 512)), scores_for())
    examples.add(1, clip(1, size=(1000, 10)), scores_for())
    pictures = [example.picture for example in examples.gather()]
    assert [picture.shape for picture in pictures] == [(64, LARGEST_SIDE, 3), (LARGEST_SIDE, 1, 3)]
    small = Examples(1)
    of_small = clip(0)
    small.add(0, of_small, scores_for())
    of_small.frames.zero_()
    assert (small.gather()[0].picture == [0, 20, 200]).all()


def test_second_scores_of_an_item_take_the_place_of_the_first() -> None:
    examples = Examples(1)
    for prediction in (1, 2):
        examples.add(0, clip(0), scores_for(prediction))
    assert [example.prediction for example in examples.gather()] == [2]


def test_split_whose_examples_cannot_be_read_has_none() -> None:
    assert Examples(5).gather() == []


def test_sheet_is_green_where_right_and_red_where_wrong() -> None:
    def colors(prediction: int) -> tuple[int, int]:
        examples = Examples(1)
        examples.add(0, clip(1), scores_for(prediction))
        sheet = draw_examples(examples.gather(), ["MMMM"] * 4).astype(int)
        assert sheet.shape[2] == 3
        text = sheet[:30]  # the caption, above the picture
        return int((text[..., 1] - text[..., 0] > 60).sum()), int((text[..., 0] - text[..., 1] > 60).sum())

    green, red = colors(prediction=1)
    assert green > 20 and red == 0
    green, red = colors(prediction=2)
    assert red > 20 and green == 0
