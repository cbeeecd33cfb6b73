"""Write detections as numbers and lines of text: JSON, CSV, COCO, YOLO and WIDER FACE."""

from __future__ import annotations

import csv
import io
import json
from itertools import chain
from typing import Any, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

LANDMARK_NAMES = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
"""In the order of the landmarks; left and right as seen in the image."""

CSV_COLUMNS = ("image", "x1", "y1", "x2", "y2", "score", *(f"{name}_{xy}" for name in LANDMARK_NAMES for xy in "xy"))
CSV_HEADER = ",".join(CSV_COLUMNS) + "\n"


class Columns(Protocol):
    """Boxes and scores of ``Detections``, or of predictions that were read."""

    @property
    def boxes(self) -> NDArray[np.float32]: ...
    @property
    def scores(self) -> NDArray[np.float32]: ...


class Faces(Protocol):
    """What is written of ``Detections``."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    landmarks: NDArray[np.float32] | None
    image_size: tuple[int, int]
    track_ids: NDArray[np.int64] | None
    pts_seconds: float | None


def count_faces(count: int) -> str:
    """Return ``1 face`` or ``2 faces``."""
    return f"{count} face" + "s" * (count != 1)


def csv_lines(faces: Faces, image: str) -> str:
    """Return faces as CSV lines (RFC 4180) without header; ``image`` is the value of the first column."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([image, ""])  # the name is quoted if needed
    count = 15 if faces.landmarks is not None else 5
    row = out.getvalue()[:-1].replace("%", "%%") + ",".join(["%s"] * count) + "," * (15 - count) + "\n"
    return (row * len(faces.scores)) % tuple(_texts(columns(faces)))


def json_faces(faces: Faces) -> str:
    """Return ``json.dumps(faces.to_dicts())``, which takes ten times as long."""
    return json_rows(columns(faces))


def json_rows(rows: NDArray[np.float32]) -> str:
    """Return :func:`json_faces` of :func:`columns`."""
    points = "null" if rows.shape[1] == 5 else f"[[{'], ['.join(['%s, %s'] * 5)}]]"
    row = f'{{"box": [%s, %s, %s, %s], "score": %s, "landmarks": {points}}}, '
    return f"[{((row * len(rows)) % tuple(_texts(rows)))[:-2]}]"


def json_coco(faces: Faces, image_id: int, first_id: int) -> str:
    """Return COCO annotations of category 1, ``face``, numbered from ``first_id``, as JSON between commas.

    ``bbox`` is x, y, width, height in pixels; ``keypoints`` is 15 numbers: x, y and visibility 2 per landmark.
    """
    count = 0 if faces.landmarks is None else 5
    points = f', "keypoints": [{", ".join(["%s, %s, 2"] * count)}], "num_keypoints": {count}' if count else ""
    box = f'"image_id": {image_id}, "category_id": 1, "bbox": [%s, %s, %s, %s], "area": %s, "iscrowd": 0, "score": %s'
    _, _, width, height = _xywh(faces)
    x, y, _, _, *others = (_texts(column) for column in columns(faces).T)
    ids = range(first_id, first_id + len(faces.scores))
    rows = zip(ids, x, y, *map(_texts, (width, height, np.round(width * height, 6))), *others, strict=True)
    return ((f'{{"id": %s, {box}{points}}}, ' * len(ids)) % tuple(chain.from_iterable(rows)))[:-2]


def yolo_lines(faces: Faces) -> str:
    """Return faces as lines of a YOLO label file: class 0, centre x and y, width and height, as shares of the image.

    Boxes are cut at the border of the image, as YOLO requires, and those outside are left out.
    """
    corners = np.clip(faces.boxes.reshape(-1, 2, 2) / np.array(faces.image_size, np.float64), 0.0, 1.0)
    sides = corners[:, 1] - corners[:, 0]
    rows = np.concatenate([corners.mean(axis=1), sides], axis=1)[(sides > 0.0).all(axis=1)]
    return ("0 %.6f %.6f %.6f %.6f\n" * len(rows)) % tuple(rows.reshape(-1).tolist())


def wider_block(faces: Columns, image: str) -> str:
    """Return faces in the result format of WIDER FACE: a name, the number of faces, and x y width height score each."""
    rows = np.stack([*_xywh(faces), _decimals(faces.scores)], axis=1)
    return f"{image}\n{len(rows)}\n" + ("%s %s %s %s %s\n" * len(rows)) % tuple(_texts(rows))


def _xywh(faces: Columns) -> list[NDArray[np.float64]]:
    """Return x, y, width and height, computed from the numbers as written, with as many digits as float32 has."""
    left, top, right, bottom = map(_decimals, faces.boxes.T)
    return [left, top, *(_decimals(side.astype(np.float32)) for side in (right - left, bottom - top))]


def _decimals(values: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.array(_texts(values), np.float64)


def columns(faces: Faces) -> NDArray[np.float32]:
    """Return box, score and landmarks, if there are any, of each face."""
    points = [] if faces.landmarks is None else [faces.landmarks.reshape(-1, 10)]
    return np.concatenate([faces.boxes, faces.scores[:, None], *points], axis=1)


def _dumps(values: NDArray[Any]) -> bytes:
    return orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)


def _texts(values: NDArray[Any]) -> list[str]:
    """Return all numbers with the fewest digits that restore them."""
    return _dumps(values.reshape(-1)).decode()[1:-1].split(",") if values.size else []


def plain(values: NDArray[np.float32] | np.float32) -> Any:
    """Return numbers for JSON with the fewest digits that restore the same float32."""
    found = orjson.loads(_dumps(np.asarray(values, np.float32)))
    return found if np.ndim(values) else found[0]


def json_categories() -> str:
    """Return the categories of a COCO data set as JSON."""
    names = list(LANDMARK_NAMES)
    return json.dumps([{"id": 1, "name": "face", "supercategory": "person", "keypoints": names, "skeleton": []}])
