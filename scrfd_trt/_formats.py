"""Write detections as numbers and lines of text: JSON, CSV and COCO."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from itertools import chain
from itertools import count as count_from
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

try:
    import orjson
except ImportError:  # a program that copies this package alone gets the same text, only slower
    orjson = None  # type: ignore[assignment]

LANDMARK_NAMES = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
"""In the order of the landmarks; left and right as seen in the image."""

CSV_COLUMNS = (
    "image",
    "x1",
    "y1",
    "x2",
    "y2",
    "score",
    *(f"{name}_{axis}" for name in LANDMARK_NAMES for axis in "xy"),
)


class Faces(Protocol):
    """What is written of ``Detections``."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    landmarks: NDArray[np.float32] | None


def csv_header() -> str:
    """Return the header of :func:`csv_lines`, without a line feed."""
    return ",".join(CSV_COLUMNS)


def csv_lines(faces: Faces, image: str) -> str:
    """Return faces as CSV lines (RFC 4180) without header; ``image`` is the value of the first column."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([image, ""])
    count = 15 if faces.landmarks is not None else 5
    between = [out.getvalue()[:-1], *[","] * (count - 1), "," * (15 - count) + "\n"]  # the name is quoted if needed
    return _lines(columns(faces), between)


def json_faces(faces: Faces) -> str:
    """Return ``json.dumps(faces.to_dicts())``, which takes ten times as long."""
    points = ", null" if faces.landmarks is None else f", [[{'], ['.join(['%s, %s'] * 5)}]]"
    row = f'{{"box": [%s, %s, %s, %s], "score": %s, "landmarks": {points[2:]}}}, '
    return f"[{_lines(columns(faces), row.split('%s'))[:-2]}]"


def columns(faces: Faces) -> NDArray[np.float32]:
    """Return box, score and landmarks, if there are any, of each face."""
    points = [] if faces.landmarks is None else [faces.landmarks.reshape(-1, 10)]
    return np.concatenate([faces.boxes, faces.scores[:, None], *points], axis=1)


def _lines(values: NDArray[np.float32], between: Sequence[str]) -> str:
    """Return the numbers of each row of values between other texts, one more than there are columns."""
    line = "%s".join(text.replace("%", "%%") for text in between)
    return (line * len(values)) % tuple(_texts(values))


def _texts(values: NDArray[np.float32]) -> list[str]:
    """Return ``repr`` of each number of :func:`plain`, in one list."""
    flat = np.ascontiguousarray(values).reshape(-1)
    text = "e" if orjson is None else orjson.dumps(flat, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    if "e" in text or "0.0000" in text:  # orjson writes small and large numbers otherwise
        return list(map(repr, plain(flat)))
    return text[1:-1].split(",") if values.size else []


def plain(values: NDArray[np.float32] | np.float32) -> Any:
    """Return numbers for JSON with the fewest digits that restore the same float32."""
    array = np.asarray(values, np.float32)
    if orjson is None:
        return array.astype("U").astype(np.float64).tolist()
    out = orjson.loads(orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY))
    return out if array.ndim else out[0]


def json_coco(faces: Faces, image_id: int, first_id: int) -> str:
    """Return COCO annotations of category 1, ``face``, numbered from ``first_id``, as JSON between commas.

    ``bbox`` is x, y, width, height in pixels; ``keypoints`` is 15 numbers: x, y and visibility 2 per landmark.
    """
    count = 0 if faces.landmarks is None else 5
    points = f', "keypoints": [{", ".join(["%s, %s, 2"] * count)}], "num_keypoints": {count}' if count else ""
    box = f'"image_id": {image_id}, "category_id": 1, "bbox": [%s, %s, #, #], "area": #, "iscrowd": 0, "score": %s'
    lines = _lines(columns(faces)[:, [0, 1, *range(4, 5 + 2 * count)]], f'{{"id": #, {box}{points}}}, '.split("%s"))
    boxes = np.array(plain(faces.boxes)).reshape(-1, 4)
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    rows = zip(count_from(first_id), width.tolist(), height.tolist(), (width * height).tolist(), strict=False)
    return lines[:-2].replace("#", "%s") % tuple(chain.from_iterable(rows))


def json_categories() -> str:
    """Return the categories of a COCO data set as JSON."""
    names = list(LANDMARK_NAMES)
    return json.dumps([{"id": 1, "name": "face", "supercategory": "person", "keypoints": names, "skeleton": []}])
