"""Faces of one video frame, with their tracks and the origin of each box."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, overload

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._detections import Detections, unswapped
from scrfd_trt._formats import count_faces
from scrfd_trt._option_names import Explained

Origin = Literal["detected", "interpolated", "extended", "by hand"]
"""Found in this frame, placed between two detections, before the first or after the last detection, or by a person."""
ORIGINS: tuple[Origin, ...] = get_args(Origin)


@dataclass(frozen=True)
class Face(Explained):
    """A row of :class:`FrameFaces`: a face in one frame."""

    track: int
    box: NDArray[np.float64]
    score: float
    landmarks: NDArray[np.float64] | None
    origin: Origin


@dataclass(frozen=True, eq=False)
class FrameFaces(Explained):
    """The faces of one frame as columns, in no particular order.

    Attributes
    ----------
    number, pts_seconds
        Number of the frame, from 0, and when it is shown, in seconds from the video's start.
    cut
        Whether a scene begins here.
    track_ids
        ``(N,)`` int64, from 1: the same number for the same face in all frames.
    boxes
        ``(N, 4)`` float64 x1, y1, x2, y2 in pixels of the upright frame.
    scores
        ``(N,)`` float64, 0 to 1; taken from the neighbouring detections for faces not detected in this frame.
    landmarks
        ``(N, 5, 2)`` float64 in pixels, NaN for a face without landmarks; None if no face has any.
    origins
        ``(N,)`` of ``detected``, ``interpolated`` (between two detections), ``extended`` (before the first or after the
        last detection) or ``by hand`` (see :class:`Cover`).

    Notes
    -----
    Indexing with a number and iteration return rows, :class:`Face`; a slice, a mask or an array of indices returns
    ``FrameFaces``.
    """

    number: int
    pts_seconds: float
    cut: bool = False
    track_ids: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    boxes: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 4)))
    scores: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    landmarks: NDArray[np.float64] | None = field(default_factory=lambda: np.empty((0, 5, 2)))
    origins: NDArray[np.str_] = field(default_factory=lambda: np.empty(0, "U12"))

    def __repr__(self) -> str:
        cut = ", cut" * self.cut
        return f"<FrameFaces {self.number} at {self.pts_seconds:.3f} s{cut}: {count_faces(len(self))}>"

    def __len__(self) -> int:
        return len(self.track_ids)

    def __iter__(self) -> Iterator[Face]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Face: ...
    @overload
    def __getitem__(self, index: slice | NDArray[Any]) -> FrameFaces: ...
    def __getitem__(self, index: Any) -> Face | FrameFaces:
        points = None if self.landmarks is None else self.landmarks[index]
        ids, boxes, scores, origins = (each[index] for each in (self.track_ids, self.boxes, self.scores, self.origins))
        if not isinstance(index, (int, np.integer)):
            return FrameFaces(self.number, self.pts_seconds, self.cut, ids, boxes, scores, points, origins)
        # A row does not keep the columns in memory.
        points = None if points is None or np.isnan(points).any() else points.copy()
        return Face(int(ids), boxes.copy(), float(scores), points, str(origins))  # type: ignore[arg-type]

    @classmethod
    def of(cls, faces: Detections) -> FrameFaces:
        """Return the faces of an image, with track numbers from 1 on if they have none."""
        ids = np.arange(1, len(faces) + 1) if faces.track_ids is None else faces.track_ids
        points = None if faces.landmarks is None else faces.landmarks.astype(np.float64)
        boxes, scores = faces.boxes.astype(np.float64), faces.scores.astype(np.float64)
        return cls(0, 0.0, False, ids, boxes, scores, points, np.full(len(faces), "detected", "U12"))

    def joined(self, other: FrameFaces) -> FrameFaces:
        """Return the faces of this frame and those of another object for the same frame."""
        if not len(other):
            return self
        both = (self, other)
        columns = zip(*((one.track_ids, one.boxes, one.scores, one.origins) for one in both), strict=True)
        ids, boxes, scores, origins = (np.concatenate(each) for each in columns)
        points = [np.full((len(one), 5, 2), np.nan) if one.landmarks is None else one.landmarks for one in both]
        has_landmarks = any(one.landmarks is not None for one in both if len(one))
        landmarks = np.concatenate(points) if has_landmarks else None
        return FrameFaces(self.number, self.pts_seconds, self.cut, ids, boxes, scores, landmarks, origins)

    def detections(self, size: tuple[int, int]) -> Detections:
        """Return the faces, highest scores first; ``size`` is the frame's width and height in pixels.

        Raises DetectionsError if the faces only fit into a frame whose height is this width.
        """
        return unswapped(self._detections(size))

    def _detections(self, size: tuple[int, int]) -> Detections:
        """As :meth:`detections`, of a known size: tracks may leave the frame."""
        points = self.landmarks
        return Detections(
            self.boxes,
            self.scores,
            None if points is None or np.isnan(points).any() else points,
            image_size=size,
            track_ids=self.track_ids,
            pts_seconds=self.pts_seconds,
        )._by_score()
