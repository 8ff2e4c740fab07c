from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from omnisource.models.backbones.slow_only import MediaBatchNorm
from omnisource.models.batch_norm import RunningStatistics, synchronize_batch_norm
from omnisource.models.heads import HeadBatchNorm
from omnisource.models.recognizer import Recognizer
from omnisource.types import Batch
from tests.support.tiny_runs import torchrun

MakeRecognizer = Callable[..., Recognizer]

needs_processes = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this torch has no distributed package"
)


def statistics_of(module: nn.Module) -> dict[str, Tensor]:
    return {
        name: tensor.clone() for name, tensor in module.state_dict().items() if "running" in name or "num_b" in name
    }


def assert_same_statistics(ours: nn.Module, theirs: nn.Module) -> None:
    for (name, one), other in zip(statistics_of(ours).items(), statistics_of(theirs).values(), strict=True):
        assert torch.equal(one, other), name


def batches_of_all_kinds() -> list[Batch]:
    """Returns a microbatch of two sources of videos and one of images."""
    generator = torch.Generator().manual_seed(0)

    def batch(source: str, head: str, count: int, frames: int) -> Batch:
        clips = torch.randint(256, (count, 1, 3, frames, 32, 32), dtype=torch.uint8, generator=generator)
        labels = torch.randint(3, (count,), generator=generator)
        return Batch(source, "image" if frames == 1 else "video", head, clips, labels, ("",) * count)

    return [batch("clips", "actions", 3, 2), batch("web", "photos", 4, 1), batch("raw", "actions", 2, 3)]


# One batch of a step is all that torch's formula and ours have in common bit for bit: (1 - m) r + m s.
def test_one_batch_moves_running_statistics_bit_for_bit_as_in_the_forward() -> None:
    torch.manual_seed(0)
    plain = MediaBatchNorm(5).train()
    recorded = copy.deepcopy(plain)
    statistics = RunningStatistics(recorded)
    for _ in range(3):
        x = torch.randn(2, 5, 3, 4, 4) * 3 + 1
        with statistics.recording():
            torch.testing.assert_close(recorded(x, "video"), plain(x, "video"), rtol=0, atol=0)
        statistics.combine()
        assert_same_statistics(recorded, plain)


def test_many_batches_of_a_step_move_running_statistics_as_in_the_forward(make_recognizer: MakeRecognizer) -> None:
    plain = make_recognizer().double().train()
    recorded = copy.deepcopy(plain)
    statistics = RunningStatistics(recorded)
    for _ in range(2):
        with statistics.recording():
            for _ in range(3):
                sum(recorded(batches_of_all_kinds()).values(), torch.zeros(())).backward()
                sum(plain(batches_of_all_kinds()).values(), torch.zeros(())).backward()
        statistics.combine()
    moved = statistics_of(plain)
    for name, one in statistics_of(recorded).items():
        torch.testing.assert_close(one, moved[name], rtol=1e-13, atol=1e-15)
    assert moved["backbone.bn1.num_batches_tracked"] == moved["heads.actions.bn.num_batches_tracked"] == 12
    assert moved["heads.photos.bn.num_batches_tracked"] == 6  # the head sees images, which the backbone never counts
    for ours, theirs in zip(recorded.parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("channels", [6, 64])
def test_running_statistics_move_on_a_gpu_as_in_the_forward(channels: int) -> None:
    torch.manual_seed(0)
    plain = MediaBatchNorm(channels).cuda().train()
    recorded = copy.deepcopy(plain)
    statistics = RunningStatistics(recorded)
    clips = torch.randn(2, 4, channels, 3, 8, 8, device="cuda") * 3 + 1
    for _ in range(2):
        with statistics.recording():
            for x in clips:
                torch.testing.assert_close(recorded(x, "video"), plain(x, "video"))
        statistics.combine()
    moved = statistics_of(plain)
    for name, one in statistics_of(recorded).items():
        torch.testing.assert_close(one, moved[name], rtol=1e-6, atol=1e-6)


def test_running_statistics_stay_still_until_they_are_combined() -> None:
    torch.manual_seed(0)
    norm = HeadBatchNorm(4).train()
    before = copy.deepcopy(norm)
    statistics = RunningStatistics(norm)
    with statistics.recording():
        norm(torch.randn(3, 4) + 5)
        # A single vector is normalized by the running statistics: those from before the step.
        vector = torch.randn(1, 4)
        assert torch.equal(norm(vector), before(vector))
    assert_same_statistics(norm, before)
    statistics.combine()
    assert int(norm.num_batches_tracked or 0) == 1  # the single vector is not counted


def test_failed_step_leaves_nothing_to_the_next() -> None:
    torch.manual_seed(0)
    norm = MediaBatchNorm(4).train()
    before = copy.deepcopy(norm)
    statistics = RunningStatistics(norm)
    with pytest.raises(RuntimeError, match="out of memory"), statistics.recording():
        norm(torch.randn(3, 4, 2, 5, 5) + 100, "video")
        raise RuntimeError("out of memory")
    assert_same_statistics(norm, before)
    x = torch.randn(3, 4, 2, 5, 5)
    with statistics.recording():
        norm(x, "video")
    statistics.combine()
    before(x, "video")
    assert_same_statistics(norm, before)
    norm(x, "video")  # and outside of a step the forward moves them again
    before(x, "video")
    assert_same_statistics(norm, before)


def test_what_was_combined_is_not_combined_again() -> None:
    norm = MediaBatchNorm(4).train()
    statistics = RunningStatistics(norm)
    with statistics.recording():
        norm(torch.randn(3, 4, 2, 5, 5), "video")
    statistics.combine()
    with pytest.raises(AssertionError, match="nothing was recorded"):
        statistics.combine()


def test_model_without_batch_norm_has_no_statistics_to_move() -> None:
    for module in (nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3)), nn.ReLU()):
        synchronize_batch_norm(module)
        statistics = RunningStatistics(module)
        for _ in range(2):
            with statistics.recording():
                module(torch.randn(4, 2))
            statistics.combine()


def test_synchronization_changes_no_key_and_nothing_in_one_process(make_recognizer: MakeRecognizer) -> None:
    plain, synchronized = make_recognizer().train(), make_recognizer().train()
    synchronize_batch_norm(synchronized)
    ours, theirs = synchronized(batches_of_all_kinds()), plain(batches_of_all_kinds())
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert list(synchronized.state_dict()) == list(plain.state_dict())
    assert_same_statistics(synchronized, plain)


# The batches differ in size, and the heads of one process see single vectors, which leave no statistics.
COMBINED = """
import torch
from omnisource.distributed import processes
from omnisource.models.batch_norm import RunningStatistics
from omnisource.models.heads import HeadBatchNorm
from omnisource.models.backbones.slow_only import MediaBatchNorm
from omnisource.models.pooled_statistics import PooledStatistics

processes.start(torch.device("cpu"))
me = processes.rank()
torch.manual_seed(0)
sizes = [(3, 2), (1, 1), (1, 4)]  # by process, of its two microbatches
clips = [[torch.randn(n, 4, 2, 3, 3, dtype=torch.float64) for n in of_process] for of_process in sizes]
vectors = [[torch.randn(n, 6, dtype=torch.float64) for n in of_process] for of_process in sizes]

def model():
    return torch.nn.ModuleList([MediaBatchNorm(4), HeadBatchNorm(6)]).double().train()

def forward(model, process):
    for clip, vector in zip(clips[process], vectors[process]):
        model[0](clip, "video")
        model[0](clip[:, :, 0], "image")
        model[1](vector)

ours, alone = model(), model()
statistics = RunningStatistics(ours)
for step in range(2):
    with statistics.recording():
        forward(ours, me)
    statistics.combine()
    for process in range(3):
        forward(alone, process)
assert ours[0].num_batches_tracked == 12 and ours[1].num_batches_tracked == 6
for (name, local), other in zip(ours.state_dict().items(), alone.state_dict().values(), strict=True):
    torch.testing.assert_close(local, other, rtol=1e-14, atol=1e-16, msg=name)
    for part in processes.gather_tensors(local):
        assert torch.equal(part, local), name  # bit for bit the same on all processes

# Images with statistics of their own, and statistics that are pooled: all batches are those of one process, too.
def apart():
    norms = [MediaBatchNorm(4, has_image_statistics=True), HeadBatchNorm(6, has_image_statistics=True)]
    return torch.nn.ModuleList(norms).double().train()

ours, alone = apart(), apart()
statistics = RunningStatistics(ours)
with statistics.recording():
    forward(ours, me)
statistics.combine()
for process in range(3):
    forward(alone, process)
assert ours[0].num_batches_tracked == ours[0].image_num_batches_tracked == 6 and ours[1].num_batches_tracked == 3
before = {name: value.clone() for name, value in ours.state_dict().items()}
pooled = PooledStatistics(ours)
for clip, vector in zip(clips[me], vectors[me]):
    with pooled.pooling():
        ours[0](clip, "video"), ours[0](clip[:, :, 0], "image"), ours[1](vector)
found = pooled.combine()
assert set(found) == {"0.running_mean", "0.running_var", "0.image_running_mean", "0.image_running_var",
                      "1.running_mean", "1.running_var"}  # the head has seen no image
values = torch.cat([clip.transpose(0, 1).flatten(1) for of_process in clips for clip in of_process], dim=1)
images = torch.cat([clip[:, :, 0].transpose(0, 1).flatten(1) for of_process in clips for clip in of_process], dim=1)
rows = torch.cat([vector for of_process in vectors for vector in of_process if len(vector) > 1]).T
for prefix, expected in (("0.", values), ("0.image_", images), ("1.", rows)):
    torch.testing.assert_close(found[prefix + "running_mean"], expected.mean(dim=1), rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(found[prefix + "running_var"], expected.var(dim=1), rtol=1e-13, atol=1e-15)
for name, value in ours.state_dict().items():
    torch.testing.assert_close(value, alone.state_dict()[name], rtol=1e-14, atol=1e-16, msg=name)
    assert torch.equal(value, before[name]), name
print("combined")
processes.stop()
"""


def test_images_with_statistics_of_their_own_are_normalized_as_a_norm_of_images_alone() -> None:
    torch.manual_seed(0)
    both, videos, images = (
        MediaBatchNorm(4, 0.3, has_image_statistics=True),
        MediaBatchNorm(4, 0.3),
        MediaBatchNorm(4, 0.3),
    )
    for _ in range(3):
        clips, pictures = torch.randn(2, 4, 3, 5, 5) + 2, 3 * torch.randn(5, 4, 6, 6)
        for x, media, alone in ((clips, "video", videos), (pictures, "image", images)):
            # The norm of images alone takes them for clips, which it counts.
            assert torch.equal(both.train()(x, media), alone.train()(x, "video"))
            assert torch.equal(both.eval()(x, media), alone.eval()(x, "video"))
    assert not torch.allclose(both.running_of("video").mean, both.running_of("image").mean, atol=0.5)


def test_batch_norm_that_cannot_be_held_still_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^1: a BatchNorm1d moves its running statistics in the forward"):
        RunningStatistics(nn.Sequential(HeadBatchNorm(3), nn.BatchNorm1d(3)))


# With two processes a collective that only one of them calls would wait for the other.
WITHOUT_BATCH_NORM = """
import torch
from omnisource.distributed import processes
from omnisource.models.batch_norm import RunningStatistics

processes.start(torch.device("cpu"))
statistics = RunningStatistics(torch.nn.LayerNorm(3))
if processes.rank() == 0:
    with statistics.recording():
        pass
    statistics.combine()
assert processes.gather(processes.rank()) == [0, 1]
print("nothing sent")
processes.stop()
"""


@needs_processes
def test_nothing_is_sent_for_a_model_without_batch_norm(tmp_path: Path) -> None:
    (tmp_path / "without.py").write_text(WITHOUT_BATCH_NORM)
    result = torchrun(tmp_path / "without.py")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("nothing sent") == 2


@needs_processes
def test_processes_combine_statistics_in_the_order_of_the_microbatches(tmp_path: Path) -> None:
    (tmp_path / "combined.py").write_text(COMBINED)
    result = torchrun(tmp_path / "combined.py", processes=3)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("combined") == 3
