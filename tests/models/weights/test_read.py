"""Files of weights are read without running what stands in them."""

from __future__ import annotations

import builtins
import collections
import io
import os
import pickle
import struct
import sys
import types
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from omnisource.checkpoints.file import Checkpoint, save_checkpoint
from omnisource.errors import UserError
from omnisource.models.weights.read import read_weights_file


class Calls:
    """An object that, when it is unpickled, calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


class Result(Calls):
    """The same, but standing for the result as something to call."""

    def __call__(self) -> None:
        raise AssertionError("only the unpickler calls this")


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[Path]:
    """Returns a path at which a file appears if code from a checkpoint runs."""
    path = tmp_path / "code_ran"
    yield path
    assert not path.exists(), "code from the file was run"


WAYS_TO_SAVE: dict[str, Callable[[object, Path], object]] = {
    "zip": lambda content, path: torch.save(content, path),
    "zip, protocol 4": lambda content, path: torch.save(content, path, pickle_protocol=4),
    "legacy": lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
    "bare pickle": lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2)),
    "bare pickle, protocol 0": lambda content, path: path.write_bytes(pickle.dumps(content, protocol=0)),
    "bare pickle, protocol 5": lambda content, path: path.write_bytes(pickle.dumps(content, protocol=5)),
}


@pytest.mark.parametrize("way", WAYS_TO_SAVE)
@pytest.mark.parametrize(
    ("function", "named"),
    [
        (os.system, "posix.system"),
        (builtins.eval, "builtins.eval"),
        (builtins.exec, "builtins.exec"),
        (os.popen, "os.popen"),
        (torch.hub.load, "torch.hub.load"),
        (sys.addaudithook, "sys.addaudithook"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_file_that_would_run_code_is_refused_by_name(
    tmp_path: Path, sentinel: Path, way: str, function: Callable[..., Any], named: str
) -> None:
    path = tmp_path / "model.pth"
    command = f"touch {sentinel}" if function in (os.system, os.popen) else f"open({str(sentinel)!r}, 'w')"
    WAYS_TO_SAVE[way]({"state_dict": {"w": Calls(function, command)}}, path)
    with pytest.raises(UserError) as refusal:
        read_weights_file(path)
    assert str(path) in str(refusal.value)
    assert f"refused, and nothing of it was loaded: the file names {named}" in str(refusal.value)


def test_all_names_are_refused_and_tensors_beside_them_do_not_help(tmp_path: Path, sentinel: Path) -> None:
    path = tmp_path / "model.pth"
    content = {
        "state_dict": {"backbone.conv1.weight": torch.zeros(2)},
        "hook": [Calls(os.system, f"touch {sentinel}"), Calls(builtins.eval, f"open({str(sentinel)!r}, 'w')")],
    }
    torch.save(content, path)
    with pytest.raises(UserError, match=r"model\.pth: refused.*builtins\.eval, posix\.system, which could run code"):
        read_weights_file(path)


def test_code_within_permitted_modules_is_not_run(
    tmp_path: Path, sentinel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # modules that would leave a trace if they were imported, or their functions called
    for name in ("mmengine", "numpy_extra"):
        (tmp_path / "modules" / name).mkdir(parents=True)
        (tmp_path / "modules" / name / "__init__.py").write_text(f"open({str(sentinel)!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path / "modules")
    code = f"open({str(sentinel)!r}, 'w')"
    path = tmp_path / "model.pth"
    names = ["numpy.testing._private.utils runstring", "mmengine run", "collections namedtuple", "numpy.core.os system"]
    items = b"".join(pickled_call(name, code, {}) for name in names)
    write_zip(path, b"\x80\x02}X\x01\x00\x00\x00w](" + items + b"es.")
    content = read_weights_file(path)
    assert len(content["w"]) == len(names)
    for item in content["w"]:
        assert not callable(item) and vars(item) == {}
    assert "mmengine" not in sys.modules


def pickled_call(name: str, *arguments: object) -> bytes:
    module, function = name.split(" ")
    packed = pickle.dumps(arguments, protocol=2)[2:-1]
    # memo places written by one pickle must not be read by another; these are small enough to need none
    return f"c{module}\n{function}\n".encode() + packed + b"R"


def test_chain_of_getattr_reaches_nothing(tmp_path: Path, sentinel: Path) -> None:
    subclasses = Result(getattr, collections.OrderedDict, "__subclasses__")
    path = tmp_path / "model.pth"
    torch.save({"w": subclasses}, path)
    assert not callable(read_weights_file(path)["w"])
    for chain in (
        Calls(subclasses),
        Calls(Result(getattr, Result(getattr, np.dtype, "__class__"), "mro")),
        Calls(Result(getattr, torch.Tensor, "tofile"), str(sentinel)),
    ):
        torch.save({"w": chain}, path)
        with pytest.raises(UserError, match=r"model\.pth: truncated, or not a file of weights"):
            read_weights_file(path)


def test_placeholders_are_forgotten_after_reading(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"w": np.float64(1)}, path)
    before = set(map(str, torch.serialization.get_safe_globals()))
    read_weights_file(path)
    assert set(map(str, torch.serialization.get_safe_globals())) == before
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


@pytest.fixture
def history_module(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """Returns a module of mmengine's name with a class that is pickled as mmengine's history is."""

    class HistoryBuffer:
        def __init__(self) -> None:
            self.values = np.array([1.0, 2.5])
            self.statistics = {"min": self.smallest}

        def smallest(self) -> float:
            raise AssertionError("nobody calls this")

    name = "mmengine.logging.history_buffer"
    HistoryBuffer.__module__ = name
    HistoryBuffer.__qualname__ = "HistoryBuffer"
    module = types.ModuleType(name)
    module.HistoryBuffer = HistoryBuffer  # pyright: ignore[reportAttributeAccessIssue]
    for part in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    monkeypatch.setitem(sys.modules, name, module)
    yield module


def test_published_file_is_read_without_mmengine(
    tmp_path: Path, history_module: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "epoch_4.pth"
    weight = torch.randn(3, 4)
    filled = collections.defaultdict(None, {"a": 1})
    content = {
        "state_dict": collections.OrderedDict(w=weight),
        "meta": {"epoch": 4, "cfg": "model = dict()", "counts": filled, "last": collections.deque([1, 2], maxlen=2)},
        "message_hub": {"loss": history_module.HistoryBuffer(), "best": np.float64(0.5)},
    }
    torch.save(content, path)
    for name in [name for name in sys.modules if name.startswith("mmengine")]:
        monkeypatch.delitem(sys.modules, name)
    read = read_weights_file(path)
    assert torch.equal(read["state_dict"]["w"], weight)
    assert read["meta"] == {"epoch": 4, "cfg": "model = dict()", "counts": {"a": 1}, "last": [1, 2]}
    history = read["message_hub"]["loss"]
    assert type(history).__name__ == "mmengine.logging.history_buffer.HistoryBuffer"
    assert vars(history) == {}
    assert not any(name.startswith("mmengine") for name in sys.modules)


@pytest.mark.shared_data
def test_file_of_the_published_system_is_read(shared: Path) -> None:
    content = read_weights_file(shared / "reference/published_format.pth")
    assert set(content) == {"state_dict", "meta", "message_hub"}
    assert len(content["state_dict"]) == 45
    assert all(isinstance(tensor, torch.Tensor) for tensor in content["state_dict"].values())
    assert not any(name.startswith("mmengine") for name in sys.modules)


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_of_many_types_come_back(tmp_path: Path, legacy: bool) -> None:
    dtypes = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)
    state = {str(dtype): torch.arange(5).to(dtype) for dtype in dtypes}
    state["parameter"] = torch.nn.Parameter(torch.ones(2))
    path = tmp_path / "weights.pt"
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    read = read_weights_file(path)
    assert set(read) == set(state)
    for name, tensor in state.items():
        assert read[name].dtype == tensor.dtype and torch.equal(read[name], tensor)


@pytest.mark.parametrize("suffix", [".pth", "_legacy.pth", ".safetensors"])
@pytest.mark.parametrize("kept", [0, 1, 3, 10, 0.3, 0.9, -1])
def test_truncated_file_is_reported(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"weights{suffix}"
    state = {"w": torch.randn(40, 40), "v": torch.randn(7)}
    if suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization="legacy" not in suffix)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(UserError, match=f"{path.name}: truncated, or not a file of weights: .") as error:
        read_weights_file(path)
    assert "weights_only" not in str(error.value) and "\n" not in str(error.value)


def test_other_files_are_reported(tmp_path: Path) -> None:
    text = tmp_path / "notes.pth"
    text.write_text("these are no weights\n")
    with pytest.raises(
        UserError, match=r"notes\.pth: not a file of weights: it is text \('these are no weights' \.\.\.\)"
    ):
        read_weights_file(text)
    archive = tmp_path / "archive.pth"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("readme.txt", "no weights")
    with pytest.raises(
        UserError, match=r"archive\.pth: not a file of weights: it is a zip archive with 1 files \(readme"
    ):
        read_weights_file(archive)
    with pytest.raises(UserError, match=r"missing\.pth: there is no such file"):
        read_weights_file(tmp_path / "missing.pth")
    with pytest.raises(UserError, match="there is no such file"):
        read_weights_file(tmp_path)
    tensor = tmp_path / "tensor.pth"
    torch.save(torch.zeros(2), tensor)
    with pytest.raises(UserError, match=r"tensor\.pth: holds a Tensor, not a dict"):
        read_weights_file(tensor)
    scripted = tmp_path / "scripted.pth"
    write_zip(scripted, pickle.dumps({}, protocol=2), name="constants.pkl")
    with pytest.raises(UserError, match=r"scripted\.pth: .*TorchScript archive; save the state_dict"):
        read_weights_file(scripted)


def write_zip(path: Path, data: bytes, name: str = "data.pkl") -> None:
    """Writes a checkpoint in torch's zip format whose pickle is given."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(f"archive/{name}", data)
        archive.writestr("archive/byteorder", sys.byteorder)
        archive.writestr("archive/version", "3\n")


def test_random_bytes_in_a_pickle_never_run_and_never_escape_as_another_error(tmp_path: Path) -> None:
    random = np.random.RandomState(0)
    path = tmp_path / "weights.pth"
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(3), "v": np.float64(1)}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        good = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    refused = 0
    for _ in range(150):
        bad = bytearray(good)
        for position in random.randint(0, len(bad), size=3):
            bad[position] = random.randint(256)
        write_zip(path, bytes(bad))
        try:
            read_weights_file(path)
        except UserError as error:
            refused += 1
            assert str(path) in str(error)
    assert refused > 50


def test_instance_opcode_is_refused_by_name(tmp_path: Path, sentinel: Path) -> None:
    command = f"touch {sentinel}".encode()
    write_zip(
        tmp_path / "model.pth",
        b"\x80\x02}X\x01\x00\x00\x00w(X" + struct.pack("<I", len(command)) + command + b"ios\nsystem\ns.",
    )
    with pytest.raises(UserError, match=r"names os\.system"):
        read_weights_file(tmp_path / "model.pth")


@pytest.mark.skipif(not os.path.isfile("/proc/self/io"), reason="this system does not count what a process reads")
def test_checkpoint_of_ours_is_verified_and_read_in_one_pass(tmp_path: Path) -> None:
    def bytes_read() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    path = tmp_path / "own.pt"
    weight = torch.arange(2_000_000.0)
    save_checkpoint(Checkpoint({}, {}, {}, {"model": {"weight": weight}, "step": 1}), path, keep_last=1)
    read_weights_file(path)  # what is imported and made the first time does not count
    before = bytes_read()
    content = read_weights_file(path)
    assert bytes_read() - before < 1.02 * path.stat().st_size
    assert torch.equal(content["model"]["weight"], weight)
