"""What was found, as a table, JSON lines, CSV or COCO; each part is written as soon as it is known."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

from rich import box
from rich.table import Table
from rich.text import Text

from scrfd_trt._cli import console
from scrfd_trt._cli.images import Seen, count
from scrfd_trt._formats import coco_file, csv_header, csv_lines
from scrfd_trt.errors import OptionError

Format = Literal["table", "jsonl", "csv", "coco"]
FORMATS: tuple[Format, ...] = get_args(Format)
BY_SUFFIX: dict[str, Format] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".json": "coco", ".txt": "table"}

Write = Callable[[str], None]


class Results(ABC):
    """Takes what was found, image by image.

    Parameters
    ----------
    write
        Writes a text to where the results go.
    plain
        No colours, because they go into a file.
    """

    def __init__(self, write: Write, *, plain: bool = False) -> None:
        self.write = write
        self.plain = plain

    def begin(self) -> None:  # noqa: B027 - only some formats have a header
        """Write what stands before the first image."""

    @abstractmethod
    def done(self, seen: Seen) -> None:
        """Take the faces of an image."""

    def failed(self, path: Path, reason: str) -> None:  # noqa: B027 - only some formats can say it
        """Take an image that could not be done."""

    def end(self) -> None:  # noqa: B027 - only some formats have an end
        """Write what stands after the last image."""


class TableResults(Results):
    """A table of faces for each image, for people."""

    def done(self, seen: Seen) -> None:
        """Write a line on the image, and a table where it has faces."""
        width, height = seen.faces.image_size
        heading = Text.assemble((console.printable(seen.path), "bold"), f"  {width}×{height}, {_faces(seen)}")
        self.write(console.render(heading, plain=self.plain, wrap=False))
        if len(seen.faces):
            self.write(console.render(faces_table(seen), plain=self.plain) + "\n")


class JsonLines(Results):
    """One JSON object a line for each image, those that failed included."""

    def done(self, seen: Seen) -> None:
        """Write the image's line."""
        size = list(seen.faces.image_size)
        self._line({"image": str(seen.path), "image_size": size, "faces": seen.faces.to_dicts()})

    def failed(self, path: Path, reason: str) -> None:
        """Write a line with the reason."""
        self._line({"image": str(path), "error": reason})

    def _line(self, value: dict[str, Any]) -> None:
        self.write(json.dumps(value) + "\n")


class Csv(Results):
    """One line for each face; see :func:`scrfd_trt._formats.csv_lines`."""

    def begin(self) -> None:
        """Write the header."""
        self.write(csv_header() + "\n")

    def done(self, seen: Seen) -> None:
        """Write the image's lines."""
        self.write(csv_lines(seen.faces.to_dicts(), str(seen.path)))


class Coco(Results):
    """One COCO data set, written when all images are done: it is one JSON object."""

    def __init__(self, write: Write, *, plain: bool = False) -> None:
        super().__init__(write, plain=plain)
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def done(self, seen: Seen) -> None:
        """Keep the image and its annotations."""
        number = len(self._images) + 1
        width, height = seen.faces.image_size
        self._images.append({"id": number, "file_name": str(seen.path), "width": width, "height": height})
        self._annotations += seen.faces.to_coco(number, len(self._annotations) + 1)

    def end(self) -> None:
        """Write the data set."""
        self.write(json.dumps(coco_file(self._images, self._annotations)) + "\n")


KINDS: dict[Format, type[Results]] = {"table": TableResults, "jsonl": JsonLines, "csv": Csv, "coco": Coco}


def choose_format(name: str | None, *, as_json: bool, output: Path | None) -> Format:
    """Settle the format from ``--format``, ``--json`` and the suffix of ``--output``.

    Raises
    ------
    OptionError
        If the name is unknown, ``--json`` contradicts it, or a file's suffix leaves it open.
    """
    if as_json and name not in {None, "jsonl"}:
        raise OptionError(f"--json means --format jsonl, and not {name}; give one of the two")
    if as_json:
        return "jsonl"
    if name is not None:
        for known in FORMATS:
            if name == known:
                return known
        raise OptionError(f"no format {name!r}; the formats are: {', '.join(FORMATS)}")
    if output is None:
        return "table"
    if output.suffix.lower() not in BY_SUFFIX:
        raise OptionError(f"{output}: its suffix does not tell the format; add --format {'|'.join(FORMATS)}")
    return BY_SUFFIX[output.suffix.lower()]


def faces_table(seen: Seen) -> Table:
    """Make the table of an image's faces: number, score, box and size in pixels."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    for name in ("#", "score", "x1", "y1", "x2", "y2", "width", "height"):
        table.add_column(name, justify="right", min_width=6 if name != "#" else 4, no_wrap=True)
    for number, face in enumerate(seen.faces, 1):
        sides = (*face.box, face.width, face.height)
        table.add_row(str(number), f"{face.score:.3f}", *(f"{side:.1f}" for side in sides))
    return table


def _faces(seen: Seen) -> str:
    found = count(len(seen.faces), "face") if len(seen.faces) else "no faces"
    return f"{found}, {seen.seconds * 1000:.0f} ms"
