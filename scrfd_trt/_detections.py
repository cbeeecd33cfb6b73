"""The faces of an image as columns."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scrfd_trt import _display, _exports
from scrfd_trt._crops import align_face, check_image, check_size, crop_box
from scrfd_trt._detection_row import Detection, Landmarks
from scrfd_trt._display import Image, Order
from scrfd_trt._formats import LANDMARK_NAMES, count_faces, csv_header, csv_lines, json_coco, plain
from scrfd_trt._nms import nms
from scrfd_trt.errors import DetectionsError, ImageError, OptionError, ScrfdError, one_line, shown

if TYPE_CHECKING:
    from typing_extensions import Self


MAX_SIDE = 2**31 - 1
"""Maximum width and height of an image in pixels."""

NAMES_ELSEWHERE = {
    "xyxy": "boxes", "conf": "scores", "confidence": "scores", "kps": "landmarks", "keypoints": "landmarks",
    "tracker_id": "track_ids", "area": "areas", "merge": "concat()", "filter": "a mask: faces[faces.scores > 0.6]",
    "to_df": "to_pandas()", "orig_shape": "image_size, which is width and height", "time": "pts_seconds",
}  # fmt: skip
"""What other libraries call it."""


class Detections:
    """The faces of one image, as columns.

    Parameters
    ----------
    boxes
        ``(N, 4)`` x1, y1, x2, y2 in source pixels; boxes may extend beyond the image.
    scores
        ``(N,)`` 0 to 1. Rows are sorted by descending score if they are not sorted yet.
    landmarks
        ``(N, 5, 2)`` x and y in source pixels (left eye, right eye, nose, left and right mouth corner, as seen in the
        image), or None for a model without landmarks.
    image_size
        Width and height of the source image in pixels.
    track_ids
        ``(N,)`` non-negative integers: in a video, a face has the same number in all frames. None without tracking.
    pts_seconds
        On video, when the frame is shown, in seconds from the video's start; None for a single image.

    Attributes
    ----------
    boxes : numpy.ndarray
        ``(N, 4)`` float32.
    scores : numpy.ndarray
        ``(N,)`` float32, descending.
    landmarks : numpy.ndarray or None
        ``(N, 5, 2)`` float32.
    image_size : tuple of int
        Width and height.
    track_ids : numpy.ndarray or None
        ``(N,)`` int64.
    pts_seconds : float or None
        In seconds.
    source : str or None
        Path or address of the image that a detector was given (not by ``submit``). Does not count for equality.
    landmark_names : tuple of str
        Names of the five landmarks, in their order.

    Raises
    ------
    DetectionsError
        If shapes do not match, a number is not finite or too large for its type, x2 < x1 or y2 < y1, a score is not in
        0 to 1, or a track number is not a non-negative integer.

    Notes
    -----
    The arrays belong to the caller: later calls of a detector do not modify them. Indexing with a number and iteration
    return rows; a slice, a mask or an array of indices returns ``Detections``.

    For :meth:`plot`, :meth:`show`, :meth:`save`, :meth:`crop`, :meth:`align` and notebooks, detections of files know
    their image by its path, those of :meth:`SCRFDDetector.detect` also arrays and PIL images as long as the caller
    holds them (as they are then). None keeps an image in memory, and copies in other processes know none.
    """

    __slots__ = ("_source", "boxes", "image_size", "landmarks", "pts_seconds", "scores", "source", "track_ids")
    __hash__ = None  # type: ignore[assignment]  # arrays can change

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    landmarks: NDArray[np.float32] | None
    image_size: tuple[int, int]
    track_ids: NDArray[np.int64] | None
    pts_seconds: float | None
    source: str | None
    landmark_names: ClassVar[tuple[str, ...]] = LANDMARK_NAMES
    _source: tuple[Callable[[], Any], Order]  # of detectors; returns the image, or None once it is gone

    def __init__(
        self,
        boxes: ArrayLike,
        scores: ArrayLike,
        landmarks: ArrayLike | None = None,
        *,
        image_size: tuple[int, int],
        track_ids: ArrayLike | None = None,
        pts_seconds: float | None = None,
    ) -> None:
        self.boxes = _column("boxes", boxes, (4,))
        self.scores = _column("scores", scores, ())
        self.landmarks = None if landmarks is None else _column("landmarks", landmarks, (5, 2))
        self.image_size = _size(image_size)
        self.source = None
        self.track_ids = None if track_ids is None else _numbers(track_ids, len(self.scores))
        self.pts_seconds = None if pts_seconds is None else _seconds(pts_seconds)
        count = len(self.scores)
        if len(self.boxes) != count or (self.landmarks is not None and len(self.landmarks) != count):
            raise DetectionsError(
                f"boxes, scores and landmarks must have as many rows, not {len(self.boxes)}, {count}"
                + ("" if self.landmarks is None else f" and {len(self.landmarks)}")
            )
        if np.any(self.boxes[:, 2:] < self.boxes[:, :2]):
            raise DetectionsError("boxes must be x1, y1, x2, y2 with x2 ≥ x1 and y2 ≥ y1")
        if count and not (self.scores.min() >= 0.0 and self.scores.max() <= 1.0):
            raise DetectionsError("scores must lie between 0 and 1")
        if np.any(self.scores[1:] > self.scores[:-1]):
            order = np.argsort(-self.scores, kind="stable")
            self.boxes, self.scores = self.boxes[order], self.scores[order]
            self.landmarks = None if self.landmarks is None else self.landmarks[order]
            self.track_ids = None if self.track_ids is None else self.track_ids[order]

    @classmethod
    def empty(cls, image_size: tuple[int, int], *, landmarks: bool = True) -> Self:
        """Return detections of an image without faces.

        Parameters
        ----------
        image_size
            Width and height in pixels.
        landmarks
            Whether to include a landmark column.
        """
        points = np.empty((0, 5, 2), np.float32) if landmarks else None
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), points, image_size=image_size)

    @classmethod
    def _unchecked(cls, boxes: Any, scores: Any, landmarks: Any, *, image_size: tuple[int, int]) -> Self:
        """Return detections of sorted columns of the exact dtype and shape, not shared, in a tenth of the time."""
        made = cls.__new__(cls)
        made.boxes, made.scores, made.landmarks, made.image_size = boxes, scores, landmarks, image_size
        made.track_ids = made.pts_seconds = made.source = None
        return made

    @classmethod
    def from_rows(cls, rows: Iterable[Detection | Mapping[str, Any]], image_size: tuple[int, int]) -> Self:
        """Return detections of rows.

        Parameters
        ----------
        rows
            :class:`Detection` objects, or dicts as :meth:`to_dicts` returns them. Landmarks and track numbers: either
            all have them, or none.
        image_size
            Width and height in pixels.

        Raises
        ------
        DetectionsError
            If only some rows have landmarks or track numbers, a value is invalid, or something is not a row.
        """
        try:
            faces = [Detection(**row) if isinstance(row, Mapping) else row for row in rows]
            columns = [face.box for face in faces], [face.score for face in faces]
            points = _all_or_none("rows have landmarks", [face.landmarks for face in faces])
            track_ids = _all_or_none("rows have track numbers", [face.track_id for face in faces]) or None
        except (AttributeError, TypeError) as error:
            raise DetectionsError(f"rows must be Detection objects or dicts: {one_line(error)}") from error
        return cls(*columns, points, image_size=image_size, track_ids=track_ids)

    @classmethod
    def concat(cls, parts: Iterable[Self]) -> Self:
        """Return the faces of several detections of the same image, such as of its tiles or of two models.

        Faces that are found twice stay; :meth:`nms` drops them. ``pts_seconds`` is kept if all have the same.

        Raises
        ------
        DetectionsError
            If there are none, they belong to images of different size, or only some have landmarks or track numbers.
        """
        each = list(parts) if isinstance(parts, Iterable) else []
        if not each or not all(isinstance(part, Detections) for part in each):
            raise DetectionsError("concat requires Detections objects, at least one")
        if len(sizes := {part.image_size for part in each}) > 1:
            named = ", ".join(f"{width}×{height}" for width, height in sorted(sizes))
            raise DetectionsError(f"detections of images of different size ({named}) cannot be joined")
        full = [part for part in each if len(part)] or each[:1]
        points = _all_or_none("detections have landmarks", [part.landmarks for part in full])
        track_ids = _all_or_none("detections have track numbers", [part.track_ids for part in full])
        boxes, scores = ([getattr(part, name) for part in full] for name in ("boxes", "scores"))
        columns: list[Any] = [values and np.concatenate(values) for values in (boxes, scores, points, track_ids)]
        times = {part.pts_seconds for part in each}
        found = cls(*columns[:3], image_size=each[0].image_size, track_ids=columns[3])
        found.pts_seconds = times.pop() if len(times) == 1 else None
        return found

    @property
    def xywh(self) -> NDArray[np.float32]:
        """``(N, 4)`` float32 x and y of the upper left corner, width and height in pixels, as in COCO."""
        return np.concatenate([self.boxes[:, :2], self.boxes[:, 2:] - self.boxes[:, :2]], axis=1)

    @property
    def xyxyn(self) -> NDArray[np.float32]:
        """``(N, 4)`` float32 x1, y1, x2, y2 as shares of the image's width and height."""
        return np.divide(self.boxes, self.image_size * 2, dtype=np.float32)

    @property
    def centers(self) -> NDArray[np.float32]:
        """``(N, 2)`` float32 x and y of the centers of the boxes, in pixels."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) * np.float32(0.5)

    @property
    def areas(self) -> NDArray[np.float32]:
        """``(N,)`` float32 areas of the boxes, in square pixels."""
        areas: NDArray[np.float32] = (self.boxes[:, 2:] - self.boxes[:, :2]).prod(axis=1)
        return areas

    @property
    def sizes(self) -> NDArray[np.float32]:
        """``(N,)`` float32 longer sides of the boxes, in pixels, as in the option ``min_face``."""
        sizes: NDArray[np.float32] = (self.boxes[:, 2:] - self.boxes[:, :2]).max(axis=1)
        return sizes

    def inside(self, region: tuple[float, float, float, float]) -> NDArray[np.bool_]:
        """Return a mask ``(N,)`` of boxes whose centers lie in x1, y1, x2, y2 in pixels: ``faces[faces.inside(…)]``."""
        try:
            x1, y1, x2, y2 = (float(side) for side in region)
        except (TypeError, ValueError, OverflowError) as error:
            what = f"region must be x1, y1, x2, y2 in pixels, not {shown(region)}"
            raise OptionError(what, fields=["region"], value=region) from error
        centers = self.centers.astype(np.float64)
        return np.asarray(np.all((centers >= (x1, y1)) & (centers <= (x2, y2)), axis=1), np.bool_)

    def nms(self, iou: float = 0.4) -> Self:
        """Return the faces without boxes whose IoU with one of higher score is above ``iou``, or that have no area."""
        if not 0.0 <= (limit := _number("iou", iou)) <= 1.0:
            raise OptionError(f"iou must lie between 0 and 1, not {shown(iou)}", fields=["iou"], value=iou)
        return self[nms(self.boxes, self.scores, limit)]

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Detection]:
        return self._rows(slice(None))

    def _rows(self, rows: slice) -> Iterator[Detection]:
        boxes, scores = plain(self.boxes[rows]), plain(self.scores[rows])
        points = repeat(None) if self.landmarks is None else plain(self.landmarks[rows])
        track_ids = repeat(None) if self.track_ids is None else self.track_ids[rows].tolist()
        for box, score, five, track_id in zip(boxes, scores, points, track_ids):  # noqa: B905 - repeat has no end
            yield Detection(tuple(box), score, five and Landmarks(*map(tuple, five)), track_id)

    @overload
    def __getitem__(self, index: int) -> Detection: ...
    @overload
    def __getitem__(self, index: slice | NDArray[Any] | list[int] | list[bool]) -> Self: ...
    def __getitem__(self, index: Any) -> Detection | Self:
        """Return one row for an integer; ``Detections`` for a slice, a mask or an array of indices."""
        if isinstance(index, (int, np.integer)):
            row = range(len(self))[index]
            return next(self._rows(slice(row, row + 1)))
        try:
            if isinstance(index, list):
                index = np.asarray(index, dtype=None if index else np.intp)
            boxes = self.boxes[index].copy()
        except IndexError:
            raise
        except Exception as error:  # of a foreign object too
            raise IndexError(f"rows are indexed by integers, booleans or a slice: {one_line(error)}") from error
        points = None if self.landmarks is None else self.landmarks[index].copy()
        found = type(self)(
            boxes,
            self.scores[index].copy(),
            points,
            image_size=self.image_size,
            track_ids=None if self.track_ids is None else self.track_ids[index].copy(),
            pts_seconds=self.pts_seconds,
        )
        found.source = self.source
        if hasattr(self, "_source"):
            found._source = self._source
        return found

    if not TYPE_CHECKING:  # type checkers know which attributes exist

        def __getattr__(self, name: str) -> Any:
            hint = f"; use {NAMES_ELSEWHERE[name]}" if name in NAMES_ELSEWHERE else ""
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{hint}", name=name, obj=self)

    def __getstate__(self) -> tuple[Any, dict[str, Any]]:
        names = (name for name in Detections.__slots__ if name != "_source")
        return getattr(self, "__dict__", None), {name: getattr(self, name) for name in names}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Detections):
            return NotImplemented
        if self.image_size != other.image_size or self.pts_seconds != other.pts_seconds:
            return False
        names = ("boxes", "scores", "landmarks", "track_ids")
        pairs = [(getattr(self, name), getattr(other, name)) for name in names]
        return all(a is b if a is None or b is None else np.array_equal(a, b) for a, b in pairs)

    def __repr__(self) -> str:
        best = f", best score {self.scores[0]:.2f}" if len(self) else ""
        points = "" if self.landmarks is not None else ", no landmarks"
        width, height = self.image_size
        return f"<Detections: {count_faces(len(self))} in {width}×{height}{best}{points}>"

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one dict per face: ``box`` and ``landmarks`` as lists of numbers (or None), ``score`` as a number."""
        boxes, scores = plain(self.boxes), plain(self.scores)
        points = [None] * len(self) if self.landmarks is None else plain(self.landmarks)
        return [
            {"box": box, "score": score, "landmarks": five}
            for box, score, five in zip(boxes, scores, points, strict=True)
        ]

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the detections as a JSON object; :meth:`from_json` reads it back.

        Keys: ``image_size``, ``landmarks`` (whether present), ``faces``, and for videos ``track_ids`` and
        ``pts_seconds``. Numbers have the fewest digits that restore the same float32.
        """
        about: dict[str, Any] = {"image_size": list(self.image_size), "landmarks": self.landmarks is not None}
        if self.track_ids is not None:
            about["track_ids"] = self.track_ids.tolist()
        if self.pts_seconds is not None:
            about["pts_seconds"] = self.pts_seconds
        return json.dumps(about | {"faces": self.to_dicts()}, indent=indent)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read JSON in the format of :meth:`to_json`.

        Raises
        ------
        DetectionsError
            If the JSON is invalid; the message gives the place.
        """
        from scrfd_trt._detections_json import parse  # noqa: PLC0415 - imports pydantic

        found = parse(text)
        points = _all_or_none("rows have landmarks", [face.landmarks for face in found.faces])
        return cls(
            [face.box for face in found.faces],
            [face.score for face in found.faces],
            points if points or found.landmarks else None,
            image_size=found.image_size,
            track_ids=found.track_ids,
            pts_seconds=found.pts_seconds,
        )

    def to_csv(self, image: str = "") -> str:
        """Return the detections as CSV with a header, one line per face.

        Parameters
        ----------
        image
            Value of the first column, usually a file name.
        """
        return csv_header() + "\n" + csv_lines(self, image)

    def to_coco(self, image_id: int = 1, first_id: int = 1) -> list[dict[str, Any]]:
        """Return the detections as COCO annotations.

        Parameters
        ----------
        image_id
            Number of the image in the COCO file.
        first_id
            Number of the first annotation.

        Returns
        -------
        list of dict
            With ``bbox`` as x, y, width, height, and ``keypoints`` as x, y and visibility 2 per landmark.
        """
        found: list[dict[str, Any]] = json.loads(f"[{json_coco(self, image_id, first_id)}]")
        return found

    def to_pandas(self, image: str | None = None) -> Any:
        """Return a ``pandas.DataFrame`` with one row per face.

        Columns are those of :meth:`to_csv`: x1, y1, x2, y2, score, left_eye_x, left_eye_y, …, missing values for models
        without landmarks; on video also track_id and pts_seconds; and first ``image``, if it is given, such as a name.
        Raises MissingDependencyError if pandas is not installed.
        """
        return _exports.to_pandas(self, image)

    def to_polars(self, image: str | None = None) -> Any:
        """Return a ``polars.DataFrame``, otherwise as :meth:`to_pandas`."""
        return _exports.to_polars(self, image)

    def to_arrow(self, image: str | None = None) -> Any:
        """Return a ``pyarrow.Table``, otherwise as :meth:`to_pandas`."""
        return _exports.to_arrow(self, image)

    def to_fiftyone(self, *, landmarks: bool = False) -> Any:
        """Return a ``fiftyone.Detections`` with the label ``face`` and track numbers as ``index``.

        With ``landmarks``, return a ``fiftyone.Keypoints``. Boxes and points are shares of the image. Raises
        MissingDependencyError if FiftyOne is not installed.
        """
        return _exports.to_fiftyone(self, landmarks=landmarks)

    def to_supervision(self) -> Any:
        """Return a ``supervision.Detections``: class 0, landmarks under ``data["landmarks"]`` as ``(N, 5, 2)``.

        Track numbers become its ``tracker_id``. Raises MissingDependencyError if supervision is not installed.
        """
        return _exports.to_supervision(self)

    @classmethod
    def from_supervision(cls, detections: Any, image_size: tuple[int, int]) -> Self:
        """Read a ``supervision.Detections``.

        Parameters
        ----------
        detections
            Without ``confidence``, scores are 1. ``tracker_id`` and ``data["landmarks"]`` ``(N, 5, 2)`` are used if
            present.
        image_size
            Width and height of the source image in pixels.

        Raises
        ------
        DetectionsError
            If it is not one, or its values are not those of faces.
        """
        return cls(**_exports.from_supervision(detections), image_size=image_size)

    def plot(self, image: Image | None = None, *, color: Order | None = None) -> Image:
        """Return a copy of the image with boxes, scores and landmarks, as the overlay ``landmarks`` draws them.

        Parameters
        ----------
        image
            ``(H, W, 3)`` uint8, the source image; None: the image that was given to the detector.
        color
            Order of the channels of both, ``bgr`` or ``rgb``; None: that of the detector, otherwise ``bgr``.

        Raises
        ------
        ImageError
            If the image is not such an array, or is None and no longer in memory.
        DetectionsError
            If the image does not have the size ``image_size``.
        """
        found, order = self._picture(image, color)
        return _display.annotated(found, self, order)

    def show(self, image: Image | None = None, *, color: Order | None = None) -> None:
        """Show :meth:`plot` in the notebook, or in the system's program for pictures, or else raise OutputError."""
        _display.show(self.plot(image, color=color), self._picture(image, color)[1])

    def save(
        self, path: str | Path, image: Image | None = None, *, color: Order | None = None, overwrite: bool = False
    ) -> Path:
        """Write :meth:`plot` to an image file, in the format of its suffix; return the path.

        Raises OptionError if the file exists and ``overwrite`` is False, OutputError if it cannot be written.
        """
        _display.save(self.plot(image, color=color), Path(path), self._picture(image, color)[1], overwrite=overwrite)
        return Path(path)

    def _picture(self, image: Any, color: Order | None = None) -> tuple[Any, Order]:
        """Return the image, checked, and its order; None is the image that was given to the detector."""
        unknown: tuple[Callable[[], Any], Order] = (lambda: None, "bgr")
        source, order = getattr(self, "_source", unknown)
        if image is None:
            image = source()
            if image is None:
                raise ImageError(
                    "the image is None, which cv2.imread returns for a file that it cannot read, and the one that the "
                    "detector was given is no longer in memory: pass it as a NumPy array (H, W, 3) of uint8"
                )
        check_image(image, self.image_size)
        return image, order if color is None else color

    def _repr_html_(self) -> str:
        try:
            return _display.table(self, *self._picture(None))
        except ScrfdError:
            return _display.table(self, None, "bgr")

    def crop(self, image: Image | None = None, margin: float = 0.0) -> list[NDArray[np.uint8]]:
        """Return a crop of each face.

        Parameters
        ----------
        image
            ``(H, W, 3)`` uint8, the source image; None: the image that was given to the detector.
        margin
            Share of the width and height that the box grows by on each side.

        Returns
        -------
        list of numpy.ndarray
            One copy ``(h, w, 3)`` uint8 per face, clipped at the image border; empty for a box outside of the image.

        Raises
        ------
        ImageError
            If the image is not such an array.
        DetectionsError
            If the image does not have the size ``image_size``.
        OptionError
            If the margin is not finite.
        """
        image, _ = self._picture(image)
        share = _number("margin", margin, "a finite number")
        return [crop_box(image, box, share) for box in self.boxes]

    def align(self, image: Image | None = None, size: int = 112) -> NDArray[np.uint8]:
        """Return each face aligned to the ArcFace template, the input of recognition models.

        Parameters
        ----------
        image
            ``(H, W, 3)`` uint8, the source image; None: the image that was given to the detector.
        size
            Side of the crops in pixels, a multiple of 112 or 128.

        Returns
        -------
        numpy.ndarray
            ``(N, size, size, 3)`` uint8.

        Raises
        ------
        ImageError
            If the image is not such an array.
        DetectionsError
            If there are no landmarks, or the image does not have the size ``image_size``.
        OptionError
            If the size is not a multiple of 112 or 128, or too large.
        """
        image, _ = self._picture(image)
        size = check_size(size)
        if self.landmarks is None:
            raise DetectionsError("align() requires landmarks: use a model whose name ends in _bnkps")
        try:
            out = np.empty((len(self), size, size, 3), np.uint8)
        except (MemoryError, ValueError) as error:
            raise OptionError(
                f"size: {len(self)} faces of {size}×{size} pixels do not fit into memory; choose a smaller size, or "
                "align fewer faces at a time",
                fields=["size"],
                value=size,
            ) from error
        for index, points in enumerate(self.landmarks):
            out[index] = align_face(image, points, size)
        return out


def _size(image_size: tuple[int, int]) -> tuple[int, int]:
    try:
        width, height = (operator.index(side) for side in image_size)
    except (TypeError, ValueError) as error:
        raise DetectionsError(f"image_size must be width and height in pixels, not {shown(image_size)}") from error
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise DetectionsError(f"image_size must be 1×1 to {MAX_SIDE}×{MAX_SIDE} pixels, not {shown((width, height))}")
    return width, height


def _column(name: str, values: ArrayLike, row: tuple[int, ...]) -> NDArray[np.float32]:
    try:
        array = np.asarray(values)
        if array.dtype.kind == "c":
            raise TypeError("they are complex")  # noqa: TRY301 - NumPy would drop the imaginary part
        if array.dtype != np.float32:
            with np.errstate(over="ignore"):  # what exceeds float32 becomes infinite, which is refused below
                array = array.astype(np.float32)
        array = np.ascontiguousarray(array)
    except Exception as error:  # of a foreign object too
        raise DetectionsError(f"{name} must be an array of numbers: {one_line(error)}") from error
    if array.size == 0 and array.ndim == 1:
        array = array.reshape(0, *row)
    if array.shape[1:] != row or array.ndim != 1 + len(row):
        wanted = ", ".join(["N", *map(str, row)]) + ("," if not row else "")
        raise DetectionsError(f"{name} must have shape ({wanted}), not {array.shape}")
    if not np.isfinite(array).all():
        raise DetectionsError(f"{name} must be finite numbers")
    return array


def _numbers(values: ArrayLike, count: int) -> NDArray[np.int64]:
    try:
        array = np.asarray(values)
    except Exception as error:  # of a foreign object too
        raise DetectionsError(f"track_ids must be an array of integers: {one_line(error)}") from error
    if array.shape != (count,):
        raise DetectionsError(f"track_ids must have shape ({count},), not {array.shape}")
    whole = array.dtype.kind in "iu" or (array.dtype.kind == "f" and bool((array == np.floor(array)).all()))
    if count and not (whole and array.min() >= 0 and array.max().item() < 2**63):
        raise DetectionsError(f"track_ids must be non-negative integers below 2⁶³, not {shown(array.tolist()[:5])}")
    return array.astype(np.int64)


def _all_or_none(what: str, values: list[Any]) -> list[Any] | None:
    """Return a column; None if no row has a value."""
    present = sum(value is not None for value in values)
    if 0 < present < len(values):
        raise DetectionsError(f"{present} of {len(values)} {what}; all or none must have them")
    return values if present or not values else None


def _number(name: str, value: float, what: str = "a number") -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isnan(number) or ("finite" in what and math.isinf(number)):
        raise OptionError(f"{name} must be {what}, not {shown(value)}", fields=[name], value=value)
    return number


def _seconds(pts_seconds: float) -> float:
    try:
        return _number("pts_seconds", pts_seconds, "a finite number of seconds")
    except OptionError as error:
        raise DetectionsError(str(error)) from error
