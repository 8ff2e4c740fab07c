"""Writing the paths of a recognizer as a program: .onnx for onnxruntime and others, .pt2 for torch."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from omnisource.errors import UserError
from omnisource.evaluation.exported.description import INPUTS, METADATA_KEY, Description, output_name
from omnisource.evaluation.exported.onnx_file import import_onnxruntime, with_checksum
from omnisource.export.programs import ExportedPath, joined_program, path_program, quiet
from omnisource.types import Media

_LARGEST_MODEL_BYTES = 2**31 - 1  # of a message of protocol buffers


def write_torch(path: Path, paths: Mapping[Media, ExportedPath], description: Description) -> None:
    """Writes a .pt2 archive with a program for each media, named by it.

    What torch would run when it loads the archive, and no program needs, is left out: see `vetting`.
    """
    from torch.export.pt2_archive._package import package_pt2

    programs: dict[str, ExportedProgram] = {}
    for media, exported in paths.items():
        program = path_program(exported)
        program._guards_code = []
        for node in program.graph.nodes:
            node.meta = {key: value for key, value in node.meta.items() if key in ("val", "tensor_meta")}
        programs[media] = program
    buffer = io.BytesIO()
    with quiet():
        package_pt2(buffer, exported_programs=programs, extra_files={METADATA_KEY: description.to_json()})
    path.write_bytes(buffer.getbuffer())


def write_onnx(path: Path, paths: Mapping[Media, ExportedPath], description: Description) -> None:
    """Writes an .onnx file; each media is an input of its own, and the heads that judge it are outputs.

    Whoever runs it gives one of the inputs and asks for its outputs: the other input is empty unless it is given.

    Raises:
        UserError: onnx is not installed, or the model is too large for one file.
    """
    onnx = _import_onnx()
    inputs = {INPUTS[media]: exported for media, exported in paths.items()}
    outputs = [output_name(media, head) for media in paths for head in description.by_media[media].heads]
    program = joined_program(paths)
    with quiet(), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.onnx.export(
            program, dynamo=True, input_names=list(inputs), output_names=outputs, verbose=False, optimize=True
        )
    assert exported is not None
    model = exported.model_proto
    _name_dimensions(model.graph, inputs)
    _forget_origins(model.graph)
    if len(paths) > 1:
        for name, one in inputs.items():
            shape = (0, *one.example.shape[1:])
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(shape, np.uint8), name))
    _save_onnx(model, path, description)


def quantize_onnx(path: Path, description: Description) -> None:
    """Replaces the weights of an .onnx file by integers of 8 bits; activations are quantized as they come.

    Raises:
        UserError: onnxruntime is not installed.
    """
    onnx = _import_onnx()
    import_onnxruntime()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f"{path.name}.") as folder, quiet():
        target = os.path.join(folder, "quantized")
        # Of convolutions onnxruntime has only the kernel with unsigned weights.
        quantize_dynamic(path, target, weight_type=QuantType.QUInt8)
        model = onnx.load(target)
    del model.metadata_props[:]
    _save_onnx(model, path, description)


def _import_onnx() -> Any:
    try:
        import onnx
        import onnxscript  # noqa: F401  # torch writes ONNX with it
    except ImportError as error:
        raise UserError("writing ONNX needs onnx and onnxscript: pip install 'omnisource[export]'") from error
    return onnx


def _name_dimensions(graph: Any, inputs: Mapping[str, ExportedPath]) -> None:
    """Gives the dimensions that may have any size names that say what they are."""
    names: dict[str, str] = {}
    for value in graph.input:
        for index in inputs[value.name].dynamic:
            dimension = value.type.tensor_type.shape.dim[index]
            place = {0: "count", -2: "height", -1: "width"}[
                index if index == 0 else index - inputs[value.name].example.ndim
            ]
            names[dimension.dim_param] = f"{value.name}_{place}"
    for value in [*graph.input, *graph.output]:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = names[dimension.dim_param]


def _forget_origins(graph: Any) -> None:
    """Removes the traces of our source code that torch leaves in a model."""
    del graph.metadata_props[:]
    for entry in [*graph.node, *graph.input, *graph.output, *graph.initializer]:
        del entry.metadata_props[:]
        entry.doc_string = ""


def _save_onnx(model: Any, path: Path, description: Description) -> None:
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, description.to_json()
    model.producer_name = "omnisource"
    del model.graph.value_info[:]  # of what lies between, with dimensions by other names
    if model.ByteSize() > _LARGEST_MODEL_BYTES:
        raise UserError("the model does not fit into one ONNX file, of at most 2 GiB; take --format torch")
    path.write_bytes(with_checksum(model.SerializeToString()))
