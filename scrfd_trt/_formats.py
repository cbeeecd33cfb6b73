"""Write detections as CSV and COCO. Rows are dictionaries, as ``Detections.to_dicts()`` returns them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

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

Row = Mapping[str, Any]


def csv_header() -> str:
    """Return the header of :func:`csv_lines`, without a line feed."""
    return ",".join(CSV_COLUMNS)


def csv_lines(rows: Iterable[Row], image: str) -> str:
    """Return rows as CSV lines (RFC 4180) without header; ``image`` is the value of the first column."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in rows:
        points = row["landmarks"] or [("", "")] * len(LANDMARK_NAMES)
        writer.writerow([image, *row["box"], row["score"], *(value for point in points for value in point)])
    return out.getvalue()


def coco_annotations(rows: Iterable[Row], image_id: int, first_id: int) -> list[dict[str, Any]]:
    """Return rows as COCO annotations of category 1, ``face``, numbered from ``first_id``.

    ``bbox`` is x, y, width, height in pixels; ``keypoints`` is 15 numbers: x, y and visibility 2 per landmark.
    """
    out = []
    for number, row in enumerate(rows, first_id):
        x1, y1, x2, y2 = row["box"]
        width, height = x2 - x1, y2 - y1
        note: dict[str, Any] = {
            "id": number,
            "image_id": image_id,
            "category_id": 1,
            "bbox": [x1, y1, width, height],
            "area": width * height,
            "iscrowd": 0,
            "score": row["score"],
        }
        if row["landmarks"]:
            note["keypoints"] = [value for x, y in row["landmarks"] for value in (x, y, 2)]
            note["num_keypoints"] = len(row["landmarks"])
        out.append(note)
    return out


def coco_file(images: Iterable[Row], annotations: Iterable[Row]) -> dict[str, Any]:
    """Return a COCO data set of images (``id``, ``file_name``, ``width``, ``height``) and annotations."""
    category = {"id": 1, "name": "face", "supercategory": "person", "keypoints": list(LANDMARK_NAMES), "skeleton": []}
    return {"images": list(images), "annotations": list(annotations), "categories": [category]}
