"""INT8: nodes that quantize, by ONNX Runtime's quantizer; layers that change the faces too much stay floating point."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime import quantization

from scrfd_trt._engine import calibration
from scrfd_trt._engine.build_options import BuildOptions
from scrfd_trt._engine.calibration import MARGIN, FaceChange
from scrfd_trt._engine.onnx import fp16
from scrfd_trt._engine.onnx.graph import GraphIndex, format_errors
from scrfd_trt._engine.onnx.load import QUANTIZED, tensors
from scrfd_trt._engine.onnx.rewrite import PreparedModel
from scrfd_trt._engine.onnx.verify_rewrite import Rows, Size, letterbox, rows_of
from scrfd_trt._engine.progress import STEPS, BuildProgress, stage
from scrfd_trt._heads import recognize
from scrfd_trt.backends import OnnxBackend

log = logging.getLogger("scrfd_trt")

Inputs = Sequence[tuple[Size, NDArray[np.float32]]]
Target = Literal["weakly typed", "strongly typed", "onnxruntime"]
"""TensorRT before and from 10 on, whose Q/DQ nodes have FP32 and FP16 scales; and ONNX Runtime on a CPU."""

OPSETS: dict[Target, int] = {"weakly typed": 13, "strongly typed": 19, "onnxruntime": 13}
"""13 is the first with a scale per channel, 19 the first with FP16 scales."""

MEASURED_INPUTS = 4
LIKELY = 0.3  # rows with a lower score may change
MAX_ERROR = 0.01  # of a score, and of a box as a share of its size: the mean of both
MAX_KEPT = 0.25  # share of the convolutions that may stay floating point
MIN_SCALE = 1e-6  # smaller ones lose precision in FP16

CPU_OPERATORS = ("Add", "AveragePool", "Conv", "MaxPool", "Relu", "Resize")


def quantize(prepared: PreparedModel, options: BuildOptions, target: Target, progress: BuildProgress) -> PreparedModel:
    """Return an INT8 model; raise ModelFormatError if it changes the faces of the calibration images too much."""
    model = onnx.load_model_from_string(prepared.model)
    if any(node.op_type in QUANTIZED for node in model.graph.node):
        return prepared
    with stage(progress, "calibrating INT8"), format_errors("the model cannot be quantized"):
        if options.calibration is None:
            log.warning("INT8 is calibrated with drawn scenes; a folder of photographs like yours gives better results")
        inputs = _inputs(options.calibration, prepared.sizes)
        # Images of few faces would leave the ranges of scores too small for others.
        drawn = _inputs(None, prepared.sizes) if options.calibration else []
        quantizer = _Quantizer.of(model, [*inputs, *drawn], target)
        work = _Search(quantizer, inputs)
    kept = work.choose_kept(progress)
    result = quantizer.run(kept)
    change = work.change(result)
    change.check("the quantized model", options.max_face_change)
    if target == "strongly typed":
        fp16.Fp16Caster(result).run()
    fp16.set_io_type(result, options.io)
    onnx.checker.check_model(result, full_check=True)
    notes = (
        f"INT8 but for {len(kept)} of {len(quantizer.layers)} convolutions{': ' if kept else ''}{', '.join(kept)}",
        f"INT8 on {len(inputs) // len(prepared.sizes)} calibration images: {change}",
    )
    for note in notes:
        log.info("%s", note)
    source, outputs = tensors(result)
    content = result.SerializeToString()
    untyped = content if target == "weakly typed" and options.io == "float32" else None
    return replace(
        prepared, model=content, untyped=untyped, input=source, outputs=outputs, notes=(*prepared.notes, *notes)
    )


def _inputs(folder: Path | None, sizes: Sequence[Size]) -> Inputs:
    return [(size, letterbox([image], size)) for image in calibration.images(folder) for size in sizes]


@dataclass(frozen=True)
class _Quantizer:
    """A floating point model with named nodes, and the ranges of its tensors."""

    model: onnx.ModelProto
    ranges: Any
    target: Target

    @classmethod
    def of(cls, model: onnx.ModelProto, inputs: Inputs, target: Target) -> _Quantizer:
        if model.opset_import[0].version < OPSETS[target]:
            model = onnx.version_converter.convert_version(model, OPSETS[target])
        for node in model.graph.node:
            node.name = node.output[0]
        del model.graph.value_info[:]
        model = onnx.shape_inference.infer_shapes(model)
        return cls(model, _measure_ranges(model, inputs), target)

    @property
    def layers(self) -> list[str]:
        """Names of all convolutions."""
        return [node.name for node in self.model.graph.node if node.op_type == "Conv"]

    def run(self, kept: Sequence[str]) -> onnx.ModelProto:
        """Return a quantized copy in which some convolutions stay floating point."""
        copy = onnx.ModelProto()
        copy.CopyFrom(self.model)
        on_cpu = self.target == "onnxruntime"
        # TensorRT has symmetric ranges only, fuses what follows a convolution, and quantizes the weights itself.
        extra = {
            "ActivationSymmetric": True,
            "AddQDQPairToWeight": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": ["Conv"],
        }
        kinds = quantization.QuantType
        quantizer = quantization.QDQQuantizer(
            copy,
            per_channel=True,
            reduce_range=False,
            weight_qType=kinds.QInt8,
            activation_qType=kinds.QUInt8 if on_cpu else kinds.QInt8,
            tensors_range=self.ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=list(kept),
            op_types_to_quantize=list(CPU_OPERATORS) if on_cpu else ["Conv"],
            extra_options={} if on_cpu else extra,
        )
        quantizer.quantize_model()
        result: onnx.ModelProto = quantizer.model.model
        if not on_cpu:
            _quantize_residuals(result.graph)
            _limit_scales(result.graph)
        quantizer.model.topological_sort()
        del result.graph.value_info[:]
        return result


def _measure_ranges(model: onnx.ModelProto, inputs: Inputs) -> Any:
    """Return minimum and maximum of each tensor; percentiles and entropy lose more faces of SCRFD."""

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._blobs = iter([blob for _, blob in inputs])

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            blob = next(self._blobs, None)
            return None if blob is None else {model.graph.input[0].name: blob}

    with TemporaryDirectory() as folder:
        source = Path(folder) / "model.onnx"
        onnx.save(model, source)
        calibrator = quantization.create_calibrator(
            source,
            list(CPU_OPERATORS),
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=quantization.CalibrationMethod.MinMax,
        )
        calibrator.collect_data(Reader())
        return calibrator.compute_data()


def _quantize_residuals(graph: onnx.GraphProto) -> None:
    """Let a sum read the quantized copy of its shortcut, which TensorRT then fuses with the convolution before it."""
    index = GraphIndex(graph)
    for add in (node for node in graph.node if node.op_type == "Add"):
        for position, name in enumerate(add.input):
            pairs = [node for node, _ in index.consumers.get(name, []) if node.op_type == "QuantizeLinear"]
            if pairs:
                add.input[position] = index.consumers[pairs[0].output[0]][0][0].output[0]
                break


def _limit_scales(graph: onnx.GraphProto) -> None:
    scales = {node.input[1] for node in graph.node if node.op_type in QUANTIZED}
    for tensor in graph.initializer:
        if tensor.name in scales:
            values = np.maximum(onnx.numpy_helper.to_array(tensor), np.float32(MIN_SCALE))
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


@dataclass
class _Search:
    """Finds the convolutions that must stay floating point."""

    quantizer: _Quantizer
    inputs: Inputs

    def __post_init__(self) -> None:
        self._expected = self._rows(self.quantizer.model, self.inputs)
        # Those with the most rows that may be faces tell the most.
        order = np.argsort([-int((rows.scores >= LIKELY).sum()) for rows in self._expected], kind="stable")
        self._measured = order[:MEASURED_INPUTS].tolist()

    def change(self, model: onnx.ModelProto) -> FaceChange:
        """Return the change of the faces of all inputs in a quantized model."""
        found = self._rows(model, self.inputs)
        return FaceChange.of([rows.faces for rows in self._expected], [rows.faces for rows in found])

    def choose_kept(self, progress: BuildProgress) -> tuple[str, ...]:
        """Return the layers, by their own error, without which the error is small enough; none if it is."""
        if self._error(()) <= MAX_ERROR:
            return ()
        layers, alone = self.quantizer.layers, []
        with stage(progress, "measuring the layers in INT8", STEPS):
            for number, layer in enumerate(layers):
                alone.append(self._error([other for other in layers if other != layer]))
                progress.step(STEPS * (number + 1) // len(layers), layer)
        worst = [layer for _, layer in sorted(zip(alone, layers, strict=True), reverse=True)]
        most = int(MAX_KEPT * len(layers))
        return tuple(worst[: next((n for n in range(1, most) if self._error(worst[:n]) <= MAX_ERROR), most)])

    def _error(self, kept: Sequence[str]) -> float:
        """Return the mean change of scores and boxes, of the rows that may be faces, in the measured inputs."""
        found = self._rows(self.quantizer.run(kept), [self.inputs[index] for index in self._measured])
        errors = [np.zeros(0)]
        for index, after in zip(self._measured, found, strict=True):
            before = self._expected[index]
            likely = before.scores >= LIKELY
            boxes = before.values[likely, :4]
            sides = np.maximum((boxes[:, :2] + boxes[:, 2:]).max(axis=1, initial=0), before.strides[likely])
            box = np.abs(after.values[likely, :4] - boxes).max(axis=1, initial=0) / sides
            errors.append((np.abs(after.scores - before.scores)[likely] + box) / 2)
        error = np.concatenate(errors)
        return float(error.mean()) if len(error) else 0.0

    def _rows(self, model: onnx.ModelProto, inputs: Inputs) -> list[Rows]:
        with closing(OnnxBackend(model.SerializeToString())) as backend:
            layout = recognize(backend.outputs)
            return [
                rows_of(layout, [np.asarray(output, np.float32) for output in backend.run(blob)], 0, size, MARGIN)
                for size, blob in inputs
            ]
