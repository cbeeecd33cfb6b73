"""Compare a rewritten model with the file it was made from, on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scrfd_trt import samples
from scrfd_trt._decode import Candidates, decode
from scrfd_trt._engine.onnx.fp16 import with_rounding
from scrfd_trt._engine.onnx.rewrite import PreparedModel, prepare
from scrfd_trt._formats import count_faces
from scrfd_trt._heads import HeadLayout, check, recognize
from scrfd_trt._letterbox import Letterbox, normalize_into
from scrfd_trt._nms import nms, pairwise_iou
from scrfd_trt.backends import OnnxBackend
from scrfd_trt.errors import BackendError, ModelFormatError

Size = tuple[int, int]

THRESHOLD, IOU = 0.5, 0.4
SAME_FACE = 0.9  # boxes with at least this intersection over union are the same face, and so are boxes within a pixel
RIVAL = 0.35  # slightly less than the intersection over union at which NMS suppresses a box


@dataclass(frozen=True)
class Tolerance:
    """How far a rewritten model may differ from the original."""

    score: float  # of any row
    box: float  # of a side or landmark, as a share of the box's longer side, which counts as at least one stride
    floor: float  # rows with a lower score may have any box


EXACT = Tolerance(1e-4, 1e-3, 0.0)
FP16 = Tolerance(0.02, 0.02, 0.3)
"""Measured on photographs and drawn scenes at 128 to 640 pixels, with rounding after each step: 500M scores within
0.006 and boxes within 0.3 % of their longer side, 2.5G scores within 0.002 and boxes within 0.2 %. In FP32: scores
within 3e-7, boxes within 3e-5 pixels."""


@dataclass(frozen=True)
class Agreement:
    """Largest differences at one input size, over all batches and both samples."""

    size: Size
    score: float
    box: float  # input pixels, of a side or landmark; in FP16 of rows that may be faces
    faces: int  # found by the original, and all of them by the rewritten model

    def __str__(self) -> str:
        width, height = self.size
        differences = f"scores within {self.score:.1g}, boxes within {self.box:.1g} px"
        return f"{width}×{height}: {differences}, {count_faces(self.faces)}"


def compare(original: Path, prepared: PreparedModel) -> tuple[Agreement, ...]:
    """Check on drawn samples that a rewritten model gives what the original gives, at each size and two batches."""
    try:
        return _compare(Path(original), prepared)
    except (BackendError, ModelFormatError) as error:  # an inconsistent model fails when it runs
        advice = "; choose precision tf32 or fp32" if prepared.precision == "fp16" else ""
        raise ModelFormatError(f"{original}: the rewritten model differs from this file: {error}{advice}") from error


def _compare(original: Path, prepared: PreparedModel) -> tuple[Agreement, ...]:
    source = OnnxBackend(original)
    if not any(_accepts(source, size) for size in prepared.sizes):
        _compare(original, _with_same_types(original, None))
    backends, tolerance = [OnnxBackend(prepared.model)], EXACT
    if rounded := with_rounding(prepared.model):
        backends.append(OnnxBackend(rounded))
        tolerance = FP16
    # A group, and a face that fills the frame.
    images = (samples.load("group").image, samples.load("portrait").image)
    found = []
    for size in prepared.sizes:
        reference = source if _accepts(source, size) else OnnxBackend(_with_same_types(original, (size,)).model)
        blob = letterbox(images, size)
        expected = [_run(reference, blob[index : index + 1], size, tolerance)[0] for index in range(len(blob))]
        runs = [(backend, batch) for backend in backends for batch in _batches(prepared, size)]
        found.append(_agreement(runs, blob, size, expected, tolerance))
    return tuple(found)


def _with_same_types(original: Path, sizes: tuple[Size, ...] | None) -> PreparedModel:
    return prepare(original, sizes=sizes, batch=(1, 1, 1), batch_one=False, precision=None)


def _accepts(backend: OnnxBackend, size: Size) -> bool:
    return all(side in {None, wanted} for side, wanted in zip(backend.input.shape[2:], size[::-1], strict=True))


def letterbox(images: Sequence[NDArray[np.uint8]], size: Size) -> NDArray[np.float32]:
    """Return the images as ``(B, 3, H, W)``."""
    blob = np.empty((len(images), 3, size[1], size[0]), np.float32)
    for planes, image in zip(blob, images, strict=True):
        normalize_into(planes, image, Letterbox.fit((image.shape[1], image.shape[0]), size))
    return blob


def _batches(prepared: PreparedModel, size: Size) -> list[int]:
    ranges = [shape for shape in prepared.ranges if (shape.opt[3], shape.opt[2]) == size]
    return sorted({batch for shape in ranges for batch in (shape.min[0], min(shape.min[0] + 1, shape.max[0]))})


def _agreement(
    runs: list[tuple[OnnxBackend, int]],
    blob: NDArray[np.float32],
    size: Size,
    expected: list[Rows],
    tolerance: Tolerance,
) -> Agreement:
    scores, boxes = [0.0], [0.0]
    for backend, batch in runs:
        for index, rows in enumerate(_run(backend, blob[np.arange(batch) % len(blob)], size, tolerance)):
            try:
                score, box = differences(expected[index % len(blob)], rows, tolerance)
            except ModelFormatError as error:
                raise ModelFormatError(f"at batch {batch} and {size[0]}×{size[1]} pixels {error}") from error
            scores.append(score)
            boxes.append(box)
    faces = sum(int((rows.faces.scores >= THRESHOLD).sum()) for rows in expected)
    return Agreement(size, max(scores), max(boxes), faces)


def _run(backend: OnnxBackend, blob: NDArray[np.float32], size: Size, tolerance: Tolerance) -> list[Rows]:
    # A model of fixed batch gets the images repeatedly until it is full.
    batch = backend.input.shape[0] or len(blob)
    outputs = [np.asarray(output, np.float32) for output in backend.run(blob[np.arange(batch) % len(blob)])]
    layout = recognize(backend.outputs)
    return [rows_of(layout, outputs, index, size, tolerance.score) for index in range(len(blob))]


@dataclass(frozen=True)
class Rows:
    """All rows of one image; ``min_iou``, required with the other model's face, is lower where NMS may keep either."""

    scores: NDArray[np.float32]  # (N,)
    values: NDArray[np.float32]  # (N, 4 or 14) box distances and landmark offsets, input pixels
    strides: NDArray[np.float32]  # (N,) input pixels
    faces: Candidates  # F after NMS, also slightly below the threshold
    min_iou: NDArray[np.float64]  # (F,)


def rows_of(layout: HeadLayout, outputs: Sequence[NDArray[np.float32]], image: int, size: Size, slack: float) -> Rows:
    """Read all rows of one image of a batch; ``slack`` is how far below the threshold faces are listed."""
    check(layout, outputs, size)
    parts = []
    for level, stride in enumerate(layout.strides):
        scores = layout.read_scores(outputs[layout.scores[level]], image)
        every = np.arange(len(scores))
        heads = [layout.boxes[level], *([] if layout.landmarks is None else [layout.landmarks[level]])]
        values = np.hstack([layout.read_rows(outputs[head], image, every) for head in heads]) * np.float32(stride)
        parts.append((scores, values, np.full(len(scores), stride, np.float32)))
    scores, values, strides = (np.concatenate(part) for part in zip(*parts, strict=True))
    found = decode(layout, outputs, image, size, THRESHOLD - slack)
    faces = found.select(nms(found.boxes, found.scores, IOU))
    return Rows(scores, values, strides, faces, _min_iou(faces, found, slack))


def _min_iou(faces: Candidates, found: Candidates, slack: float) -> NDArray[np.float64]:
    result = np.full(len(faces), SAME_FACE)
    for index, (box, score) in enumerate(zip(faces.boxes, faces.scores, strict=True)):
        overlaps = pairwise_iou(box[None], found.boxes)[0]
        rivals = (overlaps > RIVAL) & (overlaps < SAME_FACE)
        if (found.scores[rivals] >= score - slack).any():
            result[index] = RIVAL
    return result


def differences(expected: Rows, found: Rows, tolerance: Tolerance) -> tuple[float, float]:
    """Return the largest difference of a score and a side of one image; ModelFormatError beyond the tolerance."""
    if not (np.isfinite(found.scores).all() and np.isfinite(found.values).all()):
        raise ModelFormatError("its outputs are not finite, so a value inside exceeds FP16's range")
    score = float(np.abs(expected.scores - found.scores).max(initial=0.0))
    if score > tolerance.score:
        raise ModelFormatError(f"scores differ by up to {score:.2g}, where {tolerance.score:g} is allowed")
    relevant = expected.scores >= tolerance.floor
    distance = np.abs(expected.values - found.values)[relevant].max(axis=1, initial=0.0)
    boxes = expected.values[relevant, :4]
    sides = np.maximum(boxes[:, :2] + boxes[:, 2:], expected.strides[relevant, None]).max(axis=1, initial=0.0)
    if (distance > tolerance.box * sides).any():
        worst = float((distance / sides).max())
        raise ModelFormatError(f"boxes differ by up to {worst:.1%} of their size, where {tolerance.box:.1%} is allowed")
    _match(expected, found.faces, "missing", tolerance.score)
    _match(found, expected.faces, "new", tolerance.score)
    return score, float(distance.max(initial=0.0))


def _match(rows: Rows, others: Candidates, kind: str, slack: float) -> None:
    """Find each face that is certainly above the threshold in the other list, which goes slightly lower."""
    for box, score, min_iou in zip(rows.faces.boxes, rows.faces.scores, rows.min_iou, strict=True):
        same = (pairwise_iou(box[None], others.boxes)[0] >= min_iou) | (np.abs(others.boxes - box) < 1.0).all(axis=1)
        if score >= THRESHOLD + slack and not same.any():
            raise ModelFormatError(f"a face of score {score:.2f} at {np.round(box).astype(int).tolist()} is {kind}")
