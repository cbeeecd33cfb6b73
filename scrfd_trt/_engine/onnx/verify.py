"""Compare a network that was made ready for TensorRT with the file that it came from, on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scrfd_trt import samples
from scrfd_trt._decode import Candidates, decode
from scrfd_trt._engine.onnx.prepared import PreparedNetwork, Request
from scrfd_trt._heads import HeadLayout, check, recognize
from scrfd_trt._letterbox import Letterbox, normalize_into
from scrfd_trt._nms import nms, pairwise_iou
from scrfd_trt.backends import OnnxBackend
from scrfd_trt.errors import BackendError, ModelFormatError

THRESHOLD, IOU = 0.5, 0.4
SAME_FACE = 0.9
"""Two boxes whose intersection over union is at least this are the same face, and so are two within a pixel."""

SAME_PLACE = 0.35
"""A little less than what NMS takes for one face."""


@dataclass(frozen=True)
class Tolerance:
    """How far a prepared network may be from the original.

    Attributes
    ----------
    score
        Of any row.
    box
        Of the sides of a box and of landmarks, as a share of the box's longer side, which counts as one stride at
        least.
    floor
        Rows of a lower score in the original may have any box.
    """

    score: float
    box: float
    floor: float


EXACT = Tolerance(1e-4, 1e-3, 0.0)
HALF = Tolerance(0.02, 0.02, 0.3)
"""Measured on photographs and drawn scenes at 128 to 640 pixels, with rounding after each step: 500M scores within
0.006 and boxes within 0.3 % of their longer side, 2.5G scores within 0.002 and boxes within 0.2 %. In FP32: scores
within 3e-7, boxes within 3e-5 pixels."""


@dataclass(frozen=True)
class Rows:
    """What a network says of one image.

    Attributes
    ----------
    scores
        ``(N,)``, rows of all strides.
    values
        ``(N, 4 or 14)`` distances of the box and offsets of the landmarks, input pixels.
    strides
        ``(N,)``, input pixels.
    faces
        After NMS, of scores a little below the threshold too.
    needed
        ``(F,)`` intersection over union with the other network's face: less where another box of about the same score
        lies there too, and NMS may keep either.
    """

    scores: NDArray[np.float32]
    values: NDArray[np.float32]
    strides: NDArray[np.float32]
    faces: Candidates
    needed: NDArray[np.float64]


def rows_of(
    layout: HeadLayout, outputs: Sequence[NDArray[np.float32]], image: int, size: tuple[int, int], slack: float
) -> Rows:
    """Read all rows of one image.

    Parameters
    ----------
    layout
        Of the network.
    outputs
        What it gave.
    image
        Which of the batch.
    size
        Width and height of the input in pixels.
    slack
        How far below the threshold faces are listed.
    """
    check(layout, outputs, size)
    parts = []
    for level, stride in enumerate(layout.strides):
        scores = layout.read_scores(outputs[layout.scores[level]], image)
        every = np.arange(len(scores))
        indices = [layout.boxes[level], *([] if layout.landmarks is None else [layout.landmarks[level]])]
        values = np.hstack([layout.read_rows(outputs[index], image, every) for index in indices]) * np.float32(stride)
        parts.append((scores, values, np.full(len(scores), stride, np.float32)))
    scores, values, strides = (np.concatenate(part) for part in zip(*parts, strict=True))
    found = decode(layout, outputs, image, size, THRESHOLD - slack)
    faces = found.select(nms(found.boxes, found.scores, IOU))
    return Rows(scores, values, strides, faces, _needed(faces, found, slack))


def _needed(faces: Candidates, found: Candidates, slack: float) -> NDArray[np.float64]:
    needed = np.full(len(faces), SAME_FACE)
    for index, (box, score) in enumerate(zip(faces.boxes, faces.scores, strict=True)):
        overlaps = pairwise_iou(box[None], found.boxes)[0]
        rivals = (overlaps > SAME_PLACE) & (overlaps < SAME_FACE)
        if (found.scores[rivals] >= score - slack).any():
            needed[index] = SAME_PLACE
    return needed


def differences(wanted: Rows, given: Rows, tolerance: Tolerance) -> tuple[float, float]:
    """Compare one image's rows.

    Returns
    -------
    tuple of float
        The largest difference of a score, and of a box's side or a landmark in input pixels.

    Raises
    ------
    ModelFormatError
        If something differs by more than the tolerance, or is no number.
    """
    if not (np.isfinite(given.scores).all() and np.isfinite(given.values).all()):
        raise ModelFormatError("it gives infinite numbers or none at all, so something on the way leaves FP16's range")
    score = float(np.abs(wanted.scores - given.scores).max(initial=0.0))
    if score > tolerance.score:
        raise ModelFormatError(f"scores differ by up to {score:.2g}, where {tolerance.score:g} is allowed")
    seen = wanted.scores >= tolerance.floor
    apart = np.abs(wanted.values - given.values)[seen].max(axis=1, initial=0.0)
    boxes = wanted.values[seen, :4]
    sides = np.maximum(boxes[:, :2] + boxes[:, 2:], wanted.strides[seen, None]).max(axis=1, initial=0.0)
    if (apart > tolerance.box * sides).any():
        worst = float((apart / sides).max())
        raise ModelFormatError(f"boxes differ by up to {worst:.1%} of their size, where {tolerance.box:.1%} is allowed")
    _match(wanted, given.faces, "lost", tolerance.score)
    _match(given, wanted.faces, "new", tolerance.score)
    return score, float(apart.max(initial=0.0))


def _match(rows: Rows, others: Candidates, kind: str, slack: float) -> None:
    """Find each face that is above the threshold for sure in the other list, which goes a little lower."""
    for box, score, needed in zip(rows.faces.boxes, rows.faces.scores, rows.needed, strict=True):
        same = (pairwise_iou(box[None], others.boxes)[0] >= needed) | (np.abs(others.boxes - box) < 1.0).all(axis=1)
        if score >= THRESHOLD + slack and not same.any():
            raise ModelFormatError(f"a face of score {score:.2f} at {np.round(box).astype(int).tolist()} is {kind}")


Size = tuple[int, int]


@dataclass(frozen=True)
class Agreement:
    """How near a prepared network comes to the original at one size.

    Attributes
    ----------
    size
        Width and height of the input in pixels.
    score
        Largest difference of any score.
    box
        Largest difference of a box's side or a landmark in input pixels; FP16: of rows that may be faces.
    faces
        How many faces the original found in the samples, all of which were found again.
    """

    size: Size
    score: float
    box: float
    faces: int

    def __str__(self) -> str:
        width, height = self.size
        return f"{width}×{height}: scores within {self.score:.1g}, boxes within {self.box:.1g} px, {self.faces} faces"


def compare(original: Path, prepared: PreparedNetwork) -> tuple[Agreement, ...]:
    """Check on drawn samples that a prepared network gives what the original gives.

    Batches of the least size and of one more are run at each size. FP16 networks are run as they are and with rounding
    after each step. Where the original's size is fixed at another one, the steps that free it are checked at its own
    size first.

    Parameters
    ----------
    original
        The ONNX file.
    prepared
        What :func:`scrfd_trt._engine.onnx.prepare.prepare` made of it.

    Returns
    -------
    tuple of Agreement
        One a size.

    Raises
    ------
    MissingDependencyError
        Without onnxruntime.
    ModelFormatError
        If scores, boxes or faces differ by more than rounding explains.
    """
    try:
        return _compare(Path(original), prepared)
    except (BackendError, ModelFormatError) as error:  # a run fails where the network does not fit together
        advice = "; choose precision tf32 or fp32" if prepared.precision == "fp16" else ""
        raise ModelFormatError(
            f"{original}: made ready for TensorRT, the network is not the same any more: {error}{advice}"
        ) from error


def _compare(original: Path, prepared: PreparedNetwork) -> tuple[Agreement, ...]:
    from scrfd_trt._engine.onnx.fp16 import with_rounding  # noqa: PLC0415 - needs onnx, which is optional

    first = OnnxBackend(original)
    if not any(_takes(first, size) for size in prepared.sizes):
        _compare(original, _as_it_is(original, None))
    networks = [OnnxBackend(prepared.model)]
    tolerance = EXACT
    if rounding := with_rounding(prepared.model):
        networks.append(OnnxBackend(rounding))
        tolerance = HALF
    # A group, and a face that fills the frame.
    images = (samples.load("group").image, samples.load("portrait").image)
    found = []
    for size in prepared.sizes:
        reference = first if _takes(first, size) else OnnxBackend(_as_it_is(original, (size,)).model)
        blob = _samples(images, size)
        wanted = [_rows(reference, blob[index : index + 1], size, tolerance)[0] for index in range(len(blob))]
        runs = [(network, count) for network in networks for count in _batches(prepared, size)]
        found.append(_agreement(runs, blob, size, wanted, tolerance))
    return tuple(found)


def _as_it_is(original: Path, sizes: tuple[Size, ...] | None) -> PreparedNetwork:
    from scrfd_trt._engine.onnx.rewrite import rewrite  # noqa: PLC0415 - needs onnx, which is optional

    return rewrite(original, Request(sizes, (1, 1, 1), batch_one=False, precision=None, io="float32"))


def _agreement(
    runs: list[tuple[OnnxBackend, int]], blob: NDArray[np.float32], size: Size, wanted: list[Rows], tolerance: Tolerance
) -> Agreement:
    scores, boxes = [0.0], [0.0]
    for network, count in runs:
        given = _rows(network, blob[np.arange(count) % len(blob)], size, tolerance)
        for index, rows in enumerate(given):
            try:
                score, box = differences(wanted[index % len(blob)], rows, tolerance)
            except ModelFormatError as error:
                raise ModelFormatError(f"at batch {count} and {size[0]}×{size[1]} pixels {error}") from error
            scores.append(score)
            boxes.append(box)
    faces = sum(int((rows.faces.scores >= THRESHOLD).sum()) for rows in wanted)
    return Agreement(size, max(scores), max(boxes), faces)


def _samples(images: Sequence[NDArray[np.uint8]], size: Size) -> NDArray[np.float32]:
    """Letterbox the images as ``(B, 3, H, W)``."""
    blob = np.empty((len(images), 3, size[1], size[0]), np.float32)
    for planes, image in zip(blob, images, strict=True):
        normalize_into(planes, image, Letterbox.fit((image.shape[1], image.shape[0]), size))
    return blob


def _batches(prepared: PreparedNetwork, size: Size) -> list[int]:
    ranges = [shape for shape in prepared.ranges if (shape.opt[3], shape.opt[2]) == size]
    counts = {count for shape in ranges for count in (shape.min[0], min(shape.min[0] + 1, shape.max[0]))}
    return sorted(counts)


def _takes(network: OnnxBackend, size: Size) -> bool:
    return all(own in {None, asked} for own, asked in zip(network.input.shape[2:], size[::-1], strict=True))


def _rows(network: OnnxBackend, blob: NDArray[np.float32], size: Size, tolerance: Tolerance) -> list[Rows]:
    # A network of a fixed batch gets the images again and again until it is full.
    batch = network.input.shape[0] or len(blob)
    outputs = [np.asarray(output, np.float32) for output in network.run(blob[np.arange(batch) % len(blob)])]
    layout = recognize(network.outputs)
    return [rows_of(layout, outputs, index, size, tolerance.score) for index in range(len(blob))]
