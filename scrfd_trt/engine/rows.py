"""All rows of a network for an image, and how near they come to those of another network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.decode import Candidates, decode
from scrfd_trt.errors import ModelFormatError
from scrfd_trt.heads import HeadLayout, check
from scrfd_trt.nms import nms, pairwise_iou

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
    faces = found.take(nms(found.boxes, found.scores, IOU))
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
