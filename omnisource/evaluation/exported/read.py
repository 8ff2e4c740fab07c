"""Which files are exported ones, and their reading."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from omnisource.errors import UserError
from omnisource.evaluation.exported.description import ExportedRecognizer
from omnisource.evaluation.exported.onnx_file import OnnxRecognizer
from omnisource.evaluation.exported.torch_program import TorchRecognizer

ProgramFormat = Literal["onnx", "torch"]

SUFFIXES: dict[str, ProgramFormat] = {".onnx": "onnx", ".pt2": "torch"}


def is_exported(path: str | Path) -> bool:
    """Returns whether a file is a program by its suffix, and not a checkpoint or weights."""
    return Path(path).suffix in SUFFIXES


def read_exported(
    path: Path, device: torch.device, program_format: ProgramFormat | None = None, *, average: bool = False
) -> ExportedRecognizer:
    """Returns the recognizer of an exported file.

    Args:
        path: The file.
        device: Where it runs.
        program_format: None: by its suffix.
        average: Whether the moving average of the weights is wanted.

    Raises:
        UserError: The file is missing, damaged, cut, not one of ours, or holds what could run code; the average is
            wanted, and was not exported; what runs it is not installed.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    kind = OnnxRecognizer if (program_format or SUFFIXES[path.suffix]) == "onnx" else TorchRecognizer
    recognizer = kind(path, device)
    if average and not recognizer.description.is_average:
        raise UserError(f"{path}: holds no moving average; export the checkpoint with --ema, or leave --ema away here")
    return recognizer
