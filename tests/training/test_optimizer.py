from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from omnisource.models.backbones.backbone import ParameterGroup, group_parameters
from omnisource.models.backbones.slow_only import MediaBatchNorm
from omnisource.models.heads import HeadBatchNorm, VideoHead
from omnisource.models.recognizer import Recognizer
from omnisource.recipe.backbones.vit import ViT
from omnisource.recipe.model import LabelSpace, Model
from omnisource.recipe.optimization import Optimizer, Schedule
from omnisource.training.optimizer import build_optimizer, learning_rate


def published_rates(base: float, start: float, warmup_steps: int, total_steps: int, final: float) -> list[float]:
    """Returns the rate of every step by the recurrences of the published schedulers, stepped once an iteration.

    LinearLR and CosineAnnealingLR of open-mmlab/mmengine (`mmengine/optim/scheduler/param_scheduler.py`), converted
    to iterations: each changes the rate that the optimizer has, and never looks at the step of the whole run.
    """
    rates, rate = [], base
    eta_min, cosine_steps = final * base, total_steps - warmup_steps
    for step in range(total_steps):
        if step < warmup_steps:
            if step == 0:
                rate *= start
            elif warmup_steps > 1:
                total_iterations = warmup_steps - 1
                rate *= 1 + (1 - start) / (total_iterations * start + (step - 1) * (1 - start))
        else:
            last_step = step - warmup_steps
            if last_step > 0:
                before, now = (1 + math.cos(math.pi * s / cosine_steps) for s in (last_step - 1, last_step))
                rate = now / before * (rate - eta_min) + eta_min
        rates.append(rate)
    return rates


@pytest.mark.parametrize("final", [0.0, 0.05])
@pytest.mark.parametrize(("warmup_epochs", "num_epochs", "epoch_steps"), [(34, 256, 7), (2, 12, 5), (0, 3, 4)])
def test_rate_follows_the_published_recurrences(
    warmup_epochs: int, num_epochs: int, epoch_steps: int, final: float
) -> None:
    expected = published_rates(0.1, 0.1, warmup_epochs * epoch_steps, num_epochs * epoch_steps, final)
    schedule = Schedule(warmup_epochs=warmup_epochs, warmup_start_factor=0.1, final_factor=final)
    ours = [
        learning_rate(Optimizer(learning_rate=0.1), schedule, step, epoch_steps, num_epochs)
        for step in range(num_epochs * epoch_steps)
    ]
    assert ours == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_published_schedule_at_its_corners() -> None:
    # 240,435 videos at 8 x 16 a step: 1878 steps an epoch.
    def rate(step: int) -> float:
        return learning_rate(Optimizer(learning_rate=0.1), Schedule(), step, 1878, 256)

    warmup, total = 34 * 1878, 256 * 1878
    assert rate(0) == pytest.approx(0.01)
    assert rate(warmup - 1) == pytest.approx(0.1)
    assert rate(warmup) == pytest.approx(0.1)
    assert rate(warmup + (total - warmup) // 2) == pytest.approx(0.05)
    assert 0 < rate(total - 1) < 1e-11


@given(
    st.floats(0, 20),
    st.integers(1, 30),
    st.integers(1, 20),
    st.floats(0.01, 1),
    st.floats(0, 1),
)
def test_rate_stays_between_its_ends(
    warmup_epochs: float, num_epochs: int, epoch_steps: int, start: float, final: float
) -> None:
    schedule = Schedule(warmup_epochs, start, final)
    rates = [
        learning_rate(Optimizer(learning_rate=2.0), schedule, step, epoch_steps, num_epochs)
        for step in range(num_epochs * epoch_steps)
    ]
    assert all(2.0 * min(start, final) - 1e-9 <= rate <= 2.0 + 1e-9 for rate in rates)
    peak = min(round(warmup_epochs * epoch_steps), len(rates))
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


class Network(nn.Module):
    """A network with each kind of layer of the recognizer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 1, bias=False)
        self.norm = MediaBatchNorm(4)
        self.head = VideoHead(4, 2, 0.5)

    def parameter_groups(self) -> list[ParameterGroup]:
        return group_parameters(self)


def names_in(group: dict, model: nn.Module) -> set[str]:
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    return {by_id[id(parameter)] for parameter in group["params"]}


@pytest.mark.parametrize("method", ["sgd", "adamw"])
def test_all_parameters_decay_unless_norms_and_biases_are_left_out(method: str) -> None:
    model = Network()
    everything = {name for name, _ in model.named_parameters()}
    [group] = build_optimizer(Optimizer(method=method, weight_decay=0.3), model).param_groups  # type: ignore[arg-type]
    assert names_in(group, model) == everything
    assert group["weight_decay"] == 0.3

    settings = Optimizer(method=method, weight_decay=0.3, decay_norm_and_bias=False)  # type: ignore[arg-type]
    decayed, kept = build_optimizer(settings, model).param_groups
    assert names_in(decayed, model) == {"conv.weight", "head.fc1.weight", "head.fc2.weight"}
    assert names_in(kept, model) == everything - names_in(decayed, model)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.3, 0.0)
    assert isinstance(model.head.bn, HeadBatchNorm)


class Transformer(nn.Module):
    """What a ResNet has not: LayerNorm, and parameters of many dimensions that are no weights of a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.position = nn.Parameter(torch.zeros(1, 5, 4))
        self.attention = nn.MultiheadAttention(4, 2)
        self.norm = nn.LayerNorm(4)
        self.scale = nn.Parameter(torch.ones(()))
        self.odd = nn.ParameterDict({"bias": torch.zeros(3, 3)})

    def parameter_groups(self) -> list[ParameterGroup]:
        return group_parameters(self, without_decay=("class_token", "position"))


def test_decay_goes_by_dimension_and_name() -> None:
    model = Transformer()
    settings = Optimizer(method="adamw", weight_decay=0.3, decay_norm_and_bias=False)
    decayed, kept = build_optimizer(settings, model).param_groups
    assert names_in(decayed, model) == {"attention.in_proj_weight", "attention.out_proj.weight"}
    assert names_in(kept, model) == {
        "class_token",
        "position",
        "scale",
        "attention.in_proj_bias",
        "attention.out_proj.bias",
        "norm.weight",
        "norm.bias",
        "odd.bias",
    }
    [everything] = build_optimizer(Optimizer(method="adamw"), model).param_groups
    assert len(everything["params"]) == len(list(model.parameters()))


def test_layers_further_from_the_heads_learn_by_smaller_rates() -> None:
    vit = ViT(width=8, depth=2, num_heads=2, patch=4, image_size=8, clip_length=2)
    model = Recognizer(Model(vit=vit), {"actions": LabelSpace("linear", num_classes=4)})
    settings = Optimizer(method="adamw", weight_decay=0.3, decay_norm_and_bias=False, layer_decay=0.5)
    groups = build_optimizer(settings, model).param_groups
    scales = {name: (group["lr_scale"], group["weight_decay"]) for group in groups for name in names_in(group, model)}
    assert scales.keys() == {name for name, _ in model.named_parameters()}
    assert scales["heads.actions.linear.weight"] == (1, 0.3) and scales["heads.actions.linear.bias"] == (1, 0)
    assert scales["backbone.blocks.1.attn.qkv.weight"] == (0.5, 0.3) and scales["backbone.norm.weight"] == (0.5, 0)
    assert scales["backbone.blocks.0.norm1.bias"] == (0.25, 0)
    assert scales["backbone.patch_embed.proj.weight"] == (0.125, 0.3) and scales["backbone.pos_embed"] == (0.125, 0)


def test_name_without_a_parameter_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no parameter class_tokens"):
        group_parameters(Transformer(), without_decay=("class_tokens", "position"))


def groups_before_backbones(model: nn.Module, *, without_decay: bool) -> list[list[nn.Parameter]]:
    """Returns the groups in the order of the checkpoints that were written while there was one backbone only."""
    decayed, kept = [], []
    for module in model.modules():
        is_norm = isinstance(module, nn.modules.batchnorm._NormBase)
        for name, parameter in module.named_parameters(recurse=False):
            (kept if without_decay and (is_norm or name == "bias") else decayed).append(parameter)
    return [decayed, kept] if kept else [decayed]


@pytest.mark.parametrize("without_decay", [False, True])
@pytest.mark.parametrize("depth", [18, 50])
def test_groups_of_the_resnet_are_those_of_earlier_checkpoints(depth: int, without_decay: bool) -> None:
    spaces = {"photos": LabelSpace("image", num_classes=3), "actions": LabelSpace("video", num_classes=4)}
    with torch.device("meta"):
        model = Recognizer(Model(depth=depth, width=0.125), spaces)  # type: ignore[arg-type]
    now = build_optimizer(Optimizer(decay_norm_and_bias=not without_decay), model)
    before = groups_before_backbones(model, without_decay=without_decay)
    assert [[id(p) for p in group["params"]] for group in now.param_groups] == [[id(p) for p in g] for g in before]


def test_optimizer_state_of_an_earlier_checkpoint_goes_to_the_same_parameters() -> None:
    torch.manual_seed(0)
    model = Recognizer(Model(depth=18, width=0.0625), {"actions": LabelSpace("video", num_classes=4)})
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    decayed, kept = groups_before_backbones(model, without_decay=True)
    earlier = torch.optim.SGD([{"params": decayed}, {"params": kept, "weight_decay": 0.0}], lr=0.1, momentum=0.9)
    earlier.step()
    now = build_optimizer(Optimizer(decay_norm_and_bias=False), model)
    now.load_state_dict(earlier.state_dict())
    for name, parameter in model.named_parameters():
        assert torch.equal(now.state[parameter]["momentum_buffer"], parameter.grad), name


class OneParameter(nn.Module):
    """A module of a single number."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value], dtype=torch.float64))

    def parameter_groups(self) -> list[ParameterGroup]:
        return group_parameters(self)


def test_sgd_is_momentum_with_the_decay_in_the_gradient() -> None:
    model = OneParameter(1.0)
    optimizer = build_optimizer(Optimizer(learning_rate=0.1, momentum=0.9, weight_decay=0.01), model)
    value, velocity = 1.0, 0.0
    for gradient in (0.5, -0.2, 0.1):
        velocity = 0.9 * velocity + gradient + 0.01 * value
        value -= 0.1 * velocity
        model.weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        assert model.weight.item() == pytest.approx(value, rel=1e-12)


def test_adamw_decays_apart_from_its_moments() -> None:
    model = OneParameter(1.0)
    settings = Optimizer(method="adamw", learning_rate=0.1, betas=(0.8, 0.95), weight_decay=0.01)
    optimizer = build_optimizer(settings, model)
    value, first, second = 1.0, 0.0, 0.0
    for step, gradient in enumerate((0.5, -0.2, 0.1), start=1):
        value *= 1 - 0.1 * 0.01
        first, second = 0.8 * first + 0.2 * gradient, 0.95 * second + 0.05 * gradient**2
        value -= 0.1 * (first / (1 - 0.8**step)) / (math.sqrt(second / (1 - 0.95**step)) + 1e-8)
        model.weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        assert model.weight.item() == pytest.approx(value, rel=1e-9)
