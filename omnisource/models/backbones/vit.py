"""The backbone: a vision transformer (ViT) with a video path and an image path over one set of weights.

Tokens are tubes of pixels, of some frames each, and all tokens of a clip attend to one another. An image is a still
video: its kernel is the sum of the video's over time, it stands in the middle of all positions in time, and what a
token attends to is weighted so that patches which are only repeated change nothing (`Attention`). With positions in
time of zero, as they are at first, a still video of any length gives exactly an image's features.

Layers have timm's names.

Source: Dosovitskiy et al. 2021, "An Image Is Worth 16x16 Words"; Arnab et al. 2021, "ViViT" (model 1);
huggingface/pytorch-image-models 1.0.31 `timm/models/vision_transformer.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from omnisource.errors import UserError
from omnisource.models.backbones.backbone import ParameterGroup, group_parameters
from omnisource.models.backbones.vit_layers import Attention, LayerScale, Mlp, StochasticDepth
from omnisource.models.backbones.vit_pooling import AttentionPool, Probe
from omnisource.models.backbones.vit_rotary import RotaryInSpace, RotaryInSpaceAndTime, Rotation
from omnisource.models.normalize import Normalization
from omnisource.models.position_tables import Grid, interpolated, resampled, sines_in_space, sines_over_tokens
from omnisource.models.weights.formats import SizeDifferences, WeightFormat
from omnisource.models.weights.vit.translate import formats_of
from omnisource.recipe.backbones.vit import ViT, size_faults
from omnisource.types import Media


class PatchEmbedding(nn.Module):
    """Makes a token of each tube of pixels: a convolution whose stride is its kernel, with an image path.

    Args:
        vit: Gives patch and tubelet.

    Attributes:
        proj: Holds the kernel, [width, 3, tubelet, patch, patch].
    """

    def __init__(self, vit: ViT) -> None:
        super().__init__()
        kernel = (vit.tubelet, vit.patch, vit.patch)
        self.proj = nn.Conv3d(3, vit.sizes().width, kernel, stride=kernel)

    def forward(self, x: Tensor, media: Media) -> Tensor:
        """Returns tokens, [N, frames, rows, columns, width].

        Args:
            x: [N, 3, T, H, W] for videos, [N, 3, H, W] for images.
            media: Which path x takes.

        Raises:
            ValueError: x does not consist of whole tubes.
        """
        kernel = self.proj.weight  # [width, 3, tubelet, patch, patch]
        if media == "image":
            kernel, x = kernel.sum(dim=2, keepdim=True), x.unsqueeze(2)
        time, height, width = kernel.shape[2:]
        if x.shape[2] % time or x.shape[3] % height or x.shape[4] % width:
            raise ValueError(
                f"clips of {x.shape[2]} frames of {x.shape[3]}x{x.shape[4]} pixels do not consist of whole tubes of "
                f"{time} frames and {height}x{width} pixels"
            )
        # As one product of matrices: tubes do not overlap. torch's 3-D convolutions are slower at it, and on a CPU
        # those over two frames have had wrong gradients in bfloat16.
        tubes = x.unflatten(4, (-1, width)).unflatten(3, (-1, height)).unflatten(2, (-1, time))
        tubes = tubes.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)  # [N, 3, T, t, H, p, W, p] -> [N, T, H, W, 3tpp]
        return F.linear(tubes, kernel.flatten(1), self.proj.bias)


class Block(nn.Module):
    """Attention between all tokens, and two linear layers on each; both are added to what comes in.

    Args:
        vit: Gives sizes and traits.
        skipped: Probability that a sample skips it in training.
    """

    def __init__(self, vit: ViT, skipped: float) -> None:
        super().__init__()
        width, traits = vit.sizes().width, vit.traits()
        scale = LayerScale if traits.layer_scale else nn.Identity
        self.norm1 = nn.LayerNorm(width, traits.norm_epsilon)
        self.attn = Attention(width, vit.sizes().num_heads)
        self.ls1 = scale(width)
        self.norm2 = nn.LayerNorm(width, traits.norm_epsilon)
        self.mlp = Mlp(width, vit.hidden_width(), traits.activation)
        self.ls2 = scale(width)
        self.skip = StochasticDepth(skipped)

    def forward(self, x: Tensor, rotation: Rotation | None, prefix: int, count: int) -> Tensor:
        """Returns [N, tokens, width]; the arguments are those of `Attention`."""
        x = x + self.skip(self.ls1(self.attn(self.norm1(x), rotation, prefix, count)))
        return x + self.skip(self.ls2(self.mlp(self.norm2(x))))


class VisionTransformer(nn.Module):
    """A vision transformer over tubes of pixels.

    Args:
        vit: Describes it.

    Attributes:
        out_channels: Channels of the features.
        normalization: What it expects of its input.

    Raises:
        UserError: The sizes do not fit together.
    """

    def __init__(self, vit: ViT) -> None:
        super().__init__()
        if faults := size_faults(vit):
            raise UserError("\n".join(faults))
        sizes, traits = vit.sizes(), vit.traits()
        width = sizes.width
        self.vit, self.traits = vit, traits
        self.out_channels = 2 * width if traits.pooling == "class_token_and_mean" else width
        self.normalization = Normalization(traits.pixel_mean, traits.pixel_std)

        self.patch_embed = PatchEmbedding(vit)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if traits.class_token else None
        self.reg_token = nn.Parameter(torch.zeros(1, traits.registers, width)) if traits.registers else None
        side, frames = vit.image_size // vit.patch, vit.clip_length // vit.tubelet
        is_learned, has_own_time = traits.positions == "learned", traits.positions.endswith("space_time")
        self.pos_embed = nn.Parameter(torch.zeros(1, side * side, width)) if is_learned else None
        self.time_embed = None if has_own_time else nn.Parameter(torch.zeros(1, frames, width))
        self.rope: RotaryInSpace | RotaryInSpaceAndTime | None = None
        if traits.positions.startswith("rotary"):
            kind = RotaryInSpaceAndTime if has_own_time else RotaryInSpace
            self.rope = kind(width // sizes.num_heads)

        norm = lambda epsilon: nn.LayerNorm(width, epsilon)  # noqa: E731
        self.norm_pre = norm(traits.norm_epsilon) if traits.pre_norm else nn.Identity()
        steps = [vit.stochastic_depth * block / max(1, sizes.depth - 1) for block in range(sizes.depth)]
        self.blocks = nn.ModuleList(Block(vit, skipped) for skipped in steps)
        self.norm = nn.Identity() if traits.norm_after_pooling else norm(traits.norm_epsilon)
        self.pool: AttentionPool | Probe | None = None
        if traits.pooling == "attention":
            self.pool = AttentionPool(width, sizes.num_heads, vit.hidden_width(), traits)
        elif traits.pooling == "probe":
            self.pool = Probe(width, sizes.num_heads, vit.hidden_width(), traits)
        self.fc_norm = norm(traits.pooling_epsilon) if traits.norm_after_pooling else nn.Identity()
        self.apply(_initialize)
        for token in (self.cls_token, self.reg_token, self.pos_embed):
            if token is not None:
                nn.init.trunc_normal_(token, std=0.02)

    @property
    def weight_formats(self) -> tuple[WeightFormat, ...]:
        """The formats of weights that it understands."""
        return formats_of(self.vit)

    @property
    def prefix(self) -> int:
        """Number of tokens before the patches: the class token and the registers."""
        return int(self.traits.class_token) + self.traits.registers

    def forward(self, x: Tensor, media: Media) -> Tensor:
        """Returns features, [N, out_channels].

        Args:
            x: [N, 3, T, H, W] for videos, [N, 3, H, W] for images; normalized, floating point.
            media: Which path x takes.

        Raises:
            ValueError: x does not consist of whole tubes.
        """
        tokens = self.tokens(x, media)
        patches = tokens[:, self.prefix :]
        if self.pool is not None:
            return self.fc_norm(self.pool(patches))
        if self.traits.pooling == "mean":
            return self.fc_norm(patches.mean(dim=1))
        if self.traits.pooling == "class_token_and_mean":
            return self.fc_norm(torch.cat([tokens[:, 0], patches.mean(dim=1)], dim=1))
        return self.fc_norm(tokens[:, 0] if self.traits.pooling == "class_token" else patches[:, 0])

    def tokens(self, x: Tensor, media: Media) -> Tensor:
        """Returns all tokens after the last normalization before the pooling, [N, prefix + patches, width].

        Class token and registers come first, then the patches: frame by frame, each from left to right, top to bottom.
        Arguments and errors are those of `forward`.
        """
        patches = self.patch_embed(x, media)  # [N, frames, rows, columns, width]
        grid = Grid(*patches.shape[1:4])
        patches = (patches + self._positions(grid, media, patches)).flatten(1, 3)
        prefix = [token.expand(x.shape[0], -1, -1) for token in (self.cls_token, self.reg_token) if token is not None]
        tokens = self.norm_pre(torch.cat([*prefix, patches], dim=1))
        rotation = self._rotation(grid, tokens)
        count = grid.frames if self.vit.prefix_per_frame else 1
        for block in self.blocks:
            if self.training and self.vit.activation_checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, rotation, self.prefix, count, use_reentrant=False)
            else:
                tokens = block(tokens, rotation, self.prefix, count)
        return self.norm(tokens)

    def _positions(self, grid: Grid, media: Media, like: Tensor) -> Tensor | float:
        """Returns what is added to the patches for where they are, [frames, rows, columns, width] or wider shapes."""
        if self.traits.positions == "sincos_space_time":
            return sines_over_tokens(grid, self.vit.sizes().width, like.device).to(like)
        if self.time_embed is None:
            return 0.0
        # An image is at no time: it gets the mean, so that a batch of either media trains every parameter.
        time = self.time_embed[0]
        time = time.mean(dim=0, keepdim=True) if media == "image" else interpolated(time, grid.frames)
        positions = time[:, None, None]  # [frames, 1, 1, width]
        if self.pos_embed is not None:
            side = self.vit.image_size // self.vit.patch
            table = self.pos_embed[0].unflatten(0, (side, side))
            return positions + resampled(table, grid.rows, grid.columns, self.traits.resampling)
        if self.traits.positions == "sincos":
            table = sines_in_space(grid.rows, grid.columns, self.vit.sizes().width, like.device)
            return positions + table.to(positions)
        return positions

    def _rotation(self, grid: Grid, like: Tensor) -> Rotation | None:
        if self.rope is None:
            return None
        return self.rope(grid) if isinstance(self.rope, RotaryInSpace) else self.rope(grid, like)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Returns every parameter once, by decay and depth: what makes tokens, every block; the last has what follows.

        Tokens and positions that are learned do not decay.
        """
        learned = ("cls_token", "reg_token", "pos_embed", "time_embed", "pool.latent")
        last = len(self.blocks)

        def depth_of(name: str) -> int:
            if block := re.match(r"blocks\.(\d+)\.", name):
                return 1 + int(block[1])
            return last if name.startswith(("norm.", "pool.", "fc_norm.")) else 0

        names = {name for name, _ in self.named_parameters()}
        return group_parameters(self, depth_of, without_decay=names.intersection(learned))

    def count_image_parameters(self) -> int:
        """Returns the number of parameters that the image path computes with, once the kernel is summed over time."""
        kernel = self.patch_embed.proj.weight
        return sum(parameter.numel() for parameter in self.parameters()) - kernel.numel() + kernel[:, :, 0].numel()

    def size_differences(self, weights: Mapping[str, Tensor]) -> SizeDifferences:
        """Returns in what blocks and tokens differ from those of weights, given by this backbone's names."""
        ours, theirs = (set(map(_layer, names)) - {""} for names in (self.state_dict(), weights))
        lines = [f"backbone.{layer}: only in the file" for layer in sorted(theirs - ours)]
        lines += [f"backbone.{layer}: only in the model" for layer in sorted(ours - theirs)]
        return SizeDifferences(tuple(lines), "; change the keys of model.vit, or take other weights")


def _layer(name: str) -> str:
    """Returns which block or other part a tensor belongs to; "" where weights may be without it: after the blocks."""
    if name.startswith(("norm.", "fc_norm.", "pool.")) or name in ("rope.periods", "time_embed"):
        return ""
    return ".".join(name.split(".")[: 2 if name.startswith("blocks.") else 1])


def _initialize(module: nn.Module) -> None:
    """Draws the weights of a linear layer; convolutions and normalizations keep torch's default."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
