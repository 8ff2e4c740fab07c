"""What the blocks of a ViT are made of: attention, two linear layers, factors of channels, and skipped branches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnisource.models.backbones.vit_rotary import Rotation
from omnisource.recipe.backbones.vit import Activation


class Attention(nn.Module):
    """Attention of all tokens to all tokens.

    In a video of T frames of tokens every patch of a still image is there T times, and class token and registers once:
    so they would weigh less than in the image. Counted T times each, as log(T) added to their scores would do, they
    weigh the same, and what a still video attends to is exactly what its image does. They are repeated among keys and
    values, rather than a mask being added: kernels without a mask are the fastest, and a few more keys cost nothing.

    Args:
        width: Channels of a token.
        heads: Heads, among which the channels are shared out.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, rotation: Rotation | None = None, prefix: int = 0, count: int = 1) -> Tensor:
        """Returns what each token gathers, [N, tokens, width].

        Args:
            x: [N, tokens, width].
            rotation: Turns queries and keys by their positions.
            prefix: How many tokens, the first ones, are no patches.
            count: How many times each of them counts.
        """
        # [N, L, 3 * C] -> each [N, heads, L, C / heads]
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if rotation is not None:
            q, k = rotation(q), rotation(k)
        if prefix and count > 1:
            k, v = (
                torch.cat([part[:, :, :prefix].repeat(1, 1, count, 1), part[:, :, prefix:]], dim=2) for part in (k, v)
            )
        gathered = F.scaled_dot_product_attention(q, k, v)
        return self.proj(gathered.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers with an activation between them.

    Args:
        width: Channels of a token.
        hidden: Channels between the layers.
        activation: Which one; "swiglu" has twice the channels before it, a gate and a value.
    """

    def __init__(self, width: int, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.fc1 = nn.Linear(width, 2 * hidden if activation == "swiglu" else hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Returns [..., width] of x, [..., width]."""
        x = self.fc1(x)
        if self.activation == "swiglu":
            gate, value = x.chunk(2, dim=-1)
            return self.fc2(F.silu(gate) * value)
        if self.activation == "quick_gelu":
            return self.fc2(x * torch.sigmoid(1.702 * x))
        return self.fc2(F.gelu(x, approximate="tanh" if self.activation == "gelu_tanh" else "none"))


class LayerScale(nn.Module):
    """A factor for each channel, 1e-5 at first, so that a block starts by changing almost nothing.

    Args:
        width: Channels.

    Source: Touvron et al. 2021, "Going Deeper with Image Transformers".
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        """Returns x, [..., width], times the factors."""
        return x * self.gamma


class StochasticDepth(nn.Module):
    """Leaves out what a block adds to a sample in training, with a probability, and scales up what stays.

    Draws from torch's global generator of the device, as dropout does.

    Args:
        probability: Of leaving it out, in [0, 1).

    Source: Huang et al. 2016, "Deep Networks with Stochastic Depth".
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Returns x, [N, ...], in training with some of its N samples zero."""
        if not self.training or self.probability == 0:
            return x
        kept = 1 - self.probability
        return x * x.new_empty(len(x), *[1] * (x.ndim - 1)).bernoulli_(kept).div_(kept)
