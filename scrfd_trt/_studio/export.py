"""Results for download: one file, or several in a zip that is made while it is sent."""

from __future__ import annotations

import secrets
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from scrfd_trt._studio.temporary_files import SessionFiles
from scrfd_trt.errors import ClosedError, ImageError, ScrfdError

if TYPE_CHECKING:
    from scrfd_trt._studio.session import Item

CHUNK = 1 << 18
ZIP_NAME = "anonymized.zip"
MAX_REASONS = 3  # failures that a message names


class Export:
    """Writes results into temporary files, which a download sends once; runs on a thread of its own."""

    def __init__(
        self,
        items: Sequence[Item],
        files: SessionFiles,
        changed: Callable[[Export], None],
        *,
        faces_files: bool,
    ) -> None:
        self.id = secrets.token_urlsafe(12)
        self._items, self._files, self._changed, self._faces_files = list(items), files, changed, faces_files
        self.state, self.done, self.text, self._key = "running", 0.0, "", ""
        self.results: list[tuple[str, Path]] = []  # names for the download, and files
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._run, name="studio-export")

    def info(self) -> dict[str, Any]:
        """Return the state as the page gets it."""
        total = len(self._items)
        shown = {"id": self.id, "done": round(self.done, 3), "total": total, "text": self.text, "state": self.state}
        return {**shown, "download": f"/download/{self._key}" if self._key else None}

    def start(self) -> None:
        """Write all results, on a thread of its own."""
        self._thread.start()

    def _run(self) -> None:
        failures: list[str] = []
        try:
            for number, item in enumerate(self._items):
                self._report(number, f"{item.name}: waiting for its faces")
                try:
                    item.wait(self._is_over)
                    self._write(number, item)
                except ClosedError:
                    raise
                except (ScrfdError, MemoryError, OSError) as error:
                    failures.append(str(error) if item.name in str(error) else f"{item.name}: {error}")
            self._check()
            self._finish(failures)
        except ClosedError:
            self._delete()
            self.state, self.text = "cancelled", "Cancelled; nothing was saved."
        except BaseException as error:
            self._delete()
            self.state, self.text = "failed", f"The export failed: {error}"
            raise
        finally:
            self._items = self._items if self.state == "done" else []
            self._changed(self)

    def _write(self, number: int, item: Item) -> None:
        def progress(done: float, total: float | None, text: str = "") -> None:
            self._check()
            self._report(number + (min(done / total, 1.0) if total else 0.0), f"{item.name}: {text or 'writing'}")

        progress(0, None)
        name = self._free(item.output_name)
        path = self._files.new_folder() / f"result{Path(name).suffix}"
        written = [(name, path)]
        try:
            item.write(path, progress)
            if self._faces_files:
                written.append((self._free(item.faces_name), path.with_name("faces.jsonl")))
                item.write_faces(written[1][1])
        except BaseException:
            self._files.delete(path)
            raise
        self.results += written

    def _finish(self, failures: list[str]) -> None:
        total = len(self._items)
        named = "; ".join(failures[:MAX_REASONS]) + ("; …" if len(failures) > MAX_REASONS else "")
        if not self.results:
            self.state, self.text = "failed", named or "There is nothing to save."
            return
        self._key, self.state, self.done = secrets.token_urlsafe(24), "done", float(total)
        self.text = f"{len(failures)} of {total} files are missing: {named}" if failures else ""

    def _free(self, name: str) -> str:
        """Return a name that no other result has."""
        taken, path, number = {other.casefold() for other, _ in self.results}, Path(name), 1
        while name.casefold() in taken:
            number += 1
            name = f"{path.stem}_{number}{path.suffix}"
        return name

    def _report(self, done: float, text: str) -> None:
        self.done, self.text = done, text
        self._changed(self)

    def _is_over(self) -> bool:
        self._check()
        return False

    def _check(self) -> None:
        if self._cancelled.is_set() or self._files.closed:
            raise ClosedError("the export was cancelled")

    def cancel(self) -> None:
        """Stop the export; what it has written is deleted."""
        self._cancelled.set()

    def take(self, key: str) -> bool:
        """Return whether a key is that of the download, once."""
        if not self._key or not secrets.compare_digest(self._key.encode(), key.encode()):
            return False
        self._key = ""
        return True

    def _delete(self) -> None:
        for _, path in self.results:
            self._files.delete(path)
        self.results = []

    def close(self) -> None:
        """Stop the export, and delete its files unless they are being sent."""
        self.cancel()
        if self._key or self.state != "done":
            self._key = ""
            self._delete()

    @property
    def name(self) -> str:
        """The name of the download."""
        return self.results[0][0] if len(self.results) == 1 else ZIP_NAME

    @property
    def nbytes(self) -> int | None:
        """The size of the download; None if it is not known before the end."""
        return self.results[0][1].stat().st_size if len(self.results) == 1 else None

    def content(self) -> Iterator[bytes]:
        """Yield the download, and delete the files at its end."""
        try:
            if len(self.results) == 1:
                yield from _chunks(self.results[0][1])
            else:
                yield from _zipped(self.results)
        finally:
            self._delete()


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except OSError as error:
        raise ImageError(f"the result cannot be read: {error.strerror}") from error


class _Sink:
    """Takes what a zip file writes, until it is sent."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None: ...

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _zipped(files: Sequence[tuple[str, Path]]) -> Iterator[bytes]:
    """Yield a zip archive of files, which are not compressed again."""
    sink = _Sink()
    with zipfile.ZipFile(cast("BinaryIO", sink), "w") as archive:  # it writes only
        for name, path in files:
            entry = zipfile.ZipInfo.from_file(path, name)
            with archive.open(entry, "w", force_zip64=True) as target:
                for chunk in _chunks(path):
                    target.write(chunk)
                    yield sink.take()
            yield sink.take()
    yield sink.take()
