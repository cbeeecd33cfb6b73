"""INT8: nodes that quantize, by ONNX Runtime's quantizer; layers that change the faces too much stay floating point."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime import quantization
from onnxruntime.quantization import QuantType

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
        quantizer = _Quantizer(model, target, inputs, drawn)
    kept = quantizer.choose_kept(progress)
    result = quantizer.run(kept)
    change = FaceChange.of(*([rows.faces for rows in each] for each in (quantizer.expected, quantizer.rows(result))))
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


class _Quantizer:
    """A floating point model, which it quantizes, and what the model finds in the calibration inputs."""

    def __init__(self, model: onnx.ModelProto, target: Target, inputs: Inputs, drawn: Inputs) -> None:
        if model.opset_import[0].version < OPSETS[target]:
            model = onnx.version_converter.convert_version(model, OPSETS[target])
        for node in model.graph.node:
            node.name = node.output[0]
        del model.graph.value_info[:]
        self.model, self.target, self.inputs = onnx.shape_inference.infer_shapes(model), target, inputs
        self.layers = [node.name for node in model.graph.node if node.op_type == "Conv"]
        self.batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1
        self.ranges = self._measure_ranges([*inputs, *drawn])
        self.expected = self.rows(self.model)
        # Those with the most rows that may be faces tell the most.
        order = np.argsort([-int((rows.scores >= LIKELY).sum()) for rows in self.expected], kind="stable")
        self.measured = order[:MEASURED_INPUTS].tolist()

    def _measure_ranges(self, inputs: Inputs) -> Any:
        """Return minimum and maximum of each tensor; percentiles and entropy lose more faces of SCRFD."""
        name = self.model.graph.input[0].name
        feeds = ({name: np.repeat(blob, self.batch, axis=0)} for _, blob in inputs)
        reader = type("Reader", (quantization.CalibrationDataReader,), {"get_next": lambda _: next(feeds, None)})
        with TemporaryDirectory() as folder:
            source = Path(folder) / "model.onnx"
            onnx.save(self.model, source)
            calibrator = quantization.create_calibrator(
                source,
                list(CPU_OPERATORS),
                augmented_model_path=str(Path(folder) / "augmented.onnx"),
                calibrate_method=quantization.CalibrationMethod.MinMax,
            )
            calibrator.collect_data(reader())
            return calibrator.compute_data()

    def run(self, kept: Sequence[str]) -> onnx.ModelProto:
        """Return a quantized copy in which some convolutions stay floating point."""
        on_cpu = self.target == "onnxruntime"
        # TensorRT has symmetric ranges only, fuses what follows a convolution, and quantizes the weights itself.
        extra = {
            "ActivationSymmetric": True,
            "AddQDQPairToWeight": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": ["Conv"],
        }
        quantizer = quantization.QDQQuantizer(
            deepcopy(self.model),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8 if on_cpu else QuantType.QInt8,
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

    def choose_kept(self, progress: BuildProgress) -> tuple[str, ...]:
        """Return the layers, by their own error, without which the error is small enough; none if it is."""
        if self._error(()) <= MAX_ERROR:
            return ()
        layers, alone = self.layers, []
        with stage(progress, "measuring the layers in INT8", STEPS):
            for number, layer in enumerate(layers):
                alone.append(self._error([other for other in layers if other != layer]))
                progress.step(STEPS * (number + 1) // len(layers), layer)
        worst = [layer for _, layer in sorted(zip(alone, layers, strict=True), reverse=True)]
        most = int(MAX_KEPT * len(layers))
        return tuple(worst[: next((n for n in range(1, most) if self._error(worst[:n]) <= MAX_ERROR), most)])

    def _error(self, kept: Sequence[str]) -> float:
        """Return the mean change of scores and boxes, of the rows that may be faces, in the measured inputs."""
        found = self.rows(self.run(kept), self.measured)
        errors = [np.zeros(0)]
        for index, after in zip(self.measured, found, strict=True):
            before = self.expected[index]
            likely = before.scores >= LIKELY
            boxes = before.values[likely, :4]
            sides = np.maximum((boxes[:, :2] + boxes[:, 2:]).max(axis=1, initial=0), before.strides[likely])
            box = np.abs(after.values[likely, :4] - boxes).max(axis=1, initial=0) / sides
            errors.append((np.abs(after.scores - before.scores)[likely] + box) / 2)
        error = np.concatenate(errors)
        return float(error.mean()) if len(error) else 0.0

    def rows(self, model: onnx.ModelProto, numbers: Sequence[int] | None = None) -> list[Rows]:
        """Return what a model finds in the inputs with these numbers, or in all."""
        inputs = self.inputs if numbers is None else [self.inputs[number] for number in numbers]
        with closing(OnnxBackend(model.SerializeToString())) as backend:
            layout = recognize(backend.outputs)
            runs = ((size, backend.run(np.repeat(blob, self.batch, axis=0))) for size, blob in inputs)
            return [
                rows_of(layout, [np.asarray(output, np.float32) for output in outputs], 0, size, MARGIN)
                for size, outputs in runs
            ]


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
