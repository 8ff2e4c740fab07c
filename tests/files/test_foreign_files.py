"""What stands where weights are wanted is told by its content, with what helps."""

from __future__ import annotations

import io
import json
import pickle
import sys
import tarfile
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from omnisource.checkpoints.file import read_checkpoint
from omnisource.errors import UserError
from omnisource.models.weights.read import read_weights_file

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2\nsize 102400000\n"


def zipped(**entries: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name.replace("__", "/").replace("_DOT_", "."), content)
    return buffer.getvalue()


def torch_file(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.pth"))
    return buffer.getvalue()


def numpy_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(2))
    return buffer.getvalue()


SAFE = safetensors.torch.save({"w": torch.zeros(50)})

FOREIGN = {
    "empty": (b"", r"it is empty \(0 bytes\); copy or download it again"),
    "zeros": (bytes(5000), "begins with zeros alone"),
    "pointer": (POINTER, r"Git LFS pointer, which stands for a file of 97\.7 MiB.*git lfs pull"),
    "annex": (b"/annex/objects/SHA256E-s10--ab.pth\n", "git-annex pointer.*git annex get"),
    "page": (b"\n<!DOCTYPE html><html><head></head></html>", "web page.*download the file itself"),
    "denied": (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "XML, such as a server's answer"),
    "json": (b'{"error": "not found"}', "JSON, such as a configuration or a server's answer"),
    "index": (json.dumps({"metadata": {}, "weight_map": {}}).encode(), "index .*of weights in several files"),
    "text": (b"Not Found on this server", r"it is text \('Not Found on this server' \.\.\.\)"),
    "gzip": (b"\x1f\x8b\x08" + bytes(40), "gzip file; unpack it"),
    "tar": (tarred(), "tar archive; unpack it"),
    "keras": (b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5 file, as Keras writes; only files of torch"),
    "numpy": (numpy_array(), "numpy array"),
    "npz": (zipped(w_DOT_npy=b""), r"numpy arrays \(\.npz\)"),
    "folder": (
        zipped(run__weights_DOT_pth=b"", run__notes_DOT_txt=b""),
        r"with 2 files \(run/weights\.pth\); unpack it",
    ),
    "unpacked": (zipped(a__model__data_DOT_pkl=b""), "which was unpacked"),
    "script": (zipped(m__data_DOT_pkl=b"", m__constants_DOT_pkl=b"", m__code__x_DOT_py=b""), "TorchScript archive"),
    "program": (zipped(m__archive_format=b"pt2", m__models__model_DOT_json=b""), "program that torch.export wrote"),
    "code": (
        zipped(run__code__a_DOT_py=b"", run__models__b_DOT_pth=b""),
        r"with 2 files \(run/models/b\.pth\); unpack",
    ),
    "cut zip": (torch_file({"w": torch.zeros(500)})[:-300], "cut short or damaged: the end of its archive is missing"),
    "cut safetensors": (SAFE[:-10], f"cut short: {len(SAFE) - 10} bytes are there, of {len(SAFE)}"),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_file_of_weights_is_said_with_what_helps(tmp_path: Path, name: str, suffix: str) -> None:
    content, message = FOREIGN[name]
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    for read in (read_weights_file, read_checkpoint):
        with pytest.raises(UserError, match=message) as refusal:
            read(path)
        assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)


def test_files_are_read_by_their_content_whatever_their_names_say(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(SAFE)
    (tmp_path / "b.safetensors").write_bytes(torch_file({"w": torch.zeros(50)}))
    for name in ("a.pth", "b.safetensors"):
        assert torch.equal(read_weights_file(tmp_path / name)["w"], torch.zeros(50))
    with pytest.raises(UserError, match=r"safetensors file, of weights alone\. Start a new run from them: model\.wei"):
        read_checkpoint(tmp_path / "a.pth")
    with pytest.raises(
        UserError, match=r"no such file of weights: it is a folder; give the file in it, such as a\.pth"
    ):
        read_weights_file(tmp_path)
    (tmp_path / "link.pth").symlink_to("nowhere")
    with pytest.raises(UserError, match="no such file of weights; the link leads nowhere"):
        read_weights_file(tmp_path / "link.pth")


def test_pickle_of_a_whole_module_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("their_models")

    class Net(torch.nn.Linear):
        pass

    Net.__module__, Net.__qualname__ = "their_models", "Net"
    module.Net = Net  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "their_models", module)
    torch.save(torch.nn.Sequential(Net(2, 2)), tmp_path / "net.pth")
    with pytest.raises(UserError, match=r"pickle of a whole module \(their_models\.Net\).*module\.state_dict\(\)"):
        read_weights_file(tmp_path / "net.pth")


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickle_of_arrays_is_said_to_be_one(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "blobs.pkl"
    path.write_bytes(pickle.dumps({"blobs": {"conv1_w": np.zeros((2, 3))}}, protocol=protocol))
    with pytest.raises(UserError, match=r"blobs\.pkl: not a file of weights: it is a pickle of numpy arrays"):
        read_weights_file(path)
