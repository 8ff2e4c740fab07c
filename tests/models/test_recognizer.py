from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from omnisource.errors import UserError
from omnisource.models.recognizer import Recognizer
from omnisource.recipe.model import LabelSpace, Model
from omnisource.types import Batch, Media

MakeRecognizer = Callable[..., Recognizer]


def random_clips(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def batch(
    media: Media, labels: list[int] | Tensor, views: int = 1, frames: int = 2, source: str = "", seed: int = 0
) -> Batch:
    head = "photos" if media == "image" else "actions"
    labels = torch.as_tensor(labels)
    clips = random_clips(len(labels), views, 3, 1 if media == "image" else frames, 32, 32, seed=seed)
    return Batch(source or media, media, head, clips, labels, tuple(map(str, range(len(labels)))))


@pytest.mark.parametrize("depth", [18, 50])
def test_gradients_reach_every_parameter_in_one_forward(make_recognizer: MakeRecognizer, depth: int) -> None:
    recognizer = make_recognizer(depth).train()
    losses = recognizer([batch("video", [0, 1, 3, 2]), batch("image", [2, 0, 1, 1])])
    assert list(losses) == ["video", "image"]
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in recognizer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, name


def test_losses_do_not_depend_on_the_order_or_company_of_the_batches(make_recognizer: MakeRecognizer) -> None:
    video, image = batch("video", [0, 1, 3]), batch("image", [2, 0, 1])
    together = make_recognizer().train()([video, image])
    swapped = make_recognizer().train()([image, video])
    alone = make_recognizer().train()([image])
    for losses in (swapped, alone):
        for source, loss in losses.items():
            torch.testing.assert_close(loss, together[source], rtol=0, atol=0)


def test_loss_is_the_mean_cross_entropy_with_the_smoothing_of_the_label_space() -> None:
    torch.manual_seed(0)
    spaces = {
        "photos": LabelSpace("image", num_classes=7, dropout=0.0, label_smoothing=0.3),
        "actions": LabelSpace("video", num_classes=3, dropout=0.0),
    }
    recognizer = Recognizer(Model(depth=18, width=0.125), spaces).eval()
    video, image = batch("video", [0, 2]), batch("image", [6, 1, 3])
    with torch.no_grad():
        losses = recognizer([video, image])
        for one, smoothing in ((video, 0.0), (image, 0.3)):
            log_scores = recognizer.logits(one.clips[:, 0], one.media, one.head).log_softmax(dim=1)
            of_label = -log_scores.gather(1, one.labels[:, None]).mean()
            of_all = -log_scores.mean()
            torch.testing.assert_close(losses[one.source], (1 - smoothing) * of_label + smoothing * of_all)


def test_soft_labels_of_one_class_equal_hard_labels(make_recognizer: MakeRecognizer) -> None:
    recognizer = make_recognizer().eval()
    hard = batch("video", [3, 1])
    soft = batch("video", F.one_hot(torch.tensor([3, 1]), 4).double())
    with torch.no_grad():
        torch.testing.assert_close(recognizer([soft])["video"], recognizer([hard])["video"])
        mixed = recognizer([batch("video", torch.tensor([[0.25, 0, 0, 0.75], [0, 1, 0, 0]]))])["video"]
        of_first = recognizer([batch("video", [0, 1])])["video"]
        torch.testing.assert_close(mixed, 0.25 * of_first + 0.75 * recognizer([hard])["video"])


def test_all_views_of_a_clip_bear_its_label(make_recognizer: MakeRecognizer) -> None:
    recognizer = make_recognizer().eval()
    two_views = batch("video", [0, 3, 2], views=2)
    with torch.no_grad():
        of_views = [
            recognizer(
                [Batch("v", "video", "actions", two_views.clips[:, v : v + 1], two_views.labels, two_views.keys)]
            )
            for v in (0, 1)
        ]
        torch.testing.assert_close(recognizer([two_views])["video"], (of_views[0]["v"] + of_views[1]["v"]) / 2)


def test_training_on_images_updates_the_image_head_and_not_the_backbone(make_recognizer: MakeRecognizer) -> None:
    recognizer = make_recognizer().train()
    before = {name: buffer.clone() for name, buffer in recognizer.named_buffers()}
    recognizer([batch("image", [0, 1, 2])])
    moved = {name for name, buffer in recognizer.named_buffers() if not torch.equal(buffer, before[name])}
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert moved == {f"heads.photos.bn.{statistic}" for statistic in statistics}


def test_one_sample_trains_and_leaves_the_statistics_of_its_head(make_recognizer: MakeRecognizer) -> None:
    # 32x32 pixels: the last stage of the image path has a single value a channel
    recognizer = make_recognizer().train()
    before = {name: buffer.clone() for name, buffer in recognizer.heads.named_buffers()}
    losses = recognizer([batch("video", [1]), batch("image", [2])])
    torch.stack(list(losses.values())).sum().backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(torch.equal(buffer, before[name]) for name, buffer in recognizer.heads.named_buffers())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in recognizer.parameters())


def test_statistics_of_a_head_move_by_a_tenth(make_recognizer: MakeRecognizer) -> None:
    recognizer = make_recognizer().train()
    image = batch("image", [0, 1, 2, 0])
    features = recognizer.features(image.clips[:, 0], "image").detach()
    recognizer([image])
    torch.testing.assert_close(recognizer.heads["photos"].bn.running_mean, 0.1 * features.mean(dim=0))


def test_any_head_takes_either_media(make_recognizer: MakeRecognizer) -> None:
    recognizer = make_recognizer().eval()
    images, clips = random_clips(2, 3, 32, 32), random_clips(2, 3, 4, 32, 32)
    with torch.no_grad():
        assert recognizer.image_logits(images, head="actions").shape == (2, 4)
        assert recognizer.video_logits(clips, head="photos").shape == (2, 3)
        torch.testing.assert_close(recognizer.image_logits(images), recognizer.image_logits(images, head="photos"))
        torch.testing.assert_close(recognizer.video_logits(clips), recognizer.video_logits(clips, head="actions"))


def test_head_must_be_named_where_there_is_not_exactly_one_of_its_kind() -> None:
    spaces = {name: LabelSpace("image", num_classes=2) for name in ("places", "objects")}
    recognizer = Recognizer(Model(depth=18, width=0.125), spaces).eval()
    with pytest.raises(ValueError, match=r"2 image heads are there.*places \(image\), objects \(image\)"):
        recognizer.image_logits(random_clips(1, 3, 32, 32))
    with pytest.raises(ValueError, match="0 video heads are there"):
        recognizer.video_logits(random_clips(1, 3, 2, 32, 32))
    with pytest.raises(ValueError, match="there is no head 'animals'; the heads are places, objects"):
        recognizer.image_logits(random_clips(1, 3, 32, 32), head="animals")


def test_uint8_input_equals_the_input_normalized_by_hand(make_recognizer: MakeRecognizer) -> None:
    recognizer = make_recognizer().eval()
    clips = random_clips(2, 3, 3, 32, 32)
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1, 1)
    normalized = (clips.float() - mean) / std
    torch.testing.assert_close(recognizer.normalize(clips), normalized, rtol=0, atol=0)
    with torch.no_grad():
        by_hand = recognizer.video_logits(normalized)
        torch.testing.assert_close(recognizer.video_logits(clips), by_hand, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_of_another_type_do_not_round_the_normalization(
    make_recognizer: MakeRecognizer, dtype: torch.dtype
) -> None:
    recognizer = make_recognizer().eval()
    clips = random_clips(2, 3, 3, 32, 32)
    normalized = recognizer.normalize(clips)
    with torch.no_grad():
        logits = recognizer.video_logits(clips)
        recognizer.to(dtype)
        torch.testing.assert_close(recognizer.normalize(clips), normalized, rtol=0, atol=0)
        in_dtype = recognizer.video_logits(clips)
        assert in_dtype.dtype == dtype
        tolerance = 1e-4 if dtype == torch.float64 else 0.1  # 8 bits of mantissa through 18 layers
        torch.testing.assert_close(in_dtype.float(), logits, rtol=tolerance, atol=tolerance)
        loss = recognizer([batch("video", [0, 1])])["video"]
        assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_mixed_precision_trains_both_paths(make_recognizer: MakeRecognizer) -> None:
    recognizer = make_recognizer().train()
    # torch 2.13 on the CPU leaves gradients of bfloat16 Conv3d unwritten where a clip has fewer frames than the kernel
    batches = [batch("video", [0, 1, 3], frames=4), batch("image", [2, 0, 1])]
    exact = make_recognizer().train()(batches)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = recognizer(batches)
    for source, loss in losses.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, exact[source], rtol=0.1, atol=0.1)
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in recognizer.parameters())


def test_state_dict_holds_weights_only(make_recognizer: MakeRecognizer) -> None:
    assert all(name.startswith(("backbone.", "heads.")) for name in make_recognizer().state_dict())


@pytest.mark.parametrize(("depth", "blocks"), [(18, 8), (50, 16)])
def test_parameters_have_the_depth_of_their_block(make_recognizer: MakeRecognizer, depth: int, blocks: int) -> None:
    recognizer = make_recognizer(depth)
    groups = recognizer.parameter_groups()
    names = [name for group in groups for name in group.names]
    assert sorted(names) == sorted(name for name, _ in recognizer.named_parameters())
    depth_of = {name: group.depth for group in groups for name in group.names}
    in_order = [depth_of[name] for name, _ in recognizer.named_parameters()]
    assert in_order == sorted(in_order) and set(in_order) == set(range(1 + blocks + 1))
    assert depth_of["backbone.conv1.weight"] == depth_of["backbone.bn1.bias"] == 0
    assert depth_of["backbone.layer4.0.conv1.weight"] + 1 == depth_of["backbone.layer4.1.conv1.weight"]
    assert depth_of["heads.photos.bn.weight"] == depth_of["heads.actions.fc2.bias"] == blocks + 1


def test_dropout_acts_in_training_only(make_recognizer: MakeRecognizer) -> None:
    recognizer = make_recognizer(dropout=0.5)
    features = torch.randn(6, 64)
    for head in recognizer.heads.values():
        head.eval()
        assert torch.equal(head(features), head(features))
        head.train()
        assert not torch.equal(head(features), head(features))


@pytest.mark.parametrize("name", ["", "kinetics.400", "400kinetics", "with blank", "ünicode", "-dash"])
def test_label_space_with_a_name_that_no_weight_can_bear_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="must begin with a letter or _"):
        Recognizer(Model(depth=18, width=0.125), {name: LabelSpace("image", num_classes=2)})


@pytest.mark.parametrize("name", ["keys", "train", "training", "type", "forward"])
def test_label_space_with_a_name_of_torch_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"label space '{name}': torch uses this name.*{name}_classes"):
        Recognizer(Model(depth=18, width=0.125), {name: LabelSpace("image", num_classes=2)})


def test_label_spaces_may_have_dashes_and_digits() -> None:
    recognizer = Recognizer(Model(depth=18, width=0.125), {"imagenet-1k_v2": LabelSpace("image", num_classes=2)})
    assert "heads.imagenet-1k_v2.fc.weight" in recognizer.state_dict()


def test_unknown_number_of_classes_and_no_label_space_are_refused() -> None:
    with pytest.raises(ValueError, match="label space 'photos': num_classes is None"):
        Recognizer(Model(depth=18, width=0.125), {"photos": LabelSpace("image")})
    with pytest.raises(ValueError, match="at least one label space"):
        Recognizer(Model(depth=18, width=0.125), {})


def test_input_of_another_shape_or_type_is_refused(make_recognizer: MakeRecognizer) -> None:
    recognizer = make_recognizer().eval()
    with pytest.raises(ValueError, match=r"images must be \[N, 3, H, W\], got \[3, 32, 32\]"):
        recognizer.image_logits(random_clips(3, 32, 32))
    with pytest.raises(ValueError, match=r"clips must be .* got \[2, 4, 3, 32, 32\] uint8"):
        recognizer.video_logits(random_clips(2, 4, 3, 32, 32))
    with pytest.raises(ValueError, match="int64"):
        recognizer.video_logits(random_clips(2, 3, 4, 32, 32).long())
    with pytest.raises(ValueError, match="T = 1"):
        recognizer.logits(random_clips(2, 3, 4, 32, 32), "image", "photos")


def test_batches_that_do_not_fit_are_refused(make_recognizer: MakeRecognizer) -> None:
    recognizer = make_recognizer().train()
    with pytest.raises(ValueError, match="source 'video' came with two batches"):
        recognizer([batch("video", [0, 1]), batch("video", [2, 1])])
    with pytest.raises(ValueError, match=r"soft labels \[2, 3\] do not fit head 'actions' of 4 classes"):
        recognizer([batch("video", torch.rand(2, 3))])
