from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from omnisource.models.position_tables import Grid, interpolated, resampled, sines_in_space, sines_over_tokens

CPU = torch.device("cpu")


@pytest.mark.parametrize("how", ["antialias", "plain", "scale_factor"])
@pytest.mark.parametrize("size", [(3, 7), (5, 5), (9, 4)])
def test_tables_are_resampled_as_images_are(how: Any, size: tuple[int, int]) -> None:
    table = torch.randn(6, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    image = table.permute(2, 0, 1)[None]
    if how == "scale_factor":
        scale = ((size[0] + 0.1) / 6, (size[1] + 0.1) / 5)
        expected = F.interpolate(image, scale_factor=scale, mode="bicubic")
    else:
        expected = F.interpolate(image, size=size, mode="bicubic", antialias=how == "antialias")
    torch.testing.assert_close(resampled(table, *size, how), expected[0].permute(1, 2, 0), rtol=0, atol=1e-12)


def test_table_of_the_same_size_stays_as_it_is() -> None:
    table = torch.randn(4, 4, 8)
    assert resampled(table, 4, 4, "scale_factor") is table
    assert interpolated(table[0], 4) is table[0] or torch.equal(interpolated(table[0], 4), table[0])


def test_positions_in_time_are_interpolated_between_neighbors() -> None:
    table = torch.tensor([[0.0, 0.0], [1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    torch.testing.assert_close(interpolated(table, 2), torch.tensor([[0.5, 5.0], [2.5, 25.0]]))
    torch.testing.assert_close(interpolated(table, 1), torch.tensor([[1.5, 15.0]]))
    assert interpolated(table, 8)[:, 0].tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]


def test_resampled_positions_have_gradients_that_a_gpu_can_give_deterministically() -> None:
    table = torch.randn(6, 6, 4, requires_grad=True)
    output = resampled(table, 4, 5, "antialias")
    waiting, names = [output.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None:
            names.add(type(node).__name__)
            waiting += [following for following, _ in node.next_functions]
    assert not any("Upsample" in name for name in names)
    output.sum().backward()
    assert table.grad is not None and table.grad.sum().item() == pytest.approx(4 * 5 * 4, rel=1e-5)


def test_sines_are_those_of_the_papers() -> None:
    # In space: channels from the column, then from the row; sines, then cosines.
    table = sines_in_space(2, 3, 8, CPU)
    column, row = 2.0, 1.0
    angles = torch.tensor([column, column / 100, row, row / 100])
    expected = [*angles[:2].sin(), *angles[:2].cos(), *angles[2:].sin(), *angles[2:].cos()]
    torch.testing.assert_close(table[1, 2], torch.tensor(expected))
    # Over all tokens: by their number, sine and cosine in turns.
    table = sines_over_tokens(Grid(2, 2, 3), 4, CPU)
    number = torch.tensor(6 + 3 + 2.0)
    expected = [number.sin(), number.cos(), (number / 100).sin(), (number / 100).cos()]
    torch.testing.assert_close(table[1, 1, 2], torch.tensor(expected))
