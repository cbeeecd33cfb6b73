"""Write detections as numbers and lines of text: JSON, CSV and COCO."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from itertools import count as count_from
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

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


SMALLEST, LARGEST = 0.01, 1e7
"""Between them, numbers are written by NumPy: they have at most 7 digits before the decimal point and 10 after it."""
MAX_WHOLE, MAX_PLACES = 8, 10
POWERS = np.array([10**power for power in range(MAX_PLACES + 1)], np.int64)
FOUR_DIGITS = np.array([f"{number:04}" for number in range(10_000)], "S4").view(np.uint32)
WIDTH = 28
"""Characters of a number before those without a meaning are left out: ``___-12345678___.123456789012``."""


def _number_masks() -> NDArray[np.uint8]:
    """Return which characters a number has, by its digits before the point and after it."""
    column = np.arange(WIDTH)
    whole, places = np.ogrid[: MAX_WHOLE + 1, : MAX_PLACES + 1]
    before = (column >= (12 - whole)[..., None]) & (column < 12)
    after = (column >= 15) & (column <= 15 + np.maximum(places, 1)[..., None])
    return (before | after).astype(np.uint8)


NUMBER_MASKS = _number_masks()


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
    ordinary = _is_ordinary(values)
    if not ordinary.all():
        texts = (repr(number) for row in plain(values) for number in row)
        return ("%s".join(text.replace("%", "%%") for text in between) * len(values)) % tuple(texts)
    # One line of characters for each face, of which those with a meaning are selected.
    numbers, masks = _digits(values)
    line, sizes = _template(tuple(between))
    characters, used = np.tile(line, (len(values), 1)), np.ones((len(values), len(line)), np.uint8)
    start = 0
    for index in range(values.shape[1]):
        start += sizes[index]
        characters[:, start : start + WIDTH], used[:, start : start + WIDTH] = numbers[:, index], masks[:, index]
        start += WIDTH
    return bytes(characters[used.view(bool)]).decode("utf-8", "surrogatepass")


@lru_cache(maxsize=8)
def _template(between: tuple[str, ...]) -> tuple[NDArray[np.uint8], list[int]]:
    """Return a line with room for the numbers, and the lengths of the texts between them."""
    texts = [text.encode("utf-8", "surrogatepass") for text in between]
    return np.frombuffer(bytes(WIDTH).join(texts), np.uint8), [len(text) for text in texts]


def _digits(values: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the characters of ordinary numbers, and which of them have a meaning."""
    scaled, places = _decimals(values)
    number = np.abs(scaled).astype(np.int64) * POWERS[MAX_PLACES - places]
    whole, part = number // POWERS[MAX_PLACES], number % POWERS[MAX_PLACES] * 100
    groups = (whole // 10_000, whole % 10_000, part // 10**8, part // 10_000 % 10_000, part % 10_000)
    out = np.empty((*values.shape, WIDTH // 4), np.uint32)
    out[..., 0], out[..., 3] = np.frombuffer(b"   -   .", np.uint32)
    for column, group in zip((1, 2, 4, 5, 6), groups, strict=True):
        out[..., column] = FOUR_DIGITS[group]
    digits = 1 + np.searchsorted(POWERS[1:MAX_WHOLE], whole, side="right")
    masks = NUMBER_MASKS[digits, places]
    masks[..., 3] = np.signbit(values)
    return out.view(np.uint8), masks


def plain(values: NDArray[np.float32] | np.float32) -> Any:
    """Return numbers for JSON with the fewest digits that restore the same float32."""
    array = np.asarray(values, np.float32)
    scaled, places = _decimals(array)
    out = scaled / POWERS[places]
    other = ~_is_ordinary(array)
    if other.any():
        out = np.where(other, array.astype("U").astype(np.float64), out)
    return out.tolist()


def _is_ordinary(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    size = np.abs(values)
    found: NDArray[np.bool_] = ((size >= SMALLEST) & (size < LARGEST)) | (values == 0)
    return found


def _decimals(values: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return whole numbers and their decimal places: the shortest decimals that restore ordinary numbers."""
    exact = values[..., None] * POWERS.astype(np.float64)  # 24 bits times 5¹⁰ fit into 53
    scaled = np.rint(exact)
    places = ((scaled / POWERS).astype(np.float32) == values[..., None]).argmax(axis=-1)
    return np.take_along_axis(scaled, places[..., None], -1)[..., 0], places


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
