"""BatchNorm's statistics of all processes together, against one process that has the concatenated batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.tiny_runs import torchrun

needs_processes = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this torch has no distributed package"
)

SYNCHRONIZED = """
import copy
import torch
from omnisource.distributed import processes
from omnisource.models.batch_norm import RunningStatistics, synchronize_batch_norm
from omnisource.models.heads import HeadBatchNorm
from omnisource.models.recognizer import LabelSpace, Model, Recognizer
from omnisource.models.backbones.slow_only import MediaBatchNorm
from omnisource.types import Batch

processes.start(torch.device("cpu"))
me = processes.rank()
torch.manual_seed(0)
SIZES = [3, 1, 2]
first, last = sum(SIZES[:me]), sum(SIZES[: me + 1])


def close(ours, theirs, tolerance):
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def check(norm, x, media, tolerance, recorded):
    # Against one process that has the concatenated batch; the gradient is that of the sum of all outputs x factors.
    torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    torch.nn.init.normal_(norm.bias)
    alone, ours = norm.train(), copy.deepcopy(norm).train()
    synchronize_batch_norm(ours)
    factors = torch.randn(x.shape, dtype=x.dtype)
    whole = x.clone().requires_grad_()
    expected = alone(whole, *media)
    (expected * factors).sum().backward()
    local = x[first:last].clone().requires_grad_()
    if recorded:
        statistics = RunningStatistics(ours)
        with statistics.recording():
            out = ours(local, *media)
        statistics.combine()
    else:
        out = ours(local, *media)
    (out * factors[first:last]).sum().backward()
    assert out.dtype == x.dtype and local.grad.dtype == x.dtype
    close(out, expected[first:last], tolerance)
    close(local.grad, whole.grad[first:last], tolerance)
    for name in ("weight", "bias"):
        close(processes.add_up(getattr(ours, name).grad), getattr(alone, name).grad, tolerance)
    for (name, buffer), other in zip(ours.named_buffers(), alone.buffers(), strict=True):
        close(buffer, other, tolerance)
        assert all(torch.equal(part, buffer) for part in processes.gather_tensors(buffer)), name
    counted = 0 if media == ("image",) else 1
    assert ours.num_batches_tracked == counted
    ours.eval(), alone.eval()
    close(ours(local, *media), alone(local, *media), tolerance)


for recorded in (False, True):
    for kind, shape, media in (
        (MediaBatchNorm, (6, 4, 3, 5, 5), ("video",)),
        (MediaBatchNorm, (6, 4, 5, 5), ("image",)),
        (MediaBatchNorm, (6, 4, 1, 1), ("image",)),  # the second process has a single value a channel
        (HeadBatchNorm, (6, 4), ()),
    ):
        check(kind(4).double(), torch.randn(shape, dtype=torch.float64), media, 1e-10, recorded)

# In float32 a mean that is a thousand deviations away costs no more digits than in one process.
far = torch.randn(6, 4, 3, 5, 5, dtype=torch.float64) + 1000
exact, ours = MediaBatchNorm(4).double().train(), MediaBatchNorm(4).train()
synchronize_batch_norm(ours)
exact(far, "video"), ours(far[first:last].float(), "video")
close(ours.running_mean.double(), exact.running_mean, 1e-6)
close(ours.running_var.double(), exact.running_var, 1e-6)

# Half precision: the statistics, and the sums over them, are of float32.
for dtype in (torch.bfloat16, torch.float16):
    x = torch.randn(6, 4, 3, 16, 16).to(dtype)
    in_full, ours = MediaBatchNorm(4).train(), MediaBatchNorm(4).train()
    synchronize_batch_norm(ours)
    expected = in_full(x.float(), "video")
    with torch.autocast("cpu", dtype=dtype):
        local = x[first:last].clone().requires_grad_()
        out = ours(local, "video")
    out.float().square().sum().backward()
    assert out.dtype == dtype and local.grad.dtype == dtype and ours.weight.grad.dtype == torch.float32
    close(ours.running_mean, in_full.running_mean, 1e-7)
    close(ours.running_var, in_full.running_var, 1e-6)
    close(out.float(), expected[first:last], 1e-2)

# A whole recognizer in parallel: two microbatches, gradients and statistics of all against one process with it all.
def batch(source, head, frames):
    clips = torch.randint(256, (2, 3, 2, 1, 3, frames, 32, 32), dtype=torch.uint8)
    return [source, "image" if frames == 1 else "video", head, clips, torch.randint(3, (2, 3, 2))]


sources = [batch("clips", "actions", 2), batch("web", "photos", 1)]
spaces = {"photos": LabelSpace("image", 3, dropout=0.0), "actions": LabelSpace("video", 3, dropout=0.0)}
alone = Recognizer(Model(depth=18, width=0.0625), spaces).double().train()
ours = copy.deepcopy(alone)
synchronize_batch_norm(ours)
model, statistics = processes.in_parallel(ours), RunningStatistics(ours)
with statistics.recording():
    for index in range(2):
        local = [Batch(*names, clips[index, me], labels[index, me], ("", "")) for *names, clips, labels in sources]
        sum(model(local).values()).backward()
        whole = [
            Batch(*names, clips[index].flatten(0, 1), labels[index].flatten(), ("",) * 6)
            for *names, clips, labels in sources
        ]
        sum(alone(whole).values()).backward()
statistics.combine()
for (name, local), other in zip(ours.named_parameters(), alone.parameters(), strict=True):
    # The largest gradient of the tensor is the measure: those that cancel to nothing have no digits to compare.
    difference = (local.grad - other.grad).abs().max() / other.grad.abs().max().clamp(min=1e-3)
    assert difference < 1e-10, (name, difference)
for local, other in zip(ours.buffers(), alone.buffers(), strict=True):
    close(local, other, 1e-12 if local.is_floating_point() else 0)
print("synchronized")
processes.stop()
"""


@needs_processes
def test_synchronized_processes_equal_one_process_with_the_concatenated_batch(tmp_path: Path) -> None:
    (tmp_path / "synchronized.py").write_text(SYNCHRONIZED)
    result = torchrun(tmp_path / "synchronized.py", processes=3)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("synchronized") == 3
