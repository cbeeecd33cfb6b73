"""Tell whether two ways of running one network find the same faces."""

from __future__ import annotations

import numpy as np

from scrfd_trt.detections import Detections
from scrfd_trt.nms import pairwise_iou

IOU = 0.9
LANDMARKS = 0.02


def differences(
    found: Detections, wanted: Detections, *, above: float, iou: float = IOU, landmarks: float = LANDMARKS
) -> list[str]:
    """List where detections differ from those that are wanted.

    Faces whose score is at the threshold may come and go with the last digit; so each wanted face above a score must be
    found, at any score, and each face found above it must be wanted, at any score. Both sides are best given with a
    threshold a little below ``above``.

    Parameters
    ----------
    found, wanted
        Faces of the same image.
    above
        Score from which on a face counts, 0 to 1.
    iou
        Least intersection over union of the two boxes of a face.
    landmarks
        Largest distance of two landmarks of a face, as a share of the longer side of its box.

    Returns
    -------
    list of str
        One line a face; empty where they agree.
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
