"""Results of images as a table, JSON lines, CSV or COCO, written as soon as each part is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

from rich.table import Table
from rich.text import Text

from scrfd_trt._cli import console, exits, outputs
from scrfd_trt._cli.batch import ImageResult
from scrfd_trt._cli.options import parse_choice
from scrfd_trt._files import kept_file
from scrfd_trt._formats import coco_file, csv_header, csv_lines
from scrfd_trt.errors import OptionError

Format = Literal["table", "jsonl", "csv", "coco"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[str, Format] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".json": "coco", ".txt": "table"}


class ResultWriter:
    """Writes results image by image; ``plain`` means no colours. Formats override the methods that they need.

    ``threshold`` is that of the detection.
    """

    def __init__(self, write: Callable[[str], None], *, plain: bool = False, threshold: float | None = None) -> None:
        self.write = write
        self.plain = plain
        self.threshold = threshold
        self.added = False

    def begin(self) -> None: ...
    def add(self, result: ImageResult) -> None: ...
    def add_failure(self, path: Path, reason: str) -> None: ...

    def add_outcome(self, path: Path, outcome: ImageResult | str) -> None:
        """Add a result, or the reason of a failure."""
        self.added = True
        if isinstance(outcome, ImageResult):
            self.add(outcome)
        else:
            self.add_failure(path, outcome)

    def end(self) -> None: ...


class TableWriter(ResultWriter):
    """A heading and a table of faces for each image."""

    def add(self, result: ImageResult) -> None:
        width, height = result.faces.image_size
        faces = console.count(len(result.faces), "face") if len(result.faces) else "no faces"
        text = f"  {width}×{height}, {faces}, {result.seconds * 1000:.0f} ms"
        page = "" if result.page is None else f", page {result.page}"
        heading = Text.assemble((console.printable(result.path), "bold"), page + text)
        self.write(console.render(heading, plain=self.plain, wrap=False))
        if len(result.faces):
            self.write(console.render(faces_table(result), plain=self.plain) + "\n")


class JsonLinesWriter(ResultWriter):
    """One JSON object a line for each image, failed ones included."""

    def add(self, result: ImageResult) -> None:
        size = list(result.faces.image_size)
        page = {} if result.page is None else {"page": result.page}
        self._line({"image": str(result.path), **page, "image_size": size, "faces": result.faces.to_dicts()})

    def add_failure(self, path: Path, reason: str) -> None:
        self._line({"image": str(path), "error": reason})

    def _line(self, value: dict[str, Any]) -> None:
        if self.threshold is not None and "faces" in value:
            value = {"image": value["image"], "threshold": self.threshold} | value
        self.write(json.dumps(value) + "\n")


class CsvWriter(ResultWriter):
    """One line for each face; see :func:`scrfd_trt._formats.csv_lines`."""

    def begin(self) -> None:
        self.write(csv_header() + "\n")

    def add(self, result: ImageResult) -> None:
        self.write(csv_lines(result.faces.to_dicts(), result.name))


class CocoWriter(ResultWriter):
    """One COCO data set, written at the end because it is a single JSON object."""

    def begin(self) -> None:
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, result: ImageResult) -> None:
        number = len(self._images) + 1
        width, height = result.faces.image_size
        self._images.append({"id": number, "file_name": result.name, "width": width, "height": height})
        self._annotations += result.faces.to_coco(number, len(self._annotations) + 1)

    def end(self) -> None:
        self.write(json.dumps(coco_file(self._images, self._annotations)) + "\n")


WRITERS: dict[Format, type[ResultWriter]] = {
    "table": TableWriter,
    "jsonl": JsonLinesWriter,
    "csv": CsvWriter,
    "coco": CocoWriter,
}


@contextmanager
def open_writer(kind: Format, output: Path | None, *, threshold: float, overwrite: bool) -> Iterator[ResultWriter]:
    """Yield a writer to stdout, or to a file that appears only when it is complete.

    After an error or a signal, the results so far stay in ``NAME.part``, which the message names.
    """
    if output is None:
        writer = WRITERS[kind](console.write, threshold=threshold)
        writer.begin()
        yield writer
        writer.end()
        return
    outputs.check_free(output, kind="text", overwrite=overwrite)
    part: Path | None = None
    try:
        with kept_file(output, overwrite=overwrite) as (file, part):
            writer = WRITERS[kind](partial(_write_at_once, file), plain=True, threshold=threshold)
            writer.begin()
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


def choose_format(name: str | None, *, as_json: bool, output: Path | None) -> Format:
    """Return the format from ``--format``, ``--json`` or the suffix of ``--output``; raise OptionError if unclear."""
    if as_json and name not in {None, "jsonl"}:
        raise OptionError(f"--json means --format jsonl, not {name}; leave one of them out")
    if as_json:
        return "jsonl"
    if name is not None:
        return parse_choice("--format", name, FORMATS)
    if output is None:
        return "table"
    if output.suffix.lower() not in SUFFIXES:
        raise OptionError(f"{output}: the suffix does not select a format; add --format {'|'.join(FORMATS)}")
    return SUFFIXES[output.suffix.lower()]


def faces_table(result: ImageResult) -> Table:
    """Return a table of an image's faces; boxes and sizes are in pixels."""
    table = console.table()
    for name in ("#", "score", "x1", "y1", "x2", "y2", "width", "height"):
        table.add_column(name, justify="right", min_width=6 if name != "#" else 4, no_wrap=True)
    for number, face in enumerate(result.faces, 1):
        sides = (*face.box, face.width, face.height)
        table.add_row(str(number), f"{face.score:.3f}", *(f"{side:.1f}" for side in sides))
    return table
