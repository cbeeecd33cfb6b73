"""Detections as objects of other libraries, which are imported only when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from scrfd_trt._formats import CSV_COLUMNS, Faces, columns
from scrfd_trt.errors import DetectionsError, MissingDependencyError, one_line

PARQUET = '"scrfd-trt[parquet]"'


def load(name: str, what: str, package: str = "") -> Any:
    """Import a library; ``what`` requires it."""
    try:
        return import_module(name)
    except ImportError as error:
        library = name.partition(".")[0]
        raise MissingDependencyError(f"{what} requires {library}: pip install {package or library}") from error


def table(faces: Faces, image: str | None) -> dict[str, Any]:
    """Return the columns by name; what a model does not give is NaN."""
    count = len(faces.scores)
    found: dict[str, Any] = {} if image is None else {"image": np.array([image] * count, str)}
    rows = np.full((len(CSV_COLUMNS) - 1, count), np.nan, np.float32)
    given = columns(faces).T
    rows[: len(given)] = given
    found |= zip(CSV_COLUMNS[1:], rows, strict=True)
    if faces.track_ids is not None:
        found["track_id"] = faces.track_ids.copy()
    if faces.pts_seconds is not None:
        found["pts_seconds"] = np.full(count, faces.pts_seconds)
    return found


def to_supervision(faces: Faces) -> Any:
    data: dict[str, Any] = {"class_name": np.array(["face"] * len(faces.scores), str)}
    return load("supervision", "to_supervision()", '"scrfd-trt[supervision]"').Detections(
        xyxy=faces.boxes.copy(),
        confidence=faces.scores.copy(),
        class_id=np.zeros(len(faces.scores), int),
        tracker_id=None if faces.track_ids is None else faces.track_ids.copy(),
        data=data if faces.landmarks is None else data | {"landmarks": faces.landmarks.copy()},
    )


def from_supervision(detections: Any) -> dict[str, Any]:
    """Return the columns of ``Detections``."""
    try:
        boxes, confidence = detections.xyxy, detections.confidence
        points, numbers = detections.data.get("landmarks"), detections.tracker_id
        return {
            "boxes": np.array(boxes),
            "scores": np.ones(len(boxes), np.float32) if confidence is None else np.array(confidence),
            "landmarks": None if points is None else np.array(points),
            # Trackers use -1 for unconfirmed tracks.
            "track_ids": None if numbers is None or np.any(np.asarray(numbers) < 0) else numbers,
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise DetectionsError(f"a supervision.Detections is required: {one_line(error)}") from error


def to_fiftyone(faces: Any, *, landmarks: bool) -> Any:
    fo = load("fiftyone", "to_fiftyone()")
    size, count = np.array(faces.image_size * 2, np.float64), len(faces.scores)
    numbers = [None] * count if faces.track_ids is None else faces.track_ids.tolist()
    if landmarks:
        points = [] if faces.landmarks is None else (faces.landmarks / size[:2]).tolist()
        named = zip(points, numbers, strict=False)  # there may be no points
        return fo.Keypoints(keypoints=[fo.Keypoint(label="face", points=five, index=number) for five, number in named])
    rows = zip((faces.xywh / size).tolist(), faces.scores.tolist(), numbers, strict=True)
    labels = [
        fo.Detection(label="face", bounding_box=box, confidence=score, index=number) for box, score, number in rows
    ]
    return fo.Detections(detections=labels)
