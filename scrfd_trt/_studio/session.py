"""The state of one page: its image or clip, the faces found in it, and the overlays. Independent of the web server."""

from __future__ import annotations

import secrets
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

import overlays
from scrfd_trt import samples
from scrfd_trt._detections import Detections
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._options import DetectorOptions
from scrfd_trt._studio import uploads as clips
from scrfd_trt._studio.snippets import as_command, as_python, output_name
from scrfd_trt._studio.temporary_files import SessionFiles, TemporaryFolder
from scrfd_trt._studio.uploads import MAX_STICKER_BYTES, Image, Media
from scrfd_trt._tracking.options import TrackingOptions
from scrfd_trt.errors import ClosedError, ImageError, ScrfdError
from scrfd_trt.models import DEFAULT_MODEL

COVER_THRESHOLD = TrackingOptions().threshold
DECODED_BYTES = 256 * 2**20
"""What a page may hold beyond the file itself: 50 million pixels, frames of a clip, stickers, a result."""
PAGES_AT_ONCE = 8  # all pages together hold what this many pages may hold
OPENED_AT_ONCE = threading.BoundedSemaphore(2)  # decoding takes several times the memory of what is held afterwards


class Layer:
    """One overlay of a page and its changed options, which are replaced as a whole for the drawing in progress."""

    def __init__(self, name: str, options: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.options = dict(options or {})
        self._cached: tuple[dict[str, Any], overlays.Overlay] | None = None

    @property
    def covers(self) -> bool:
        """Whether the overlay hides faces."""
        try:
            return getattr(overlays.load(self.name), "covers", False) is True
        except ScrfdError:  # reported when it is drawn
            return False

    def overlay(self) -> overlays.Overlay:
        """Return the overlay, cached until an option changes: reading a sticker takes seconds."""
        cached = self._cached
        if cached is None or cached[0] != self.options:
            options = dict(self.options)
            cached = self._cached = (options, overlays.create(self.name, **options))
        return cached[1]

    def set_options(self, options: Mapping[str, Any]) -> None:
        """Replace the options unless the overlay refuses them for more than a missing one (ScrfdError)."""
        options = dict(options)
        try:
            overlay = overlays.create(self.name, **options)
        except ScrfdError as error:
            if not self._is_incomplete(error, options):
                raise
        else:
            self._cached = (options, overlay)
        self.options = dict(options)

    def _is_incomplete(self, error: ScrfdError, options: Mapping[str, Any]) -> bool:
        if isinstance(error.__cause__, ValidationError):
            return all(item["type"] == "missing" for item in error.__cause__.errors())
        return any(option.required and option.name not in options for option in overlays.describe(self.name))


@dataclass(frozen=True)
class Snapshot:
    """What a page shows at one moment; later uploads and options do not change it."""

    detector: SCRFDDetector
    media: Media
    faces: dict[int, Detections]  # by frame, filled on demand
    threshold: float
    compose: overlays.Compose

    def draw(self, frame: int) -> tuple[Image, int]:
        """Return a frame with its overlays, and the number of faces; faces are detected once."""
        frame = min(frame, len(self.media.frames) - 1)
        image = self.media.frames[frame]
        if frame not in self.faces:
            self.faces[frame] = self.detector.detect(image)
        faces = self.faces[frame]
        faces = faces[faces.scores >= self.threshold]
        return self.compose(image, faces), len(faces)

    def file(self) -> bytes:
        """Return the image with its overlays as a PNG file, with its alpha and its colour profile."""
        return clips.write_image(self.media, self.draw(0)[0])


class Budget:
    """Bytes of uploads that pages may hold: each alone, and all together. Thread-safe."""

    def __init__(self, max_upload: int) -> None:
        self.per_page = max_upload + DECODED_BYTES
        self.total = PAGES_AT_ONCE * self.per_page
        self._held: weakref.WeakKeyDictionary[Session, int] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def hold(self, session: Session, size: int) -> None:
        """Record what a page holds from now on; raise ImageError and record nothing if that is too much."""
        with self._lock:
            before = self._held.get(session, 0)
            if size > before and size > self.per_page:
                raise ImageError(f"this page may hold {self.per_page >> 20} MiB: use a smaller file, or remove others")
            if size > before and sum(self._held.values()) - before + size > self.total:
                raise ImageError("all pages of the studio together hold too many files: close other pages")
            self._held[session] = size


class Session:
    """The state of one open page; :meth:`close` deletes its files."""

    def __init__(
        self,
        detector: SCRFDDetector,
        folder: TemporaryFolder,
        model: str = DEFAULT_MODEL,
        budget: Budget | None = None,
    ) -> None:
        self.detector = detector
        self.model = model
        self._budget = budget or Budget(DECODED_BYTES)
        self.media = Media("scene.png", (samples.load("group").image,))
        self.layers = [Layer("skull")]
        self._threshold: float | None = None
        self._faces: dict[int, Detections] = {}
        self._files = SessionFiles(folder)
        self._stickers: dict[Path, int] = {}
        self._download: tuple[str, str, bytes | Path] | None = None
        self._result: Path | None = None
        self._writing: Path | None = None
        self._lock = threading.Lock()

    @property
    def threshold(self) -> float:
        """Minimum score of a face; until it is set, as in ``anonymize`` if an overlay covers faces."""
        if self._threshold is not None:
            return self._threshold
        covers = any(layer.covers for layer in self.layers)
        return COVER_THRESHOLD if covers else float(DetectorOptions.model_fields["threshold"].default)

    @threshold.setter
    def threshold(self, value: float) -> None:
        self._threshold = value

    @property
    def closed(self) -> bool:
        """Whether the page was closed."""
        return self._files.closed

    def open(self, name: str, content: bytes) -> None:
        """Replace the image or clip; raise ImageError and keep the old one if the new one is unreadable or too much."""
        name = clips.plain_name(name)
        with OPENED_AT_ONCE:
            opened = self._open_clip(name, content) if clips.is_clip(name) else clips.read_image(name, content)
        with self._lock:
            try:
                self._hold(media=opened)
            except ImageError:
                self._files.delete(opened.path)
                raise
            before, self.media, self._faces = self.media, opened, {}
        if before.path != self._writing:
            self._files.delete(before.path)

    def _hold(self, *, media: Media | None = None, stickers: int | None = None, download: bytes | None = None) -> None:
        """Count what this page holds, with a part replaced; raise ImageError if that is too much."""
        result = self._download[2] if self._download and download is None else download
        self._budget.hold(
            self,
            (media or self.media).nbytes
            + (sum(self._stickers.values()) if stickers is None else stickers)
            + (len(result) if isinstance(result, bytes) else 0),
        )

    def _open_clip(self, name: str, content: bytes) -> Media:
        path = self._files.write(f"clip{Path(name).suffix.lower()}", content)  # OpenCV and PyAV read files
        try:
            return clips.read_clip(name, path)
        except BaseException:
            self._files.delete(path)
            raise

    def store_sticker(self, name: str, content: bytes) -> Path:
        """Store an image that an option names, until it is deleted; raise ImageError if it is none, or too large."""
        label = repr(name[:60])
        if len(content) > MAX_STICKER_BYTES:
            raise ImageError(f"{label} has more than {MAX_STICKER_BYTES // 2**20} MiB: use a smaller one")
        clips.check_image(label, content)
        with self._lock:
            self._hold(stickers=sum(self._stickers.values()) + len(content))
            path = self._files.write(Path(name.replace("\\", "/")).name or "file", content)
            self._stickers[path] = len(content)
        return path

    def delete_sticker(self, path: Path) -> None:
        """Delete an image that no option names any more."""
        with self._lock:
            self._stickers.pop(path, None)
            self._hold()
        self._files.delete(path)

    def select(self, names: Sequence[str]) -> None:
        """Replace the overlays; those that stay keep their options, and the stickers of others are deleted."""
        kept = {layer.name: layer for layer in self.layers}
        self.layers = [kept.get(name) or Layer(name) for name in dict.fromkeys(names)]
        used = {value for layer in self.layers for value in layer.options.values() if isinstance(value, Path)}
        for path in set(self._stickers) - used:
            self.delete_sticker(path)

    def snapshot(self) -> Snapshot:
        """Return what is shown now; raise ScrfdError if an overlay refuses its options."""
        with self._lock:
            media, faces, layers = self.media, self._faces, list(self.layers)
        compose = overlays.Compose(*(layer.overlay() for layer in layers))
        return Snapshot(self.detector, media, faces, self.threshold, compose)

    def draw(self, frame: int = 0) -> tuple[Image, int]:
        """Return a frame with all overlays, and the number of faces; raise ScrfdError if an overlay fails."""
        return self.snapshot().draw(frame)

    def warnings(self) -> list[str]:
        """Return the overlays' privacy warnings."""
        made = [layer.overlay() for layer in self.layers]
        covering = [overlay for overlay in made if isinstance(overlay, overlays.Covering)]
        return [warning for overlay in covering for warning in overlay.privacy_warnings()]

    def download(self, progress: Callable[[str], None] | None = None) -> tuple[str, bytes | Path]:
        """Return the result's file name and content; for a clip, a file that exists until the next download."""
        now = self.snapshot()
        name = output_name(now.media)
        if not now.media.is_clip:
            return name, now.file()
        self._files.delete(self._result)
        self._result = target = self._files.new_folder() / f"result{Path(name).suffix}"
        self._writing = now.media.path
        try:
            self._write_clip(now, target, progress)
        finally:
            self._writing = None
            if self.media is not now.media:
                self._files.delete(now.media.path)
        return name, target

    def _write_clip(self, now: Snapshot, target: Path, progress: Callable[[str], None] | None) -> None:
        def report(text: str) -> None:
            if self._files.closed:
                raise ClosedError("the page was closed")
            if progress is not None:
                progress(text)

        clips.write_clip(now.media, target, self.detector, now.compose, threshold=now.threshold, progress=report)

    def offer(self, name: str, content: bytes | Path) -> str:
        """Return the key with which :meth:`take` returns a result once; ImageError if pages hold too much."""
        key = secrets.token_urlsafe(24)
        with self._lock:
            self._hold(download=content if isinstance(content, bytes) else b"")
            self._download = (key, name, content)
        return key

    def take(self, key: str) -> tuple[str, bytes | Path] | None:
        """Return the name and the content of the result that has this key, once."""
        with self._lock:
            if self._download is None or not secrets.compare_digest(self._download[0].encode(), key.encode()):
                return None
            _, name, content = self._download
            self._download = None
            self._hold()
        return name, content

    def command(self) -> str:
        """Return the command line that makes the result."""
        return as_command(self.media, self.threshold, self._layers(), self.model)

    def python(self) -> str:
        """Return the Python program that makes the result."""
        return as_python(self.media, self.threshold, self._layers(), self.model)

    def _layers(self) -> list[tuple[str, dict[str, Any]]]:
        return [(layer.name, layer.options) for layer in self.layers]

    def close(self) -> None:
        """Delete all files and release the image; may be called twice."""
        self._files.close()
        with self._lock:
            self.media, self._faces = Media("", (np.zeros((1, 1, 3), np.uint8),)), {}
            self._stickers, self._download = {}, None
            self._hold()
