from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from omnisource.training.ema import Ema

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()


def changed(module: nn.Module, step: int) -> None:
    """Does what a step does: changes the weights, the running statistics and their count."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    module.train()
    module(torch.randn(5, 3, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_average_equals_the_weighted_sum_of_all_states(decay: float) -> None:
    ours = model()
    states = [{name: tensor.clone().numpy() for name, tensor in ours.state_dict().items()}]
    ema = Ema(decay, ours)
    for step in range(1, 16):
        changed(ours, step)
        ema.update(ours, step)
        states.append({name: tensor.clone().numpy() for name, tensor in ours.state_dict().items()})
    decays = [min(decay, (1 + step) / (10 + step)) for step in range(1, 16)]
    # The weight of each state in closed form: what it was given, times every decay since.
    shares = [np.prod(decays), *((1 - decays[n]) * np.prod(decays[n + 1 :]) for n in range(15))]
    assert sum(shares) == pytest.approx(1)
    for name, tensor in ema.tensors.items():
        if name.endswith("num_batches_tracked"):
            assert int(tensor) == 15
            continue
        expected = sum(share * state[name] for share, state in zip(shares, states, strict=True))
        np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-12)


def mixed_model(device: str) -> nn.Module:
    """Returns a model of both floating point types that runs have, with counts and a tensor of no elements."""
    torch.manual_seed(1)
    ours = nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(5), nn.Linear(5, 300).double(), nn.BatchNorm1d(300).double())
    ours.register_buffer("nothing", torch.zeros(0))
    return ours.to(device)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9999])
def test_average_of_all_tensors_together_is_that_of_each_alone_bit_for_bit(decay: float, device: str) -> None:
    ours = mixed_model(device)
    ema = Ema(decay, ours)
    expected = {name: tensor.clone() for name, tensor in ema.tensors.items()}
    for step in range(1, 30):
        with torch.no_grad():
            for tensor in ours.state_dict().values():
                tensor.add_(torch.randn_like(tensor) if tensor.is_floating_point() else 1)
        ema.update(ours, step)
        weight = 1 - min(decay, (1 + step) / (10 + step))
        for name, tensor in ours.state_dict().items():
            if tensor.is_floating_point():
                expected[name].lerp_(tensor, weight)
            else:
                expected[name].copy_(tensor)
        for name, tensor in expected.items():
            assert ema.tensors[name].dtype == tensor.dtype and torch.equal(ema.tensors[name], tensor)


def test_average_takes_one_call_for_all_tensors_of_a_type() -> None:
    ours = mixed_model("cpu")
    ema = Ema(0.5, ours)
    with torch.profiler.profile() as profile:
        ema.update(ours, 1)
    calls = {event.key: event.count for event in profile.key_averages()}
    assert (calls.get("aten::_foreach_lerp_"), calls.get("aten::_foreach_copy_")) == (2, 1)


def test_model_has_the_average_within_and_its_own_state_afterward() -> None:
    ours = model()
    ema = Ema(0.5, ours)
    changed(ours, 1)
    ema.update(ours, 1)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    with pytest.raises(ZeroDivisionError), ema.applied(ours):
        for name, tensor in ours.state_dict().items():
            assert torch.equal(tensor, ema.tensors[name])
        raise ZeroDivisionError
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_average_is_not_tied_to_the_model() -> None:
    ours = model()
    ema = Ema(0.5, ours)
    first = {name: tensor.clone() for name, tensor in ema.tensors.items()}
    changed(ours, 1)
    assert all(torch.equal(ema.tensors[name], first[name]) for name in first)
