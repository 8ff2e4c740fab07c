"""A recognizer's path for one media as a graph that computes nothing twice: constants evaluated, BatchNorm folded."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

aten = torch.ops.aten
_WITH_WEIGHTS = (aten.conv2d.default, aten.conv3d.default, aten.linear.default)


def fold(module: fx.GraphModule) -> None:
    """Simplifies the graph of an exported module in evaluation mode, in place; it says the same but for rounding.

    A batch normalization goes into the convolution or linear layer before it, or else into the linear layer behind it;
    where there is neither, it becomes a product and a sum. What depends on weights alone becomes a weight: the sums of
    kernels over time, position tables.
    """
    _drop_what_does_nothing(module)
    constants = _constants(module)
    for node in list(module.graph.nodes):
        if node.target == aten.batch_norm.default:
            _fold_batch_norm(module, node, constants)
    _store(module, constants)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()


def _drop_what_does_nothing(module: fx.GraphModule) -> None:
    """Removes dropout, and assertions on types and places, of which the latter would keep the graph on the CPU."""
    for node in list(module.graph.nodes):
        if node.target in (aten.dropout.default, aten.feature_dropout.default):
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
        elif node.target == aten._assert_tensor_metadata.default:
            module.graph.erase_node(node)


def _constants(module: fx.GraphModule) -> dict[fx.Node, Tensor]:
    """Returns the values of all nodes that depend on weights alone."""
    known: dict[fx.Node, Tensor] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            value = operator.attrgetter(node.target)(module)
            if isinstance(value, Tensor):
                known[node] = value.detach()
        elif node.op == "call_function" and node.all_input_nodes and all(one in known for one in node.all_input_nodes):
            arguments = fx.map_arg((node.args, node.kwargs), lambda one: known[one].clone())  # some operate in place
            value = node.target(*arguments[0], **arguments[1])  # type: ignore[operator]
            if isinstance(value, Tensor):
                known[node] = value
    return known


def _fold_batch_norm(module: fx.GraphModule, node: fx.Node, constants: dict[fx.Node, Tensor]) -> None:
    """Puts one batch normalization into what is before or behind it."""
    arguments: Any = node.args
    before, is_training, eps = arguments[0], arguments[5], arguments[7]
    weight, bias, mean, variance = (constants[one].double() for one in arguments[1:5])
    assert not is_training and isinstance(before, fx.Node)
    scale = weight / (variance + eps).sqrt()
    shift = bias - mean * scale
    if before.target in _WITH_WEIGHTS and len(before.users) == 1 and before.args[1] in constants:

        def scaled(kernel: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
            return kernel * scale.view(-1, *[1] * (kernel.ndim - 1)), offset * scale + shift

        _change_weights(module, before, constants, scaled)
        node.replace_all_uses_with(before)
    elif len(node.users) == 1 and (behind := next(iter(node.users))).target == aten.linear.default:
        _change_weights(module, behind, constants, lambda kernel, offset: (kernel * scale, offset + kernel @ shift))
        node.replace_all_uses_with(before)
    else:
        rank = len(before.meta["val"].shape)
        shape = (1, -1, *[1] * (rank - 2))
        like = constants[arguments[1]].dtype
        with module.graph.inserting_before(node):
            factor = _new_constant(module, constants, scale.to(like).view(shape))
            offset = _new_constant(module, constants, shift.to(like).view(shape))
            product = module.graph.call_function(aten.mul.Tensor, (before, factor))
            node.replace_all_uses_with(module.graph.call_function(aten.add.Tensor, (product, offset)))
    module.graph.erase_node(node)


def _change_weights(
    module: fx.GraphModule,
    node: fx.Node,
    constants: dict[fx.Node, Tensor],
    change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
) -> None:
    """Gives a convolution or linear layer other weights, computed in float64 from its kernel and its bias."""
    arguments: Any = node.args
    kernel = constants[arguments[1]]
    old = arguments[2] if len(arguments) > 2 else None
    bias = kernel.new_zeros(len(kernel)) if old is None else constants[old]
    with module.graph.inserting_before(node):
        changed = [
            _new_constant(module, constants, value.to(kernel.dtype)) for value in change(kernel.double(), bias.double())
        ]
    node.args = (arguments[0], *changed, *arguments[3:])


def _new_constant(module: fx.GraphModule, constants: dict[fx.Node, Tensor], value: Tensor) -> fx.Node:
    """Returns a node of a new weight, put where the graph now inserts."""
    name = f"folded_{sum(1 for name, _ in module.named_buffers() if name.startswith('folded_'))}"
    module.register_buffer(name, value.contiguous())
    node = module.graph.get_attr(name)
    constants[node] = value
    return node


def _store(module: fx.GraphModule, constants: dict[fx.Node, Tensor]) -> None:
    """Turns what was computed of weights alone, and is used by other nodes, into weights."""
    for node, value in list(constants.items()):
        if node.op != "get_attr" and any(user not in constants for user in node.users):
            with module.graph.inserting_before(node):
                node.replace_all_uses_with(_new_constant(module, constants, value))
