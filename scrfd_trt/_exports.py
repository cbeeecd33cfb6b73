"""Detections as objects of other libraries, which are imported only when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from scrfd_trt._formats import CSV_COLUMNS, Faces, columns
from scrfd_trt.errors import DetectionsError, MissingDependencyError, one_line


def _load(name: str, method: str, package: str = "") -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingDependencyError(f"{method}() requires {name}: pip install {package or name}") from error


def _table(faces: Faces, image: str | None) -> dict[str, Any]:
    """Return the columns by name; what a model does not give is NaN."""
    count = len(faces.scores)
    found: dict[str, Any] = {} if image is None else {"image": [image] * count}
    rows = np.full((len(CSV_COLUMNS) - 1, count), np.nan, np.float32)
    given = columns(faces).T
    rows[: len(given)] = given
    found |= zip(CSV_COLUMNS[1:], rows, strict=True)
    if faces.track_ids is not None:
        found["track_id"] = faces.track_ids.copy()
    if faces.pts_seconds is not None:
        found["pts_seconds"] = np.full(count, faces.pts_seconds)
    return found


def to_pandas(faces: Faces, image: str | None) -> Any:
    return _load("pandas", "to_pandas").DataFrame(_table(faces, image))


def to_polars(faces: Faces, image: str | None) -> Any:
    return _load("polars", "to_polars").DataFrame(_table(faces, image), nan_to_null=True)


def to_arrow(faces: Faces, image: str | None) -> Any:
    pa = _load("pyarrow", "to_arrow", '"scrfd-trt[parquet]"')
    types = {"image": pa.string()}
    found = _table(faces, image).items()
    return pa.table({name: pa.array(values, types.get(name), from_pandas=True) for name, values in found})


def to_supervision(faces: Faces) -> Any:
    return _load("supervision", "to_supervision", '"scrfd-trt[supervision]"').Detections(
        xyxy=faces.boxes.copy(),
        confidence=faces.scores.copy(),
        class_id=np.zeros(len(faces.scores), int),
        tracker_id=None if faces.track_ids is None else faces.track_ids.copy(),
        data={} if faces.landmarks is None else {"landmarks": faces.landmarks.copy()},
    )


def from_supervision(detections: Any) -> dict[str, Any]:
    """Return the columns of ``Detections``."""
    try:
        boxes, confidence = detections.xyxy, detections.confidence
        points, numbers = detections.data.get("landmarks"), detections.tracker_id
        # Trackers use -1 for unconfirmed tracks.
        confirmed = None if numbers is None or np.any(np.asarray(numbers) < 0) else numbers
        return {
            "boxes": np.array(boxes),
            "scores": np.ones(len(boxes), np.float32) if confidence is None else np.array(confidence),
            "landmarks": None if points is None else np.array(points),
            "track_ids": confirmed,
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise DetectionsError(f"a supervision.Detections is required: {one_line(error)}") from error


def to_fiftyone(faces: Faces, *, landmarks: bool) -> Any:
    fo = _load("fiftyone", "to_fiftyone")
    size, count = np.array(faces.image_size, np.float64), len(faces.scores)
    numbers = [None] * count if faces.track_ids is None else faces.track_ids.tolist()
    if landmarks:
        points = [] if faces.landmarks is None else (faces.landmarks / size).tolist()
        named = zip(points, numbers, strict=False)  # there may be no points
        return fo.Keypoints(keypoints=[fo.Keypoint(label="face", points=five, index=number) for five, number in named])
    boxes = np.concatenate([faces.boxes[:, :2] / size, (faces.boxes[:, 2:] - faces.boxes[:, :2]) / size], axis=1)
    labels = fo.Detections()
    for box, score, number in zip(boxes.tolist(), faces.scores.tolist(), numbers, strict=True):
        labels.detections.append(fo.Detection(label="face", bounding_box=box, confidence=score, index=number))
    return labels
