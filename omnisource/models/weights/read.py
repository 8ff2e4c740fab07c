"""Reading files of weights without running anything that stands in them."""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

import safetensors
import safetensors.torch
import torch

from omnisource.errors import UserError
from omnisource.files.foreign_files import ZIP_MAGIC, foreign_kind, is_safetensors
from omnisource.files.tensor_archive import load_mapped
from omnisource.files.zip_checksums import is_ours, verify_archive

_INERT_MODULES = (
    *("mmengine", "mmcv", "numpy", "collections", "argparse", "pathlib", "datetime", "typing", "enum"),
    *("omegaconf", "yacs", "fvcore", "pytorch_lightning", "lightning", "ml_collections", "easydict", "addict"),
)
_INERT_NAMES = ("builtins.getattr",)
# What tensors and their containers are made of. The last word on these has torch: `weights_only=True` has its own list.
_TENSOR_NAMES = re.compile(
    r"torch\.(\w+Storage|\w*Tensor|Size|device|bool|half|short|long|double|b?float\w*|complex\w*|q?u?int\w*)"
    r"|torch(\.cuda|\.storage)\.\w+(Storage|Tensor)|torch\._utils\._rebuild_\w+|torch\._tensor\._rebuild_\w+"
    r"|torch\.nn\.parameter\.Parameter|torch\.serialization\._get_layout"
    r"|_codecs\.encode|builtins\.(bytearray|complex|set)"
)

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".pyth", ".ckpt", ".tar")
_LEGACY_PICKLES = 5  # before torch 1.6: magic number, version, system, content, keys of the storages


class _Inert:
    """Stands for whatever a file names that is not a weight: takes any arguments and any state, and keeps none."""

    def __new__(cls, *arguments: object) -> Any:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


class _InertDict(_Inert):
    """Stands for collections.defaultdict, which is filled after it is made: a plain dict."""

    def __new__(cls, *arguments: object) -> Any:
        return {}


class _InertList(_Inert):
    """Stands for collections.deque, which is filled after it is made: a plain list."""

    def __new__(cls, *arguments: object) -> Any:
        return []


_FILLED_LATER = {"collections.defaultdict": _InertDict, "collections.deque": _InertList}


def read_weights_file(path: str | Path) -> dict[str, Any]:
    """Returns what a .pth, .pt or .safetensors file holds, with its tensors on the CPU; no code from it is run.

    A file is told by its content, not by its name. Pickles are read by torch with `weights_only=True`. What published
    checkpoints name besides tensors (`mmengine.*`, `numpy.*`, `argparse.*` and others, and the built-in getattr) is
    neither imported nor called: objects that hold nothing take its place. A file that names anything else is refused
    before it is read. One of our own checkpoints is verified and mapped, and so is read once: copy what outlives the
    file.

    Raises:
        UserError: The file is missing, truncated, damaged, not a checkpoint, or names something that could run code.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file of weights{_instead(path)}")
    try:
        with path.open("rb") as file:
            content = _read_own(path, file) if is_ours(file) else _read_other(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, not a dict of weights by name")
    return content


def _instead(path: Path) -> str:
    """Returns what goes on after "there is no such file": the files of weights in a folder."""
    if not path.is_dir():
        return "; the link leads nowhere" if path.is_symlink() else ""
    inside = sorted(file.name for file in path.iterdir() if file.suffix in _SUFFIXES)
    return f": it is a folder; give the file in it{', such as ' + inside[0] if inside else ''}"


def _read_own(path: Path, file: BinaryIO) -> Any:
    """Returns the content of one of our checkpoints: verified, in the one time that it is read, and mapped.

    Raises:
        UserError: Its content is not what was written, or names something that could run code.
        OSError: It cannot be read.
    """
    try:
        verify_archive(file)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a damaged archive can fail in any way
        raise UserError(
            f"{path}: damaged: its content is not what was written. Take an earlier checkpoint of the run"
        ) from error
    try:
        return load_mapped(file, path)
    except Exception as error:  # what was written need not be what torch reads
        raise _unreadable(path, error) from error


def _read_other(path: Path) -> Any:
    """Returns the content of a safetensors file or a pickle of tensors, in memory; its name says nothing of it."""
    if kind := foreign_kind(path):
        cut = "truncated, or " if "cut short" in kind or "empty" in kind else ""
        raise UserError(f"{path}: {cut}not a file of weights: {kind}")
    if is_safetensors(path):
        return _read_safetensors(path)
    stand_ins = [(_stand_in(name), name) for name in sorted(_names_to_silence(path))]
    try:
        permitted = torch.serialization.safe_globals(stand_ins)  # pyright: ignore[reportArgumentType]
        with permitted, path.open("rb") as file:  # by its name, torch would go by the suffix
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file can fail in any way
        raise _unreadable(path, error) from error


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        return dict(safetensors.torch.load_file(path, device="cpu"))
    except (safetensors.SafetensorError, ValueError, OSError) as error:
        raise _unreadable(path, error) from error


def _names_to_silence(path: Path) -> set[str]:
    """Returns the names in a file that need a stand-in; raises UserError if it names what it may not."""
    names: set[str] = set()
    failure: Exception | None = None
    try:
        with path.open("rb") as file:
            for pickle in _pickles(file):
                for name in _named_in(pickle):
                    names.add(name)
    except Exception as error:  # a broken pickle can fail in any way; what it named so far is judged all the same
        failure = error
    silenced = {name for name in names if name.split(".")[0] in _INERT_MODULES or name in _INERT_NAMES}
    refused = sorted(name for name in names - silenced if not _TENSOR_NAMES.fullmatch(name))
    if any(name.startswith("torch.nn.modules.") for name in refused):
        modules = [name for name in refused if not name.startswith("torch.")] or refused
        raise UserError(
            f"{path}: refused, and nothing of it was loaded: it is a pickle of a whole module ({modules[0]}), which "
            "cannot be read without running its code; if you trust it, save the weights alone: "
            "torch.save(module.state_dict(), 'weights.pth')"
        )
    if refused:
        raise _refused(path, refused)
    if failure is not None:
        is_of_arrays = any(name.endswith(("multiarray._reconstruct", "numeric._frombuffer")) for name in names)
        if is_of_arrays and not any("torch." in name for name in names):
            raise UserError(
                f"{path}: not a file of weights: it is a pickle of numpy arrays, as the .pkl files of Caffe2 and "
                "PySlowFast are, not of tensors; take the .pth or .pyth file of the same weights"
            ) from failure
        raise _unreadable(path, failure) from failure
    return silenced


def _pickles(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """Yields, for each pickle that torch would read, a file that stands at its beginning."""
    magic = file.read(len(ZIP_MAGIC))
    file.seek(0)
    if magic != ZIP_MAGIC:
        for _ in range(_LEGACY_PICKLES):
            yield file
        return
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if name.endswith(".pkl"):
                with archive.open(name) as member:
                    yield member


def _named_in(pickle: IO[bytes]) -> Iterator[str]:
    """Yields the full name of every class or function that a pickle mentions, without loading it."""
    texts = ["", ""]
    kept: dict[int, str] = {}
    num_kept, last = 0, ""  # `last` is what stands on top of the stack, where that is a text
    for opcode, argument, _ in pickletools.genops(pickle):
        if opcode.name == "MEMOIZE" or "PUT" in opcode.name:
            kept[num_kept if argument is None else int(argument)] = last
            num_kept += 1
            continue
        if "GET" in opcode.name:
            last = kept.get(int(argument or 0), "")
        else:
            last = argument if isinstance(argument, str) else ""
        if opcode.name in ("GLOBAL", "INST"):
            module, _, name = str(argument).partition(" ")
            yield f"{'builtins' if module == '__builtin__' else module}.{name}"  # as torch maps Python 2's name
            last = ""
        elif opcode.name == "STACK_GLOBAL":  # torch reads no pickle that has it; the two texts are there for the name
            yield ".".join(texts[-2:])
        elif last:
            texts.append(last)


def _stand_in(name: str) -> Any:
    return type(name, (_FILLED_LATER.get(name, _Inert),), {})


def _refused(path: Path, names: list[str]) -> UserError:
    return UserError(
        f"{path}: refused, and nothing of it was loaded: the file names {', '.join(names)}, which could run code. "
        "Take a file of tensors only"
    )


def _unreadable(path: Path, error: Exception) -> UserError:
    text = str(error)
    named = re.search(r"GLOBAL (\S+) ", text)
    if named:
        return _refused(path, [named[1]])
    # torch wraps its reason into advice to trust the file, which is not ours to give
    inner = re.search(r"WeightsUnpickler error: *(.+)", text)
    reason = inner[1] if inner else (text.strip() or type(error).__name__).splitlines()[0]
    return UserError(f"{path}: truncated, or not a file of weights: {reason}")
