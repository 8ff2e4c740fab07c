from __future__ import annotations

import pytest
import torch

from omnisource.errors import UserError
from omnisource.evaluation.device import device_named


def test_device_is_the_gpu_where_there_is_one() -> None:
    assert device_named("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device_named("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["", "CPU", "gpu", "cuda:", "cuda:-1", "cuda:0.5", "cuda:00000", "mps"])
def test_name_that_is_none_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(UserError, match="allowed are auto, cpu, cuda and cuda:N"):
        device_named(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7"])
def test_gpu_is_refused_where_there_is_none(name: str) -> None:
    with pytest.raises(UserError, match=rf"device {name}: torch .* sees no GPU here; take auto or cpu"):
        device_named(name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_gpu_that_is_not_there_is_refused_with_those_that_are() -> None:
    assert device_named("cuda") == device_named("cuda:0") == torch.device("cuda", 0)
    with pytest.raises(UserError, match=r"device cuda:9999: there is no such GPU; there is cuda:0"):
        device_named("cuda:9999")
