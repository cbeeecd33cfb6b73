"""Results of images as a Parquet file: one row an image, with a list of faces."""

from __future__ import annotations

import sys
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


def load_pyarrow() -> ModuleType:
    """Return pyarrow with its Parquet module; raise MissingDependencyError if it is not installed."""
    load("pyarrow.parquet", "writing Parquet files", PARQUET)
    return sys.modules["pyarrow"]


class ParquetFile:
    """Writes rows to an open file, which is readable after :meth:`close`."""

    def __init__(self, file: BinaryIO, threshold: float | None) -> None:
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
        about = {"scrfd_trt.version": __version__} | (
            {} if threshold is None else {"scrfd_trt.threshold": str(threshold)}
        )
        schema = pa.schema(fields, metadata=about)
        self._writer = pa.parquet.ParquetWriter(file, schema, use_dictionary=["error"])
        self._rows: list[tuple[Any, ...]] = []
        self._faces: list[NDArray[np.float32] | None] = []
        self._count = 0

    def add(self, image: str, page: int | None, faces: Detections) -> None:
        """Add an image, or one of its pages."""
        self._add((image, page, *faces.image_size, None), columns(faces))

    def add_failure(self, image: str, reason: str) -> None:
        """Add an image without faces and size; its list of faces is null, not empty."""
        self._add((image, None, None, None, reason), None)

    def close(self) -> None:
        """Write the rest and the index of the file."""
        self._write()
        self._writer.close()

    def _add(self, row: tuple[Any, ...], faces: NDArray[np.float32] | None) -> None:
        self._rows.append(row)
        self._faces.append(faces)
        self._count += 0 if faces is None else len(faces)
        if len(self._rows) >= MAX_IMAGES or self._count >= MAX_FACES:
            self._write()

    def _write(self) -> None:
        if not self._rows:
            return
        pa, schema = self._pa, self._writer.schema
        texts_and_sizes = zip(zip(*self._rows, strict=True), schema, strict=False)
        arrays = [pa.array(values, field.type) for values, field in texts_and_sizes]
        ends = np.cumsum([0 if faces is None else len(faces) for faces in self._faces]).tolist()
        starts = [None if faces is None else end - len(faces) for faces, end in zip(self._faces, ends, strict=True)]
        found = np.concatenate(
            [np.empty((0, 5), np.float32)] * (not self._count) + [f for f in self._faces if f is not None and len(f)]
        )
        values = [pa.array(np.ascontiguousarray(column)) for column in found.T]
        values += [pa.nulls(self._count, pa.float32())] * (len(FACE_FIELDS) - len(values))  # a model without landmarks
        structs = pa.StructArray.from_arrays(values, fields=list(schema.field("faces").type.value_type))
        arrays.append(pa.ListArray.from_arrays(pa.array([*starts, self._count], pa.int32()), structs))
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
        self._rows, self._faces, self._count = [], [], 0
