"""The images that INT8 is calibrated with and checked on, how much their faces change, and the limits of that."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from scrfd_trt import samples
from scrfd_trt._engine.plan import hash_file
from scrfd_trt._formats import count_faces
from scrfd_trt._nms import pairwise_iou
from scrfd_trt.errors import ModelFormatError, OptionError

MAX_IMAGES = 64
THRESHOLD = 0.5
MARGIN = 0.05  # faces whose score is this close to the threshold may come and go
SAME_FACE = 0.5  # intersection over union
MIN_OVERLAP, MAX_SCORE = 0.93, 0.04  # means over all faces


def images(folder: Path | None) -> Iterator[NDArray[np.uint8]]:
    """Read the images of a folder that are used, one at a time, or the drawn scenes if there is none."""
    from scrfd_trt._image_files.read import read_image  # noqa: PLC0415 - slow to import

    if folder is None:
        yield from (samples.load(name).image for name in samples.names())
        return
    for path in _paths(folder):
        yield read_image(path, name=str(path)).visible()


def hash_images(folder: Path | None) -> str:
    """Hash the images of a folder that are used; empty if there is none."""
    if folder is None:
        return ""
    return hashlib.sha256(" ".join(hash_file(path).sha256 for path in _paths(folder)).encode()).hexdigest()


def _paths(folder: Path) -> list[Path]:
    from scrfd_trt._image_files.read import IMAGE_SUFFIXES  # noqa: PLC0415 - slow to import

    try:
        found = sorted(
            path for path in folder.iterdir() if path.name[0] != "." and path.name.lower().endswith(IMAGE_SUFFIXES)
        )
        reason = "" if found else "contains no images (.jpg, .png, …)"
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
    if reason:
        raise OptionError(f"calibration: the folder {folder} {reason}", fields=["calibration"], value=str(folder))
    return found[:: -(-len(found) // MAX_IMAGES)]


class Faces(Protocol):
    """The faces of one picture, also slightly below the threshold."""

    @property
    def boxes(self) -> NDArray[np.float32]: ...  # (N, 4)
    @property
    def scores(self) -> NDArray[np.float32]: ...  # (N,)


@dataclass(frozen=True)
class FaceChange:
    """The change over several pictures."""

    faces: int  # certainly above the threshold before
    missing: int
    new: int
    overlap: float  # mean intersection over union with the same face
    score: float  # mean change

    @classmethod
    def of(cls, expected: Sequence[Faces], found: Sequence[Faces]) -> FaceChange:
        """Compare faces with those expected in the same pictures; both go down to ``THRESHOLD - MARGIN``."""
        missing = new = 0
        overlaps, scores = [np.ones(0)], [np.ones(0)]
        for before, after in zip(expected, found, strict=True):
            iou = pairwise_iou(before.boxes, after.boxes)
            certain = before.scores >= THRESHOLD + MARGIN
            same = certain & (iou.max(axis=1, initial=0.0) >= SAME_FACE)
            missing += int((certain & ~same).sum())
            new += int((iou.max(axis=0, initial=0.0) < SAME_FACE)[after.scores >= THRESHOLD + MARGIN].sum())
            if same.any():
                overlaps.append(iou[same].max(axis=1))
                scores.append(np.abs(before.scores[same] - after.scores[iou[same].argmax(axis=1)]))
        overlap, score = np.concatenate(overlaps), np.concatenate(scores)
        if not len(overlap):
            return cls(missing, missing, new, 0.0, 0.0)
        return cls(missing + len(overlap), missing, new, float(overlap.mean()), float(score.mean()))

    def __str__(self) -> str:
        return (
            f"of {count_faces(self.faces)}, {self.missing} are missing and {self.new} are new; boxes overlap by "
            f"{self.overlap:.1%} and scores change by {self.score:.3f} on average"
        )

    def check(self, what: str, limit: float) -> None:
        """Raise ModelFormatError if the share of missing and new faces exceeds ``limit``, or a mean its own limit."""
        if self.faces == 0:
            raise ModelFormatError("INT8: the calibration images contain no face; use photographs with faces")
        if self.missing + self.new > limit * self.faces or self.overlap < MIN_OVERLAP or self.score > MAX_SCORE:
            raise ModelFormatError(
                f"INT8 changes the faces of the calibration images too much in {what}: {self}; allowed are {limit:.1%} "
                f"missing or new faces, an overlap of {MIN_OVERLAP:.0%} and {MAX_SCORE} of score; calibrate with "
                "more images like yours, raise the limit, or choose fp16"
            )
