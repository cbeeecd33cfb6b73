"""Rows of detections as CSV and COCO: plain functions on plain values."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

LANDMARK_NAMES = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
"""The five points in their order, left and right as seen in the image."""

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
    """Return the header line of :func:`csv_lines`, without the line's end."""
    return ",".join(CSV_COLUMNS)


def csv_lines(rows: Iterable[Row], image: str) -> str:
    """Write rows as CSV (RFC 4180), one face a line.

    Parameters
    ----------
    rows
        As from ``Detections.to_dicts()``.
    image
        What stands in the first column of each line.

    Returns
    -------
    str
        Lines, each with its line feed, without a header; the landmark columns are empty where there are none.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in rows:
        points = row["landmarks"] or [("", "")] * len(LANDMARK_NAMES)
        writer.writerow([image, *row["box"], row["score"], *(value for point in points for value in point)])
    return out.getvalue()


def coco_annotations(rows: Iterable[Row], image_id: int, first_id: int) -> list[dict[str, Any]]:
    """Write rows as COCO annotations of category 1, ``face``.

    Parameters
    ----------
    rows
        As from ``Detections.to_dicts()``.
    image_id
        The image's number in the COCO file.
    first_id
        The number of the first annotation; the others follow.

    Returns
    -------
    list of dict
        ``bbox`` is x, y, width, height in pixels; ``keypoints`` is 15 numbers, x, y and visibility 2 for each point.
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
    """Put images and annotations into one COCO data set.

    Parameters
    ----------
    images
        Each with ``id``, ``file_name``, ``width`` and ``height``.
    annotations
        As from :func:`coco_annotations`.

    Returns
    -------
    dict
        With ``images``, ``annotations`` and the one category ``face``.
    """
    category = {"id": 1, "name": "face", "supercategory": "person", "keypoints": list(LANDMARK_NAMES), "skeleton": []}
    return {"images": list(images), "annotations": list(annotations), "categories": [category]}
