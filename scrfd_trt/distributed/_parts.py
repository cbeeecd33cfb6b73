"""Piles of pictures in parts, and the data set of results, whose files say which parts are done.

A *pile* is a source of pictures: a folder, a list of addresses, or Parquet with the content of pictures. A *part* is
a numbered run of its addresses, in the order of the source. It is the unit of work, of writing and of resuming: the
results of a part are one file, ``faces/part-INDEX-DIGEST.parquet``, which appears whole or not at all. The digest is of
the addresses, and of the sizes and times that the source gives, so that a changed source is noticed. There is no other
ledger: whoever writes a part needs to know nothing of the others, and a part that is written twice is the same file.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import re
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._files import delete_parts, locked_if_free
from scrfd_trt._image_files.read import IMAGE_SUFFIXES
from scrfd_trt._image_files.stderr import redirected_stderr
from scrfd_trt._jobs.decoders import MIN_TO_FORK, ImageSettings, decoding_processes
from scrfd_trt._jobs.images import ImageJob, ImageWork, ModelFinder
from scrfd_trt._jobs.ledger import check_settings
from scrfd_trt._jobs.stages import mapped
from scrfd_trt._parquet import FaceRows, load_pyarrow
from scrfd_trt.distributed._stores import NO_FILE, NOT_READ, Place, is_uri, read_content, shown_name, store_errors
from scrfd_trt.errors import LONGEST, ImageError, OptionError, ScrfdError, one_line

logger = logging.getLogger("scrfd_trt")

CONTENT_COLUMNS, NAME_COLUMNS = ("bytes", "image"), ("uri", "path", "image")
"""Columns of Parquet and CSV files, the first one that fits."""
ROW = re.compile(r"(.*\.parquet)#row=(\d+)", re.DOTALL)
PART = re.compile(r"part-(\d+)-([0-9a-f]{12})\.parquet")
ROWS_READ = 64  # at a time
READERS, READ_AHEAD, KNOWN = 32, 96, 64
"""Threads that read from stores, files that are read before their turn, and pictures that are read first of all."""
NO_LIST = "this is no list of pictures: lines with paths or addresses, a .csv or a .parquet file"
COUNTS = b"scrfd_trt.counts"


@dataclass(frozen=True)
class Part:
    """A run of the pictures of a pile, which is read, detected and written as one.

    ``uris`` are absolute paths of this machine, addresses, or rows of Parquet files as ``FILE.parquet#row=N``.
    """

    index: int
    uris: Sequence[str]
    digest: str = ""
    """Of the addresses, sizes and times."""

    @classmethod
    def of(cls, index: int, items: Iterable[Item]) -> Part:
        """Return the part of these pictures."""
        digest, uris = hashlib.blake2b(digest_size=6), []
        for uri, stamp in items:
            uris.append(uri)
            digest.update(f"{shown_name(uri)}\0{stamp}\n".encode("utf-8", "surrogateescape"))
        return cls(index, uris, digest.hexdigest())

    @property
    def file_name(self) -> str:
        """The name of its file."""
        return f"part-{self.index:07}-{self.digest}.parquet"


class Item(NamedTuple):
    """A picture of a source; ``stamp`` changes with its content, as far as the source tells."""

    uri: str
    stamp: str = ""


class Picture(NamedTuple):
    """A picture of a part: the path or the content of its file, its pixels, or why it cannot be read."""

    name: str
    content: Path | bytes | NDArray[np.uint8] | ScrfdError
    """Pixels are ``(H, W, 3)`` BGR."""

    @property
    def pixels(self) -> NDArray[np.uint8] | None:
        """The pixels, if they are decoded."""
        return self.content if isinstance(self.content, np.ndarray) else None

    def read(self) -> Path | bytes:
        """Return the path or the content of the file; raise the error if there is none."""
        if isinstance(self.content, ScrfdError):
            raise self.content
        assert not isinstance(self.content, np.ndarray)  # noqa: S101 - pixels need no file
        return self.content


# Planning


def plan_parts(
    source: str,
    size: int,
    *,
    suffixes: Sequence[str] = IMAGE_SUFFIXES,
    skip: Sequence[str] = (),
    left_out: Counter[str] | None = None,
) -> Iterator[Part]:
    """Yield the parts of a source, of ``size`` pictures each, without holding more than one part and one folder.

    Folders are searched with their subfolders, for files with one of ``suffixes`` and for Parquet files, but for the
    addresses in ``skip``. ``left_out`` counts other files by the reason. A row group of Parquet is never divided.
    """
    search = _Search(tuple(suffixes), {Place.of(uri).name for uri in skip}, Counter() if left_out is None else left_out)
    index, items = 0, list[Item]()
    for run in search.runs(source):
        if items and len(items) + len(run) > size:
            yield Part.of(index, items)
            index, items = index + 1, []
        items += run
    if items:
        yield Part.of(index, items)


@dataclass
class _Search:
    suffixes: tuple[str, ...]
    skip: set[str]
    left_out: Counter[str]

    def runs(self, source: str) -> Iterator[list[Item]]:
        """Yield what is not divided: pictures one by one, and row groups."""
        place = Place.of(source)
        with store_errors(OptionError, source):
            found = place.stat()
        if found is None:
            raise OptionError("there is no such file or folder", subject=place.name)
        if found.kind == "folder":
            yield from self._folder(place)
            return
        suffix = Path(place.path).suffix.lower()
        if suffix in self.suffixes:
            raise OptionError("this is one picture: name a folder, or a list of pictures", subject=place.name)
        if suffix == ".parquet":
            yield from self._parquet(place, found.stamp)
        else:
            yield from ([Item(uri)] for uri in _listed(place, is_csv=suffix in {".csv", ".tsv"}))

    def _folder(self, folder: Place) -> Iterator[list[Item]]:
        if folder.name in self.skip:
            return
        with store_errors(OptionError, folder.uri):
            entries = folder.entries()
        for name, kind, stamp in entries:
            if kind == "file":
                yield from self._file(folder.join(name), name, stamp)
            elif kind == "link":
                self.left_out["links to folders"] += 1
        for name, kind, _ in entries:
            if kind == "folder" and name.startswith("."):
                self.left_out["hidden folders"] += 1
            elif kind == "folder":
                yield from self._folder(folder.join(name))

    def _file(self, place: Place, name: str, stamp: str) -> Iterator[list[Item]]:
        suffix = Path(name).suffix.lower()
        if name.startswith("."):
            self.left_out["hidden files"] += 1
        elif suffix in self.suffixes:
            yield [Item(place.uri, stamp)]
        elif suffix == ".parquet":
            yield from self._parquet(place, stamp)
        else:
            self.left_out[f"{suffix} files" if suffix else "files without a suffix"] += 1

    def _parquet(self, place: Place, stamp: str) -> Iterator[list[Item]]:
        """Yield the row groups of a file with the content of pictures, or the addresses in one."""
        with _parquet_file(place) as file:
            if _content_column(file.schema_arrow) is None:
                yield from ([Item(uri)] for uri in _parquet_names(file, place))
                return
            first = 0
            for number in range(file.num_row_groups):
                end = first + file.metadata.row_group(number).num_rows
                yield [Item(f"{place.uri}#row={row}", stamp) for row in range(first, end)]
                first = end


def _listed(place: Place, *, is_csv: bool) -> Iterator[str]:
    """Yield the addresses of a list: lines, or a column of a CSV file with a header."""
    for name in _names(place, is_csv=is_csv):
        if not name.isprintable():
            raise OptionError(NO_LIST, subject=place.name)
        yield _located(name, place)


def _names(place: Place, *, is_csv: bool) -> Iterator[str]:
    with store_errors(OptionError, place.uri), place.open_stream() as stream:
        text = io.TextIOWrapper(
            io.BufferedReader(stream), "utf-8-sig", "surrogateescape", newline="" if is_csv else None
        )
        if not is_csv:
            yield from (line.rstrip("\r\n") for line in text if line.strip())
            return
        rows = csv.reader(text, delimiter="\t" if place.path.lower().endswith(".tsv") else ",")
        names = next(rows, [])
        column = next((names.index(name) for name in NAME_COLUMNS if name in names), None)
        if column is None:
            raise OptionError(_no_column(names, NAME_COLUMNS), subject=place.name)
        yield from (row[column] for row in rows if len(row) > column)


def _parquet_names(file: Any, place: Place) -> Iterator[str]:
    names = file.schema_arrow.names
    column = next((name for name in NAME_COLUMNS if name in names), None)
    if column is None:
        raise OptionError(_no_column(names, (*CONTENT_COLUMNS, *NAME_COLUMNS[:2])), subject=place.name)
    for batch in file.iter_batches(columns=[column]):
        yield from (_located(uri, place) for uri in batch.column(0).to_pylist() if uri is not None)


def _no_column(names: Sequence[str], wanted: Sequence[str]) -> str:
    return f"a column {' or '.join(wanted)} is required; the columns are: {', '.join(names)}"


def _located(name: str, place: Place) -> str:
    """Return the address of a name in a list: paths in a store begin at the folder of the list, others here."""
    if is_uri(name):
        return name
    if place.files is None:
        return Place.of(name).uri
    folder = place.uri.partition("?")[0].rpartition("/")[0]
    return Place.of(f"{folder}{place.uri[len(place.uri.partition('?')[0]) :]}").join(name).uri


# Reading


def read_part(part: Part) -> Iterator[Picture]:
    """Yield the pictures of a part in order; what is not on this machine is read ahead, by several threads."""
    for file, uris in groupby(part.uris, _file_of_row):
        if file:
            yield from _read_rows(file, [int(uri.rpartition("=")[2]) for uri in uris])
            continue
        for is_remote, several in groupby(uris, is_uri):
            if not is_remote:
                yield from (Picture(uri, Path(uri)) for uri in several)
                continue
            with mapped(_read, several, workers=READERS, ahead=READ_AHEAD) as pictures:
                yield from pictures


def _file_of_row(uri: str) -> str:
    match = ROW.fullmatch(uri)
    return match[1] if match else ""


def _read(uri: str) -> Picture:
    try:
        return Picture(shown_name(uri), read_content(uri))
    except ScrfdError as error:
        return Picture(shown_name(uri), error)


def _read_rows(uri: str, rows: Sequence[int]) -> Iterator[Picture]:
    """Yield rows of a Parquet file; a column of names beside the content names them."""
    read = 0
    try:
        with _parquet_file(Place.of(uri), ImageError) as file:
            for row, name, content in _row_contents(file, rows):
                read += 1
                yield Picture(name or f"{shown_name(uri)}#row={row}", content)
    except ScrfdError as error:
        yield from (Picture(f"{shown_name(uri)}#row={row}", error) for row in rows[read:])


def _row_contents(file: Any, rows: Sequence[int]) -> Iterator[tuple[int, str | None, bytes | ScrfdError]]:
    content, names = _content_column(file.schema_arrow), [n for n in NAME_COLUMNS[:2] if n in file.schema_arrow.names]
    if content is None:
        raise ImageError(_no_column(file.schema_arrow.names, CONTENT_COLUMNS))
    first = 0
    wanted = iter([*rows, -1])
    row = next(wanted)
    for number in range(file.num_row_groups):
        end = first + file.metadata.row_group(number).num_rows
        if first <= row < end:
            with store_errors(ImageError):
                for batch in file.iter_batches(ROWS_READ, [number], [content, *names[:1]]):
                    values, texts = batch.column(content), batch.column(names[0]) if names else None
                    while first <= row < first + len(batch):
                        value = values[row - first].as_py()
                        value = value.get("bytes") if isinstance(value, dict) else value
                        name = None if texts is None else texts[row - first].as_py()
                        yield row, name, ImageError("the row has no picture") if value is None else value
                        row = next(wanted)
                    first += len(batch)
        first = end
    if row >= 0:
        raise ImageError("there are no such rows, or they are not in order")


@contextmanager
def _parquet_file(place: Place, kind: type[ScrfdError] = OptionError) -> Iterator[Any]:
    parquet = load_pyarrow("reading Parquet files").parquet
    how = {"filesystem": place.files, "buffer_size": 1 << 20}  # without a buffer, row groups are read at once
    with store_errors(kind, place.uri), parquet.ParquetFile(place.path, **how) as file:
        yield file


def _content_column(schema: Any) -> str | None:
    """Return the column with the content of pictures: bytes, or structs with a field ``bytes``."""
    types = load_pyarrow("reading Parquet files").types
    for name in CONTENT_COLUMNS:
        if name in schema.names:
            kind = schema.field(name).type
            kind = kind.field("bytes").type if types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
            if types.is_binary(kind) or types.is_large_binary(kind):
                return name
    return None


# Writing


@dataclass(frozen=True)
class Output:
    """The data set of a run: ``TABLE/`` with a file a part, ``errors/`` with the failures, ``run.json`` with options.

    It is small, and may be pickled: whoever has a part's results writes them.
    """

    uri: str
    table: str = "faces"
    _place: list[Place] = field(default_factory=list, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"uri": self.uri, "table": self.table, "_place": []}

    @property
    def place(self) -> Place:
        """Where it is."""
        if not self._place:
            self._place.append(Place.of(self.uri))
        return self._place[0]

    @contextmanager
    def begun(self, settings: Mapping[str, Any]) -> Iterator[None]:
        """Write the settings of a new run, or compare them with those of the run to go on with.

        Raises OptionError if they differ, if other files are there, or if another process is at work on this machine.
        """
        run, place = self.place.join("run.json"), self.place
        with store_errors(OptionError, self.uri):
            before = None
            if run.stat() is not None:
                with run.open_stream() as stream:
                    before = json.loads(stream.read())["settings"]
            elif any(not entry.name.startswith(".") for entry in place.entries()):
                raise OptionError("the folder holds other files, and no run.json; name another one", subject=place.name)
        if before is not None:
            check_settings(settings, before, "the run", "or name another folder for a new run")
        else:
            self.write_json("run.json", {"format": "scrfd_trt.pile", "settings": settings})
        if place.files is not None:
            yield
            return
        lock = Path(place.path, ".scrfd-trt-batch.lock")
        with locked_if_free(lock) as is_free:
            if not is_free:
                raise OptionError(f"another run is at work here; wait until {lock} is free")
            for name in ("", self.table, "errors"):
                delete_parts(Path(place.path, name), "")
            yield

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a file beside the tables."""
        self.place.join(name).write(json.dumps(value, indent=2).encode())

    def done(self) -> dict[int, str]:
        """Return the digests of the parts that are written, by their indexes."""
        with store_errors(OptionError, self.uri):
            entries = self.place.join(self.table).entries()
        return {int(match[1]): match[2] for match in (PART.fullmatch(entry.name) for entry in entries) if match}

    def left(self, parts: Iterable[Part], done: Mapping[int, str] | None = None) -> Iterator[Part]:
        """Yield the parts that are not written; raise OptionError if the source was another one when others were."""
        left = dict(self.done() if done is None else done)
        for part in parts:
            before = left.pop(part.index, None)
            if before is None:
                yield part
            elif before != part.digest:
                self._refuse(part.index)
        if left:
            self._refuse(min(left))

    def _refuse(self, index: int) -> None:
        raise OptionError(
            f"the source has changed: part {index} held other pictures when it was written; name another folder",
            subject=self.place.name,
        )

    def write_part(self, part: Part, table: Any, errors: Any, faces: int | None = None) -> None:
        """Write the results and the failures of a part; it is done when the file of the results is there.

        Without a number of faces, those in the table are counted.
        """
        failures = self.place.join(f"errors/{part.file_name}")
        if len(errors):
            failures.write(_parquet_bytes(errors))
        else:
            failures.delete()
        faces = sum(len(found) for found in table["faces"]) if faces is None else faces
        counts = {"pictures": len(part.uris), "failures": len(errors), "faces": faces}
        about = {**(table.schema.metadata or {}), COUNTS: json.dumps(counts)}
        self.place.join(f"{self.table}/{part.file_name}").write(_parquet_bytes(table.replace_schema_metadata(about)))

    def totals(self) -> Counter[str]:
        """Return the sums over all written parts: ``parts``, ``pictures``, ``failures`` and ``faces``."""
        names = [Part(index, (), digest).file_name for index, digest in self.done().items()]
        total = Counter[str]()
        with mapped(self._counts, names, workers=16, ahead=64) as counts:
            for one in counts:
                total.update(one)
        return total

    def _counts(self, name: str) -> Counter[str]:
        with _parquet_file(self.place.join(f"{self.table}/{name}")) as file:
            return Counter({"parts": 1, **json.loads(file.schema_arrow.metadata[COUNTS])})


def _parquet_bytes(table: Any) -> bytes:
    parquet, data = load_pyarrow().parquet, io.BytesIO()
    parquet.write_table(table, data)
    return data.getvalue()


# Detecting


class PartResult(NamedTuple):
    """The faces and the failures of a part as tables, as :func:`detect_part` returns them."""

    part: Part
    table: Any
    errors: Any
    spherical: int = 0
    """Number of pictures that are projections of a sphere."""
    faces: int | None = None
    """Number of faces, if the table has none."""


def detect_part(part: Part, detector: SCRFDDetector, **how: Any) -> tuple[Any, Any]:
    """Read and detect the pictures of a part; return the faces, and the failures with the reason, as tables.

    Keywords are those of :class:`Detection`.
    """
    (result,) = Detection(**how).run([part], lambda: nullcontext(detector), forks=False)
    return result.table, result.errors


def _nothing() -> None: ...


DEFAULT = ImageSettings()


@dataclass(frozen=True)
class Detection:
    """How the pictures of parts are read and detected: as the command ``detect`` does, many at a time."""

    settings: ImageSettings = DEFAULT
    batch: int | None = None
    read: Callable[[Part], Iterator[Picture]] = read_part
    advance: Callable[[], None] = _nothing
    """Called for each picture that is done."""

    def run(
        self,
        parts: Iterable[Part],
        open_detector: Callable[[], AbstractContextManager[SCRFDDetector]],
        *,
        forks: bool = True,
    ) -> Generator[PartResult, None, None]:
        """Yield the results of parts in order, one stream of pictures over all of them; ``forks`` where it is faster.

        Raises ImageError if no picture of a part can be read: then the store is to blame, and not the pictures.
        """
        begun = deque[_Begun]()
        with closing(self._pictures(parts, begun)) as pictures, ExitStack() as stack:
            known = list(islice(pictures, KNOWN))
            if not known:
                return
            count = len(known) if len(known) < KNOWN else max(KNOWN, MIN_TO_FORK)
            decoders = stack.enter_context(decoding_processes(known if forks else [], self.settings, count * forks))
            finder = ModelFinder.of(stack.enter_context(open_detector()), self.batch)
            job = ImageJob(chain(known, pictures), count, finder, self.settings, decoders=decoders)
            stack.enter_context(redirected_stderr())
            for image in stack.enter_context(job.finished()):
                begun[0].add(image)
                self.advance()
                while begun and begun[0].is_complete:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()

    def _pictures(self, parts: Iterable[Part], begun: deque[_Begun]) -> Generator[Picture, None, None]:
        for part in parts:
            begun.append(one := _Begun(part))
            with closing(self.read(part)) as pictures:  # type: ignore[type-var]  # ends its threads
                for picture in pictures:
                    one.read += 1
                    yield picture
            one.is_read = True


class _Begun:
    """A part in work."""

    def __init__(self, part: Part) -> None:
        self.part, self.rows = part, FaceRows()
        self.read = self.done = self.spherical = self.unread = 0
        self.is_read = False

    @property
    def is_complete(self) -> bool:
        return self.is_read and self.read == self.done

    def add(self, image: ImageWork) -> None:
        """Add the faces of a picture, or why they cannot be found."""
        name = str(image.source.name)
        self.done += 1
        self.spherical += image.is_spherical
        for line in image.damage if image.error is None else ():
            logger.warning("%s: the image is damaged: %s", name, line)
        if image.error is None:
            for result in image.results:
                self.rows.add(name, result.page, result.faces)
            return
        reason = one_line(image.error, LONGEST) if str(image.error) else "there is not enough memory"
        self.unread += reason.startswith((NO_FILE, NOT_READ))
        self.rows.add_failure(name, reason)

    def result(self) -> PartResult:
        if self.unread == self.done > 1:
            first = tables_of(self.rows)[1].slice(0, 1).to_pylist()[0]
            what = f"no picture of part {self.part.index} can be read: {first['error']}"
            raise ImageError(what, subject=first["image"])
        return PartResult(self.part, *tables_of(self.rows), self.spherical)


def tables_of(rows: FaceRows) -> tuple[Any, Any]:
    """Return the rows of a part as two tables: faces, and failures with the columns ``image`` and ``error``."""
    table = rows.take()
    failed = table["error"].is_valid()
    found = table.filter(load_pyarrow().compute.invert(failed))
    return found.drop_columns(["error"]), table.filter(failed).select(["image", "error"])
