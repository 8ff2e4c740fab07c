"""What a file is that stands where weights are wanted, told by its first bytes whatever its name says."""

from __future__ import annotations

import json
import os
import re
import struct
import zipfile
from pathlib import Path

ZIP_MAGIC = b"PK\x03\x04"

_HEAD_BYTES = 4096
_MOST_HEADER_BYTES = 100_000_000  # of a safetensors file, as its library has it
_AGAIN = "copy or download it again"

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_PACKED = {
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ\x00": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a rar archive",
}
_OTHER_FORMATS = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as Keras writes",
    b"\x93NUMPY": "a numpy array",
    b"GGUF": "a GGUF file",
    b"MATLAB 5.0 MAT-file": "a MATLAB file",
    b"%PDF": "a PDF",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"GIF8": "a GIF picture",
    b"RIFF": "a WebP picture or an AVI video",
    b"\x1aE\xdf\xa3": "a Matroska video",
}
_CONVERT = "only files of torch (.pth, .pt) and of safetensors are read; take one of those"


def is_safetensors(path: str | Path) -> bool:
    """Returns whether a file is one of safetensors by its first bytes: the length of a header, and its brace.

    Raises:
        OSError: It cannot be read.
    """
    with Path(path).open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and 2 <= struct.unpack("<Q", head[:8])[0] <= _MOST_HEADER_BYTES


def foreign_kind(path: str | Path) -> str | None:
    """Returns what a file is that holds no weights which can be read, and what helps; None if it may hold some.

    It is one line that goes on after "not a file of weights: ", such as "it is empty (0 bytes); download it again".

    Raises:
        OSError: It cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        head, size = file.read(_HEAD_BYTES), os.fstat(file.fileno()).st_size
    if size == 0:
        return f"it is empty (0 bytes); {_AGAIN}"
    if not head.strip(b"\x00"):
        return f"it begins with zeros alone, as a copy that was cut off does; {_AGAIN}"
    if size < 8 or (size < 16 and not _is_text(head)):
        return f"it is cut short: it has {size} bytes only; {_AGAIN}"
    if head.startswith(ZIP_MAGIC):
        return _kind_of_zip(path, size)
    if is_safetensors(path):
        return _cut_safetensors(path, size)
    return _kind_by_magic(head) or (_kind_of_text(head) if _is_text(head) else None)


def _kind_by_magic(head: bytes) -> str | None:
    for magic, kind in _PACKED.items():
        if head.startswith(magic):
            return f"it is {kind}; unpack it and give the file of weights that is in it"
    if head[257:262] == b"ustar":
        return "it is a tar archive; unpack it and give the file of weights that is in it"
    for magic, kind in _OTHER_FORMATS.items():
        if head.startswith(magic):
            return f"it is {kind}; {_CONVERT}"
    if head[4:8] == b"ftyp":
        return f"it is a video or a picture (MP4, HEIC or AVIF); {_CONVERT}"
    if head.startswith(b"\x08") and b"pytorch" in head[:32]:
        return f"it is an ONNX model; {_CONVERT}"
    return None


def _is_text(head: bytes) -> bool:
    """Returns whether these bytes are text: of pickles of protocol 0, which are text too, there are none in use."""
    try:
        text = head[: len(head) // 4 * 4 or 4].decode("utf-8", errors="strict" if len(head) < _HEAD_BYTES else "ignore")
    except UnicodeDecodeError:
        return False
    return not re.search(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]", text) and not re.match(r"\(|c\w[\w.]*\n\w|\]|\}", text)


def _kind_of_text(head: bytes) -> str:
    if head.startswith(_LFS_POINTER):
        size = re.search(rb"^size (\d+)", head, re.MULTILINE)
        of = f" of {int(size[1]) / 2**20:.1f} MiB" if size else ""
        return (
            f"it is a Git LFS pointer, which stands for a file{of} that was not fetched; run `git lfs pull` in its "
            "repository, or download the file itself"
        )
    if b"/annex/objects/" in head[:300]:
        return "it is a git-annex pointer, which stands for a file that was not fetched; run `git annex get` on it"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:200].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<script")):
        return (
            "it is a web page (HTML) that was saved under this name; download the file itself: the address may need a "
            "login, or be that of a page about the file"
        )
    if start.startswith(b"<"):
        return "it is XML, such as a server's answer instead of the file; download the file itself"
    if start.startswith((b"{", b"[")):
        if b'"weight_map"' in head or b'"metadata"' in head[:200]:
            return "it is the index (JSON) of weights in several files; give the weights in one file"
        return "it is JSON, such as a configuration or a server's answer; give the file of weights itself"
    line = head.split(b"\n")[0].decode("utf-8", errors="replace").strip()
    return f"it is text ({line[:40]!r} ...); give the file of weights itself"


def _kind_of_zip(path: Path, size: int) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # the end of the archive, which lists what is in it, is missing or damaged
        return f"it is cut short or damaged: the end of its archive is missing ({size} bytes are there); {_AGAIN}"
    if any(name.endswith(("/constants.pkl", "/model.json")) and name.count("/") == 1 for name in names):
        return (
            "it is a TorchScript archive; save the state_dict() of the module instead, if you trust it: "
            "torch.save(torch.jit.load(FILE, map_location='cpu').state_dict(), 'weights.pth')"
        )
    if any(name.endswith(("serialized_exported_program.json", "/archive_format")) for name in names):
        return "it is a program that torch.export wrote; save the state_dict() of the module instead"
    if any(name.count("/") == 1 and name.endswith("/data.pkl") for name in names):
        return None
    if names and all(name.endswith(".npy") for name in names):
        return f"it is an archive of numpy arrays (.npz); {_CONVERT}"
    files = [name for name in names if not name.endswith("/") and not name.startswith("__MACOSX")]
    unpacked = next((name for name in files if name.endswith("/data.pkl")), None)
    if unpacked is not None:
        return (
            f"it is a zip archive of a folder ({unpacked} is in it), that of a file of torch which was unpacked; "
            "download the file again, and do not unpack it"
        )
    within = [name for name in files if name.endswith((".pth", ".pt", ".safetensors", ".pyth", ".bin", ".tar"))]
    shown = ", ".join((within or files)[:3]) or "nothing"
    return f"it is a zip archive with {len(files)} files ({shown}); unpack it and give the file of weights in it"


def _cut_safetensors(path: Path, size: int) -> str | None:
    """Returns that a safetensors file is shorter than its header says; None if it is not."""
    with path.open("rb") as file:
        header_bytes = struct.unpack("<Q", file.read(8))[0]
        header = file.read(header_bytes)
    try:
        entries = json.loads(header) if len(header) == header_bytes else {}
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
        wanted = 8 + header_bytes + max(ends, default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return f"its header is damaged; {_AGAIN}"
    return f"it is cut short: {size} bytes are there, of {wanted} or more; {_AGAIN}" if size < wanted else None
