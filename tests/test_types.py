"""Clips and batches check their shapes, and print them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from omnisource.types import Batch, Clip


def a_batch(**changes: Any) -> Batch:
    values: dict[str, Any] = {
        "source": "videos",
        "media": "video",
        "head": "actions",
        "clips": torch.zeros(2, 1, 3, 4, 5, 6, dtype=torch.uint8),
        "labels": torch.tensor([0, 1]),
        "keys": ("a", "b"),
    }
    return Batch(**{**values, **changes})


@pytest.mark.parametrize(
    ("frames", "media", "message"),
    [
        (torch.zeros(1, 3, 1, 5, 6), "video", r"must be \[V, 3, T, H, W\] uint8, got \[1, 3, 1, 5, 6\] float32"),
        (torch.zeros(3, 1, 5, 6, dtype=torch.uint8), "video", r"must be \[V, 3, T, H, W\] uint8"),
        (torch.zeros(1, 1, 3, 5, 6, dtype=torch.uint8), "video", r"must be \[V, 3, T, H, W\] uint8"),
        (torch.zeros(1, 3, 2, 5, 6, dtype=torch.uint8), "image", r"an image has T = 1"),
    ],
)
def test_clip_of_another_shape_is_refused(frames: torch.Tensor, media: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Clip(frames, label=0, key="a", media=media)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clips": torch.zeros(2, 3, 4, 5, 6, dtype=torch.uint8)}, r"must be \[N, V, 3, T, H, W\] uint8"),
        ({"media": "image"}, r"an image has T = 1"),
        ({"labels": torch.tensor([0])}, "as many labels and keys as clips, got 2 clips, 1 labels and 2 keys"),
        ({"keys": ("a",)}, "as many labels and keys as clips, got 2 clips, 2 labels and 1 keys"),
    ],
)
def test_batch_of_another_shape_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        a_batch(**changes)


def test_batch_moves_its_tensors_and_keeps_the_rest() -> None:
    batch = a_batch().to(torch.device("meta"))
    assert (batch.clips.device.type, batch.labels.device.type) == ("meta", "meta")
    assert (batch.source, batch.media, batch.head, batch.keys) == ("videos", "video", "actions", ("a", "b"))
    assert len(batch) == 2


def test_soft_labels_are_taken() -> None:
    assert a_batch(labels=torch.tensor([[0.5, 0.5], [1.0, 0.0]])).labels.shape == (2, 2)


def test_shapes_are_printed_and_not_pixels() -> None:
    clip = Clip(torch.zeros(1, 3, 4, 5, 6, dtype=torch.uint8), label=7, key="a/b.mp4", media="video")
    assert repr(clip) == "Clip(key='a/b.mp4', label=7, media='video', frames=[1, 3, 4, 5, 6] uint8)"
    assert "clips=[2, 1, 3, 4, 5, 6] uint8, labels=[2] int64" in repr(a_batch())
