from __future__ import annotations

import pytest
import torch

from omnisource.models.backbones.slow_only import IMAGENET
from omnisource.models.normalize import Normalization, Normalize

CLIP = Normalization(mean=(122.7709383, 116.7460125, 104.09373615), std=(68.5005327, 66.6321579, 70.32316305))


@pytest.mark.parametrize("normalization", [IMAGENET, CLIP])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_constants_are_exact_whatever_the_type_of_the_model(normalization: Normalization, dtype: torch.dtype) -> None:
    frames = torch.arange(256, dtype=torch.uint8).repeat(1, 3, 1).view(1, 3, 1, 16, 16)
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (normalization.mean, normalization.std))
    normalize = Normalize(normalization).to(dtype)
    assert torch.equal(normalize(frames), (frames.float() - mean) / std)
    assert normalize.state_dict() == {}


def test_imagenets_constants_are_their_thousandths_to_the_last_bit() -> None:
    normalize = Normalize(IMAGENET)
    mean, std = torch.tensor([123675, 116280, 103530]) / 1000, torch.tensor([58395, 57120, 57375]) / 1000
    assert torch.equal(normalize.mean_bits.view(torch.float32).flatten(), mean)
    assert torch.equal(normalize.std_bits.view(torch.float32).flatten(), std)
