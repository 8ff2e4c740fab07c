"""Loading weights of other origin into a recognizer, with a report of what was not loaded.

Which formats are understood is the backbone's to say.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from omnisource.errors import UserError
from omnisource.files.atomic import atomic_write
from omnisource.models.batch_norm import forget_counted_batches
from omnisource.models.recognizer import Recognizer
from omnisource.models.weights.families import family_of
from omnisource.models.weights.folder import read_weights
from omnisource.models.weights.formats import HeadNames, Translated, WeightFormat
from omnisource.models.weights.media_statistics import with_statistics_of_both_media
from omnisource.models.weights.own import required_average
from omnisource.models.weights.report import LoadReport, indented, mismatches
from omnisource.models.weights.wrappers import find_weights


def load_initial_weights(
    recognizer: Recognizer, path: str | Path, image_head: str | None = None, video_head: str | None = None
) -> LoadReport:
    """Loads into a recognizer whatever fits from a file of any format that its backbone understands; reports the rest.

    Heads of other names or sizes stay as they are; the backbone must be the file's. Where images and videos have
    statistics of their own, the batches that the file has counted into them are forgotten: a run of images alone leaves
    those of the videos behind its weights, and whoever starts from it must see that.

    Args:
        recognizer: The recognizer.
        path: Our own checkpoint, or a file or folder of another format.
        image_head: Label space that takes the weights of a published image head. None: no one does.
        video_head: The same for the published video head.

    Raises:
        UserError: The file cannot be read, is of no known format, or holds a backbone of other sizes.
    """
    found = _translated(recognizer, read_weights(path), str(path), HeadNames(image_head, video_head))
    _check_backbone(recognizer, found.state, str(path))
    report = load_into(recognizer, found.state, origin=str(path))
    forget_counted_batches(recognizer)
    unexpected = (*report.unexpected, *found.left_out)
    return replace(report, notes=(*found.notes, *report.notes), unexpected=unexpected)


def load_all_weights(
    recognizer: Recognizer,
    path: str | Path,
    image_head: str | None = None,
    video_head: str | None = None,
    *,
    average: bool = False,
) -> LoadReport:
    """Loads a checkpoint that must fit in every tensor; what is no part of a backbone or a head may be left out.

    Args:
        recognizer: The recognizer.
        path: Our own checkpoint, a published .pth, or a file or folder of another format.
        image_head: Label space that takes the weights of a published image head. None: no one does.
        video_head: The same for the published video head.
        average: Whether to take the moving average of the weights in place of the weights.

    Raises:
        UserError: The file cannot be read, is of no known format, has no average, or does not fit; nothing was loaded
            then.
    """
    heads = HeadNames(image_head, video_head)
    return load_all_in(recognizer, read_weights(path), str(path), heads, average=average)


def load_all_in(
    recognizer: Recognizer, content: Mapping[str, Any], origin: str, heads: HeadNames, *, average: bool = False
) -> LoadReport:
    """Does what `load_all_weights` says with what `read_weights_file` returned of the file `origin`."""
    if average:
        state, notes = required_average(content.get("state"), origin), ()
    else:
        found = _translated(recognizer, content, origin, heads)
        state, notes = found.state, found.notes
    report = load_into(recognizer, state, origin=origin, strict=True)
    return replace(report, notes=(*notes, *report.notes))


def load_into(
    module: nn.Module, state: Mapping[str, Tensor], *, origin: str = "the given weights", strict: bool = False
) -> LoadReport:
    """Copies the tensors whose name and shape fit into a module, and reports the rest.

    Where images and videos have statistics of their own, and none were counted for one of them, it gets the other's.

    Args:
        module: Takes the weights; they are cast to its types.
        state: Tensors by the module's names.
        origin: Where they came from, for messages.
        strict: Whether everything must fit.

    Raises:
        UserError: Strict, and something does not fit; nothing was loaded then.
    """
    wanted = module.state_dict()
    state, notes = with_statistics_of_both_media(state, wanted)
    mismatched = mismatches(state, wanted)
    unfit = {mismatch.name for mismatch in mismatched}
    report = LoadReport(
        origin=origin,
        loaded=tuple(name for name in wanted if name in state and name not in unfit),
        missing=tuple(name for name in wanted if name not in state),
        unexpected=tuple(name for name in state if name not in wanted),
        mismatched=mismatched,
        notes=notes,
    )
    _check_finite(state, wanted, report.loaded, origin)
    if strict and not report.is_complete:
        raise UserError(
            "the checkpoint does not fit the model, so nothing was loaded; take the recipe that it was trained with\n"
            + report.describe()
        )
    module.load_state_dict({name: state[name] for name in report.loaded}, strict=False)
    return report


def _check_finite(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], names: Sequence[str], origin: str) -> None:
    """Raises UserError where a number that is to be loaded is NaN or infinite: nothing that follows would be one."""
    bad = [
        name
        for name in names
        if wanted[name].is_floating_point() and not state[name].is_meta and not torch.isfinite(state[name]).all()
    ]
    if bad:
        counts = [
            f"    {name}: {int((~torch.isfinite(state[name])).sum())} of {state[name].numel()}" for name in bad[:8]
        ]
        more = [f"    and {len(bad) - 8} tensors more"] if len(bad) > 8 else []
        raise UserError(
            f"{origin}: holds numbers that are NaN or infinite, so nothing was loaded; take weights from before they "
            "came in, or a file in float32 where half precision did not hold them\n" + "\n".join([*counts, *more])
        )


def save_published(
    path: str | Path, state: Mapping[str, Tensor], formats: Sequence[WeightFormat], heads: HeadNames
) -> None:
    """Writes weights as a .pth of the published format of a backbone.

    Args:
        path: File to write; it must not exist.
        state: The recognizer's state dict.
        formats: The formats that its backbone understands, of which the first that can be written is taken.
        heads: Its heads that stand for those of the format.

    Raises:
        UserError: The file exists or cannot be written, there is no such format, or it has no place for something.
    """
    path = Path(path)
    if path.exists():
        raise UserError(f"{path}: exists already; choose another name")
    write = next((one.write for one in formats if one.write), None)
    if write is None:
        raise UserError(f"{path}: this backbone has no published format; name a file that ends in .safetensors")
    buffer = io.BytesIO()
    torch.save(write(state, heads), buffer)
    try:
        with atomic_write(path) as file:
            file.write(buffer.getbuffer())
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error


def _translated(recognizer: Recognizer, content: Mapping[str, Any], origin: str, heads: HeadNames) -> Translated:
    """Returns the weights in the content of a file, with the recognizer's names, and what is to be said of them."""
    found = find_weights(content, origin, recognizer.backbone.weight_formats)
    shapes = {name: tensor.shape for name, tensor in recognizer.state_dict().items()}
    try:
        translated = found.format.read(found.state, shapes, heads)
    except UserError as error:
        raise UserError(f"{origin}: {error}") from error
    return replace(translated, notes=(*found.notes, *translated.notes))


def _check_backbone(recognizer: Recognizer, state: Mapping[str, Tensor], origin: str) -> None:
    """Raises UserError unless the backbones have the same sizes; one that lacks some tensors may still fit."""
    wanted = {name: tensor for name, tensor in recognizer.state_dict().items() if name.startswith("backbone.")}
    given = {name: tensor for name, tensor in state.items() if name.startswith("backbone.")}
    differences = recognizer.backbone.size_differences(
        {name.removeprefix("backbone."): tensor for name, tensor in given.items()}
    )
    lines = [*map(str, mismatches(given, wanted)), *differences.lines]
    if not given.keys() & wanted.keys():
        family = family_of(given)
        lines.append(
            "not one tensor of the backbone has the name of one in the model"
            + (f"; it looks like {family}" if family else "")
        )
    if lines:
        raise UserError(
            f"{origin}: the backbone in the file is not of the model's sizes{differences.advice}\n"
            + "\n".join(indented(lines, limit=12))
        )
