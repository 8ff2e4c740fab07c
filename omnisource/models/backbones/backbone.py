"""What a backbone is to the rest: features of images and videos, and all that only it knows of its own layers.

Another backbone is a module that has what `Backbone` names; nothing else here knows which one it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from omnisource.models.normalize import Normalization
from omnisource.models.weights.formats import SizeDifferences, WeightFormat
from omnisource.types import Media


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that an optimizer may treat alike.

    Attributes:
        names: Their names, in the order of the module.
        decays: Whether weight decay acts on them where norms and biases are left out of it.
        depth: How far from the pixels they are, from 0 without gaps, for learning rates by layer.
    """

    names: tuple[str, ...]
    decays: bool
    depth: int


class Backbone(Protocol):
    """A torch module that makes features of images and videos with one set of weights.

    Its forward takes x, [N, 3, T, H, W] for videos and [N, 3, H, W] for images, floating point and normalized as
    `normalization` says, and the media; it returns features [N, out_channels] or [N, out_channels, ...], which are
    averaged over what follows the channels. Its batch normalization, if it has any, is `models.batch_norm.BatchNorm`:
    in training, statistics move at the end of a step.
    """

    @property
    def out_channels(self) -> int:
        """Channels of the features."""
        ...

    @property
    def normalization(self) -> Normalization:
        """What the backbone expects of its input."""
        ...

    @property
    def weight_formats(self) -> tuple[WeightFormat, ...]:
        """The formats of weights that it understands, the most particular first."""
        ...

    def parameter_groups(self) -> list[ParameterGroup]:
        """Returns every parameter once, by decay and depth."""
        ...

    def count_image_parameters(self) -> int:
        """Returns the number of parameters that the image path computes with."""
        ...

    def size_differences(self, weights: Mapping[str, Tensor]) -> SizeDifferences:
        """Returns in what the sizes differ from those of weights, given by this backbone's names, perhaps in part."""
        ...

    # What every torch module has.

    def __call__(self, x: Tensor, media: Media) -> Tensor:
        """Returns features."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yields every parameter with its name."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yields every parameter."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Returns parameters and buffers by name."""
        ...


def group_parameters(
    module: nn.Module, depth_of: Callable[[str], int] = lambda name: 0, without_decay: Collection[str] = ()
) -> list[ParameterGroup]:
    """Returns the parameters of a module by decay and depth, the lowest depth first.

    Vectors and single numbers do not decay: the factors and shifts of all kinds of normalization. Nor do biases.

    Args:
        module: The module.
        depth_of: Takes a parameter's name, returns its depth.
        without_decay: Names of further parameters that do not decay, such as position embeddings and class tokens.

    Raises:
        ValueError: The module has no parameter of a name in `without_decay`.

    Source: huggingface/pytorch-image-models `timm/optim/_param_groups.py`, param_groups_weight_decay.
    """
    parameters = dict(module.named_parameters())
    if unknown := sorted(set(without_decay) - parameters.keys()):
        raise ValueError(f"there is no parameter {', '.join(unknown)}")
    groups: dict[tuple[int, bool], list[str]] = {}
    for name, parameter in parameters.items():
        decays = parameter.ndim > 1 and name.rpartition(".")[2] != "bias" and name not in without_decay
        groups.setdefault((depth_of(name), decays), []).append(name)
    return [ParameterGroup(tuple(names), decays, depth) for (depth, decays), names in sorted(groups.items())]
