"""The heads: pooled features to the scores of one label space. Any kind takes features of either media.

Source: open-mmlab/mmaction2 v1.2.0 (commit 4d6c9347), mmaction/models/heads/omni_head.py.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from omnisource.models.batch_norm import BatchNorm
from omnisource.types import Media


class HeadBatchNorm(BatchNorm):
    """Batch normalization of vectors, with momentum 0.1, that also takes a batch of one in training.

    One vector has no variance: it is normalized by the running statistics and leaves them as they are. A small
    source that keeps pace with a large one may give one sample a step.
    """

    def __init__(self, channels: int, *, has_image_statistics: bool = False) -> None:
        super().__init__(channels, momentum=0.1, has_image_statistics=has_image_statistics)

    def forward(self, input: Tensor, media: Media = "video") -> Tensor:
        """Returns input, [N, C], normalized; the media counts where images have statistics of their own."""
        return self.normalized(input, media)


class ImageHead(nn.Module):
    """BatchNorm, dropout, linear.

    Args:
        in_channels: Channels of the pooled features.
        num_classes: Number of classes.
        dropout: Probability of dropout before the linear layer.
        has_image_statistics: Whether images have running statistics of their own.
    """

    def __init__(
        self, in_channels: int, num_classes: int, dropout: float, *, has_image_statistics: bool = False
    ) -> None:
        super().__init__()
        self.bn = HeadBatchNorm(in_channels, has_image_statistics=has_image_statistics)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(in_channels, num_classes)

    def forward(self, features: Tensor, media: Media = "video") -> Tensor:
        """Returns logits [N, num_classes] of pooled features [N, in_channels] of a media."""
        return self.fc(self.dropout(self.bn(features, media)))


class LinearHead(nn.Module):
    """Dropout, linear: the head of most other projects.

    Args:
        in_channels: Channels of the pooled features.
        num_classes: Number of classes.
        dropout: Probability of dropout before the linear layer.
    """

    def __init__(self, in_channels: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(in_channels, num_classes)

    def forward(self, features: Tensor, media: Media = "video") -> Tensor:
        """Returns logits [N, num_classes] of pooled features [N, in_channels] of either media."""
        return self.linear(self.dropout(features))


class VideoHead(nn.Module):
    """Linear to twice the number of classes, BatchNorm, ReLU, dropout, linear.

    Args:
        in_channels: Channels of the pooled features.
        num_classes: Number of classes.
        dropout: Probability of dropout before the last linear layer.
        has_image_statistics: Whether images have running statistics of their own.
    """

    def __init__(
        self, in_channels: int, num_classes: int, dropout: float, *, has_image_statistics: bool = False
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_channels, 2 * num_classes)
        self.bn = HeadBatchNorm(2 * num_classes, has_image_statistics=has_image_statistics)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(2 * num_classes, num_classes)

    def forward(self, features: Tensor, media: Media = "video") -> Tensor:
        """Returns logits [N, num_classes] of pooled features [N, in_channels] of a media."""
        return self.fc2(self.dropout(F.relu(self.bn(self.fc1(features), media))))
