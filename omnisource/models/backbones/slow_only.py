"""The backbone: a SlowOnly ResNet with a video path and an image path over one set of weights.

An image is a still video seen away from its ends. Every frame of a still video is the same, so a 3-D convolution acts
on it as the 2-D convolution whose kernel is the sum of the 3-D kernel over time: the image path is made of those.

Source: Feichtenhofer et al. 2019, "SlowFast Networks" (the slow pathway alone); Duan et al. 2020, "Omni-sourced
Webly-supervised Learning"; open-mmlab/mmaction2 v1.2.0 (commit 4d6c9347), configs/recognition/omnisource.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from omnisource.errors import UserError
from omnisource.models.backbones.backbone import ParameterGroup, group_parameters
from omnisource.models.backbones.channels_last import (
    as_clips,
    as_frames,
    has_channels_last,
    pool,
    pool_clips,
    with_channels_last,
)
from omnisource.models.batch_norm import BatchNorm
from omnisource.models.normalize import Normalization
from omnisource.models.weights.formats import SizeDifferences
from omnisource.models.weights.image_resnet import IMAGE_RESNET
from omnisource.models.weights.own import OWN
from omnisource.models.weights.published import PUBLISHED
from omnisource.models.weights.slow_only_sizes import BLOCKS, STAGE_PLANES, STEM_CHANNELS, size_differences
from omnisource.types import Media

IMAGENET = Normalization(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
"""The mean and the deviation of ImageNet's training images."""

STAGE_STRIDES = (1, 2, 2, 2)
STAGE_TEMPORAL_KERNELS = (1, 1, 3, 3)


class MediaConv(nn.Conv3d):
    """A 3-D convolution for videos that is a 2-D convolution for images; its temporal stride is always 1.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        temporal_kernel: Length of the kernel along time, odd; padded so that the number of frames stays.
        spatial_kernel: Height and width of the kernel, odd; padded by half of it.
        stride: Step along height and width.
    """

    def __init__(
        self, in_channels: int, out_channels: int, temporal_kernel: int, spatial_kernel: int, stride: int = 1
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size=(temporal_kernel, spatial_kernel, spatial_kernel),
            stride=(1, stride, stride),
            padding=(temporal_kernel // 2, spatial_kernel // 2, spatial_kernel // 2),
            bias=False,
        )
        self.spatial_stride = stride
        self.spatial_padding = spatial_kernel // 2
        self.temporal_padding = temporal_kernel // 2

    def forward(self, x: Tensor, media: Media) -> Tensor:
        """Returns the convolution of x: [N, C, T, H, W] for videos, [N, C, H, W] for images.

        With the channels last, a kernel that extends along space alone or along time alone is applied as a 2-D one,
        for which torch has faster code. It is the same sum, and other dimensions are joined without a copy.
        """
        if media == "image":
            return self._along_space(x, self.weight.sum(dim=2))  # [O, I, T, H, W] -> [O, I, H, W]
        if not has_channels_last(x):
            return super().forward(x)
        if self.kernel_size[0] == 1:
            return as_clips(self._along_space(as_frames(x), self.weight.squeeze(2)), len(x))
        if self.kernel_size[1:] == (1, 1) and self.stride[1:] == (1, 1):
            positions = x.flatten(3)  # [N, C, T, H, W] -> [N, C, T, H * W]
            convolved = F.conv2d(positions, self.weight.squeeze(4), padding=(self.temporal_padding, 0))
            return convolved.unflatten(3, x.shape[3:])
        return with_channels_last(super().forward(x))

    def _along_space(self, x: Tensor, kernel: Tensor) -> Tensor:
        return F.conv2d(x, kernel, stride=self.spatial_stride, padding=self.spatial_padding)


class MediaBatchNorm(BatchNorm):
    """The batch normalization of the backbone: the one place that knows which statistics a batch uses.

    In training every batch is normalized by its own statistics. Either images have running ones of their own, and are
    evaluated with them, or, as in the published recipe, only video batches are counted, and both are evaluated with
    theirs. So is a batch of a single value a channel (one small image, late in the network): it has no variance.

    Args:
        momentum: Share of the running statistics that a batch replaces.
        has_image_statistics: Whether images have running statistics of their own.
    """

    def __init__(self, channels: int, momentum: float = 0.01, *, has_image_statistics: bool = False) -> None:
        super().__init__(channels, momentum, has_image_statistics=has_image_statistics)

    def forward(self, x: Tensor, media: Media) -> Tensor:
        """Returns x normalized: [N, C, T, H, W] for videos, [N, C, H, W] for images."""
        return self.normalized(x, media, is_counted=media == "video" or self.has_image_statistics)


MakeNorm = Callable[[int], MediaBatchNorm]
"""Makes the batch normalization of a number of channels."""


class MediaSequential(nn.Sequential):
    """Layers one after the other, each of which is told the media."""

    def forward(self, x: Tensor, media: Media) -> Tensor:
        """Returns what the last layer makes of x."""
        for layer in self:
            x = layer(x, media)
        return x


class BasicBlock(nn.Module):
    """The residual block of depths 18 and 34: two 3x3 convolutions, the first of which looks along time.

    Args:
        in_channels: Channels of the input.
        planes: Channels of both convolutions and of the output.
        stride: Spatial stride of the first convolution.
        temporal_kernel: Temporal length of the first convolution.
        norm: Makes the normalizations.
    """

    expansion = 1

    def __init__(self, in_channels: int, planes: int, stride: int, temporal_kernel: int, norm: MakeNorm) -> None:
        super().__init__()
        self.conv1 = MediaConv(in_channels, planes, temporal_kernel, 3, stride)
        self.conv2 = MediaConv(planes, planes, 1, 3)
        self.bn1 = norm(planes)
        self.bn2 = norm(planes)
        self.downsample = _shortcut(in_channels, planes * self.expansion, stride, norm)

    def forward(self, x: Tensor, media: Media) -> Tensor:
        """Returns [N, planes, T, H / stride, W / stride], without T for images."""
        out = F.relu(self.bn1(self.conv1(x, media), media), inplace=True)
        out = self.bn2(self.conv2(out, media), media)
        identity = x if self.downsample is None else self.downsample(x, media)
        return F.relu(out.add_(identity), inplace=True)


class Bottleneck(nn.Module):
    """The residual block of depths 50, 101 and 152: 1x1 (which looks along time), 3x3, 1x1.

    Args:
        in_channels: Channels of the input.
        planes: Channels of the first two convolutions; the output has four times as many.
        stride: Spatial stride of the 3x3 convolution.
        temporal_kernel: Temporal length of the first convolution.
        norm: Makes the normalizations.
    """

    expansion = 4

    def __init__(self, in_channels: int, planes: int, stride: int, temporal_kernel: int, norm: MakeNorm) -> None:
        super().__init__()
        self.conv1 = MediaConv(in_channels, planes, temporal_kernel, 1)
        self.conv2 = MediaConv(planes, planes, 1, 3, stride)
        self.conv3 = MediaConv(planes, planes * self.expansion, 1, 1)
        self.bn1 = norm(planes)
        self.bn2 = norm(planes)
        self.bn3 = norm(planes * self.expansion)
        self.downsample = _shortcut(in_channels, planes * self.expansion, stride, norm)

    def forward(self, x: Tensor, media: Media) -> Tensor:
        """Returns [N, 4 * planes, T, H / stride, W / stride], without T for images."""
        out = F.relu(self.bn1(self.conv1(x, media), media), inplace=True)
        out = F.relu(self.bn2(self.conv2(out, media), media), inplace=True)
        out = self.bn3(self.conv3(out, media), media)
        identity = x if self.downsample is None else self.downsample(x, media)
        return F.relu(out.add_(identity), inplace=True)


class SlowOnly(nn.Module):
    """A SlowOnly ResNet of four stages; the frames keep their number from the input to the features.

    Args:
        block: Kind of residual block.
        blocks_per_stage: Number of blocks in each of the four stages.
        width: Factor on the channels of every layer.
        norm: Makes the normalizations.

    Attributes:
        out_channels: Channels of the features.
        normalization: ImageNet's.
        weight_formats: Image ResNets, which are inflated, published checkpoints and our own.

    Raises:
        UserError: The width is so small that a layer has no channel left.
    """

    normalization = IMAGENET
    weight_formats = (IMAGE_RESNET, PUBLISHED, OWN)

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks_per_stage: tuple[int, int, int, int],
        width: float = 1.0,
        norm: MakeNorm = MediaBatchNorm,
    ) -> None:
        super().__init__()
        channels = _scaled(STEM_CHANNELS, width)
        self.conv1 = MediaConv(3, channels, 1, 7, stride=2)
        self.bn1 = norm(channels)
        stages: list[MediaSequential] = []
        shapes = zip(blocks_per_stage, STAGE_PLANES, STAGE_STRIDES, STAGE_TEMPORAL_KERNELS, strict=True)
        for num_blocks, full_planes, stride, temporal_kernel in shapes:
            planes = _scaled(full_planes, width)
            blocks = [block(channels, planes, stride, temporal_kernel, norm)]
            channels = planes * block.expansion
            blocks += [block(channels, planes, 1, temporal_kernel, norm) for _ in range(num_blocks - 1)]
            stages.append(MediaSequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.out_channels = channels

    def forward(self, x: Tensor, media: Media) -> Tensor:
        """Returns features at 1/32 of the input's height and width.

        Args:
            x: [N, 3, T, H, W] for videos, [N, 3, H, W] for images; normalized, floating point.
            media: Which path x takes.

        Returns:
            [N, out_channels, T, H / 32, W / 32] for videos, [N, out_channels, H / 32, W / 32] for images.
        """
        x = x if self.training else with_channels_last(x)
        x = F.relu(self.bn1(self.conv1(x, media), media), inplace=True)
        x = pool_clips(x) if media == "video" else pool(x)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x, media)
        return x

    def parameter_groups(self) -> list[ParameterGroup]:
        """Returns every parameter once, by decay and depth: the stem, then every residual block."""
        first_depths = [1]
        for stage in (self.layer1, self.layer2, self.layer3):
            first_depths.append(first_depths[-1] + len(stage))

        def depth_of(name: str) -> int:
            block = re.match(r"layer(\d)\.(\d+)\.", name)
            return first_depths[int(block[1]) - 1] + int(block[2]) if block else 0

        return group_parameters(self, depth_of)

    def count_image_parameters(self) -> int:
        """Returns the number of parameters that the image path computes with, once kernels are summed over time."""
        along_time = {id(conv.weight): conv.kernel_size[0] for conv in self.modules() if isinstance(conv, MediaConv)}
        return sum(parameter.numel() // along_time.get(id(parameter), 1) for parameter in self.parameters())

    def size_differences(self, weights: Mapping[str, Tensor]) -> SizeDifferences:
        """Returns in what depth and blocks differ from those of weights, given by this backbone's names."""
        return size_differences(weights, self.state_dict())


def slow_only(depth: int, width: float = 1.0, norm: MakeNorm = MediaBatchNorm) -> SlowOnly:
    """Returns the backbone of one depth with torch's default initial weights.

    Args:
        depth: 18, 34, 50, 101 or 152.
        width: Factor on the channels of every layer.
        norm: Makes the normalizations.

    Raises:
        UserError: There is no such depth, or the width leaves a layer without a channel.
    """
    if depth not in BLOCKS:
        raise UserError(f"model.depth is {depth}; it must be one of {', '.join(map(str, BLOCKS))}")
    kind, blocks_per_stage = BLOCKS[depth]
    return SlowOnly(BasicBlock if kind == "basic" else Bottleneck, blocks_per_stage, width, norm)


def _scaled(channels: int, width: float) -> int:
    scaled = round(channels * width)
    if scaled < 1:
        raise UserError(f"model.width is {width:g}: {channels} channels times that leaves none; take a larger width")
    return scaled


def _shortcut(in_channels: int, out_channels: int, stride: int, norm: MakeNorm) -> MediaSequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return MediaSequential(MediaConv(in_channels, out_channels, 1, 1, stride), norm(out_channels))
