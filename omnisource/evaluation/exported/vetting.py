"""Whether a .pt2 archive of torch.export may be loaded: torch itself runs what stands in one.

torch loads tensors of such an archive with pickle where it says so, evaluates the expressions of sizes, runs the code
of its guards, and calls whatever function of torch the graph names. So only what an exported recognizer is made of is
let through: raw tensors, operators of aten, sums and products of sizes.

Source: pytorch/pytorch v2.13.0, torch/export/pt2_archive/_package.py and torch/_export/serde/serialize.py.
"""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import torch

from omnisource.files.zip_checksums import verify_archive

_RECORDS = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/(version|serialization_id)"
    r"|models/(image|video)\.json"
    r"|data/weights/(weight_\d+|(image|video)_weights_config\.json)"
    r"|data/constants/(tensor_\d+|(image|video)_constants_config\.json)"
    r"|data/sample_inputs/(image|video)\.pt"
    r"|extra/omnisource"
)
_OPERATORS = re.compile(
    r"torch\.ops\.aten\.(?!\w*file)\w+\.\w+"  # `from_file` is the one that opens any
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_|getitem)"
    r"|torch\.sym_(int|float|max|min|not|sqrt)"
)
_VALUES = re.compile(
    r"as_(none|expr|name|scalar_type|memory_format|layout|device|complex|(optional_)?tensors?|strings?"
    r"|(sym_)?(int|float|bool)s?)"
)
_INPUTS = frozenset(("user_input", "parameter", "buffer", "tensor_constant"))
_OUTPUTS = frozenset(("user_output",))
_EXPRESSION = re.compile(
    # Without ways back: what is no expression is refused in one pass.
    r"(?>Symbol\('[su]\d++', (?>positive=True|nonnegative=True|integer=True|, )++\)"
    r"|Integer\(-?\d+\)|(?:Add|Mul|FloorDiv|Mod|Pow|Max|Min|CeilDiv|PythonMod|CleanDiv)(?=\()|[(),]|-?\d++|[su]\d++|\s)*+"
)
_STRUCTURES = (None, "builtins.tuple", "builtins.list", "builtins.dict")


class UnsafeProgram(Exception):
    """An archive that holds what an exported recognizer does not; the message says what."""


def vet(file: BinaryIO) -> None:
    """Reads an archive without loading it.

    Raises:
        UnsafeProgram: It holds something that could run code.
        Exception: It is damaged, or no such archive, in any way.
    """
    verify_archive(file)
    with zipfile.ZipFile(file) as archive:
        for record in archive.namelist():
            name = record.partition("/")[2]  # behind the name of the archive
            if not _RECORDS.fullmatch(name):
                raise UnsafeProgram(f"a record {name!r}")
            if name.endswith("_config.json"):
                _vet_tensors(json.loads(archive.read(record)))
            elif name.endswith(".json"):
                _vet_program(json.loads(archive.read(record)))
            elif name.endswith(".pt"):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of other pickles than torch's own, which then fail
                    torch.load(io.BytesIO(archive.read(record)), weights_only=True)  # torch falls back to pickle


def _vet_tensors(config: Any) -> None:
    for name, entry in config["config"].items():
        if entry["use_pickle"] is not False or not re.fullmatch(r"(weight|tensor)_\d+", entry["path_name"]):
            raise UnsafeProgram(f"a pickle for {name!r}")


def _vet_program(program: Any) -> None:
    if program["guards_code"]:
        raise UnsafeProgram("guards, which are code")
    graph_module = program["graph_module"]
    for node in graph_module["graph"]["nodes"]:
        if not _OPERATORS.fullmatch(node["target"]):
            raise UnsafeProgram(f"a call of {node['target']}")
        if node["metadata"]:
            raise UnsafeProgram("notes at the nodes")
    if graph_module["metadata"] or graph_module.get("treespec_namedtuple_fields"):
        raise UnsafeProgram("types of its own")
    for side, allowed in (("input_specs", _INPUTS), ("output_specs", _OUTPUTS)):
        for spec in graph_module["signature"][side]:
            if unknown := spec.keys() - allowed:
                raise UnsafeProgram(f"a value of the kind {min(unknown)}")
    for call in graph_module["module_call_graph"]:
        if call["signature"] is not None:
            _vet_structure(json.loads(call["signature"]["in_spec"]))
            _vet_structure(json.loads(call["signature"]["out_spec"]))
    for name in program["range_constraints"]:
        _vet_expression(name)
    graph = graph_module["graph"]
    if graph["custom_obj_values"]:
        raise UnsafeProgram("objects of its own")
    # The keys of these are names of nodes, and say nothing.
    by_name = [graph[f"{kind}_values"] for kind in ("tensor", "sym_int", "sym_bool", "sym_float")]
    values = [value for values in by_name for value in values.values()]
    for key, value in _entries([graph["inputs"], graph["outputs"], graph["nodes"], values]):
        if key.startswith("as_") and value is not None and not _VALUES.fullmatch(key):
            raise UnsafeProgram(f"a value of the kind {key.removeprefix('as_')}")
        if key == "expr_str":
            _vet_expression(value)


def _vet_structure(spec: Any) -> None:
    """Vets how arguments lie in one another: [version, {type, context, children_spec}]."""
    waiting = [spec[1]]
    while waiting:
        one = waiting.pop()
        context = None if one["context"] is None else json.loads(one["context"])
        is_plain = context is None or (isinstance(context, list) and all(isinstance(key, str) for key in context))
        if one["type"] not in _STRUCTURES or not is_plain:
            raise UnsafeProgram(f"arguments of the type {one['type']}")
        waiting += one["children_spec"]


def _vet_expression(text: Any) -> None:
    if not isinstance(text, str) or not _EXPRESSION.fullmatch(text):
        raise UnsafeProgram(f"a size {text!r}")


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Yields every (key, value) at any depth."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield from one.items()
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
