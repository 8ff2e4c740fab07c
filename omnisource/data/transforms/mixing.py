"""Mixup and CutMix of whole microbatches: samples of a source mixed with others of the same label space.

Every sample is mixed by itself, with weights and a box of its own, as the papers define it; one draw for a whole batch,
which is common for speed, would give the few videos of a microbatch all the same treatment.

Source: mixup, arXiv 1710.09412; CutMix, arXiv 1905.04899; huggingface/pytorch-image-models commit 066e4906,
timm/data/mixup.py, mode "elem", but for the partners.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from omnisource.randomness import derived_seed
from omnisource.recipe.data import Mixing
from omnisource.types import Batch

WEIGHT_SCALE = 1 << 16
"""Mixup weighs pixels in integers that sum to this: they fit into 32 bits, and every device counts the same."""


@dataclass(frozen=True)
class Mix:
    """What is mixed into one sample.

    Attributes:
        partner: Position of the other sample in its batch.
        kept: Share of the sample and of its label that is kept; of mixup a multiple of 1 / 65536.
        box: None for mixup; for CutMix top, bottom, left and right of the box that comes from the other, in pixels.
    """

    partner: int
    kept: float
    box: tuple[int, int, int, int] | None


def mix_batches(
    batches: Sequence[Batch],
    mixings: Mapping[str, Mixing],
    num_classes: Mapping[str, int],
    seed: int,
    step: int,
    microbatch: int,
) -> list[Batch]:
    """Returns the batches of a microbatch, those of sources that mix with mixed clips and labels [N, classes] float32.

    What is mixed is a function of (seed, step, microbatch, source) and of the position in the batch: a resumed run, and
    one with another number of processes, mixes the same. Partners are taken as they came, not as they were mixed.

    Args:
        batches: One batch a source, on any device; they are left as they are.
        mixings: By source, for those that mix.
        num_classes: By label space.
        seed: Seed of the run.
        step: 0-based step of the run.
        microbatch: 0-based index of the microbatch in the step, over all processes.
    """
    by_source = {batch.source: batch for batch in batches}
    mixed = []
    for batch in batches:
        mixing = mixings.get(batch.source)
        if mixing is None:
            mixed.append(batch)
            continue
        others = by_source[mixing.partner] if mixing.partner else batch
        rng = np.random.Generator(np.random.PCG64(derived_seed(seed, "mixing", batch.source, step, microbatch)))
        mixes = draw_mixes(len(batch), None if others is batch else len(others), batch.clips.shape[-2:], mixing, rng)
        mixed.append(_mixed(batch, others, mixes, num_classes[batch.head]))
    return mixed


def draw_mixes(
    count: int, num_others: int | None, frame_size: Sequence[int], mixing: Mixing, rng: np.random.Generator
) -> list[Mix | None]:
    """Returns what is mixed into each sample of a batch, or None for samples that stay as they are.

    Args:
        count: Samples in the batch.
        num_others: Samples in the batch that the partners come from; None if it is the same batch.
        frame_size: Height and width of the frames, in pixels.
        mixing: What to draw.
        rng: Draws partners, whether and how each sample is mixed, weights and boxes; always all of them.
    """
    partners = draw_partners(count, num_others, rng)
    is_mixed = rng.random(count) < mixing.probability
    prefers_cutmix = rng.random(count) < mixing.switch_probability
    uses_cutmix = (mixing.cutmix_alpha > 0) & (prefers_cutmix | (mixing.mixup_alpha == 0))
    weights = rng.beta(mixing.mixup_alpha, mixing.mixup_alpha, count) if mixing.mixup_alpha else np.ones(count)
    shares = rng.beta(mixing.cutmix_alpha, mixing.cutmix_alpha, count) if mixing.cutmix_alpha else np.ones(count)
    height, width = frame_size
    centers = zip(rng.integers(0, height, count).tolist(), rng.integers(0, width, count).tolist(), strict=True)
    mixes: list[Mix | None] = []
    for position, (row, column) in enumerate(centers):
        partner = int(partners[position])
        if not is_mixed[position] or (num_others is None and partner == position):
            mixes.append(None)
        elif uses_cutmix[position]:
            mixes.append(_cut(partner, float(shares[position]), row, column, height, width))
        else:
            mixes.append(Mix(partner, round(float(weights[position]) * WEIGHT_SCALE) / WEIGHT_SCALE, None))
    return mixes


def draw_partners(count: int, num_others: int | None, rng: np.random.Generator) -> np.ndarray:
    """Returns the position of each sample's partner, [count] int64.

    Within a batch the partners are one random circle: every sample is a partner once, and nobody's own, unless it is
    alone. Of another batch all samples are partners equally often, up to one.

    Args:
        count: Samples in the batch.
        num_others: Samples in the batch of the partners; None if it is the same batch.
        rng: Draws a permutation.
    """
    if num_others is not None:
        return np.resize(rng.permutation(num_others), count)
    circle = rng.permutation(count)
    partners = np.empty(count, np.int64)
    partners[circle] = np.roll(circle, -1)
    return partners


def _cut(partner: int, kept: float, row: int, column: int, height: int, width: int) -> Mix:
    """Returns a box of the drawn size around a pixel, cut off at the edges, and the share that then is kept."""
    ratio = (1 - kept) ** 0.5
    half_height, half_width = int(height * ratio) // 2, int(width * ratio) // 2
    top, bottom = max(0, row - half_height), min(height, row + half_height)
    left, right = max(0, column - half_width), min(width, column + half_width)
    return Mix(partner, 1 - (bottom - top) * (right - left) / (height * width), (top, bottom, left, right))


def _mixed(batch: Batch, others: Batch, mixes: Sequence[Mix | None], num_classes: int) -> Batch:
    """Returns a batch whose clips, labels and keys are mixed with those of another one."""
    clips, keys = batch.clips.clone(), list(batch.keys)
    for position, mix in enumerate(mixes):
        if mix is None or mix.kept == 1:
            continue
        keys[position] = f"{batch.keys[position]} + {others.keys[mix.partner]}"
        other = others.clips[mix.partner].expand_as(clips[position])  # an image is repeated along time
        if mix.box is None:
            clips[position] = _weighed(clips[position], other, round(mix.kept * WEIGHT_SCALE))
        else:
            top, bottom, left, right = mix.box
            clips[position, ..., top:bottom, left:right] = other[..., top:bottom, left:right]
    kept = torch.tensor([1.0 if mix is None else mix.kept for mix in mixes], device=clips.device)[:, None]
    partners = torch.tensor([0 if mix is None else mix.partner for mix in mixes], device=clips.device)
    own, mixed_in = _one_hot(batch.labels, num_classes), _one_hot(others.labels[partners], num_classes)
    return dataclasses.replace(batch, clips=clips, labels=own * kept + mixed_in * (1 - kept), keys=tuple(keys))


def _weighed(clip: Tensor, other: Tensor, weight: int) -> Tensor:
    """Returns the mean of two clips weighed in 65536ths, rounded to the nearest level, uint8."""
    total = clip.int().mul_(weight).add_(other, alpha=WEIGHT_SCALE - weight).add_(WEIGHT_SCALE // 2)
    return total.bitwise_right_shift_(16).to(torch.uint8)


def _one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Returns labels [N] int64 as rows [N, classes] float32."""
    return (labels[:, None] == torch.arange(num_classes, device=labels.device)).float()
