"""The ledger of a job: a file that says which inputs are done, so that a later run goes on from there."""

from __future__ import annotations

import hashlib
import json
import os
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from scrfd_trt._files import delete_parts, locked_if_free, output_errors, part_path, parts_owned_by
from scrfd_trt.errors import OptionError

Rows = tuple[int, int]  # where the rows of an input begin and end in a file of results
BLOCK = 1 << 20
UNSET = {"None", "", "()", "[]"}  # texts of settings that were not given
CLOCK_NS = 2_000_000_000  # coarsest times of files, on FAT


class Stamp(NamedTuple):
    """By which a changed input is known."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp | None:
        """Return that of a file; None if there is none."""
        with suppress(OSError, ValueError):
            status = path.stat()
            return cls(status.st_size, status.st_mtime_ns)
        return None


class Entry(NamedTuple):
    """A finished input."""

    stamp: Stamp
    output: str | None  # its copy, relative to the folder of the ledger
    rows: Rows | None


def check_settings(settings: Mapping[str, str], before: Mapping[str, str], what: str, remedy: str) -> None:
    """Raise OptionError if settings differ from those with which ``what`` was begun."""
    for name in {**settings, **before}:
        now, old = settings.get(name, "None"), before.get(name, "None")
        if now != old:
            label = name.replace("_", " ")
            old, now = ("" if text in UNSET else re.sub(r"[\[\]()']", "", text) for text in (old, now))
            begun = f"with {label} {old}" if old else f"without {label}"
            now = f"it is {now}" if now else "there is none"
            raise OptionError(f"{what} was begun {begun}, and now {now}; leave the options as they were, {remedy}")


class Ledger:
    """Records done inputs as lines of JSON after one with the settings; drops a line that a crash cut short."""

    def __init__(self, path: Path, settings: Mapping[str, str], rows_path: Path | None = None) -> None:
        self.path, self.settings = path, dict(settings)
        self.begun_ns: int | None = None
        """When the first run began, by the clock of the folder's disk; None before."""
        self._part = None if rows_path is None else rows_path.with_name(f"{rows_path.name}.part")
        self._moved: Path | None = None
        """What is to become the file of rows: a run ended before it could replace it."""
        self._done: dict[str, Entry] = {}
        self._forgot_rows = False
        self._length = self._size = self._last_row = 0
        self._file: BinaryIO | None = None
        self._rows: BinaryIO | None = None
        with output_errors(path), suppress(FileNotFoundError), path.open("rb") as file:
            self._size = os.fstat(file.fileno()).st_size
            for line in file:
                if not self._read(line):
                    break
                self._length += len(line)
        self._forget_lost_rows(rows_path)

    def _read(self, line: bytes) -> bool:
        """Read a line; return whether it is complete."""
        try:
            value = json.loads(line) if line.endswith(b"\n") else {}
            if "settings" in value:
                check_settings(
                    self.settings, value["settings"], "the job", f"or begin a new job by deleting {self.path}"
                )
                self.begun_ns = value["begun_ns"]
            elif "moved" in value:
                self._move(value["moved"])
                new = self.path.with_name(value["file"])
                self._moved = new if new.exists() else None
            else:
                rows = value["rows"]
                stamp = Stamp(value["size"], value["mtime_ns"])
                self._done[value["input"]] = Entry(stamp, value["output"], rows and (rows[0], rows[1]))
        except OptionError:
            raise
        except (ValueError, TypeError, KeyError, IndexError):
            return False
        return True

    def _move(self, kept: list[tuple[int, int, int]]) -> None:
        """Change where rows are, by the start and end of ranges and their new start; forget other rows."""
        starts = [start for start, _, _ in kept]
        for name, entry in list(self._done.items()):
            if entry.rows is not None:
                start, end, new = kept[bisect_right(starts, entry.rows[0]) - 1] if kept else (0, 0, 0)
                if start <= entry.rows[0] and entry.rows[1] <= end:
                    rows = (entry.rows[0] - start + new, entry.rows[1] - start + new)
                    self._done[name] = entry._replace(rows=rows)
                else:
                    del self._done[name]

    def _forget_lost_rows(self, rows_path: Path | None) -> None:
        """Forget inputs whose rows are not in the file."""
        size = 0
        for path in (rows_path, self._part, self._moved):
            with suppress(OSError):
                size = size if path is None else path.stat().st_size
        lost = [name for name, entry in self._done.items() if entry.rows is not None and entry.rows[1] > size]
        for name in lost:
            self._forget(name)

    def _forget(self, name: str) -> None:
        self._forgot_rows |= self._done.pop(name).rows is not None

    def find(self, path: Path, stamp: Stamp | None) -> Entry | None:
        """Return the entry of an input; forget it if the input changed or its copy is gone."""
        name = os.path.abspath(path)  # noqa: PTH100
        entry = self._done.get(name)
        if entry is None or (entry.stamp == stamp and (entry.output is None or self._is_written(entry.output))):
            return entry
        self._forget(name)
        return None

    def _is_written(self, output: str) -> bool:
        """Return whether a copy is there; after a loss of power, it may be empty."""
        with suppress(OSError):
            return (self.path.parent / output).stat().st_size > 0
        return False

    def is_own(self, path: Path) -> bool:
        """Return whether a file was made after the job was begun."""
        with suppress(OSError):
            return self.begun_ns is not None and path.stat().st_mtime_ns >= self.begun_ns - CLOCK_NS
        return False

    @property
    def is_unfinished(self) -> bool:
        """Whether rows wait for the end of the job."""
        return self._part is not None and self._part.exists() and self.is_own(self._part)

    @contextmanager
    def recording(self, folders: Iterable[Path] = ()) -> Iterator[None]:
        """Record what is done in the block, without a killed run's parts; OptionError if another run is at work."""
        lock = self.path.with_suffix(".lock")
        with output_errors(self.path), locked_if_free(lock) as is_free, self.path.open("ab") as self._file:
            if not is_free or os.fstat(self._file.fileno()).st_size != self._size:
                raise OptionError(f"another run is at work on this job; wait until {lock} is free")
            self._file.truncate(self._length)
            if self._moved is not None and self._part is not None:
                self._moved.replace(self._part)
            if self.begun_ns is None:
                self.begun_ns = os.fstat(self._file.fileno()).st_mtime_ns
                self._append({"settings": self.settings, "begun_ns": self.begun_ns})
            # Other jobs, also parts of this one, may write into the same folders.
            key = f"{self.path.name} {self.begun_ns}".encode("utf-8", "surrogateescape")
            owner = f"{hashlib.blake2b(key, digest_size=6).hexdigest()}-"
            for folder in {self.path.parent, *folders}:
                delete_parts(folder, owner)
            with parts_owned_by(owner):
                yield

    def record(self, path: Path, stamp: Stamp | None, output: Path | None = None) -> None:
        """Record an input whose copy and rows are complete; without a stamp, a later run replaces its rows."""
        copy = None if output is None else os.path.abspath(output)  # noqa: PTH100
        if copy is not None:
            with suppress(ValueError):  # on another drive of Windows
                copy = os.path.relpath(copy, self.path.parent)
        self._record(os.path.abspath(path), stamp, copy)  # noqa: PTH100

    def record_head(self) -> None:
        """Record what precedes all rows."""
        self._record("", Stamp(0, 0), None)

    def _record(self, name: str, stamp: Stamp | None, copy: str | None) -> None:
        end = 0 if self._rows is None else self._rows.tell()
        rows = None if self._rows is None else (self._last_row, end)
        self._last_row = end
        if stamp is not None:
            self._append({"input": name, **stamp._asdict(), "output": copy, "rows": rows})

    def _append(self, value: Mapping[str, object]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(value).encode() + b"\n")
            self._file.flush()

    @contextmanager
    def rows_file(self, path: Path) -> Iterator[tuple[BinaryIO, Path]]:
        """Open ``NAME.part`` with the rows of finished inputs; it becomes ``path`` when the block succeeds."""
        assert self._part is not None  # noqa: S101
        part = self._part
        with output_errors(path):
            if part.exists() and not self.is_unfinished:
                raise OptionError(f"{part} is of another job; delete or rename it")
            if path.exists():
                path.replace(part)
            end = self._keep_rows(part)
            with part.open("r+b" if part.exists() else "xb") as self._rows:
                self._rows.truncate(end)
                self._last_row = self._rows.seek(end)
                yield self._rows, part
            part.replace(path)

    def _keep_rows(self, part: Path) -> int:
        """Drop the rows of inputs that are not done; return the end of the others."""
        kept: list[tuple[int, int, int]] = []
        end = 0
        for start, stop in sorted(entry.rows for entry in self._done.values() if entry.rows is not None):
            if kept and kept[-1][1] == start:
                kept[-1] = (kept[-1][0], stop, kept[-1][2])
            else:
                kept.append((start, stop, end))
            end += stop - start
        if not self._forgot_rows and all(start == to for start, _, to in kept):
            return end
        new = part_path(part)
        if any(start != to for start, _, to in kept):
            with part.open("rb") as old, new.open("xb") as file:
                for start, stop, _ in kept:
                    old.seek(start)
                    for at in range(start, stop, BLOCK):
                        file.write(old.read(min(BLOCK, stop - at)))
        self._append({"moved": kept, "file": new.name})
        if new.exists():
            new.replace(part)
        return end
