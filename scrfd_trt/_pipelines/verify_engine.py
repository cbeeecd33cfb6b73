"""Verify a new engine after its build: it must find the faces that its ONNX model finds."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scrfd_trt import _devices, samples
from scrfd_trt._cuda import driver, kernels
from scrfd_trt._cuda.driver import find
from scrfd_trt._detections import Detections
from scrfd_trt._engine import calibration
from scrfd_trt._engine.build_options import BuildOptions
from scrfd_trt._engine.flavours import Flavour
from scrfd_trt._engine.plan import RTX_CAPABILITIES, dotted, read_header, read_plan
from scrfd_trt._engine.runtime import check_gpu, opener
from scrfd_trt._nms import pairwise_iou
from scrfd_trt._options import DetectorOptions
from scrfd_trt._pipelines.base import Pipeline
from scrfd_trt._pipelines.cuda import CudaPipeline
from scrfd_trt._pipelines.host import HostPipeline
from scrfd_trt.backends import OnnxBackend
from scrfd_trt.errors import BackendError, DeviceError, ModelFormatError

if TYPE_CHECKING:
    from scrfd_trt._engine.onnx.rewrite import PreparedModel

log = logging.getLogger("scrfd_trt")

THRESHOLD = 0.5
MARGIN = 0.05  # faces whose score is this close to the threshold may come and go with rounding
IOU = 0.9
LANDMARKS = 0.02


def check_prerequisites(flavour: Flavour, options: BuildOptions, device: int) -> None:
    """Check before a build on ``cuda:device`` that :func:`check_engine` can run the engine after it, if it fits."""
    capability = next((gpu.compute_capability for gpu in _devices.driver().gpus if gpu.index == device), None)
    if capability is None:
        return
    driver.bindings()
    driver.core()
    built_for = options.compute_capabilities or (map(dotted, RTX_CAPABILITIES) if flavour.is_rtx else None)
    if built_for is None or dotted(capability) in built_for:
        kernels.compiled(capability)


def check_engine(plan: bytes, prepared: PreparedModel, device: int, source: Path, options: BuildOptions) -> None:
    """Compare a new engine's faces on ``cuda:device`` with its ONNX model's; log a warning if it is for another GPU.

    The faces of an INT8 engine are compared with those of ``source`` in the calibration images.
    """
    header = read_header(plan)
    try:
        check_gpu(header.capabilities, find(device), unlisted=header.unlisted)
    except (BackendError, DeviceError) as error:
        log.warning("the engine is not checked, since it cannot run here: %s", error)
        return
    with ExitStack() as stack:
        detecting = DetectorOptions(max_batch=2)
        # This build itself put a lean runtime into the plan, so that code may run.
        pipeline = CudaPipeline(opener(read_plan(plan), device, allow_host_code=True), detecting)
        stack.callback(pipeline.close)
        quantized = options.precision == "int8"
        backend = OnnxBackend(source if quantized else prepared.model)
        stack.callback(backend.close)
        detecting = detecting.model_copy(update={"scales": pipeline.scales})
        reference = HostPipeline(backend, detecting, cut_padding=False)
        if quantized:
            verify_int8(pipeline, reference, options)
        else:
            verify(pipeline, reference)


def verify_int8(pipeline: Pipeline, reference: Pipeline, options: BuildOptions) -> None:
    """Check that an INT8 pipeline finds the faces of the calibration images that the reference finds."""
    threshold = calibration.THRESHOLD - calibration.MARGIN
    faces = [
        [each.detect([image], threshold, None)[0] for each in (reference, pipeline)]
        for image in calibration.images(options.calibration)
    ]
    change = calibration.FaceChange.of(*zip(*faces, strict=True))
    log.info("INT8 engine: %s", change)
    change.check("the engine", options.max_face_change)


def verify(pipeline: Pipeline, reference: Pipeline) -> None:
    """Check that two pipelines with the same scales find the same faces in drawn pictures (ModelFormatError)."""
    images = [samples.load(name).image for name in ("group", "portrait")]
    lines = []
    # Together and alone: a batch and a single image may have optimization profiles of their own.
    for batch in (images, images[:1], images[1:]):
        pairs = zip(*(each.detect(batch, THRESHOLD - MARGIN, None) for each in (pipeline, reference)), strict=True)
        lines += [line for found, expected in pairs for line in differences(found, expected, above=THRESHOLD + MARGIN)]
    if lines:
        raise ModelFormatError(
            f"the engine does not find the faces that the ONNX model finds ({len(lines)} differences; the first: "
            f"{lines[0]}); build it with precision fp32, and report this"
        )


def differences(
    found: Detections, expected: Detections, *, above: float, iou: float = IOU, landmarks: float = LANDMARKS
) -> list[str]:
    """Return a line for each face that differs: whose boxes overlap less than ``iou``, or landmarks, in its sides."""
    # A face with a score of at least ``above`` must be in the other list with any score, since scores close to the
    # threshold come and go. Both are detected with a threshold slightly below ``above``.
    lines = []
    overlap = pairwise_iou(expected.boxes, found.boxes)
    for row in np.flatnonzero(expected.scores >= above).tolist():
        best = overlap[row].max(initial=0.0)
        if best < iou:
            lines.append(f"face at {_box(expected, row)}, score {expected.scores[row]:.2f}: best overlap is {best:.2f}")
        elif expected.landmarks is not None and found.landmarks is not None:
            nearest = found.landmarks[overlap[row].argmax()]
            side = float((expected.boxes[row, 2:] - expected.boxes[row, :2]).max())
            distance = float(np.linalg.norm(nearest - expected.landmarks[row], axis=1).max())
            if distance > landmarks * side:
                lines.append(
                    f"face at {_box(expected, row)}: a landmark is {distance:.1f} pixels off ({distance / side:.1%})"
                )
    lines += [
        f"face at {_box(found, row)}, score {found.scores[row]:.2f}: no face is expected there"
        for row in np.flatnonzero(found.scores >= above).tolist()
        if overlap[:, row].max(initial=0.0) < iou
    ]
    return lines


def _box(faces: Detections, row: int) -> str:
    return ", ".join(f"{side:.0f}" for side in faces.boxes[row])
