"""Files by their addresses: on this machine, in object stores and on other file systems that pyarrow opens."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from scrfd_trt._exports import PARQUET, load
from scrfd_trt._files import part_path, write_files
from scrfd_trt._inputs import MAX_FILE_BYTES, download, download_to, is_address
from scrfd_trt.errors import ImageError, OptionError, OutputError, ScrfdError, one_line, redact_password

REPLACES_WHOLE = {"s3", "gcs", "abfs", "azure"}
"""Types of stores in which an object appears when it is complete."""
NO_FILE, NOT_READ = "there is no such file", "the file cannot be read"


class Entry(NamedTuple):
    """What a folder holds."""

    name: str
    kind: str  # "file", "folder" or "link" to a folder
    stamp: str  # changes with the content


class Place(NamedTuple):
    """A file or folder; ``files`` is a file system of pyarrow, None on this machine."""

    uri: str
    files: Any
    path: str

    @classmethod
    def of(cls, uri: str) -> Place:
        """Return that of an address or path; raise OptionError if pyarrow cannot open its file system."""
        if not is_uri(uri):
            path = os.path.abspath(uri)  # noqa: PTH100
            return cls(path, None, path)
        parts = urlsplit(uri)
        if parts.scheme == "file":
            return cls.of(unquote(parts.path))
        try:
            files, start = _store(f"{parts.scheme}://{parts.netloc}{f'?{parts.query}' if parts.query else ''}")
        except (OSError, ValueError, NotImplementedError) as error:  # those of pyarrow are also one of these
            reason = f"it cannot be opened: {one_line(error)}; use s3://, gs://, file:// or a path"
            raise OptionError(reason, subject=shown_name(uri)) from error
        return cls(uri, files, f"{start.rstrip('/')}/{unquote(parts.path).strip('/')}".rstrip("/") or start)

    @property
    def name(self) -> str:
        """The address without what is secret."""
        return shown_name(self.uri)

    def join(self, name: str) -> Place:
        """Return what lies in this folder; ``name`` may have several parts."""
        if self.files is None:
            path = os.path.join(self.path, name)  # noqa: PTH118
            return Place(path, None, path)
        start, question, query = self.uri.partition("?")
        return Place(f"{start.rstrip('/')}/{quote(name)}{question}{query}", self.files, f"{self.path}/{name}")

    def stat(self) -> Entry | None:
        """Return what is there; None if nothing is."""
        if self.files is None:
            path = Path(self.path)
            if path.is_dir():
                return Entry(path.name, "folder", "")
            return Entry(path.name, "file", _stamp(path.stat())) if path.exists() else None
        info = self.files.get_file_info(self.path)
        return None if info.type.name == "NotFound" else _entry(info)

    def entries(self) -> list[Entry]:
        """Return what the folder holds, sorted by name; nothing if there is no folder."""
        if self.files is None:
            try:
                with os.scandir(self.path) as found:
                    return sorted(map(_local_entry, found))
            except FileNotFoundError:
                return []
        fs = load("pyarrow.fs", "reading it", PARQUET)
        return sorted(
            _entry(info) for info in self.files.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        )

    def open_stream(self) -> Any:
        """Open the file for reading from its start to its end."""
        return Path(self.path).open("rb") if self.files is None else self.files.open_input_stream(self.path)

    def write(self, data: bytes | Path) -> None:
        """Write content, or that of a file of this machine, whole: it appears when it is complete, or not at all."""
        with store_errors(OutputError, self.uri):
            if self.files is None:
                path = Path(self.path)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_files({path: data if isinstance(data, bytes) else data.read_bytes()})
                return
            target = self.path
            if self.files.type_name not in REPLACES_WHOLE:
                folder, _, name = target.rpartition("/")
                target = f"{folder}/{part_path(Path(name)).name}"
                self.files.create_dir(folder)
            if isinstance(data, bytes):
                with self.files.open_output_stream(target) as stream:
                    stream.write(data)
            else:
                fs = load("pyarrow.fs", "writing it", PARQUET)
                how = {"source_filesystem": fs.LocalFileSystem(), "destination_filesystem": self.files}
                fs.copy_files(str(data), target, **how)
            if target != self.path:
                self.files.move(target, self.path)

    def delete(self) -> None:
        """Delete the file, if there is one."""
        with store_errors(OutputError, self.uri):
            if self.files is None:
                Path(self.path).unlink(missing_ok=True)
            elif self.stat() is not None:
                self.files.delete_file(self.path)


def is_uri(text: str) -> bool:
    """Return whether a text is an address, and no path."""
    return "://" in text[:16]


def shown_name(uri: str) -> str:
    """Return a path, or an address without what is secret: its password and its query."""
    return redact_password(uri.partition("?")[0]) if is_uri(uri) else uri


def read_content(uri: str) -> Path | bytes:
    """Return the path of a file on this machine, or the content of another; raise ImageError if it cannot be read."""
    if is_address(uri):
        return download(uri)
    place = _place_of(uri)
    if place.files is None:
        return Path(place.path)
    with store_errors(ImageError), place.open_stream() as stream:
        content: bytes = stream.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ImageError(f"the file is larger than {MAX_FILE_BYTES >> 20} MiB")
    return content


def fetch(uri: str, path: Path) -> None:
    """Write the content of an address into a file; raise ImageError if it cannot be read."""
    with path.open("xb") as file:
        if is_address(uri):
            download_to(file, uri, max_bytes=1 << 40, max_seconds=3600.0)
            return
        with store_errors(ImageError), _place_of(uri).open_stream() as stream:
            shutil.copyfileobj(stream, file, 1 << 20)


def _place_of(uri: str) -> Place:
    try:
        return Place.of(uri)
    except OptionError as error:
        raise ImageError(error.reason) from error


@contextmanager
def store_errors(kind: type[ScrfdError], uri: str = "") -> Iterator[None]:
    """Translate the errors of file systems, and of pyarrow, to one of the tree."""
    try:
        yield
    except ScrfdError:
        raise
    except FileNotFoundError as error:
        raise kind(NO_FILE, subject=shown_name(uri)) from error
    except (OSError, ValueError, NotImplementedError) as error:  # as above
        what = "cannot write it" if kind is OutputError else NOT_READ
        reason = getattr(error, "strerror", None) or one_line(error)
        raise kind(f"{what}: {reason}", subject=shown_name(uri)) from error


@lru_cache(maxsize=256)
def _store(start: str) -> tuple[Any, str]:
    found: tuple[Any, str] = load("pyarrow.fs", f"opening {start}", PARQUET).FileSystem.from_uri(start)
    return found


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_size} {status.st_mtime_ns}"


def _local_entry(entry: os.DirEntry[str]) -> Entry:
    try:
        if entry.is_dir():
            return Entry(entry.name, "link" if entry.is_symlink() else "folder", "")
        return Entry(entry.name, "file", _stamp(entry.stat()))
    except OSError:  # a link that leads nowhere; reported when it is read
        return Entry(entry.name, "file", "")


def _entry(info: Any) -> Entry:
    kind = "folder" if info.type.name == "Directory" else "file"
    return Entry(info.base_name, kind, "" if kind == "folder" else f"{info.size} {info.mtime_ns}")
