from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from omnisource.training.ema import Ema


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


def test_model_has_the_average_within_and_its_own_state_afterwards() -> None:
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
