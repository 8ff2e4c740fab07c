"""The state dict in what a file holds: taken out of what training programs wrap around it, and of prefixes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from omnisource.errors import UserError
from omnisource.files.formats import CHECKPOINT_FORMAT
from omnisource.models.weights.families import family_of
from omnisource.models.weights.formats import Findable, StateDict

WRAPPERS = (
    *("state_dict", "model", "model_state", "model_state_dict", "module", "net", "network", "weights", "params"),
    *("teacher", "target_encoder", "encoder", "student", "state_dict_ema", "model_ema", "ema_state_dict"),
    *("ema_model", "ema", "checkpoint", "classifiers"),
)
"""Keys under which training programs keep weights, what is taken first in front: weights before their average, and of
self-distillation the teacher, as its projects do."""

_PREFERRED_PARTS = ("encoder_q", "base_encoder", "teacher", "online_encoder", "visual", "model", "module", "backbone")
"""Parts of names that are taken where several networks of one kind stand side by side, as MoCo's two encoders."""

_WEIGHT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_FRACTIONAL = (".weight", ".bias", ".running_mean", ".running_var")
_MAX_WRAPPERS, _MAX_PREFIX_PARTS = 3, 4


Kind = TypeVar("Kind", bound=Findable)


@dataclass(frozen=True)
class FoundWeights(Generic[Kind]):
    """A state dict and where it stood.

    Attributes:
        state: Tensors by the names of their format.
        format: Their format.
        notes: What is to be said: which of several was taken, prefixes that were removed, what was left out.
    """

    state: StateDict
    format: Kind
    notes: tuple[str, ...] = ()


def find_weights(content: Mapping[str, Any], origin: str, formats: Sequence[Kind]) -> FoundWeights[Kind]:
    """Returns the state dict in what `read_weights_file` returned, without wrappers and prefixes.

    Args:
        content: What the file holds.
        origin: The file, for messages.
        formats: Those that are understood, the most particular first: it is taken wherever it stands in the file.

    Raises:
        UserError: There is none of these formats, or there are several networks and none goes before the others.
    """
    is_own = content.get("format") == CHECKPOINT_FORMAT
    candidates = [
        (where, mapping, tensors)
        for where, mapping in ([("model", content.get("model") or {})] if is_own else _mappings(content))
        if (tensors := _tensors(mapping))
    ]
    for one in formats:
        found = [(*candidate, prefixes) for candidate in candidates if (prefixes := _fitting(candidate[2], one))]
        if found:
            where, mapping, tensors, prefixes = found[0]
            prefix = _chosen(prefixes, where, origin)
            notes = _notes(where, mapping, prefix, [other for other, *_ in found[1:]])
            state = _without(tensors, prefix)
            if fault := one.fault(state) if one.fault else "":
                raise UserError(f"{origin}: cannot be taken: the file holds {fault}. Take other weights")
            _check_types(state, origin)
            state = {name: _whole_count(name, tensor) for name, tensor in state.items()}
            return FoundWeights(state, one, () if is_own else notes)
    raise _unknown(content, origin, formats)


def _check_types(state: StateDict, origin: str) -> None:
    """Raises UserError where weights are kept in a type from which they do not follow without further numbers."""
    for name, tensor in state.items():
        if name.endswith(_FRACTIONAL) and (tensor.dtype not in _WEIGHT_TYPES or tensor.layout != torch.strided):
            kind = str(tensor.dtype).removeprefix("torch.")
            if tensor.layout != torch.strided:
                kind = f"not a dense tensor ({tensor.layout})"
            raise UserError(
                f"{origin}: {name} is {kind}: quantized or packed weights need more than their numbers. Take the file "
                "in float32, float16 or bfloat16"
            )


def _whole_count(name: str, tensor: Tensor) -> Tensor:
    """Returns a number of batches as a whole number, also where half precision has made it infinite."""
    if not name.endswith("num_batches_tracked") or not tensor.is_floating_point() or tensor.is_meta:
        return tensor
    return torch.nan_to_num(tensor.double(), posinf=torch.finfo(tensor.dtype).max).clamp(max=2.0**62).long()


def _mappings(content: Any, where: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yields what may be a state dict with the keys that lead to it: what is wrapped in front of what wraps it."""
    if not isinstance(content, Mapping):
        return
    if depth < _MAX_WRAPPERS:
        for key in WRAPPERS:
            if key in content:
                yield from _mappings(content[key], f"{where}.{key}".lstrip("."), depth + 1)
    yield where, content


def _tensors(mapping: Any) -> StateDict:
    if not isinstance(mapping, Mapping):
        return {}
    return {str(name): value for name, value in mapping.items() if isinstance(value, Tensor)}


def _fitting(tensors: StateDict, one: Findable) -> list[str]:
    """Returns the prefixes, all of the same number of parts, behind which names of a format stand."""
    prefixes = {""}
    for name in tensors:
        parts = name.split(".")[:-1][:_MAX_PREFIX_PARTS]
        for count in range(1, len(parts) + 1):
            if not any(part.isdecimal() for part in parts[1:count]):  # the layers of one network
                prefixes.add(".".join(parts[:count]) + ".")
    found: list[str] = []
    for prefix in sorted(prefixes, key=lambda prefix: prefix.count(".")):
        if found and prefix.count(".") > found[0].count("."):
            break
        if one.is_format_of(_without(tensors, prefix)):
            found.append(prefix)
    return found


def _chosen(prefixes: list[str], where: str, origin: str) -> str:
    """Returns the prefix of the network that is taken where there are several side by side."""
    if len(prefixes) == 1:
        return prefixes[0]
    for preferred in _PREFERRED_PARTS:
        chosen = [prefix for prefix in prefixes if preferred in prefix.split(".")]
        if len(chosen) == 1:
            return chosen[0]
    named = ", ".join(map(repr, sorted(prefixes)[:8]))
    raise UserError(
        f"{origin}: holds several networks{f' under {where!r}' if where else ''}: {named}. "
        "Save the state dict of the one that you want alone"
    )


def _without(tensors: StateDict, prefix: str) -> StateDict:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _notes(where: str, mapping: Mapping[str, Any], prefix: str, others: list[str]) -> tuple[str, ...]:
    notes: list[str] = []
    if where not in ("", "state_dict", "model"):
        notes.append(f"taken from {where!r} of the file")
    if others := [other for other in others if other]:
        notes.append(f"not taken, though it would fit: {', '.join(map(repr, others))}")
    if prefix:
        notes.append(f"the prefix {prefix!r} was removed from the names")
    left_out = [str(name) for name, value in mapping.items() if not isinstance(value, Tensor)]
    left_out += [str(name) for name in mapping if not str(name).startswith(prefix)]
    beside = sorted({".".join(name.split(".")[:2]) for name in left_out})
    if beside:
        shown = ", ".join(beside[:6]) + (" ..." if len(beside) > 6 else "")
        notes.append(f"left out, since it stands beside the network: {shown}")
    return tuple(notes)


def _unknown(content: Mapping[str, Any], origin: str, formats: Sequence[Findable]) -> UserError:
    wrapped = next((value for _, value in _mappings(content) if isinstance(value, Mapping) and value), content)
    names = [str(name) for name in wrapped]
    odd = [str(name) for name, value in wrapped.items() if not isinstance(value, Tensor)]
    shown = ", ".join(odd or names) or "nothing"
    *others, last = (one.description for one in reversed(formats))
    known = f"{', '.join(others)} and {last}" if others else last
    nearest = f"It looks like {family}. " if (family := family_of(names)) else ""
    return UserError(
        f"{origin}: not weights of a known kind: it holds {shown if len(shown) < 200 else shown[:200] + ' ...'}. "
        f"{nearest}Known are {known}"
    )
