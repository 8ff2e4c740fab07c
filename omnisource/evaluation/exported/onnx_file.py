"""Running an exported .onnx file with onnxruntime."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from omnisource.errors import UserError
from omnisource.evaluation.exported.description import (
    INPUTS,
    METADATA_KEY,
    as_input,
    output_name,
    read_description,
)
from omnisource.types import Media

CHECKSUM_KEY = b"omnisource_crc32"
_CHECKSUM_LENGTH = 8  # hexadecimal digits
_FOLDER_OF_OTHER_FILES = "session.model_external_initializers_file_folder_path"
_ERRORS_ONLY = 3  # onnxruntime warns of inputs that have a default, which ours have on purpose


class OnnxRecognizer:
    """A recognizer that onnxruntime runs, on the CPU, or on a GPU where the installed onnxruntime has one.

    Args:
        path: The file.
        device: Where it runs.

    Attributes:
        description: What the file says of itself.

    Raises:
        UserError: The file is damaged, cut, or not one of ours; onnxruntime is not installed.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self._origin = str(path)
        runtime = import_onnxruntime()
        options = runtime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry(_FOLDER_OF_OTHER_FILES, os.devnull)  # so that a model draws in no other file
        providers = ["CPUExecutionProvider"]
        if device.type == "cuda":
            if "CUDAExecutionProvider" not in runtime.get_available_providers():
                raise UserError(f"{path}: the onnxruntime that is installed runs on the CPU only; take --device cpu")
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))  # type: ignore[arg-type]
        content = _checked_content(path)
        try:
            self._session = runtime.InferenceSession(content, options, providers=providers)
        except Exception as error:  # onnxruntime has a class of its own for each way in which a file can be wrong
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"{path}: truncated, or not a model that onnxruntime takes: {reason}") from error
        text = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        self.description = read_description(text, self._origin)

    def scores(self, frames: Tensor, media: Media, heads: Sequence[str]) -> dict[str, Tensor]:
        """Returns what heads say of each view, as `ExportedRecognizer` says."""
        self.description.check(frames, media, heads, self._origin)
        names = [output_name(media, head) for head in heads]
        found = self._session.run(names, {INPUTS[media]: as_input(frames, media).cpu().numpy()})
        return {head: torch.from_numpy(scores) for head, scores in zip(heads, found, strict=True)}


def with_checksum(content: bytes) -> bytes:
    """Returns a serialized model that ends with the checksum of what comes before it, as one more of its metadata.

    A message of protocol buffers may be continued, so other programs read it as before.
    """
    return content + _checksum_field(zlib.crc32(content))


def import_onnxruntime() -> Any:
    """Returns the module.

    Raises:
        UserError: It is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError("ONNX files need onnxruntime: pip install 'omnisource[export]'") from error
    return onnxruntime


def _checked_content(path: Path) -> bytes:
    """Returns the bytes of a file, having compared the checksum if there is one: other programs may rewrite files."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    field = _checksum_field(0)
    body, end = content[: -len(field)], content[-len(field) :]
    if end.startswith(field[:-_CHECKSUM_LENGTH]) and end != _checksum_field(zlib.crc32(body)):
        reason = "damaged, or changed by another program: its content is not what was written"
        raise UserError(f"{path}: {reason}; export the checkpoint again")
    return content


def _checksum_field(checksum: int) -> bytes:
    """Returns the field `metadata_props` of a ModelProto (14) with a key (1) and a value (2).

    Source: onnx/onnx `onnx/onnx.proto3`, and the encoding of protocol buffers.
    """
    value = f"{checksum:08x}".encode()
    entry = b"".join((b"\x0a", _length(CHECKSUM_KEY), CHECKSUM_KEY, b"\x12", _length(value), value))
    return b"".join((b"\x72", _length(entry), entry))


def _length(content: bytes) -> bytes:
    assert len(content) < 128, "a longer one takes more than a byte"
    return struct.pack("B", len(content))
