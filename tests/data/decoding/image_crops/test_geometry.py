from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from omnisource.data.decoding.image_crops.geometry import (
    Box,
    reduced_box,
    reduction_for,
    stored_box,
    turn_of,
    turned_upright,
)


@st.composite
def images_and_boxes(draw: st.DrawFn) -> tuple[int, int, Box]:
    height, width = draw(st.integers(1, 5000)), draw(st.integers(1, 5000))
    rows, columns = draw(st.integers(1, height)), draw(st.integers(1, width))
    return height, width, Box(draw(st.integers(0, height - rows)), draw(st.integers(0, width - columns)), rows, columns)


@given(orientation=st.integers(0, 9), given_box=images_and_boxes())
def test_a_box_of_the_upright_image_is_found_among_the_stored_pixels(
    orientation: int, given_box: tuple[int, int, Box]
) -> None:
    height, width, box = given_box
    turn = turn_of(orientation)
    stored = (width, height) if turn.is_transposed else (height, width)
    # Where every stored pixel stands, without the memory that thousands of them take.
    place = np.broadcast_to(np.arange(stored[0])[:, None, None], (*stored, 3))
    column = np.broadcast_to(np.arange(stored[1])[None, :, None], (*stored, 3))
    top, left, rows, columns = stored_box(box, turn, *stored)
    for pixels in (place, column):
        upright = turned_upright(pixels, turn)
        assert upright.shape[:2] == (height, width)
        expected = upright[box.top : box.top + box.height, box.left : box.left + box.width]
        part = turned_upright(pixels[top : top + rows, left : left + columns], turn)
        assert part.shape == expected.shape
        for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
            assert part[corner][0] == expected[corner][0]


@given(given_box=images_and_boxes(), min_side=st.integers(1, 600))
def test_a_reduced_box_lies_in_the_reduced_image_and_is_no_smaller_than_asked_for(
    given_box: tuple[int, int, Box], min_side: int
) -> None:
    height, width, box = given_box
    reduction = reduction_for(box, min_side)
    top, left, rows, columns = reduced_box(box, reduction, height, width)
    assert 0 <= top <= top + rows <= -(-height // reduction)
    assert 0 <= left <= left + columns <= -(-width // reduction)
    assert min(rows, columns) >= min(min_side, box.height, box.width)
    assert abs(top * reduction - box.top) <= reduction and abs(rows * reduction - box.height) <= reduction / 2
    assert reduction == 8 or min(box.height, box.width) < 2 * reduction * min_side
