"""Exporting a checkpoint: as a program that classifies, or its weights alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from omnisource.errors import UserError, adding_path
from omnisource.evaluation.classifier import Classifier
from omnisource.evaluation.exported.description import Description
from omnisource.evaluation.exported.read import SUFFIXES as PROGRAM_SUFFIXES
from omnisource.evaluation.exported.read import is_exported, read_exported
from omnisource.evaluation.load import Loaded, load
from omnisource.evaluation.protocol import Protocol
from omnisource.export.checking import Comparison, compare, made_clips, read_clips
from omnisource.export.programs import export_paths
from omnisource.export.weights import export_checkpoint
from omnisource.export.writing import quantize_onnx, write_onnx, write_torch
from omnisource.files.atomic import atomic_path
from omnisource.models.recognizer import Recognizer
from omnisource.types import Media

ExportFormat = Literal["onnx", "torch", "safetensors", "published"]

SUFFIXES: dict[ExportFormat, str] = {
    "onnx": ".onnx",
    "torch": ".pt2",
    "safetensors": ".safetensors",
    "published": ".pth",
}


@dataclass(frozen=True)
class ExportChoices:
    """What of a checkpoint is exported, and how.

    Attributes:
        average: Whether to take the moving average of the weights in place of the weights.
        media: The only media that a program takes. None: all that the recognizer was trained on.
        is_quantized: Whether the weights of an .onnx become integers of 8 bits.
        clips: Files and folders that a program is checked on. Empty: on clips that are made.
    """

    average: bool = False
    media: Media | None = None
    is_quantized: bool = False
    clips: tuple[str, ...] = ()


def export(
    path: Path, target: Path, export_format: ExportFormat | None = None, choices: ExportChoices = ExportChoices()
) -> Comparison | None:
    """Writes a checkpoint in another format; returns how a program differs from it, None for weights alone.

    Args:
        path: One of our own checkpoints; for programs a published one, too.
        target: File to write; must not exist.
        export_format: None: by the suffix of the target.
        choices: What is exported.

    Raises:
        UserError: If something of what is given is wrong or does not fit together; if what was written says something
            else than the recognizer. Nothing is written then.
    """
    chosen = _format_of(target, export_format)
    if target.exists():
        raise UserError(f"{target}: exists already; choose another name")
    if is_exported(path):
        raise UserError(f"{path}: was exported already; give the checkpoint")
    if chosen in ("safetensors", "published"):
        if choices.is_quantized or choices.media or choices.clips:
            raise UserError(f"--int8, --media and --clips are for programs, and {target} gets weights alone")
        export_checkpoint(path, target, average=choices.average)
        return None
    if choices.is_quantized and chosen != "onnx":
        raise UserError(f"--int8 is for ONNX files, and {target} is none")
    loaded = load(path, average=choices.average)
    protocol = _chosen_protocol(loaded.classifier.protocol, choices.media, path)
    clips = read_clips(protocol, choices.clips) if choices.clips else made_clips(protocol)
    recognizer = loaded.classifier.recognizer
    assert isinstance(recognizer, Recognizer)
    classifier = Classifier(recognizer, protocol, precision=loaded.classifier.precision)
    paths = export_paths(recognizer, protocol)
    description = _description(loaded, protocol, recognizer, choices, {m: p.fixed_size for m, p in paths.items()})
    with adding_path(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as unfinished:
        if chosen == "onnx":
            write_onnx(unfinished, paths, description)
            if choices.is_quantized:
                quantize_onnx(unfinished, description)
        else:
            write_torch(unfinished, paths, description)
        exported = read_exported(unfinished, torch.device("cpu"), PROGRAM_SUFFIXES[SUFFIXES[chosen]])
        comparison = compare(classifier, Classifier(exported, protocol), clips, are_made=not choices.clips)
        if not comparison.agrees and not choices.is_quantized:
            raise UserError(f"{target}: not written, since the exported program differs: {comparison}")
    return comparison


def _format_of(target: Path, export_format: ExportFormat | None) -> ExportFormat:
    by_suffix: dict[str, ExportFormat] = {suffix: name for name, suffix in SUFFIXES.items()}
    chosen = export_format or by_suffix.get(target.suffix)
    if chosen is None or SUFFIXES[chosen] != target.suffix:
        wanted: list[ExportFormat] = [chosen] if chosen else list(SUFFIXES)
        ends = ", ".join(f"{SUFFIXES[name]} for {name}" for name in wanted)
        raise UserError(f"{target}: the name of the file must end in {ends}")
    return chosen


def _chosen_protocol(protocol: Protocol, media: Media | None, path: Path) -> Protocol:
    if media is None:
        return protocol
    if media not in protocol.by_media:
        raise UserError(f"--media {media}: {path} was not trained on {media}s, but on {', '.join(protocol.by_media)}s")
    return Protocol({media: protocol.by_media[media]}, protocol.views_at_a_time)


def _description(
    loaded: Loaded,
    protocol: Protocol,
    recognizer: Recognizer,
    choices: ExportChoices,
    sizes: dict[Media, tuple[int, int] | None],
) -> Description:
    heads = {head for how in protocol.by_media.values() for head in how.heads}
    return Description(
        label_spaces={name: space for name, space in recognizer.label_spaces.items() if name in heads},
        class_names={name: names for name, names in loaded.class_names.items() if name in heads},
        by_media={str(media): how for media, how in protocol.by_media.items()},
        views_at_a_time=protocol.views_at_a_time,
        fixed_sizes={str(media): size for media, size in sizes.items() if size},
        item_timeout_seconds=loaded.limits.timeout_seconds,
        item_processor_seconds=loaded.limits.processor_seconds,
        is_average=choices.average,
        is_quantized=choices.is_quantized,
    )
