"""Running an exported .pt2 file with torch."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from omnisource.errors import UserError
from omnisource.evaluation.exported.description import METADATA_KEY, as_input, read_description
from omnisource.evaluation.exported.vetting import UnsafeProgram, vet
from omnisource.types import Media


class TorchRecognizer:
    """A recognizer that torch runs as the program that torch.export made of it.

    Args:
        path: The file.
        device: Where it runs.

    Attributes:
        description: What the file says of itself.

    Raises:
        UserError: The file is damaged, cut, not one of ours, or holds what could run code.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self._origin = str(path)
        self._device = device
        try:
            with path.open("rb") as file:
                vet(file)
                file.seek(0)
                self.description = read_description(_description_in(file), self._origin)
                file.seek(0)
                self._programs = _load(file, device)
        except UserError:
            raise
        except UnsafeProgram as error:
            raise UserError(
                f"{path}: refused, and nothing of it was loaded: it holds {error}, which no exported recognizer does"
            ) from error
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
        except Exception as error:  # a damaged archive can fail in any way
            named = re.search(r"GLOBAL (\S+) ", str(error))
            if named:
                raise UserError(
                    f"{path}: refused, and nothing of it was loaded: the file names {named[1]}, which could run code"
                ) from error
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"{path}: damaged, truncated, or no program of torch.export: {reason}") from error

    def scores(self, frames: Tensor, media: Media, heads: Sequence[str]) -> dict[str, Tensor]:
        """Returns what heads say of each view, as `ExportedRecognizer` says."""
        self.description.check(frames, media, heads, self._origin)
        with torch.inference_mode():
            found = self._programs[media](as_input(frames, media).to(self._device))
        return {head: found[head] for head in heads}


def _description_in(file: BinaryIO) -> str | None:
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith(f"/extra/{METADATA_KEY}")]
        return archive.read(names[0]).decode() if names else None


def _load(file: BinaryIO, device: torch.device) -> dict[str, Any]:
    """Returns the program of each media, ready to be called; the file was vetted."""
    from torch.export.passes import move_to_device_pass
    from torch.export.pt2_archive._package import load_pt2

    programs = load_pt2(file).exported_programs  # pyright: ignore[reportArgumentType]
    if device.type != "cpu":
        programs = {media: move_to_device_pass(program, device) for media, program in programs.items()}
    return {media: program.module() for media, program in programs.items()}
