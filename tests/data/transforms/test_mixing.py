"""Mixup and CutMix against pixels and labels that loops in float64 make."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from omnisource.data.transforms.mixing import WEIGHT_SCALE, Mix, draw_mixes, draw_partners, mix_batches
from omnisource.models.recognizer import Recognizer
from omnisource.randomness import derived_seed
from omnisource.recipe.checks import nothing_mixed_faults
from omnisource.recipe.data import Mixing
from omnisource.recipe.model import LabelSpace, Model
from omnisource.recipe.values import bound_faults
from omnisource.types import Batch, Media

BOTH = Mixing(mixup_alpha=0.8, cutmix_alpha=1.0)
CLASSES = {"actions": 5}


def random_batch(count: int, name: str = "videos", media: Media = "video", length: int = 3, seed: int = 0) -> Batch:
    rng = np.random.default_rng([seed, count])
    shape = (count, 1, 3, 1 if media == "image" else length, 18, 26)
    return Batch(
        source=name,
        media=media,
        head="actions",
        clips=torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8)),
        labels=torch.from_numpy(rng.integers(0, 5, count)),
        keys=tuple(f"{name}{number}" for number in range(count)),
    )


def plain_batch(count: int, name: str, first: int, media: Media = "video") -> Batch:
    """Returns a batch whose clip number i has the value first + i all over, and the label i modulo 5."""
    values = torch.arange(first, first + count, dtype=torch.uint8).view(-1, 1, 1, 1, 1, 1)
    clips = values.expand(count, 1, 3, 1 if media == "image" else 2, 20, 30).contiguous()
    keys = tuple(f"{name}{number}" for number in range(count))
    return Batch(name, media, "actions", clips, torch.arange(count) % 5, keys)


def expected_sample(batch: Batch, others: Batch, position: int, mix: Mix | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns clip and label of one mixed sample, counted in float64."""
    clip = batch.clips[position].double().numpy()
    label = np.zeros(5)
    if mix is None:
        label[batch.labels[position]] = 1
        return clip, label
    other = np.repeat(others.clips[mix.partner].double().numpy(), clip.shape[2] // others.clips.shape[3], axis=2)
    if mix.box is None:
        kept = mix.kept
        clip = np.floor(kept * clip + (1 - kept) * other + 0.5)
    else:
        inside = np.zeros(clip.shape[-2:], bool)
        for row in range(mix.box[0], mix.box[1]):
            for column in range(mix.box[2], mix.box[3]):
                inside[row, column] = True
        clip = np.where(inside, other, clip)
        kept = 1 - inside.mean()
    label[batch.labels[position]] += kept
    label[others.labels[mix.partner]] += 1 - kept
    return clip, label


class TestMixBatches:
    @pytest.mark.parametrize(
        "mixing", [Mixing(mixup_alpha=0.4), Mixing(cutmix_alpha=1.0), BOTH, dataclasses.replace(BOTH, probability=0.5)]
    )
    @pytest.mark.parametrize("step", [0, 7])
    def test_pixels_and_labels_are_those_of_loops(self, mixing: Mixing, step: int):
        batch = random_batch(9)
        (mixed,) = mix_batches([batch], {"videos": mixing}, CLASSES, 3, step, 1)
        assert mixed.clips.dtype == torch.uint8 and mixed.labels.dtype == torch.float32
        assert mixed.labels.shape == (9, 5)
        rng = np.random.Generator(np.random.PCG64(derived_seed(3, "mixing", "videos", step, 1)))
        mixes = draw_mixes(9, None, (18, 26), mixing, rng)
        for position, mix in enumerate(mixes):
            clip, label = expected_sample(batch, batch, position, mix)
            assert (mixed.clips[position].numpy() == clip).all()
            np.testing.assert_allclose(mixed.labels[position].numpy(), label, atol=1e-7)
        assert any(mix is not None for mix in mixes)

    def test_labels_sum_to_one(self):
        for step in range(20):
            (mixed,) = mix_batches([random_batch(16)], {"videos": BOTH}, CLASSES, 0, step, 0)
            assert (mixed.labels.double().sum(dim=1) - 1).abs().max() < 1e-7
            assert mixed.labels.min() >= 0

    def test_label_of_cutmix_is_the_share_of_pixels_that_are_left(self):
        batch = plain_batch(8, "videos", first=10)
        for step in range(10):
            (mixed,) = mix_batches([batch], {"videos": Mixing(cutmix_alpha=1.0)}, CLASSES, 0, step, 0)
            for position in range(8):
                own = (mixed.clips[position] == 10 + position).double().mean()
                foreign = mixed.clips[position][mixed.clips[position] != 10 + position]
                expected = torch.zeros(5, dtype=torch.float64)
                expected[position % 5] += own
                if len(foreign):
                    assert len(foreign.unique()) == 1
                    expected[(int(foreign[0]) - 10) % 5] += 1 - own
                torch.testing.assert_close(mixed.labels[position].double(), expected, atol=1e-7, rtol=0)

    def test_is_a_function_of_seed_step_microbatch_and_source(self):
        batch = random_batch(6)
        others = dataclasses.replace(batch, source="clips")
        first = mix_batches([batch], {"videos": BOTH}, CLASSES, 1, 2, 3)[0]
        torch.manual_seed(9)
        again = mix_batches([batch], {"videos": BOTH}, CLASSES, 1, 2, 3)[0]
        assert torch.equal(first.clips, again.clips) and torch.equal(first.labels, again.labels)
        assert first.keys == again.keys
        for position in ((0, 2, 3), (1, 0, 3), (1, 2, 0)):
            assert not torch.equal(mix_batches([batch], {"videos": BOTH}, CLASSES, *position)[0].clips, first.clips)
        assert not torch.equal(mix_batches([others], {"clips": BOTH}, CLASSES, 1, 2, 3)[0].clips, first.clips)

    def test_leaves_its_batches_as_they_are(self):
        batch = random_batch(5)
        before = batch.clips.clone()
        mix_batches([batch], {"videos": BOTH}, CLASSES, 0, 0, 0)
        assert torch.equal(batch.clips, before) and batch.labels.dtype == torch.int64

    def test_sources_without_mixing_pass_untouched(self):
        videos, images = random_batch(4), random_batch(7, "images", "image")
        mixed = mix_batches([videos, images], {"videos": BOTH}, CLASSES, 0, 0, 0)
        assert mixed[1] is images and mixed[0] is not videos

    def test_a_sample_that_is_alone_stays_as_it_is(self):
        batch = random_batch(1)
        (mixed,) = mix_batches([batch], {"videos": BOTH}, CLASSES, 0, 0, 0)
        assert torch.equal(mixed.clips, batch.clips) and mixed.keys == batch.keys
        assert torch.equal(mixed.labels, F.one_hot(batch.labels, 5).float())

    def test_keys_name_both_samples(self):
        batch = plain_batch(6, "videos", first=0)
        (mixed,) = mix_batches([batch], {"videos": Mixing(mixup_alpha=1.0, probability=0.5)}, CLASSES, 5, 0, 0)
        kinds = set()
        for position, key in enumerate(mixed.keys):
            own, _, other = key.partition(" + ")
            assert own == f"videos{position}"
            is_mixed = not (mixed.labels[position] == 1).any()
            assert bool(other) == is_mixed
            if other:
                assert mixed.labels[position, int(other.removeprefix("videos")) % 5] > 0
            kinds.add(is_mixed)
        assert kinds == {True, False}

    def test_images_are_repeated_along_the_time_of_videos(self):
        videos, images = random_batch(5, length=4), random_batch(3, "images", "image")
        mixing = dataclasses.replace(BOTH, partner="images")
        mixed, untouched = mix_batches([videos, images], {"videos": mixing}, CLASSES, 2, 0, 0)
        assert untouched is images
        assert mixed.media == "video" and mixed.clips.shape == videos.clips.shape
        assert all(" + images" in key for key in mixed.keys)
        # Where a box of CutMix lies, every frame shows the same.
        cut = Mixing(cutmix_alpha=1.0, partner="images")
        (cut_videos, _) = mix_batches([videos, images], {"videos": cut}, CLASSES, 2, 0, 0)
        for position, key in enumerate(cut_videos.keys):
            partner = int(key.partition(" + images")[2] or 0)
            is_foreign = (cut_videos.clips[position] != videos.clips[position]).any(dim=1).any(dim=1)[0]  # [H, W]
            frames = cut_videos.clips[position, 0][..., is_foreign]  # [3, T, pixels]
            assert torch.equal(frames, images.clips[partner, 0][..., is_foreign].expand_as(frames))

    def test_partners_are_taken_as_they_came_and_not_as_they_were_mixed(self):
        first, second = plain_batch(4, "first", first=0), plain_batch(4, "second", first=100)
        mixings = {"first": Mixing(cutmix_alpha=1.0), "second": Mixing(cutmix_alpha=1.0, partner="first")}
        _, mixed = mix_batches([first, second], mixings, CLASSES, 0, 0, 0)
        for position, key in enumerate(mixed.keys):
            allowed = {100 + position}
            if " + " in key:
                allowed.add(int(key.partition(" + first")[2]))
            assert set(mixed.clips[position].unique().tolist()) <= allowed

    def test_works_where_only_deterministic_algorithms_are_allowed(self):
        torch.use_deterministic_algorithms(True)
        try:
            (mixed,) = mix_batches([random_batch(4)], {"videos": BOTH}, CLASSES, 0, 0, 0)
        finally:
            torch.use_deterministic_algorithms(False)
        assert mixed.labels.shape == (4, 5)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
    def test_a_gpu_makes_the_same_pixels_and_labels(self):
        videos, images = random_batch(12), random_batch(5, "images", "image")
        mixings = {"videos": dataclasses.replace(BOTH, partner="images"), "images": BOTH}
        device = torch.device("cuda")
        for step in range(20):
            ours = mix_batches([videos, images], mixings, CLASSES, 0, step, 0)
            theirs = mix_batches([videos.to(device), images.to(device)], mixings, CLASSES, 0, step, 0)
            for one, other in zip(ours, theirs, strict=True):
                assert other.clips.is_cuda and other.labels.is_cuda
                assert torch.equal(one.clips, other.clips.cpu()) and torch.equal(one.labels, other.labels.cpu())


class TestDrawPartners:
    @given(st.integers(2, 64), st.integers(0, 2**32))
    def test_within_a_batch_they_are_one_circle(self, count: int, seed: int):
        partners = draw_partners(count, None, np.random.default_rng(seed))
        position, seen = 0, set()
        for _ in range(count):
            seen.add(position)
            position = int(partners[position])
        assert position == 0 and seen == set(range(count))

    def test_everybody_is_as_likely_to_be_the_partner(self):
        rng, counts = np.random.default_rng(0), np.zeros((5, 5))
        for _ in range(4000):
            counts[np.arange(5), draw_partners(5, None, rng)] += 1
        assert (counts.diagonal() == 0).all()
        others = counts[~np.eye(5, dtype=bool)]
        assert abs(others - 1000).max() < 4 * (1000 * 0.75) ** 0.5

    @given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32))
    def test_of_another_batch_everybody_is_a_partner_equally_often(self, count: int, others: int, seed: int):
        partners = draw_partners(count, others, np.random.default_rng(seed))
        times = np.bincount(partners, minlength=others)
        assert len(partners) == count and len(times) == others
        assert times.max() - times.min() <= 1


class TestDrawMixes:
    def test_weights_follow_their_beta_distribution(self):
        for alpha in (0.2, 0.8, 1.0, 3.0):
            mixes = draw_mixes(20000, None, (8, 8), Mixing(mixup_alpha=alpha), np.random.default_rng(0))
            weights = np.array([mix.kept for mix in mixes if mix is not None])
            assert len(weights) == 20000 and all(mix is not None and mix.box is None for mix in mixes)
            assert abs(weights.mean() - 0.5) < 0.015
            assert abs(weights.var() - 1 / (4 * (2 * alpha + 1))) < 0.005
            assert (weights * WEIGHT_SCALE % 1 == 0).all()

    def test_boxes_lie_inside_the_frame_and_keep_what_is_outside_of_them(self):
        mixes = draw_mixes(4000, 3, (30, 50), Mixing(cutmix_alpha=1.0), np.random.default_rng(0))
        shares = []
        for mix in mixes:
            assert mix is not None and mix.box is not None
            top, bottom, left, right = mix.box
            assert 0 <= top <= bottom <= 30 and 0 <= left <= right <= 50
            assert mix.kept == 1 - (bottom - top) * (right - left) / 1500
            shares.append(mix.kept)
        assert 0.6 < np.mean(shares) < 0.75  # above a half: boxes are cut off at the edges
        assert min(shares) < 0.15 and max(shares) == 1

    def test_samples_are_mixed_and_cut_as_often_as_asked(self):
        mixing = Mixing(0.8, 1.0, probability=0.6, switch_probability=0.25)
        mixes = draw_mixes(8000, None, (32, 32), mixing, np.random.default_rng(0))
        mixed = [mix for mix in mixes if mix is not None]
        cut = [mix for mix in mixed if mix.box is not None]
        assert abs(len(mixed) / 8000 - 0.6) < 0.022  # four standard deviations
        assert abs(len(cut) / len(mixed) - 0.25) < 0.025

    def test_every_sample_has_draws_of_its_own(self):
        mixes = draw_mixes(8, None, (18, 26), BOTH, np.random.default_rng(0))
        assert len({mix.kept for mix in mixes if mix is not None}) == 8

    @pytest.mark.parametrize("alpha", [1e-6, 1e6])
    def test_extreme_alphas_give_valid_weights(self, alpha: float):
        for mix in draw_mixes(500, None, (8, 8), Mixing(alpha, alpha), np.random.default_rng(0)):
            assert mix is not None and 0 <= mix.kept <= 1


def test_smoothing_of_mixed_labels_is_that_of_timm() -> None:
    """Timm smooths each of the two labels before it mixes them; the loss smooths the mixed one, which is the same."""
    spaces = {"actions": LabelSpace("video", num_classes=5, dropout=0.0, label_smoothing=0.1)}
    torch.manual_seed(0)
    recognizer = Recognizer(Model(depth=18, width=0.0625), spaces).eval()
    batch = random_batch(6)
    (mixed,) = mix_batches([batch], {"videos": Mixing(mixup_alpha=0.8)}, CLASSES, 0, 0, 0)
    off, on = 0.1 / 5, 1 - 0.1 + 0.1 / 5
    target = torch.zeros(6, 5)
    for position, key in enumerate(mixed.keys):
        partner = int(key.partition(" + videos")[2])
        kept = 1 - mixed.labels[position, batch.labels[partner]]  # meaningful where the labels differ
        if batch.labels[partner] == batch.labels[position]:
            kept = torch.tensor(1.0)
        smooth = torch.full((2, 5), off)
        smooth[0, batch.labels[position]] = smooth[1, batch.labels[partner]] = on
        target[position] = kept * smooth[0] + (1 - kept) * smooth[1]
    with torch.inference_mode():
        scores = recognizer.logits(mixed.clips[:, 0], "video", "actions").log_softmax(dim=1)
        torch.testing.assert_close(recognizer([mixed])["videos"], -(target * scores).sum(dim=1).mean())


@pytest.mark.parametrize(
    ("mixing", "faults"),
    [
        (Mixing(), ["m: mixup_alpha and cutmix_alpha are both 0, so nothing is mixed: set one, or m=None"]),
        (Mixing(-0.1, 1.0), ["m.mixup_alpha=-0.1: must be at least 0"]),
        (Mixing(1.0, -2.0), ["m.cutmix_alpha=-2: must be at least 0"]),
        (Mixing(1.0, probability=1.1), ["m.probability=1.1: must be in [0, 1]"]),
        (Mixing(1.0, switch_probability=-1), ["m.switch_probability=-1: must be in [0, 1]"]),
        (BOTH, []),
    ],
)
def test_impossible_numbers_are_reported(mixing: Mixing, faults: list[str]) -> None:
    assert [*bound_faults(mixing, "m."), *nothing_mixed_faults("m", mixing)] == faults
