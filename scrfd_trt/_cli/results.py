"""Results of images as a table, JSON, CSV, COCO and others, written as soon as each part is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
from rich.text import Text

from scrfd_trt._cli import console, exits, outputs
from scrfd_trt._cli.options import parse_choice
from scrfd_trt._detections import Detections
from scrfd_trt._files import kept_file
from scrfd_trt._formats import CSV_HEADER, csv_lines, json_categories, json_coco, json_faces, plain, wider_block
from scrfd_trt._image_files.read import IMAGE_SUFFIXES
from scrfd_trt._jobs.images import ImageResult
from scrfd_trt._jobs.ledger import Ledger
from scrfd_trt._parquet import ParquetFile, load_pyarrow
from scrfd_trt.errors import OptionError

Format = Literal["table", "json", "jsonl", "csv", "coco", "parquet", "yolo", "wider"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".json": "coco",
    ".txt": "table",
    ".parquet": "parquet",
}


NO_LOOKS: Mapping[str, Any] = {}


class ResultWriter:
    """Writes results image by image to a file without colours, or to stdout; formats override what they need."""

    def __init__(
        self, file: BinaryIO | None = None, *, threshold: float | None = None, looks: Mapping[str, Any] = NO_LOOKS
    ) -> None:
        self.file = file
        self.write = console.write if file is None else partial(_write_at_once, file)
        self.plain = file is not None
        self.threshold, self.looks = threshold, {name: value for name, value in looks.items() if value}
        self.added = False

    def begin(self) -> None: ...
    def add(self, result: ImageResult) -> None: ...
    def add_failure(self, path: Path | str, reason: str) -> None: ...

    def add_outcome(self, path: Path | str, outcome: ImageResult | str) -> None:
        """Add a result, or the reason of a failure."""
        self.added = True
        if isinstance(outcome, ImageResult):
            self.add(outcome)
        else:
            self.add_failure(path, outcome)

    def end(self) -> None: ...


class TableWriter(ResultWriter):
    """A heading and a table of faces for each image."""

    def begin(self) -> None:
        # rich is slow, so what is the same for many images is rendered once.
        self._heading = console.render(Text.assemble(("PATH", "bold"), "TEXT"), plain=self.plain, wrap=False)
        self._table_head = lru_cache(partial(_table_head, plain=self.plain))

    def add(self, result: ImageResult) -> None:
        width, height = result.faces.image_size
        faces = console.count(len(result.faces), "face") if len(result.faces) else "no faces"
        time = "" if result.seconds is None else f", {result.seconds * 1000:.0f} ms"
        page = "" if result.page is None else f", page {result.page}"
        text = f"{page}  {width}×{height}, {faces}{time}"
        self.write(self._heading.replace("TEXT", text).replace("PATH", console.printable(result.path)))
        if len(result.faces):
            self.write(faces_table(result.faces, self._table_head) + "\n")


class JsonLinesWriter(ResultWriter):
    """One JSON object a line for each image, failed ones included."""

    def add(self, result: ImageResult) -> None:
        image: dict[str, Any] = {"image": str(result.path)}
        if self.threshold is not None:
            image |= {"threshold": self.threshold, **self.looks}
        if result.page is not None:
            image["page"] = result.page
        image["image_size"] = result.faces.image_size
        faces = json_faces(result.faces) if result.json_faces is None else result.json_faces
        if result.dropped:
            rows = enumerate(json.loads(faces))
            faces = json.dumps([{**face, "dropped": True} if row in result.dropped else face for row, face in rows])
        self.write_object(f'{json.dumps(image)[:-1]}, "faces": {faces}}}')

    def add_failure(self, path: Path | str, reason: str) -> None:
        self.write_object(json.dumps({"image": str(path), "error": reason}))

    def write_object(self, text: str) -> None:
        """Write the object of an image."""
        self.write(f"{text}\n")


class JsonWriter(JsonLinesWriter):
    """The same objects in one array."""

    def begin(self) -> None:
        self._before = "["

    def write_object(self, text: str) -> None:
        self.write(f"{self._before}{text}")
        self._before = ",\n "

    def end(self) -> None:
        self.write("[]\n" if self._before == "[" else "]\n")


class CsvWriter(ResultWriter):
    """One line for each face; see :func:`scrfd_trt._formats.csv_lines`."""

    def begin(self) -> None:
        if not self.added:
            self.write(CSV_HEADER)

    def add(self, result: ImageResult) -> None:
        self.write(csv_lines(result.faces, result.name))


class CocoWriter(ResultWriter):
    """One COCO data set, written at the end because it is a single JSON object."""

    def begin(self) -> None:
        self._images: list[dict[str, Any]] = []
        self._annotations: list[str] = []
        self._faces = 0

    def add(self, result: ImageResult) -> None:
        number = len(self._images) + 1
        width, height = result.faces.image_size
        self._images.append({"id": number, "file_name": result.name, "width": width, "height": height})
        if len(result.faces):
            self._annotations.append(json_coco(result.faces, number, self._faces + 1))
            self._faces += len(result.faces)

    def end(self) -> None:
        self.write(f'{{"images": {json.dumps(self._images)}, "annotations": [')
        for number, faces in enumerate(self._annotations):
            self.write(f", {faces}" if number else faces)
        self.write(f'], "categories": {json_categories()}}}\n')


class ParquetWriter(ResultWriter):
    """One row for each image, failed ones included, in a file that is readable after the end."""

    def begin(self) -> None:
        assert self.file is not None  # noqa: S101 - checked with the format
        self._rows = ParquetFile(self.file, self.threshold)

    def add(self, result: ImageResult) -> None:
        self._rows.add(str(result.path), result.page, result.faces)

    def add_failure(self, path: Path | str, reason: str) -> None:
        self._rows.add_failure(str(path), reason)

    def end(self) -> None:
        self._rows.close()


class WiderWriter(ResultWriter):
    """A block of lines for each image, in the result format of WIDER FACE."""

    def add(self, result: ImageResult) -> None:
        self.write(wider_block(result.faces, result.name))


WRITERS: dict[Format, type[ResultWriter]] = {
    "table": TableWriter,
    "json": JsonWriter,
    "jsonl": JsonLinesWriter,
    "csv": CsvWriter,
    "coco": CocoWriter,
    "parquet": ParquetWriter,
    "yolo": ResultWriter,  # each image has a file of its own
    "wider": WiderWriter,
}


@contextmanager
def open_writer(
    kind: Format,
    output: Path | None,
    *,
    threshold: float,
    overwrite: bool,
    looks: Mapping[str, Any] = NO_LOOKS,
    ledger: Ledger | None = None,
) -> Iterator[ResultWriter]:
    """Yield a writer to stdout, or to a file that appears when it is complete, and stays as ``NAME.part`` otherwise."""
    if output is None:
        writer = WRITERS[kind](threshold=threshold, looks=looks)
        writer.begin()
        yield writer
        writer.end()
        return
    if ledger is None:
        outputs.check_free(output, kind=content_kind(kind), overwrite=overwrite)
    part: Path | None = None
    try:
        opened = kept_file(output, overwrite=overwrite) if ledger is None else ledger.rows_file(output)
        with opened as (file, part):
            writer = WRITERS[kind](file, threshold=threshold, looks=looks)
            writer.added = file.tell() > 0
            writer.begin()
            if ledger is not None and not writer.added:
                ledger.record_head()
            try:
                yield writer
            except BaseException:
                if not writer.added:
                    part.unlink()
                else:
                    with suppress(OSError):  # the disk may be full
                        writer.end()
                raise
            writer.end()
    except BaseException:
        if part is not None and part.exists():
            exits.keep(part)
        raise


def _write_at_once(file: BinaryIO, text: str) -> None:
    file.write(text.encode("utf-8", "backslashreplace"))
    file.flush()


def content_kind(kind: Format) -> Literal["parquet", "text"]:
    """Return what a file of results in this format holds."""
    return "parquet" if kind == "parquet" else "text"


def choose_format(name: str | None, output: Path | None, typed: Iterable[str] = ()) -> Format:
    """Return the format from ``--format`` or the suffix of ``--output``; raise OptionError if unclear."""
    kind: Format = "table"
    if (name or "").lower() != "yolo" and output and {f"{output}/", f"--output={output}/"} & {*typed}:
        raise OptionError(f"{output}/ is a folder, which is for --format yolo; name a file")
    if name is not None:
        kind = parse_choice("--format", name.lower(), FORMATS)
    elif output is not None:
        if output.suffix.lower() in IMAGE_SUFFIXES:
            raise OptionError(f"{output} is the name of a picture; use --annotate DIR for copies with marked faces")
        if output.suffix.lower() not in SUFFIXES:
            raise OptionError(f"{output}: the suffix does not select a format; add --format {'|'.join(FORMATS)}")
        kind = SUFFIXES[output.suffix.lower()]
    if kind in {"parquet", "yolo"} and output is None:
        raise OptionError(f"--format {kind} requires --output {'DIR' if kind == 'yolo' else 'FILE'}")
    if kind == "parquet":
        load_pyarrow()
    return kind


def check_resumable(kind: Format, output: Path | None) -> None:
    """Raise OptionError if a file in this format cannot be continued."""
    if kind in {"json", "coco", "parquet"}:
        raise OptionError(
            f"{output}: --resume continues only .jsonl, .csv and .txt files; name one of these, or leave out "
            "--resume and divide the job with --shard"
        )


def _table_head(*widths: int, plain: bool = False) -> str:
    table = console.table()
    for name, width in zip(("#", "score", "x1", "y1", "x2", "y2", "width", "height"), widths, strict=True):
        table.add_column(name, justify="right", min_width=width, no_wrap=True)
    return console.render(table, plain=plain)


def faces_table(faces: Detections, head: Callable[..., str] = _table_head) -> str:
    """Return a table of faces; boxes and sizes are in pixels. ``head`` takes the widths of its columns."""
    boxes = np.array(plain(faces.boxes))
    sides = np.concatenate([boxes, boxes[:, 2:] - boxes[:, :2]], axis=1)
    ends = zip(sides.min(axis=0), sides.max(axis=0), strict=True)
    widths = [max(6, len(f"{least:.1f}"), len(f"{most:.1f}")) for least, most in ends]
    number = max(4, len(str(len(faces))))
    row = "   ".join([f"%{number}d", "%6.3f", *(f"%{width}.1f" for width in widths)]) + "\n"
    numbers = zip(range(1, len(faces) + 1), plain(faces.scores), *sides.T.tolist(), strict=True)
    return head(number, 6, *widths) + (row * len(faces)) % tuple(chain.from_iterable(numbers))
