"""INT8 models on ONNX Runtime: what is quantized, what they change, and when they are refused."""

from __future__ import annotations

import re
from contextlib import closing
from typing import Any

import numpy as np
import onnx
import pytest

from scrfd_trt import ModelFormatError, OptionError, SCRFDDetector, build_engine, samples
from scrfd_trt._decode import Candidates
from scrfd_trt._engine import calibration
from scrfd_trt._engine.build_options import BuildOptions
from scrfd_trt._engine.calibration import FaceChange
from scrfd_trt._engine.onnx import quantize as int8
from scrfd_trt._engine.onnx.rewrite import prepare
from scrfd_trt._engine.progress import NoProgress
from scrfd_trt.backends import OnnxBackend

pytestmark = pytest.mark.slow

SIDE = 96
OPTIONS = BuildOptions(precision="int8", sizes=(SIDE,))


@pytest.fixture(scope="module")
def fp32(network_500m):
    return prepare(network_500m, sizes=((SIDE, SIDE),), batch=(2, 2, 2), precision="int8")


@pytest.fixture
def quick(monkeypatch):
    """Quantize everything, with one picture."""
    monkeypatch.setattr(int8._Quantizer, "choose_kept", lambda self, progress: ())
    monkeypatch.setattr(calibration, "images", lambda folder: [samples.load("group").image])


def quantized(prepared: Any, target: int8.Target) -> onnx.ModelProto:
    found = int8.quantize(prepared, OPTIONS, target, NoProgress())
    layers = sum(node.op_type == "Conv" for node in onnx.load_model_from_string(prepared.model).graph.node)
    assert found.notes[-2] == f"INT8 but for 0 of {layers} convolutions"
    assert re.match(r"INT8 on 1 calibration images: of \d faces, 0 are missing and 0 are new; boxes", found.notes[-1])
    with closing(OnnxBackend(found.model)) as backend:
        batch = found.input.shape[0] or 1
        assert backend.run(np.zeros((batch, 3, SIDE, SIDE), np.float32))[0].shape[0] == batch
    return onnx.load_model_from_string(found.model)


def check_pairs(model: onnx.ModelProto, scale: type, inputs: int) -> None:
    """Check that weights and inputs of convolutions alone are quantized, symmetrically."""
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    producers = {name: node.op_type for node in model.graph.node for name in node.output}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert all(producers[name] == "DequantizeLinear" for node in convolutions for name in node.input[:2])
    pairs = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert len(pairs) == len(convolutions) + inputs
    for node in pairs:
        assert constants[node.input[1]].dtype == scale
        assert (constants[node.input[1]] > 0).all()
        assert constants[node.input[2]].dtype == np.int8
        assert not constants[node.input[2]].any()


def test_of_weakly_typed_networks(models_2_5g, quick):
    prepared = prepare(models_2_5g["grid"], sizes=((SIDE, SIDE),), precision="int8")
    model = quantized(prepared, "weakly typed")
    assert model.opset_import[0].version == 13
    check_pairs(model, np.float32, 47)
    # TensorRT fuses sums of shortcuts with convolutions if the shortcut is quantized.
    producers = {name: node.op_type for node in model.graph.node for name in node.output}
    sums = [{producers[name] for name in node.input} for node in model.graph.node if node.op_type == "Add"]
    assert sum("DequantizeLinear" in kinds for kinds in sums) >= 10


def test_of_strongly_typed_networks(fp32, quick):
    model = quantized(fp32, "strongly typed")
    assert model.opset_import[0].version == 19
    check_pairs(model, np.float16, 50)


def test_faces_that_change_are_refused(fp32, monkeypatch):
    monkeypatch.setattr(int8, "MAX_ERROR", 1.0)  # no layer is measured alone
    monkeypatch.setattr(int8, "MIN_SCALE", 0.2)
    with pytest.raises(ModelFormatError, match=r"in the quantized model: of \d faces, \d are missing .* choose fp16"):
        int8.quantize(fp32, OPTIONS, "weakly typed", NoProgress())


def test_layers_with_the_largest_error_stay_floating_point(monkeypatch):
    errors = {"a": 0.001, "b": 0.02, "c": 0.01, "d": 0.003, "e": 0, "f": 0, "g": 0, "h": 0}
    search = object.__new__(int8._Quantizer)
    search.layers = list(errors)
    monkeypatch.setattr(int8, "MAX_KEPT", 0.5)
    search._error = lambda kept: sum(error for layer, error in errors.items() if layer not in kept)
    assert search.choose_kept(NoProgress()) == ("b", "c")
    errors["d"] = 0.1
    assert search.choose_kept(NoProgress()) == ("d", "b", "c")
    errors.update(b=0, c=0, d=0)
    assert search.choose_kept(NoProgress()) == ()


def test_models_for_the_cpu_are_files(network_500m, tmp_path, quick):
    out = tmp_path / "int8.onnx"
    with pytest.raises(OptionError, match=r"int8\.onnx is a name for an ONNX model, which requires precision int8"):
        build_engine(network_500m, out)
    build_engine(network_500m, out, OPTIONS)
    model = onnx.load(out)
    assert not any(node.op_type == "Relu" for node in model.graph.node)  # part of the quantization
    assert {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 4} == {onnx.TensorProto.INT8}
    with SCRFDDetector.from_onnx(out, device="cpu", scales=[SIDE]) as detector:
        assert len(detector.detect(samples.load("group").image)) == 3


def test_quantized_models_stay(export, tmp_path):
    model = prepare(export(), precision="int8")
    graph = onnx.load_model_from_string(model.model)
    graph.graph.node.add(op_type="QuantizeLinear")
    kept = type("Prepared", (), {"model": graph.SerializeToString()})()
    assert int8.quantize(kept, OPTIONS, "weakly typed", NoProgress()) is kept


def test_calibration_images(tmp_path):
    with pytest.raises(OptionError, match="contains no images"):
        next(calibration.images(tmp_path))
    for number in range(130):
        (tmp_path / f"{number:03}.PPM").write_bytes(b"P6 1 1 255\n" + bytes([number] * 3))
    (tmp_path / "._000.PPM").touch()
    assert [image.max() for image in calibration.images(tmp_path)] == list(range(0, 130, 3))
    assert len(list(calibration.images(None))) == len(samples.names())


def faces(*boxes: tuple[float, ...], scores: tuple[float, ...]) -> Candidates:
    return Candidates(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), None)


def test_face_change():
    before = [faces((0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10), scores=(0.9, 0.8, 0.52)), faces(scores=())]
    after = [faces((0, 0, 10, 8), (60, 0, 70, 10), scores=(0.8, 0.54)), faces((0, 0, 9, 9), scores=(0.7,))]
    change = FaceChange.of(before, after)
    assert (change.faces, change.missing, change.new) == (2, 1, 1)
    assert (change.overlap, change.score) == (pytest.approx(0.8), pytest.approx(0.1))
    with pytest.raises(ModelFormatError, match=r"of 2 faces, 1 are missing and 1 are new; boxes overlap by 80.0%"):
        change.check("the engine", 0.5)
    with pytest.raises(ModelFormatError, match="no face"):
        FaceChange.of([], []).check("the engine", 0.5)
    FaceChange.of(before, before).check("the engine", 0.0)
