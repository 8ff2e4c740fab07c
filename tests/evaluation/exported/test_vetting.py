"""Archives of torch.export that hold what torch would run are refused before torch sees them."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.export.pt2_archive._package import package_pt2

from omnisource.errors import UserError
from omnisource.evaluation.exported.torch_program import TorchRecognizer
from omnisource.evaluation.exported.vetting import vet

CPU = torch.device("cpu")
Change = Callable[[dict[str, Any]], Any]


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("programs") / "plain.pt2"
    module, x = torch.nn.Linear(3, 2), torch.zeros(2, 3)
    program = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    program._guards_code = []
    for node in program.graph.nodes:
        node.meta = {"val": node.meta["val"]} if "val" in node.meta else {}
    package_pt2(str(path), exported_programs={"image": program}, extra_files={"omnisource": "{}"})
    return path


def rewritten(archive: Path, target: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
    """Writes an archive of which one record is another."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(target, "w") as new:
        for record in old.namelist():
            content = old.read(record)
            new.writestr(record, change(content) if record.endswith(name) else content)
    return target


def in_json(change: Change) -> Callable[[bytes], bytes]:
    def changed(content: bytes) -> bytes:
        values = json.loads(content)
        change(values)
        return json.dumps(values).encode()

    return changed


def first_node(program: dict[str, Any]) -> dict[str, Any]:
    return program["graph_module"]["graph"]["nodes"][0]


def change_size(program: dict[str, Any]) -> None:
    text = json.dumps(program["graph_module"]["graph"])
    expression = text.split('"expr_str": "')[1].split('"')[0]
    program["graph_module"]["graph"] = json.loads(text.replace(expression, "__import__('os').mkdir('made')"))


def test_plain_archive_is_let_through(archive: Path) -> None:
    with archive.open("rb") as file:
        vet(file)


@pytest.mark.parametrize(
    ("record", "change", "words"),
    [
        ("models/image.json", lambda p: first_node(p).update(target="torch.hub.load"), "a call of torch.hub.load"),
        ("models/image.json", lambda p: first_node(p).update(target="torch.ops.aten.from_file.default"), "from_file"),
        ("models/image.json", lambda p: first_node(p).update(target="torch.ops.other.run.default"), "torch.ops.other"),
        ("models/image.json", lambda p: first_node(p).update(metadata={"torch_fn": "os.system"}), "notes"),
        ("models/image.json", lambda p: p.update(guards_code=["__import__('os').mkdir('made')"]), "guards"),
        ("models/image.json", change_size, "a size \"__import__('os').mkdir('made')\""),
        ("models/image.json", lambda p: p["range_constraints"].update({"exit()": {}}), "a size 'exit()'"),
        (
            "models/image.json",
            lambda p: first_node(p)["inputs"][0].update(arg={"as_custom_obj": {"name": "x"}}),
            "a value of the kind custom_obj",
        ),
        (
            "image_weights_config.json",
            lambda c: next(iter(c["config"].values())).update(use_pickle=True),
            "a pickle for 'weight'",
        ),
    ],
)
def test_what_torch_would_run_is_refused(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: str, change: Change, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    bad = rewritten(archive, tmp_path / "bad.pt2", record, in_json(change))
    with pytest.raises(UserError, match=r"bad\.pt2: refused, and nothing of it was loaded") as caught:
        TorchRecognizer(bad, CPU)
    assert words in str(caught.value)
    assert not Path("made").exists()


def test_pickles_and_foreign_records_are_refused(archive: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    bomb = tmp_path / "bomb.pt2"
    torch.save(Touch(str(made)), bomb)
    inputs = bomb.read_bytes()
    for bad in (
        bomb,  # no program at all
        rewritten(archive, tmp_path / "inputs.pt2", "sample_inputs/image.pt", lambda content: inputs),
        rewritten(archive, tmp_path / "raw.pt2", "image.pt", lambda content: pickle.dumps(Touch(str(made)))),
    ):
        with pytest.raises(UserError, match=f"{bad.name}: (refused|damaged)"):
            TorchRecognizer(bad, CPU)
    with zipfile.ZipFile(archive, "a") as more:
        more.writestr("plain/data/aotinductor/model/run.so", b"")
    with pytest.raises(UserError, match=r"it holds a record 'data/aotinductor/model/run\.so'"):
        TorchRecognizer(archive, CPU)
    assert not made.exists()
