"""Results for download: one file, or a zip of several."""

from __future__ import annotations

import secrets
import threading
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from scrfd_trt._studio.items import Item
from scrfd_trt._studio.temporary_files import SessionFiles
from scrfd_trt.errors import ClosedError, ScrfdError, one_line

ZIP_NAME = "anonymized.zip"
MAX_REASONS = 3  # failures that a message names


class Export:
    """Writes results into a temporary file, which a download sends once; runs on a thread of its own."""

    def __init__(
        self, items: Sequence[Item], files: SessionFiles, changed: Callable[[Export], None], *, faces_files: bool
    ) -> None:
        self.id = secrets.token_urlsafe(12)
        self._files, self._changed, self._faces_files = files, changed, faces_files
        self._total, self._done, self.state, self.text, self._key = len(items), 0.0, "running", "", ""
        self.results: list[tuple[str, Path]] = []  # names for the download, and files
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(list(items),), name="studio-export")

    def info(self) -> dict[str, object]:
        """Return the state as the page gets it."""
        shown = {"id": self.id, "done": round(self._done, 3), "total": self._total, "text": self.text}
        return {**shown, "state": self.state, "download": f"/download/{self._key}" if self._key else None}

    def start(self) -> None:
        """Write all results, on a thread of its own."""
        self._thread.start()

    def _run(self, items: list[Item]) -> None:
        failures: list[str] = []
        try:
            for number, item in enumerate(items):
                self._report(number, f"{item.name}: waiting for its faces")
                try:
                    self._write(number, item)
                except (ScrfdError, MemoryError, OSError) as error:
                    self._check()
                    why = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
                    failures.append(why if item.name in why else f"{item.name}: {why}")
            items.clear()
            if len(self.results) > 1:
                self._zip()
            self._finish(failures)
        except ClosedError:
            self._end("cancelled", "Cancelled; nothing was saved.")
        except BaseException as error:
            self._end("failed", f"The export failed: {one_line(error)}")
            raise
        finally:
            self._changed(self)

    def _write(self, number: int, item: Item) -> None:
        def progress(done: float, total: float | None, text: str = "") -> None:
            self._check()
            self._report(number + (min(done / total, 1.0) if total else 0.0), f"{item.name}: {text or 'writing'}")

        item.wait(self._is_over)
        progress(0, None)
        folder = self._files.new_folder()
        try:
            written = item.write(folder, progress, faces_file=self._faces_files)
        except BaseException:
            self._files.delete(folder / "result")
            raise
        for name, path in written:
            self.results.append((self._free(name), path))

    def _zip(self) -> None:
        """Replace the results by one zip archive, in which they are not compressed again."""
        archive, files = self._files.new_folder() / "results.zip", self.results
        self.results = [*files, (ZIP_NAME, archive)]  # all are deleted after a failure
        with zipfile.ZipFile(archive, "w") as target:
            for name, path in files:
                self._check()
                self._report(self._total, f"packing {name}")
                target.write(path, name)
                path.unlink()
        for _, path in files:
            self._files.delete(path)
        self.results = self.results[-1:]

    def _finish(self, failures: list[str]) -> None:
        self._check()
        named = "; ".join(failures[:MAX_REASONS]) + ("; …" if len(failures) > MAX_REASONS else "")
        if not self.results:
            self.state, self.text = "failed", named or "There is nothing to save."
            return
        self._key, self.state, self._done = secrets.token_urlsafe(24), "done", float(self._total)
        self.text = f"{len(failures)} of {self._total} files are missing: {named}" if failures else ""

    def _end(self, state: str, text: str) -> None:
        self.delete()
        self.state, self.text = state, text

    def _free(self, name: str) -> str:
        """Return a name that no other result has."""
        taken, path, number = {other.casefold() for other, _ in self.results}, Path(name), 1
        while name.casefold() in taken:
            number += 1
            name = f"{path.stem}_{number}{path.suffix}"
        return name

    def _report(self, done: float, text: str) -> None:
        self._done, self.text = done, text
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

    def close(self) -> None:
        """Stop the export, and delete its result unless it is being sent."""
        self.cancel()
        if self._key:
            self._key = ""
            self.delete()

    def delete(self) -> None:
        """Delete the files."""
        for _, path in self.results:
            self._files.delete(path)
        self.results = []
