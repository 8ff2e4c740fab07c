"""Poolings of a ViT that attend: one learned query gathers the features from all tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnisource.models.backbones.vit_layers import Attention, Mlp
from omnisource.recipe.backbones.vit import Traits


class AttentionPool(nn.Module):
    """SigLIP's: attention of the query, and two linear layers whose output is added.

    Args:
        width: Channels of a token.
        heads: Heads of the attention.
        hidden: Channels between the linear layers.
        traits: Gives activation and epsilon.

    Source: huggingface/pytorch-image-models 1.0.31 `timm/layers/attention_pool.py`, AttentionPoolLatent.
    """

    def __init__(self, width: int, heads: int, hidden: int, traits: Traits) -> None:
        super().__init__()
        self.heads = heads
        self.latent = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, traits.pooling_epsilon)
        self.mlp = Mlp(width, hidden, traits.activation)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns features, [N, width], of tokens, [N, tokens, width]."""
        x = self.proj(_gathered(self.q(self.latent), self.kv(tokens), self.heads))
        return (x + self.mlp(self.norm(x)))[:, 0]


class Probe(nn.Module):
    """V-JEPA 2's: blocks on the tokens, then attention of the query, and two linear layers; both are added.

    Args:
        width: Channels of a token.
        heads: Heads of the attention.
        hidden: Channels between the linear layers.
        traits: Gives the number of blocks, activation and epsilon.

    Source: facebookresearch/vjepa2 c2963a4 `src/models/attentive_pooler.py`, AttentivePooler.
    """

    def __init__(self, width: int, heads: int, hidden: int, traits: Traits) -> None:
        super().__init__()
        self.heads = heads
        self.blocks = nn.ModuleList(_ProbeBlock(width, heads, hidden, traits) for _ in range(traits.probe_blocks))
        self.latent = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.norm1 = nn.LayerNorm(width, traits.pooling_epsilon)
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.norm2 = nn.LayerNorm(width, traits.pooling_epsilon)
        self.mlp = Mlp(width, hidden, traits.activation)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns features, [N, width], of tokens, [N, tokens, width]."""
        for block in self.blocks:
            tokens = block(tokens)
        x = self.latent + _gathered(self.q(self.latent), self.kv(self.norm1(tokens)), self.heads)
        return (x + self.mlp(self.norm2(x)))[:, 0]


class _ProbeBlock(nn.Module):
    """Attention and two linear layers, without positions: the tokens have them already."""

    def __init__(self, width: int, heads: int, hidden: int, traits: Traits) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, traits.pooling_epsilon)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, traits.pooling_epsilon)
        self.mlp = Mlp(width, hidden, traits.activation)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def _gathered(query: Tensor, keys_and_values: Tensor, heads: int) -> Tensor:
    """Returns what a query gathers, [N, 1, C].

    Args:
        query: [1, 1, C].
        keys_and_values: [N, tokens, 2 * C], keys first.
        heads: Among which the channels are shared out.
    """
    k, v = keys_and_values.unflatten(2, (2, heads, -1)).permute(2, 0, 3, 1, 4)  # each [N, heads, tokens, C / heads]
    q = query.expand(k.shape[0], -1, -1).unflatten(2, (heads, -1)).transpose(1, 2)  # [N, heads, 1, C / heads]
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
