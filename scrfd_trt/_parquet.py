"""Results of images as Parquet: one row an image, with a list of faces."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._detections import Detections
from scrfd_trt._exports import PARQUET, load
from scrfd_trt._formats import CSV_COLUMNS, columns
from scrfd_trt._version import __version__

MAX_IMAGES, MAX_FACES = 1 << 16, 1 << 19  # in a row group, which is in memory until it is written
FACE_FIELDS = CSV_COLUMNS[1:]


def load_pyarrow(what: str = "writing Parquet files") -> ModuleType:
    """Return pyarrow with its Parquet module; raise MissingDependencyError if it is not installed."""
    for module in ("pyarrow.parquet", "pyarrow.compute"):
        load(module, what, PARQUET)
    return sys.modules["pyarrow"]


class FaceRows:
    """Collects rows of images, which become a table."""

    def __init__(self, about: Mapping[str, str] | None = None) -> None:
        self._pa = pa = load_pyarrow()
        pixels = {"unit": "pixel"}
        face = [pa.field(name, pa.float32(), metadata=None if name == "score" else pixels) for name in FACE_FIELDS]
        fields = [
            pa.field("image", pa.string(), nullable=False),
            pa.field("page", pa.int32()),
            pa.field("width", pa.int32(), metadata=pixels),
            pa.field("height", pa.int32(), metadata=pixels),
            pa.field("error", pa.string()),
            pa.field("faces", pa.list_(pa.struct(face))),
        ]
        self.schema = pa.schema(fields, metadata={"scrfd_trt.version": __version__, **(about or {})})
        self._rows: list[tuple[Any, ...]] = []
        self._faces: list[NDArray[np.float32] | None] = []
        self._count = 0

    def add(self, image: str, page: int | None, faces: Detections) -> None:
        """Add an image, or one of its pages."""
        self._add((encodable(image), page, *faces.image_size, None), columns(faces))

    def add_failure(self, image: str, reason: str) -> None:
        """Add an image without faces and size; its list of faces is null, not empty."""
        self._add((encodable(image), None, None, None, encodable(reason)), None)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def is_full(self) -> bool:
        """Whether the rows are enough for a row group."""
        return len(self._rows) >= MAX_IMAGES or self._count >= MAX_FACES

    def _add(self, row: tuple[Any, ...], faces: NDArray[np.float32] | None) -> None:
        self._rows.append(row)
        self._faces.append(faces)
        self._count += 0 if faces is None else len(faces)

    def take(self) -> Any:
        """Return the rows as a table, and begin again."""
        pa, schema = self._pa, self.schema
        texts_and_sizes = zip(zip(*self._rows, strict=True) if self._rows else [()] * 5, schema, strict=False)
        arrays = [pa.array(values, field.type) for values, field in texts_and_sizes]
        ends = np.cumsum([0 if faces is None else len(faces) for faces in self._faces], dtype=int).tolist()
        starts = [None if faces is None else end - len(faces) for faces, end in zip(self._faces, ends, strict=True)]
        found = np.concatenate(
            [np.empty((0, 5), np.float32)] * (not self._count) + [f for f in self._faces if f is not None and len(f)]
        )
        values = [pa.array(np.ascontiguousarray(column)) for column in found.T]
        values += [pa.nulls(self._count, pa.float32())] * (len(FACE_FIELDS) - len(values))  # a model without landmarks
        structs = pa.StructArray.from_arrays(values, fields=list(schema.field("faces").type.value_type))
        arrays.append(pa.ListArray.from_arrays(pa.array([*starts, self._count], pa.int32()), structs))
        self._rows, self._faces, self._count = [], [], 0
        return pa.Table.from_arrays(arrays, schema=schema)


class ParquetFile:
    """Writes rows to an open file, which is readable after :meth:`close`."""

    def __init__(self, file: BinaryIO, threshold: float | None) -> None:
        self._rows = FaceRows({} if threshold is None else {"scrfd_trt.threshold": str(threshold)})
        parquet = load_pyarrow().parquet
        self._writer = parquet.ParquetWriter(file, self._rows.schema, use_dictionary=["error"])

    def add(self, image: str, page: int | None, faces: Detections) -> None:
        """Add an image, or one of its pages."""
        self._rows.add(image, page, faces)
        self._write(is_last=False)

    def add_failure(self, image: str, reason: str) -> None:
        """Add an image that failed."""
        self._rows.add_failure(image, reason)
        self._write(is_last=False)

    def close(self) -> None:
        """Write the rest and the index of the file."""
        self._write(is_last=True)
        self._writer.close()

    def _write(self, *, is_last: bool) -> None:
        if self._rows.is_full or (is_last and len(self._rows)):
            self._writer.write_table(self._rows.take())


def encodable(text: object) -> str:
    """Return a name as UTF-8 can hold it."""
    return str(text).encode("utf-8", "backslashreplace").decode()
