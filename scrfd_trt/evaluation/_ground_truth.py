"""Labelled faces of WIDER FACE, COCO and YOLO sets, as columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._image_files import open_image
from scrfd_trt._image_files.read import IMAGE_SUFFIXES
from scrfd_trt.errors import DetectionsError, ImageError, MissingDependencyError, one_line

WIDER_SUBSETS = ("easy", "medium", "hard")
YOLO_COLUMNS = (5, 15, 20)
"""Class and box; also five landmarks of two or three numbers."""


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Labelled faces of a set of images, as columns.

    Attributes
    ----------
    names
        Path of each image below the folder of the images, with forward slashes.
    images
        ``(N,)`` place in ``names`` of the image of each face, ascending.
    boxes
        ``(N, 4)`` float64 x1, y1, x2, y2 in pixels.
    subsets
        For each subset ``(N,)`` whether a face counts in it. Faces that do not are neither found nor missed.
    protocol
        ``"wider"`` or ``"coco"``: how :func:`evaluate` matches faces, and what it measures.
    unlabelled
        Number of images of a YOLO set without a file of labels, which have no faces.
    """

    names: tuple[str, ...]
    images: NDArray[np.intp]
    boxes: NDArray[np.float64]
    subsets: dict[str, NDArray[np.bool_]]
    protocol: Literal["wider", "coco"]
    unlabelled: int = 0

    @property
    def counted(self) -> NDArray[np.bool_]:
        """``(N,)`` whether a face counts in any subset."""
        return np.asarray(np.any([*self.subsets.values()], axis=0), np.bool_)

    @property
    def sides(self) -> NDArray[np.float64]:
        """``(N,)`` longer side of each face in pixels."""
        return np.asarray((self.boxes[:, 2:] - self.boxes[:, :2]).max(axis=1, initial=0.0), np.float64)


def read_ground_truth(
    labels: str | Path, images: str | Path | None = None, *, category: int | str | None = None
) -> GroundTruth:
    """Read the labels of a set of images.

    Parameters
    ----------
    labels
        WIDER FACE: the folder of ``wider_face_val.mat``, ``wider_easy_val.mat`` and the other two. COCO: a ``.json``
        file. YOLO: the folder of ``.txt`` files; an image without one has no faces.
    images
        The folder of the images. YOLO requires it: labels are shares of the size of their image.
    category
        Number of the category of faces, or in COCO sets its name; default: the only one, or that named ``face``.

    Raises
    ------
    DetectionsError
        If the labels cannot be read, or several categories could be faces.
    MissingDependencyError
        If SciPy is not installed, which reads the labels of WIDER FACE.
    """
    path = Path(labels)
    if path.name == "wider_face_val.mat":
        path = path.parent
    with _label_errors(path):
        if (path / "wider_face_val.mat").is_file():
            return _read_wider(path)
        if path.suffix.lower() == ".json":
            return _read_coco(path, category)
        if path.is_dir() and images is not None:
            return _read_yolo(path, Path(images), category)
    raise DetectionsError(
        f"{path}: these are no labels; name the folder of wider_face_val.mat, a COCO file (.json), or the folder of "
        "YOLO's .txt files together with that of the images"
    )


@contextmanager
def _label_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DetectionsError(f"{error.filename or path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, DetectionsError):
            raise
        what = f"there is no {error}" if isinstance(error, KeyError) else one_line(error)
        raise DetectionsError(f"{path}: the labels are not valid: {what}") from error


def _columns(
    names: Sequence[str], parts: Iterable[Any], counted: dict[str, Any], protocol: Literal["wider", "coco"]
) -> GroundTruth:
    """Join the boxes of each image, which are x, y, width and height."""
    each = [np.asarray(part, np.float64).reshape(len(part), 4) for part in parts]
    images = np.repeat(np.arange(len(each)), [len(part) for part in each])
    boxes = np.concatenate([np.empty((0, 4)), *each])
    boxes[:, 2:] += boxes[:, :2]
    if not np.isfinite(boxes).all():  # WIDER FACE has some of negative size
        raise ValueError("a box is not finite")
    if len({*names}) != len(each):
        raise ValueError("two images have one name, or there are not as many images as lists of boxes")
    return GroundTruth(tuple(names), images, boxes, counted, protocol)


def _read_wider(folder: Path) -> GroundTruth:
    try:
        from scipy.io import loadmat, matlab  # noqa: PLC0415 - optional, and slow to import
    except ImportError as error:
        raise MissingDependencyError(
            f'reading .mat files requires SciPy ({error}): pip install "scrfd-trt[bench]"'
        ) from error
    try:
        whole, *subsets = (loadmat(folder / f"wider_{name}_val.mat") for name in ("face", *WIDER_SUBSETS))
    except (matlab.MatReadError, NotImplementedError) as error:
        raise ValueError(one_line(error)) from error
    names = [
        f"{event[0]}/{name[0][0]}.jpg"
        for (event,), (files,) in zip(whole["event_list"], whole["file_list"], strict=True)
        for name in files
    ]
    boxes = [boxes for (event,) in whole["face_bbx_list"] for (boxes,) in event]
    counted = {}
    for name, subset in zip(WIDER_SUBSETS, subsets, strict=True):
        masks = []
        for found, (rows,) in zip(boxes, (image for (event,) in subset["gt_list"] for image in event), strict=True):
            masks.append(np.zeros(len(found), bool))
            masks[-1][rows.reshape(-1).astype(np.intp) - 1] = True
        counted[name] = np.concatenate(masks)
    return _columns(names, boxes, counted, "wider")


def _read_coco(path: Path, category: int | str | None) -> GroundTruth:
    data = json.loads(path.read_bytes())
    names = {image["id"]: str(image["file_name"]).replace("\\", "/") for image in data["images"]}
    faces: dict[Any, list[Any]] = {number: [] for number in names}
    kinds = {each["id"]: str(each["name"]) for each in data.get("categories", ())}
    kind = _face_category(path, kinds, category)
    for each in data["annotations"]:
        if each["image_id"] not in faces:
            raise ValueError(f"an annotation is of an image that is not listed: image_id {each['image_id']}")
        if not kinds or each["category_id"] == kind:
            faces[each["image_id"]].append(each)
    parts = ([each["bbox"] for each in image] for image in faces.values())
    counted = [not each.get("iscrowd") for image in faces.values() for each in image]
    return _columns([*names.values()], parts, {"all": np.array(counted, bool)}, "coco")


def _read_yolo(folder: Path, images: Path, category: int | str | None) -> GroundTruth:
    paths = sorted(path for path in images.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    names = [path.relative_to(images) for path in paths]
    labels: dict[Path, NDArray[np.float64]] = {}
    for name in names:
        with suppress(FileNotFoundError):
            lines = [
                line.split() for line in (folder / name).with_suffix(".txt").read_text().splitlines() if line.strip()
            ]
            if any(len(line) not in YOLO_COLUMNS for line in lines):
                raise ValueError(f"{name.with_suffix('.txt')}: a line is not a class and a box of four numbers")
            labels[name] = np.array([line[:5] for line in lines], np.float64).reshape(-1, 5)
    if not labels:
        raise DetectionsError(f"{folder} has no labels (.txt) of the images in {images}")
    kinds = np.unique(np.concatenate([rows[:, 0] for rows in labels.values()])).astype(int).tolist()
    kind = _face_category(folder, dict.fromkeys(kinds, ""), category)
    parts = []
    for path, name in zip(paths, names, strict=True):
        rows, size = labels.get(name, np.empty((0, 5))), (1, 1)
        with suppress(ImageError):  # the job that finds no faces in it says why
            size = open_image(path).size if len(rows) else size
        shares = rows[rows[:, 0] == kind, 1:]
        parts.append(np.concatenate([shares[:, :2] - shares[:, 2:] / 2, shares[:, 2:]], axis=1) * (size * 2))
    counted = np.ones(sum(map(len, parts)), bool)
    truth = _columns([name.as_posix() for name in names], parts, {"all": counted}, "coco")
    return replace(truth, unlabelled=len(names) - len(labels))


def _face_category(path: Path, kinds: dict[Any, str], wanted: int | str | None) -> Any:
    """Return the number of the category of faces: the wanted one, the only one, or that named face."""
    found = [number for number, name in kinds.items() if wanted is None or str(wanted) in (str(number), name)]
    if wanted is None and len(found) > 1:
        found = [number for number, name in kinds.items() if name.lower() == "face"]
    if kinds and len(found) != 1:
        listed = ", ".join(f"{number} ({name})" if name else str(number) for number, name in kinds.items())
        raise DetectionsError(f"{path}: name the category of faces; there are {listed}", fields=["category"])
    return found[0] if found else None
