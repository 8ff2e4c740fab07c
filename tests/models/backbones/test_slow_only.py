from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnisource.errors import UserError
from omnisource.models.backbones.slow_only import MediaBatchNorm, MediaConv, SlowOnly, slow_only
from omnisource.models.cost import count_parameters


def randomize(module: nn.Module) -> None:
    """Gives every BatchNorm statistics and factors of its own, so that forgetting one shows."""
    generator = torch.Generator().manual_seed(1)
    for norm in module.modules():
        if isinstance(norm, MediaBatchNorm):
            assert norm.running_mean is not None and norm.running_var is not None
            norm.running_mean.normal_(0, 0.1, generator=generator)
            norm.running_var.uniform_(0.5, 1.5, generator=generator)
            nn.init.uniform_(norm.weight, 0.5, 1.5, generator=generator)


# What torchvision's resnet18 ... resnet152 count, with their linear layer of 1000 classes.
@pytest.mark.parametrize(
    ("depth", "parameters"),
    [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160), (152, 60_192_808)],
)
def test_summed_image_path_has_as_many_parameters_as_the_image_resnet(depth: int, parameters: int) -> None:
    with torch.device("meta"):
        backbone = slow_only(depth)
        linear = nn.Linear(backbone.out_channels, 1000)
    assert backbone.count_image_parameters() + count_parameters(linear) == parameters


@pytest.mark.parametrize(("depth", "parameters"), [(50, 32_454_096), (101, 60_359_120)])
def test_plain_slow_only_has_the_published_number_of_parameters(depth: int, parameters: int) -> None:
    with torch.device("meta"):
        assert count_parameters(slow_only(depth)) + count_parameters(nn.Linear(2048, 400)) == parameters


@pytest.mark.parametrize("depth", [18, 50])
def test_only_the_first_convolution_of_blocks_in_stages_3_and_4_looks_along_time(depth: int) -> None:
    with torch.device("meta"):
        backbone = slow_only(depth)
    along_time = {
        name for name, conv in backbone.named_modules() if isinstance(conv, nn.Conv3d) and conv.kernel_size[0] > 1
    }
    blocks = [f"layer{stage}.{i}" for stage in (3, 4) for i in range(len(getattr(backbone, f"layer{stage}")))]
    assert along_time == {f"{block}.conv1" for block in blocks}
    for conv in backbone.modules():
        if isinstance(conv, MediaConv):
            assert conv.kernel_size[0] in (1, 3) and conv.stride[0] == 1


def test_spatial_stride_of_a_bottleneck_is_in_its_3x3_convolution() -> None:
    with torch.device("meta"):
        block = slow_only(50).layer2[0]
    assert block.conv1.stride == (1, 1, 1)
    assert block.conv2.stride == (1, 2, 2)


def test_frames_keep_their_number_and_pixels_shrink_32_times() -> None:
    backbone = slow_only(18, width=0.125).eval()
    with torch.no_grad():
        assert backbone(torch.zeros(2, 3, 5, 64, 96), "video").shape == (2, 64, 5, 2, 3)
        assert backbone(torch.zeros(2, 3, 64, 96), "image").shape == (2, 64, 2, 3)


@pytest.mark.parametrize("depth", [18, 50])
def test_center_frames_of_a_still_clip_equal_the_image_path(depth: int) -> None:
    torch.manual_seed(0)
    backbone = slow_only(depth, width=0.125).double().eval()
    randomize(backbone)
    # one frame of reach for every convolution along time
    reach = sum(isinstance(conv, nn.Conv3d) and conv.kernel_size[0] == 3 for conv in backbone.modules())
    image = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        of_clip = backbone(image.unsqueeze(2).repeat(1, 1, 2 * reach + 3, 1, 1), "video")
        of_image = backbone(image, "image")
    for center in (reach, reach + 1, reach + 2):
        torch.testing.assert_close(of_clip[:, :, center], of_image, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(of_clip[:, :, 0], of_image, rtol=1e-3)


def test_image_path_of_one_frame_is_not_a_clip_of_one_frame() -> None:
    torch.manual_seed(0)
    backbone = slow_only(18, width=0.125).eval()
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert not torch.allclose(backbone(image.unsqueeze(2), "video").squeeze(2), backbone(image, "image"), rtol=1e-3)


def test_image_batch_leaves_running_statistics_and_video_batch_moves_them() -> None:
    torch.manual_seed(0)
    backbone = slow_only(18, width=0.125).train()
    randomize(backbone)
    before = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
    backbone(torch.randn(4, 3, 32, 32), "image")
    for name, buffer in backbone.named_buffers():
        torch.testing.assert_close(buffer, before[name], rtol=0, atol=0)
    backbone(torch.randn(4, 3, 2, 32, 32), "video")
    for name, buffer in backbone.named_buffers():
        assert not torch.equal(buffer, before[name]), name


def test_running_statistics_move_by_a_hundredth_and_only_for_videos() -> None:
    torch.manual_seed(0)
    norm = MediaBatchNorm(3).train()
    x = torch.randn(2, 3, 4, 5, 5) * 2 + 7
    norm(x, "video")
    assert norm.running_mean is not None and norm.running_var is not None
    torch.testing.assert_close(norm.running_mean, 0.01 * x.mean(dim=(0, 2, 3, 4)))
    torch.testing.assert_close(norm.running_var, 0.99 + 0.01 * x.var(dim=(0, 2, 3, 4)))
    assert norm.num_batches_tracked is not None and norm.num_batches_tracked.item() == 1


def test_training_normalizes_images_by_their_own_statistics_and_evaluation_by_the_running_ones() -> None:
    torch.manual_seed(0)
    norm = MediaBatchNorm(3)
    randomize(norm)
    x = torch.randn(4, 3, 6, 6) * 2 + 7
    assert norm.running_mean is not None and norm.running_var is not None
    mean, variance = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), unbiased=False)

    def normalized(mean: Tensor, variance: Tensor) -> Tensor:
        factor, shift = norm.weight.detach(), norm.bias.detach()
        shape = (1, 3, 1, 1)
        return (x - mean.view(shape)) / (variance.view(shape) + 1e-5).sqrt() * factor.view(shape) + shift.view(shape)

    with torch.no_grad():
        torch.testing.assert_close(norm.train()(x, "image"), normalized(mean, variance))
        torch.testing.assert_close(norm.eval()(x, "image"), normalized(norm.running_mean, norm.running_var))


@pytest.mark.parametrize("depth", [18, 50])
def test_evaluation_with_the_channels_last_equals_the_convolutions_as_they_are_written(depth: int) -> None:
    torch.manual_seed(0)
    backbone = slow_only(depth, width=0.125).double().eval()
    randomize(backbone)
    clips = torch.randn(2, 3, 5, 64, 96, dtype=torch.float64)

    def conv3d(conv: MediaConv, inputs: tuple[Tensor, str], output: Tensor) -> None:
        as_written = F.conv3d(inputs[0], conv.weight, None, conv.stride, conv.padding)
        torch.testing.assert_close(output, as_written, rtol=1e-12, atol=1e-13)
        assert output.is_contiguous(memory_format=torch.channels_last_3d)

    for conv in backbone.modules():
        if isinstance(conv, MediaConv):
            conv.register_forward_hook(conv3d)
    with torch.no_grad():
        features = backbone(clips, "video")
        # Where the input has the channels last already, the features are the same to the bit.
        assert torch.equal(backbone(clips.to(memory_format=torch.channels_last_3d), "video"), features)
    assert features.is_contiguous(memory_format=torch.channels_last_3d)
    assert all(tensor.is_contiguous() for tensor in backbone.state_dict().values())


def test_training_keeps_the_layout_in_which_batch_statistics_are_exact() -> None:
    torch.manual_seed(0)
    backbone = slow_only(18, width=0.125).train()
    clips = torch.randn(2, 3, 2, 64, 64)
    assert backbone(clips, "video").is_contiguous() and backbone(clips[:, :, 0], "image").is_contiguous()


@pytest.mark.parametrize("width", [0.25, 0.3, 1.0, 1.5])
def test_width_scales_the_channels_of_stem_and_stages(width: int) -> None:
    with torch.device("meta"):
        backbone = slow_only(50, width)
    assert backbone.conv1.out_channels == round(64 * width)
    stages = (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4)
    for stage, planes in zip(stages, (64, 128, 256, 512), strict=True):
        assert stage[0].conv2.out_channels == round(planes * width)
        assert stage[0].conv3.out_channels == 4 * round(planes * width)
    assert backbone.out_channels == 4 * round(512 * width)


def test_width_without_a_channel_and_unknown_depth_are_refused() -> None:
    with pytest.raises(UserError, match=r"model\.width is 0\.001: .* larger width"):
        slow_only(18, width=0.001)
    with pytest.raises(UserError, match=r"model\.width is -1"):
        slow_only(18, width=-1)
    with pytest.raises(UserError, match=r"model\.depth is 42; it must be one of 18, 34, 50, 101, 152"):
        slow_only(42)


@pytest.mark.parametrize("depth", [18, 50])
def test_image_path_equals_a_plain_image_resnet_of_the_summed_kernels(depth: int) -> None:
    torch.manual_seed(0)
    backbone = slow_only(depth, width=0.125).double().eval()
    randomize(backbone)
    state = {name: tensor.sum(dim=2) if tensor.ndim == 5 else tensor for name, tensor in backbone.state_dict().items()}
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images, "image"), plain_resnet(state, backbone, images))


def plain_resnet(state: Mapping[str, Tensor], backbone: SlowOnly, x: Tensor) -> Tensor:
    """Returns the features of an image ResNet with torchvision's names, written out by operations."""

    def norm(x: Tensor, name: str) -> Tensor:
        tensors = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *tensors, eps=1e-5)

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        kernel = state[f"{name}.weight"]
        return F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)

    x = F.max_pool2d(norm(conv(x, "conv1", 2), "bn1").relu(), 3, stride=2, padding=1)
    for stage in (1, 2, 3, 4):
        for index in range(len(getattr(backbone, f"layer{stage}"))):
            name = f"layer{stage}.{index}"
            stride = 2 if stage > 1 and index == 0 else 1
            layers = [i for i in (1, 2, 3) if f"{name}.conv{i}.weight" in state]
            strided = next(i for i in layers if state[f"{name}.conv{i}.weight"].shape[-1] == 3)
            out = x
            for i in layers:
                out = norm(conv(out, f"{name}.conv{i}", stride if i == strided else 1), f"{name}.bn{i}")
                out = out.relu() if i != layers[-1] else out
            if f"{name}.downsample.0.weight" in state:
                x = norm(conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
            x = (out + x).relu()
    return x
