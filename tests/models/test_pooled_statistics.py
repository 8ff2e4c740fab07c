"""BatchNorm's statistics over several batches, against the mean and the variance of all that the layers were given."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from omnisource.models.backbones.slow_only import MediaBatchNorm
from omnisource.models.batch_norm import BatchNorm
from omnisource.models.pooled_statistics import PooledStatistics
from omnisource.models.recognizer import Recognizer
from omnisource.types import Batch
from tests.support.statistics import inputs_of_norms, statistics_of_inputs

MakeRecognizer = Callable[..., Recognizer]


def batch(source: str, count: int, frames: int, seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    clips = torch.randint(256, (count, 1, 3, frames, 40, 40), dtype=torch.uint8, generator=generator)
    media, head = ("image", "photos") if frames == 1 else ("video", "actions")
    return Batch(source, media, head, clips, torch.zeros(count, dtype=torch.int64), ("",) * count)


MICROBATCHES = [[batch("clips", 3, 2, n), batch("web", 4 + n, 1, n), batch("raw", 1, 3, 10 + n)] for n in range(3)]


@pytest.mark.parametrize("image_statistics", [True, False])
def test_pooled_statistics_are_those_of_all_values_together(
    make_recognizer: MakeRecognizer, image_statistics: bool
) -> None:
    recognizer = make_recognizer(image_statistics=image_statistics).double().train()
    before = copy.deepcopy(recognizer.state_dict())
    pooled = PooledStatistics(recognizer)
    with inputs_of_norms(recognizer) as inputs:
        for batches in MICROBATCHES:
            with pooled.pooling(), torch.no_grad():
                recognizer(batches)
    found = pooled.combine()
    expected = statistics_of_inputs(recognizer, inputs)
    assert found.keys() == expected.keys()
    # The head of the clips never sees an image; the one clip of "raw" leaves no statistics in it.
    assert ("backbone.layer4.1.bn2.image_running_var" in found) is image_statistics
    assert "heads.actions.bn.image_running_mean" not in found and "heads.actions.bn.running_mean" in found
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-12, atol=1e-14, msg=name)
    assert all(torch.equal(tensor, before[name]) for name, tensor in recognizer.state_dict().items())


def test_media_that_never_came_keep_their_statistics(make_recognizer: MakeRecognizer) -> None:
    recognizer = make_recognizer(image_statistics=True).train()
    pooled = PooledStatistics(recognizer)
    with pooled.pooling():
        recognizer([batch("web", 4, 1, 0)])
    assert {name.rpartition(".")[2] for name in pooled.combine()} == {"image_running_mean", "image_running_var"}
    assert all(norm.pooled is None for norm in recognizer.modules() if isinstance(norm, BatchNorm))


def test_float32_has_the_digits_of_float64() -> None:
    found = []
    for dtype in (torch.float32, torch.float64):
        norm = MediaBatchNorm(8).to(dtype).train()
        pooled = PooledStatistics(norm)
        far = torch.randn(6, 8, 2, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 300
        for x in far.split(2):
            with pooled.pooling():
                norm(x.to(dtype), "video")
        found.append(pooled.combine())
    for name, tensor in found[1].items():
        torch.testing.assert_close(found[0][name].double(), tensor, rtol=1e-5, atol=0)


def test_model_without_batch_norm_has_no_statistics() -> None:
    pooled = PooledStatistics(nn.LayerNorm(3))
    with pooled.pooling():
        pass
    assert pooled.combine() == {}
