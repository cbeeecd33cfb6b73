"""Compare the faces of two pipelines, and check a new engine against its ONNX model."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np

from scrfd_trt import _devices, samples
from scrfd_trt._cuda import driver, kernels
from scrfd_trt._cuda.device import find
from scrfd_trt._detections import Detections
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
MARGIN = 0.05
"""Faces whose score is this close to the threshold may come and go with rounding."""

IOU = 0.9
LANDMARKS = 0.02


def differences(
    found: Detections, wanted: Detections, *, above: float, iou: float = IOU, landmarks: float = LANDMARKS
) -> list[str]:
    """List where detections differ from the expected ones.

    A face whose score is close to the threshold may come and go with rounding. Therefore each expected face with a
    score of at least ``above`` must be found, with any score, and each found face with such a score must be expected,
    with any score. Detect both with a threshold slightly below ``above``.

    Parameters
    ----------
    found, wanted
        Faces of the same image: those to check, and the expected ones.
    above
        Lowest score of a face that counts, 0 to 1.
    iou
        Lowest intersection over union of the two boxes of a face.
    landmarks
        Largest distance between two landmarks of a face, as a share of the longer side of its box.

    Returns
    -------
    list of str
        One line per face; empty if they agree.
    """
    lines = []
    overlap = pairwise_iou(wanted.boxes, found.boxes)
    for row in np.flatnonzero(wanted.scores >= above).tolist():
        best = overlap[row].max(initial=0.0)
        if best < iou:
            lines.append(f"face at {_box(wanted, row)}, score {wanted.scores[row]:.2f}: best overlap is {best:.2f}")
        elif wanted.landmarks is not None and found.landmarks is not None:
            near = found.landmarks[overlap[row].argmax()]
            side = float((wanted.boxes[row, 2:] - wanted.boxes[row, :2]).max())
            off = float(np.linalg.norm(near - wanted.landmarks[row], axis=1).max())
            if off > landmarks * side:
                lines.append(f"face at {_box(wanted, row)}: a landmark is {off:.1f} pixels off ({off / side:.1%})")
    lines += [
        f"face at {_box(found, row)}, score {found.scores[row]:.2f}: there should be none"
        for row in np.flatnonzero(found.scores >= above).tolist()
        if overlap[:, row].max(initial=0.0) < iou
    ]
    return lines


def _box(faces: Detections, row: int) -> str:
    return ", ".join(f"{side:.0f}" for side in faces.boxes[row])


def verify(pipeline: Pipeline, reference: Pipeline) -> None:
    """Check that an engine's pipeline and a reference find the same faces in the drawn scene and portrait.

    Parameters
    ----------
    pipeline, reference
        Of one model, with the same scales. The caller closes both.

    Raises
    ------
    ModelFormatError
        If the faces differ; the message contains the first difference.
    """
    images = [samples.load(name).image for name in ("group", "portrait")]
    lines = []
    # Together and alone: a batch and a single image may have optimization profiles of their own.
    for group in (images, images[:1], images[1:]):
        pairs = zip(*(each.detect(group, THRESHOLD - MARGIN, None) for each in (pipeline, reference)), strict=True)
        lines += [line for found, wanted in pairs for line in differences(found, wanted, above=THRESHOLD + MARGIN)]
    if lines:
        raise ModelFormatError(
            f"the engine does not find the faces that the network finds ({len(lines)} differences; the first: "
            f"{lines[0]}); build it with precision fp32, and report this"
        )


def check_prerequisites(flavour: Flavour, options: BuildOptions, device: int) -> None:
    """Check before a build that :func:`check_engine` can run its engine afterwards, if it is an engine for this GPU.

    Parameters
    ----------
    flavour
        The TensorRT that builds.
    options
        How it builds.
    device
        n of the GPU ``cuda:n``.

    Raises
    ------
    MissingDependencyError
        Without cuda-python, cuda.core or NVRTC.
    BackendError
        If NVRTC cannot compile the kernels for this GPU.
    """
    capability = next((gpu.compute_capability for gpu in _devices.driver().gpus if gpu.index == device), None)
    if capability is None:
        return
    driver.bindings()
    driver.core()
    built_for = options.compute_capabilities or (map(dotted, RTX_CAPABILITIES) if flavour.is_rtx else None)
    if built_for is None or dotted(capability) in built_for:
        kernels.compiled(capability)


def check_engine(plan: bytes, prepared: PreparedModel, device: int) -> None:
    """Check that a new engine finds the faces that its ONNX model finds; log a warning if it cannot run here.

    Parameters
    ----------
    plan
        The engine.
    prepared
        The ONNX model it was built from.
    device
        n of the GPU ``cuda:n``.

    Raises
    ------
    ModelFormatError
        If the faces differ; the message contains the first difference.
    BackendError, MissingDependencyError
        If the engine or the model cannot be run.
    """
    header = read_header(plan)
    try:
        check_gpu(header.capabilities, find(device), unlisted=header.unlisted)
    except (BackendError, DeviceError) as error:
        log.warning("the engine is not checked, since it cannot run here: %s", error)
        return
    with ExitStack() as opened:
        options = DetectorOptions(max_batch=2)
        # A lean runtime inside the plan was put there by this build, so its code may run.
        pipeline = CudaPipeline(opener(read_plan(plan), device, allow_host_code=True), options)
        opened.callback(pipeline.close)
        backend = OnnxBackend(prepared.model)
        opened.callback(backend.close)
        verify(pipeline, HostPipeline(backend, options.model_copy(update={"scales": pipeline.scales})))
