"""The faces of an image as columns."""

from __future__ import annotations

import json
import math
import numbers
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scrfd_trt import _display, _exports
from scrfd_trt._crops import align_face, check_image, check_size, crop_box
from scrfd_trt._detection_row import Box, Detection, Landmarks, Point
from scrfd_trt._display import Image, Order
from scrfd_trt._formats import CSV_HEADER, LANDMARK_NAMES, count_faces, csv_lines, json_coco, plain
from scrfd_trt._nms import nms
from scrfd_trt._option_names import Explained, ExplainedType, explained_options
from scrfd_trt.errors import DetectionsError, ImageError, OptionError, ScrfdError, one_line, shown

if TYPE_CHECKING:
    from typing_extensions import Self


MAX_SIDE = 2**31 - 1  # maximum width and height of an image in pixels
Found = TypeVar("Found", bound="Detections")
COLUMNS = ("boxes", "scores", "landmarks", "track_ids")
_FOUND_AGAIN = "files, and arrays, tensors and PIL images in memory are found again after detect() in the same process"
_READ_ONLY = {*COLUMNS, "image_size", "pts_seconds"}


@explained_options
class Detections(Explained, metaclass=ExplainedType):
    """The faces of one image, as columns.

    Parameters
    ----------
    boxes
        ``(N, 4)`` x1, y1, x2, y2 in source pixels; boxes may extend beyond the image. Stored as float32.
    scores
        ``(N,)`` 0 to 1; a detector returns the highest first. Rows keep the order that the caller gives. Stored as
        float32.
    landmarks
        ``(N, 5, 2)`` x and y in source pixels (left eye, right eye, nose, left and right mouth corner, as seen in the
        image), or None for a model without landmarks. Stored as float32.
    image_size
        Width and height of the source image in pixels.
    track_ids
        ``(N,)`` non-negative integers: in a video, a face has the same number in all frames. None without tracking.
        Stored as int64.
    pts_seconds
        On video, when the frame is shown, in seconds from the video's start; None for a single image.

    Attributes
    ----------
    source : str or None
        Path of the image that a detector was given (not by ``submit``), or its address, without the password. Does not
        count for equality. All parameters are attributes, too.
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
    return rows; a slice, a mask or an array of indices returns ``Detections``, in the order of the indices:
    ``faces[faces.areas.argsort()[::-1]]`` has the largest face first.

    :meth:`plot`, :meth:`show`, :meth:`save`, :meth:`crop`, :meth:`align` and notebooks find the image of these faces
    again: a file that has not changed, by its path; after :meth:`SCRFDDetector.detect`, also an array, tensor or PIL
    image that the caller still holds, as it is then: pass the image if you write others into the same array. Detections
    keep no image in memory. Copies and pickled detections know files only.
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
    _source: tuple[Callable[[], Any], Order] | None  # set by detectors; the function returns None once it is gone

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
        self._set(
            boxes=_column("boxes", boxes, (4,)),
            scores=(column := _column("scores", scores, ())),
            landmarks=None if landmarks is None else _column("landmarks", landmarks, (5, 2)),
            image_size=_size(image_size),
            track_ids=None if track_ids is None else _numbers(track_ids, len(column)),
            pts_seconds=None if pts_seconds is None else _finite("pts_seconds", pts_seconds, DetectionsError),
        )
        self._check()

    def _check(self) -> None:
        """Raise DetectionsError unless the columns fit together; they may be changed in place."""
        count = len(self.scores)
        if len(self.boxes) != count or (self.landmarks is not None and len(self.landmarks) != count):
            rows = f"{len(self.boxes)}, {count}" + ("" if self.landmarks is None else f" and {len(self.landmarks)}")
            raise DetectionsError(f"boxes, scores and landmarks must have as many rows, not {rows}")
        if np.any(self.boxes[:, 2:] < self.boxes[:, :2]):
            raise DetectionsError("boxes must be x1, y1, x2, y2 with x2 ≥ x1 and y2 ≥ y1")
        if count and not (self.scores.min() >= 0.0 and self.scores.max() <= 1.0):
            raise DetectionsError("scores must lie between 0 and 1")

    def _by_score(self) -> Self:
        """Return the faces, highest scores first; those of equal score keep their order."""
        is_sorted = not np.any(self.scores[1:] > self.scores[:-1])
        return self if is_sorted else self[np.argsort(-self.scores, kind="stable")]

    def _set(self, *, source: str | None = None, _source: Any = None, **fields: Any) -> Self:
        for name, value in (fields | {"source": source, "_source": _source}).items():
            object.__setattr__(self, name, value)
        return self

    @classmethod
    def empty(cls, image_size: tuple[int, int], *, landmarks: bool = True) -> Self:
        """Return detections of an image without faces; ``landmarks`` says whether they have this column."""
        points = np.empty((0, 5, 2), np.float32) if landmarks else None
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), points, image_size=image_size)

    @classmethod
    def _unchecked(cls, boxes: Any, scores: Any, landmarks: Any, *, image_size: tuple[int, int]) -> Self:
        """Return detections of sorted columns of the exact dtype and shape, not shared, in a tenth of the time."""
        columns = {"boxes": boxes, "scores": scores, "landmarks": landmarks, "track_ids": None}
        return cls.__new__(cls)._set(**columns, image_size=image_size, pts_seconds=None)

    @classmethod
    def from_rows(cls, rows: Iterable[Detection | Mapping[str, Any]], image_size: tuple[int, int]) -> Self:
        """Return detections of rows: :class:`Detection` objects, or dicts as :meth:`to_dicts` returns them.

        Raises
        ------
        DetectionsError
            If only some rows have landmarks or track numbers, a value is invalid, or something is not a row.
        """
        return unswapped(cls(**_columns_of(rows), image_size=image_size))

    @classmethod
    def concat(cls, parts: Iterable[Self]) -> Self:
        """Return the faces of several detections of an image, such as of its tiles or of two models, in this order.

        Faces that are found twice stay; :meth:`nms` drops them. A common ``pts_seconds`` or ``source`` stays.

        Raises
        ------
        DetectionsError
            If there are none, they belong to images of different size, or only some have landmarks or track numbers.
        """
        each = list(parts) if isinstance(parts, Iterable) else []
        if not each or not all(isinstance(part, Detections) for part in each):
            raise DetectionsError("concat requires a list of at least one Detections: Detections.concat([a, b])")
        if len(sizes := {part.image_size for part in each}) > 1:
            named = ", ".join(f"{width}×{height}" for width, height in sorted(sizes))
            raise DetectionsError(f"detections of images of different size ({named}) cannot be joined")
        full = [part for part in each if len(part)] or each[:1]
        columns: dict[str, Any] = {}
        for name in COLUMNS:
            values = _all_or_none(f"detections have {name}", [getattr(part, name) for part in full])
            columns[name] = values and np.concatenate(values)
        pts_seconds = each[0].pts_seconds if len({part.pts_seconds for part in each}) == 1 else None
        found = cls(**columns, image_size=each[0].image_size, pts_seconds=pts_seconds)
        if len({part.source or id(part._source) for part in each}) == 1:
            found.source, found._source = each[0].source, each[0]._source
        return found

    @property
    def xywh(self) -> NDArray[np.float32]:
        """``(N, 4)`` float32 x and y of the upper left corner (in ultralytics: of the center), width and height."""
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
        return np.asarray(self.xywh[:, 2:].prod(axis=1), np.float32)

    @property
    def sizes(self) -> NDArray[np.float32]:
        """``(N,)`` float32 longer sides of the boxes, in pixels, as in the option ``min_face``."""
        return np.asarray(self.xywh[:, 2:].max(axis=1), np.float32)

    def inside(self, region: tuple[float, float, float, float]) -> NDArray[np.bool_]:
        """Return a mask ``(N,)`` of boxes whose centers lie in x1, y1, x2, y2 in pixels: ``faces[faces.inside(…)]``."""
        try:
            x1, y1, x2, y2 = (float(side) for side in region)
            if not (x1 <= x2 and y1 <= y2):
                raise ValueError  # noqa: TRY301
        except (TypeError, ValueError, OverflowError) as error:
            what = f"region must be x1, y1, x2, y2 in pixels with x2 ≥ x1 and y2 ≥ y1, not {shown(region)}"
            raise OptionError(what, fields=["region"], value=region) from error
        x, y = self.centers.T
        return np.asarray((x >= x1) & (x <= x2) & (y >= y1) & (y <= y2), np.bool_)

    def nms(self, iou: float = 0.4) -> Self:
        """Return the faces without those whose IoU with one of higher score is above ``iou``.

        The highest scores come first. Boxes without area, and faces of score 0, are dropped, too.
        """
        if not 0.0 <= (limit := _finite("iou", iou)) <= 1.0:
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
            yield Detection._make((Box._make(box), score, five and Landmarks(*map(Point._make, five)), track_id))

    @overload
    def __getitem__(self, index: int) -> Detection: ...
    @overload
    def __getitem__(self, index: slice | NDArray[Any] | list[int] | list[bool]) -> Self: ...
    def __getitem__(self, index: Any) -> Detection | Self:
        """Return one row for an integer; ``Detections`` for a slice, a mask or an array of indices."""
        if isinstance(index, (bool, np.bool_)):
            raise IndexError("a single bool is no mask: compare a column; track_ids is None without tracks")
        if isinstance(index, (int, np.integer)):
            if not -len(self) <= index < len(self):
                raise IndexError(f"there is no face {shown(index)}; there are {len(self)}, counted from 0")
            row = range(len(self))[index]
            return next(self._rows(slice(row, row + 1)))
        if index is None or callable(index) or (isinstance(index, list) and isinstance([*index, None][0], Detection)):
            raise IndexError("rows are indexed by integers, booleans or a slice: use a mask: faces[faces.scores > 0.8]")
        try:
            if isinstance(index, list):
                index = np.asarray(index, None if index else np.intp)
            rows = np.arange(len(self))[index]
        except Exception as error:  # of a foreign object too
            what = f"write faces.{index}" if isinstance(index, str) else one_line(error)
            raise IndexError(f"rows are indexed by integers, booleans or a slice: {what}") from error
        if rows.ndim != 1:
            raise IndexError(f"rows are indexed by one axis of integers or booleans, not by {rows.ndim}")
        columns = {name: getattr(self, name) for name in COLUMNS}
        taken: dict[str, Any] = {name: None if column is None else column[rows] for name, column in columns.items()}
        found = type(self)(**taken, image_size=self.image_size, pts_seconds=self.pts_seconds)
        found.source, found._source = self.source, self._source
        return found

    if not TYPE_CHECKING:  # type checkers know what exists

        def __array__(self, *_: Any, **__: Any) -> Any:
            raise DetectionsError("Detections are several arrays: use boxes, scores or landmarks, or to_pandas()")

        def __add__(self, other: object) -> Any:
            raise DetectionsError("Detections are joined by Detections.concat([a, b])")

        def __setattr__(self, name: str, value: object) -> None:
            if name in _READ_ONLY and value is not getattr(self, name):  # boxes += 1 changes the array that is there
                raise DetectionsError(f"{name} is read-only: change the array in place, or make new Detections(…)")
            object.__setattr__(self, name, value)

    def __getstate__(self) -> tuple[Any, dict[str, Any]]:
        columns = {name: getattr(self, name) for name in Detections.__slots__}
        return getattr(self, "__dict__", None), columns | {"_source": self._source if self.source else None}

    def __setstate__(self, state: tuple[Any, dict[str, Any]]) -> None:
        others, columns = state
        self._set(**columns, **(others or {}))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Detections):
            return NotImplemented
        if self.image_size != other.image_size or self.pts_seconds != other.pts_seconds:
            return False
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in COLUMNS)

    def __repr__(self) -> str:
        best = f", best score {self.scores.max():.2f}" if len(self) else ""
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
        ``pts_seconds``. Numbers have the fewest digits that restore the same float32. Raises DetectionsError if the
        arrays were changed to what :meth:`from_json` refuses.
        """
        self._check()
        about: dict[str, Any] = {"image_size": list(self.image_size), "landmarks": self.landmarks is not None}
        if self.track_ids is not None:
            about["track_ids"] = self.track_ids.tolist()
        if self.pts_seconds is not None:
            about["pts_seconds"] = self.pts_seconds
        return json.dumps(about | {"faces": self.to_dicts()}, indent=indent)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read JSON in the format of :meth:`to_json`: the text itself, not the path of a file.

        Raises
        ------
        DetectionsError
            If the JSON is invalid; the message gives the place.
        """
        rows: Any = None
        if isinstance(text, Path) or (isinstance(text, str) and text[-5:].lower() == ".json"):
            raise DetectionsError(f"from_json takes the text of a file: Path({str(text)!r}).read_text() returns it")
        try:
            found = json.loads(text)
            if not isinstance(found, dict):
                raise TypeError("an object is required")  # noqa: TRY301
            rows = found["faces"]
            columns: dict[str, Any] = {name: found.get(name) for name in ("image_size", "track_ids", "pts_seconds")}
            columns |= {name: column for name, column in _columns_of(rows).items() if column is not None}
            if not rows and not found.get("landmarks", True):
                columns["landmarks"] = None
            return cls(**columns)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            place = _first_invalid(rows) if isinstance(error, DetectionsError) else ""
            what = f"{error} is missing" if isinstance(error, KeyError) else one_line(error)
            raise DetectionsError(f"invalid JSON of detections: {place}{what}") from error

    def to_csv(self, *, image: str = "") -> str:
        """Return CSV with a header, one line per face; the first column is ``image``, or ``source`` if it is empty."""
        return CSV_HEADER + csv_lines(self, image or self.source or "")

    def to_coco(self, *, image_id: int = 1, first_id: int = 1) -> list[dict[str, Any]]:
        """Return the detections as COCO annotations of the image ``image_id``, numbered from ``first_id``.

        ``bbox`` is x, y, width, height; ``keypoints`` is x, y and visibility 2 per landmark.
        """
        found: list[dict[str, Any]] = json.loads(f"[{json_coco(self, image_id, first_id)}]")
        return found

    def to_pandas(self, *, image: str | None = None) -> Any:
        """Return a ``pandas.DataFrame`` with one row per face.

        Columns are those of :meth:`to_csv`: x1, y1, x2, y2, score, left_eye_x, left_eye_y, …, missing values for models
        without landmarks; on video also track_id and pts_seconds; and first ``image``, or ``source`` if it is known.
        Raises MissingDependencyError if pandas is not installed.
        """
        return _exports.load("pandas", "to_pandas()").DataFrame(_exports.table(self, image or self.source))

    def to_polars(self, *, image: str | None = None) -> Any:
        """Return a ``polars.DataFrame``, otherwise as :meth:`to_pandas`."""
        return _exports.load("polars", "to_polars()").DataFrame(
            _exports.table(self, image or self.source), nan_to_null=True
        )

    def to_arrow(self, *, image: str | None = None) -> Any:
        """Return a ``pyarrow.Table``, otherwise as :meth:`to_pandas`."""
        pa, found = _exports.load("pyarrow", "to_arrow()", _exports.PARQUET), _exports.table(self, image or self.source)
        return pa.table({name: pa.array(column, from_pandas=True) for name, column in found.items()})

    def to_fiftyone(self, *, landmarks: bool = False) -> Any:
        """Return a ``fiftyone.Detections`` with the label ``face`` and track numbers as ``index``.

        With ``landmarks``, return a ``fiftyone.Keypoints``. Boxes and points are shares of the image. Raises
        MissingDependencyError if FiftyOne is not installed.
        """
        return _exports.to_fiftyone(self, landmarks=landmarks)

    def to_supervision(self) -> Any:
        """Return a ``supervision.Detections``: class 0 (``face``), landmarks in ``data["landmarks"]`` as ``(N, 5, 2)``.

        Track numbers become its ``tracker_id``. Raises MissingDependencyError if supervision is not installed.
        """
        return _exports.to_supervision(self)

    @classmethod
    def from_supervision(cls, detections: Any, image_size: tuple[int, int]) -> Self:
        """Read a ``supervision.Detections`` of an image with this width and height; raise DetectionsError for others.

        Without ``confidence``, scores are 1. ``data["landmarks"]`` ``(N, 5, 2)`` is used if it is there, and
        ``tracker_id`` if no number is negative, which means an unconfirmed track.
        """
        return unswapped(cls(**_exports.from_supervision(detections), image_size=image_size))

    def plot(self, image: Any = None, *, color: Order | None = None) -> Image:
        """Return a copy of the image with boxes, scores and landmarks, as the overlay ``landmarks`` draws them.

        Parameters
        ----------
        image
            The source image, as for :meth:`SCRFDDetector.detect`; None: the one that the detector was given is found
            again.
        color
            Order of the channels of the result, and of ``image`` if that is an array: ``bgr`` or ``rgb``, as matplotlib
            requires. None: that of the detector, otherwise ``bgr``.

        Raises
        ------
        ImageError
            If the image is not supported, or is None and cannot be found again.
        DetectionsError
            If the image does not have the size ``image_size``.
        OptionError
            If ``color`` is another.
        """
        return self._plot(image, color)[0]

    def show(self, image: Any = None, *, color: Order | None = None) -> None:
        """Show :meth:`plot` in the notebook, or in the system's program for pictures, or else raise OutputError."""
        _display.show(*self._plot(image, color))

    def save(self, path: str | Path, image: Any = None, *, color: Order | None = None, overwrite: bool = False) -> Path:
        """Write :meth:`plot` to an image file, in the format of its suffix; return the path.

        Raises OptionError if the file exists and ``overwrite`` is False, or is the image that the faces are of;
        OutputError if it cannot be written.
        """
        _display.save(*self._plot(image, color), Path(path), self.source, overwrite=overwrite)
        return Path(path)

    def _plot(self, image: Any, color: Order | None) -> tuple[Image, Order]:
        found, order = self._picture(image, color)
        _display.check_overlays()
        drawn: Image = import_module("overlays").create("landmarks", color=order)(found, self)  # it imports Detections
        return drawn, order

    def _picture(self, image: Any, color: Order | None = None) -> tuple[Image, Order]:
        """Return the image, or that of the detector, and its order: the detector's own unless ``color`` is given."""
        find, given = self._source or (None, "bgr")
        order = given if color is None else color
        if not isinstance(order, str) or order not in ("bgr", "rgb"):
            what = f"color must be 'bgr' or 'rgb', the order of the channels, not {shown(color)}"
            raise OptionError(f"{what}; overlays.create('landmarks', …) draws in other ways", fields=["color"])
        if isinstance(image, numbers.Real):
            raise ImageError(f"{shown(image)} is no image: other arguments follow by name, such as margin=… or size=…")
        if image is not None:
            found = import_module("scrfd_trt._inputs").pixels_of(image, order)
        elif find is None:
            raise ImageError(f"these faces do not know their image: {_FOUND_AGAIN}; pass it, or its path")
        elif (found := find()) is None:
            gone = f"{self.source} has changed or is gone" if self.source else "the image is no longer in memory"
            raise ImageError(f"{gone}: pass the image, or its path")
        else:
            found = _display.in_order(found, given, order)
        check_image(found, self.image_size)
        return found, order

    def _repr_html_(self) -> str:
        try:
            return _display.table(self, *self._picture(None))
        except ScrfdError as error:
            return _display.table(self, None, "bgr", one_line(error))

    def crop(self, image: Any = None, margin: float = 0.0) -> list[NDArray[np.uint8]]:
        """Return a copy ``(h, w, 3)`` uint8 of each box, clipped at the image border; empty for a box outside of it.

        Parameters
        ----------
        image
            As for :meth:`plot`, with its errors.
        margin
            Share of the width and height that the box grows by on each side; OptionError above 2.
        """
        image, _ = self._picture(image)
        if (share := _finite("margin", margin)) > 2:
            raise OptionError("margin is a share of the box, at most 2: 0.2 is 20 %", fields=["margin"], value=margin)
        return [crop_box(image, box, share) for box in self.boxes]

    def align(self, image: Any = None, size: int = 112) -> NDArray[np.uint8]:
        """Return ``(N, size, size, 3)`` uint8 faces aligned to the ArcFace template, the input of recognition models.

        Parameters
        ----------
        image
            As for :meth:`plot`, with its errors.
        size
            Side of the crops in pixels, a multiple of 112 or 128.

        Raises
        ------
        DetectionsError
            If there are no landmarks.
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
            what = f"size: {len(self)} faces of {size}×{size} pixels do not fit into memory; choose a smaller size, or "
            raise OptionError(f"{what}align fewer faces at a time", fields=["size"], value=size) from error
        for index, points in enumerate(self.landmarks):
            out[index] = align_face(image, points, size)
        return out


if not TYPE_CHECKING:

    class _OnClass(classmethod):
        """A class method that objects do not have: ``if faces.empty:`` would always be true."""

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            if instance is not None:
                raise AttributeError
            return super().__get__(None, owner)

    Detections.empty = _OnClass(vars(Detections)["empty"].__func__)


def _size(image_size: tuple[int, int]) -> tuple[int, int]:
    try:
        width, height = (operator.index(side) for side in image_size)
    except (TypeError, ValueError) as error:
        raise DetectionsError(f"image_size must be width and height in pixels, not {shown(image_size)}") from error
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise DetectionsError(f"image_size must be 1×1 to {MAX_SIDE}×{MAX_SIDE} pixels, not {shown((width, height))}")
    return width, height


def unswapped(faces: Found) -> Found:
    """Return faces; raise DetectionsError if they only fit into an image whose height is this one's width."""
    width, height = faces.image_size
    if (faces.centers > (width, height)).any() and (faces.boxes <= (height, width) * 2).all():
        what = f"boxes lie outside of {width}×{height}, and inside of {height}×{width}: image_size is width, height"
        raise DetectionsError(f"{what}, such as image.shape[1::-1]", fields=["image_size"])
    return faces


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


def _columns_of(rows: Iterable[Detection | Mapping[str, Any]]) -> dict[str, Any]:
    try:
        faces = [Detection(**row) if isinstance(row, Mapping) else row for row in rows]
        return {
            "boxes": [face.box for face in faces],
            "scores": [face.score for face in faces],
            "landmarks": _all_or_none("rows have landmarks", [face.landmarks for face in faces]),
            "track_ids": _all_or_none("rows have track numbers", [face.track_id for face in faces]) or None,
        }
    except (AttributeError, TypeError, OptionError) as error:
        raise DetectionsError(f"rows must be Detection objects or dicts: {one_line(error)}") from error


def _first_invalid(rows: Any) -> str:
    for number, row in enumerate(rows if isinstance(rows, list) else []):
        try:
            Detections.from_rows([row], (1, 1))
        except DetectionsError:  # noqa: PERF203 - for the message only
            return f"faces.{number}: "
    return ""


def _all_or_none(what: str, values: list[Any]) -> list[Any] | None:
    """Return a column; None if no row has a value."""
    present = sum(value is not None for value in values)
    if 0 < present < len(values):
        raise DetectionsError(f"{present} of {len(values)} {what}; all or none must have them")
    return values if present or not values else None


def _finite(name: str, value: float, error: type[DetectionsError | OptionError] = OptionError) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise error(f"{name} must be a finite number, not {shown(value)}", fields=[name])
    return number
