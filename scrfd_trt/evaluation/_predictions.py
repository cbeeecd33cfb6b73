"""Predictions of a set of images: JSON lines as ``scrfd-trt detect`` writes them, and WIDER FACE's text form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from scrfd_trt._formats import Columns, wider_block
from scrfd_trt.errors import DetectionsError, OutputError


class Predictions(NamedTuple):
    """The faces that a detector finds in an image; :class:`~scrfd_trt.Detections` have the same columns."""

    boxes: NDArray[np.float32]
    """``(N, 4)`` x1, y1, x2, y2 in pixels."""
    scores: NDArray[np.float32]
    """``(N,)`` of any range."""


def read_predictions(path: str | Path) -> dict[str, Predictions]:
    """Read predictions by the path of their image.

    Parameters
    ----------
    path
        JSON lines as ``scrfd-trt detect -o NAME.jsonl`` writes them, or WIDER FACE's text form: a ``.txt`` file, or a
        folder of such files. Images that failed are left out.

    Raises
    ------
    DetectionsError
        If there are none, or a line is invalid.
    """
    path = Path(path)
    try:
        found: dict[str, Predictions] = {}
        for file in sorted(path.rglob("*.txt")) if path.is_dir() else [path]:
            lines = file.read_text("utf-8-sig").splitlines()
            folder = file.parent.name if path.is_dir() and file.parent != path else ""
            found.update(_json_lines(file, lines) if file.suffix != ".txt" else _blocks(file, lines, folder))
    except (OSError, UnicodeDecodeError) as error:
        raise DetectionsError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not found:
        raise DetectionsError(f"{path}: there are no predictions")
    return found


def _json_lines(path: Path, lines: list[str]) -> Iterator[tuple[str, Predictions]]:
    for number, line in enumerate(lines, 1):
        try:
            value = orjson.loads(line)
            if "error" in value:
                continue
            faces, page = value["faces"], value.get("page", 1)
            name = value["image"] if page == 1 else f"{value['image']}#page={page}"
            yield name, _columns([[*face["box"], face["score"]] for face in faces], len(faces))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DetectionsError(f"{path}, line {number}: these are not the faces of an image: {error}") from error


def _blocks(path: Path, lines: list[str], folder: str) -> Iterator[tuple[str, Predictions]]:
    """Yield the blocks of a file: a name, the number of faces, and a line for each."""
    start = 0
    while start < len(lines):
        try:
            name, end = lines[start].strip(), start + 2 + int(lines[start + 1])
            columns = _columns([line.split()[:5] for line in lines[start + 2 : end]], end - start - 2)
        except (ValueError, IndexError) as error:
            raise DetectionsError(
                f"{path}, line {start + 1}: a name, the number of faces, and x, y, width, height and score of each "
                f"are expected: {error}"
            ) from error
        columns.boxes[:, 2:] += columns.boxes[:, :2]
        yield f"{folder}/{name.rpartition('/')[2]}" if folder else name, columns
        start = end


def _columns(faces: list[Any], count: int) -> Predictions:
    """Split rows of four numbers and a score; raise ValueError if there are others, or not as many."""
    rows = np.array(faces, np.float32).reshape(count, 5)
    if not np.isfinite(rows).all():
        raise ValueError("a number is not finite")
    return Predictions(rows[:, :4], rows[:, 4])


def write_wider_face(folder: str | Path, predictions: Mapping[str, Columns]) -> None:
    """Write predictions in the text form that WIDER FACE's evaluation takes, a file for each image.

    Parameters
    ----------
    folder
        Is made if it does not exist. ``0--Parade/name.jpg`` becomes ``0--Parade/name.txt``; files are replaced.
    predictions
        By the path of their image below the folder of the images; detections of :meth:`SCRFDDetector.detect`, for
        example.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    try:
        for name, found in predictions.items():
            below = (part for part in PurePosixPath(name).parts if part not in ("/", ".."))
            path = Path(folder, *below).with_suffix(".txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wider_block(found, PurePosixPath(name).name), "utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
