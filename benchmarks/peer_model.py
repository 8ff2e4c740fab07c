"""The published joint model out of torch's own modules, and its training step and 10 x 3 test beside ours.

The architecture, the step and the layouts of input are those of open-mmlab/mmaction2 v1.2.0 (commit 4d6c9347),
configs/recognition/omnisource: 3-D convolutions and BatchNorm3d for clips, 2-D convolutions by the kernels summed over
time for images. Clips for training are contiguous there; those of a test have the channels last, since they are
transposed in numpy and never copied.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from beside import Row, in_turn
from torch import Tensor, nn

from omnisource.models.batch_norm import RunningStatistics
from omnisource.models.recognizer import Recognizer
from omnisource.recipe.model import LabelSpace, Model
from omnisource.recipe.optimization import Optimizer
from omnisource.training.optimizer import build_optimizer
from omnisource.types import Batch

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
STAGES = ((3, 64, 1, 1), (4, 128, 2, 1), (6, 256, 2, 3), (3, 512, 2, 3))
"""Blocks, channels, stride in space, and kernel in time of the four stages of depth 50."""
NUM_IMAGE_CLASSES, NUM_VIDEO_CLASSES = 1000, 400


class ConvNorm(nn.Module):
    """A convolution without bias, and its normalization."""

    def __init__(self, inputs: int, outputs: int, time: int, space: int, stride: int = 1) -> None:
        super().__init__()
        kernel, padding = (time, space, space), (time // 2, space // 2, space // 2)
        self.conv = nn.Conv3d(inputs, outputs, kernel, (1, stride, stride), padding, bias=False)
        self.norm = nn.BatchNorm3d(outputs, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 5:
            return self.norm(self.conv(x))
        x = F.conv2d(x, self.conv.weight.sum(dim=2), None, self.conv.stride[1:], self.conv.padding[1:])
        if self.training:
            return F.batch_norm(x, None, None, self.norm.weight, self.norm.bias, True)
        return F.batch_norm(x, self.norm.running_mean, self.norm.running_var, self.norm.weight, self.norm.bias)


class Block(nn.Module):
    def __init__(self, inputs: int, planes: int, stride: int, time: int) -> None:
        super().__init__()
        self.reduce = ConvNorm(inputs, planes, time, 1)
        self.middle = ConvNorm(planes, planes, 1, 3, stride)
        self.expand = ConvNorm(planes, 4 * planes, 1, 1)
        self.shortcut = ConvNorm(inputs, 4 * planes, 1, 1, stride) if inputs != 4 * planes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.middle(F.relu(self.reduce(x), inplace=True)), inplace=True)
        return F.relu(self.expand(out) + self.shortcut(x), inplace=True)


class PeerModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 64, 1, 7, 2)
        blocks: list[nn.Module] = []
        inputs = 64
        for count, planes, stride, time in STAGES:
            for number in range(count):
                blocks.append(Block(inputs, planes, 1 if number else stride, time))
                inputs = 4 * planes
        self.blocks = nn.Sequential(*blocks)
        self.image_head = nn.Sequential(nn.BatchNorm1d(2048), nn.Dropout(0.2), nn.Linear(2048, NUM_IMAGE_CLASSES))
        wide = 2 * NUM_VIDEO_CLASSES
        self.video_head = nn.Sequential(
            nn.Linear(2048, wide), nn.BatchNorm1d(wide), nn.ReLU(), nn.Dropout(0.5), nn.Linear(wide, NUM_VIDEO_CLASSES)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Returns logits of uint8 clips [N, 3, T, H, W] or images [N, 3, H, W]."""
        shape = (3, *[1] * (pixels.ndim - 2))
        x = (pixels.float() - torch.tensor(MEAN).view(shape)) / torch.tensor(STD).view(shape)
        x = F.relu(self.stem(x), inplace=True)
        if x.ndim == 5:
            x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
            return self.video_head(F.adaptive_avg_pool3d(self.blocks(x), 1).flatten(1))
        x = F.max_pool2d(x, 3, 2, 1)
        return self.image_head(F.adaptive_avg_pool2d(self.blocks(x), 1).flatten(1))


def our_model() -> Recognizer:
    spaces = {
        "imagenet": LabelSpace("image", num_classes=NUM_IMAGE_CLASSES),
        "kinetics": LabelSpace("video", num_classes=NUM_VIDEO_CLASSES),
    }
    return Recognizer(Model(depth=50), spaces)


def training_step(num_clips: int, num_images: int, rounds: int) -> Row:
    """Returns the time of forward, backward, clipping and SGD of one joint step, without loading."""
    clips = torch.randint(256, (num_clips, 3, 8, 224, 224), dtype=torch.uint8)
    images = torch.randint(256, (num_images, 3, 224, 224), dtype=torch.uint8)
    actions, objects = torch.arange(num_clips), torch.arange(num_images)
    theirs, ours = PeerModel().train(), our_model().train()
    statistics = RunningStatistics(ours)
    sgd = torch.optim.SGD(theirs.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    our_sgd = build_optimizer(Optimizer(learning_rate=0.01), ours)
    batches = [
        Batch("videos", "video", "kinetics", clips.unsqueeze(1), actions, ("",) * num_clips),
        Batch("images", "image", "imagenet", images[:, None, :, None], objects, ("",) * num_images),
    ]

    def their_step() -> None:
        sgd.zero_grad(set_to_none=True)
        (F.cross_entropy(theirs(clips), actions) + F.cross_entropy(theirs(images), objects)).backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), 40)
        sgd.step()

    def our_step() -> None:
        our_sgd.zero_grad(set_to_none=True)
        with statistics.recording():
            torch.stack(list(ours(batches).values())).sum().backward()
        nn.utils.clip_grad_norm_(ours.parameters(), 40)
        statistics.combine()
        our_sgd.step()

    return in_turn(f"joint training step, {num_clips} clips and {num_images} images", their_step, our_step, rounds)


def ten_by_three(num_views: int, rounds: int) -> Row:
    """Returns the time of the model for views of a 10 x 3 test: 8 frames of 256 x 256."""
    views = torch.randint(256, (num_views, 3, 8, 256, 256), dtype=torch.uint8)
    transposed = views.contiguous(memory_format=torch.channels_last_3d)
    theirs, ours = PeerModel().eval(), our_model().eval()

    @torch.inference_mode()
    def their_scores() -> Tensor:
        return theirs(transposed).softmax(dim=1)

    @torch.inference_mode()
    def our_scores() -> Tensor:
        return ours.video_logits(views).softmax(dim=1)

    return in_turn(f"10 x 3 test, {num_views} views", their_scores, our_scores, rounds)
