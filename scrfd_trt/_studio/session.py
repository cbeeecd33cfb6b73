"""What one page holds: its picture, the faces found in it, and the overlays with their options. No web in here."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydantic import ValidationError

import overlays
from scrfd_trt import samples
from scrfd_trt._detections import Detections
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._options import DetectorOptions
from scrfd_trt._studio import media
from scrfd_trt._studio import media as clips
from scrfd_trt._studio.code import as_command, as_python, target_name
from scrfd_trt._studio.folder import Folder
from scrfd_trt._studio.media import LARGEST_STICKER, Image, Media, check_pixels
from scrfd_trt.errors import ClosedError, ImageError, ScrfdError
from scrfd_trt.models import DEFAULT_MODEL


class Layer:
    """One overlay on the page.

    Parameters
    ----------
    name
        The overlay's.
    options
        What was changed from its defaults.

    Attributes
    ----------
    name, options
        As above; options are replaced as a whole, so that a drawing in progress never sees half of a change.
    """

    def __init__(self, name: str, options: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.options = dict(options or {})
        self._made: tuple[dict[str, Any], overlays.Overlay] | None = None

    def make(self) -> overlays.Overlay:
        """Make the overlay; the same one again until an option changes, since a sticker takes seconds to be read.

        Raises
        ------
        ScrfdError
            If it cannot be loaded, or refuses its options.
        """
        made = self._made
        if made is None or made[0] != self.options:
            options = dict(self.options)
            made = self._made = (options, overlays.create(self.name, **options))
        return made[1]

    def take(self, options: Mapping[str, Any]) -> None:
        """Take other options, if the overlay does; they are also taken where it only needs further ones.

        Raises
        ------
        ScrfdError
            If it refuses them; those before stay.
        """
        wanted = dict(options)
        try:
            made = overlays.create(self.name, **wanted)
        except ScrfdError as error:
            if not self._only_needs_more(error, wanted):
                raise
        else:
            self._made = (wanted, made)
        self.options = dict(wanted)

    def _only_needs_more(self, error: ScrfdError, options: Mapping[str, Any]) -> bool:
        if isinstance(error.__cause__, ValidationError):
            return all(item["type"] == "missing" for item in error.__cause__.errors())
        return any(option.required and option.name not in options for option in overlays.describe(self.name))


__all__ = ["Layer", "Session"]


@dataclass(frozen=True)
class _Now:
    """What a page showed at one moment."""

    detector: SCRFDDetector
    media: Media
    found: dict[int, Detections]
    threshold: float
    compose: overlays.Compose

    def draw(self, frame: int) -> tuple[Image, int]:
        """Draw over a frame; faces are looked for once."""
        frame = min(frame, len(self.media.frames) - 1)
        image = self.media.frames[frame]
        if frame not in self.found:
            self.found[frame] = self.detector.detect(image)
        faces = self.found[frame]
        faces = faces[faces.scores >= self.threshold]
        return self.compose(image, faces), len(faces)


class Session:
    """The state of one open page.

    Clips, and the files that options name, stickers say, lie in folders of its own, which :meth:`close` deletes.
    """

    def __init__(self, detector: SCRFDDetector, model: str = DEFAULT_MODEL, folder: Folder | None = None) -> None:
        self.detector = detector
        self.model = model
        self.media = Media("scene.png", (samples.load("group").image,))
        self.layers = [Layer("skull")]
        self.threshold = float(DetectorOptions.model_fields["threshold"].default)
        self._found: dict[int, Detections] = {}
        self._folder = folder or Folder()
        self._kept: list[Path] = []
        self._result: Path | None = None
        self._writing: Path | None = None
        self._closed = False
        self._lock = threading.Lock()

    def open(self, name: str, content: bytes) -> None:
        """Take a picture or clip in the place of the one before.

        Raises
        ------
        ImageError
            If it cannot be read; the one before stays.
        """
        name = media.plain_name(name)
        opened = self._clip(name, content) if media.is_clip(name) else media.read_picture(name, content)
        with self._lock:
            before, self.media, self._found = self.media, opened, {}
        if before.path != self._writing:
            self._drop(before.path)

    def _clip(self, name: str, content: bytes) -> Media:
        # What reads clips wants files.
        path = self._store(f"clip{Path(name).suffix.lower()}", content)
        try:
            return media.read_clip(name, path)
        except BaseException:
            self._drop(path)
            raise

    def keep(self, name: str, content: bytes) -> Path:
        """Keep a picture that an option names, until the page is closed or it is dropped.

        Raises
        ------
        ImageError
            If it is too large or no picture, or cannot be kept, for its name say.
        """
        shown = repr(name[:60])
        if len(content) > LARGEST_STICKER:
            raise ImageError(f"{shown} has more than {LARGEST_STICKER // 2**20} MiB: take a smaller one")
        check_pixels(shown, content)
        return self._store(Path(name.replace("\\", "/")).name or "file", content)

    def drop(self, path: Path) -> None:
        """Delete a picture that no option names any more."""
        if path.parent in self._kept:
            self._drop(path)

    def _store(self, name: str, content: bytes) -> Path:
        """Write a file into a folder of its own, so that another one of its name stays as it is."""
        path = self._new_folder() / name
        try:
            path.write_bytes(content)
        except (OSError, ValueError) as error:
            self._drop(path)
            raise ImageError(f"{name[:60]!r} cannot be kept: give the file another name") from error
        return path

    def _new_folder(self) -> Path:
        try:
            path = self._folder.new()
        except OSError as error:
            raise ImageError(f"there is no room for temporary files: {error.strerror or error}") from error
        with self._lock:
            self._kept.append(path)
            if self._closed:
                shutil.rmtree(path, ignore_errors=True)
        return path

    def _drop(self, path: Path | None) -> None:
        if path is not None:
            shutil.rmtree(path.parent, ignore_errors=True)
            with self._lock:
                self._kept = [kept for kept in self._kept if kept != path.parent]

    def _now(self) -> _Now:
        """Take down what is to be drawn; another picture or option may come in meanwhile."""
        with self._lock:
            shown, found, layers = self.media, self._found, list(self.layers)
        compose = overlays.Compose(*(layer.make() for layer in layers))
        return _Now(self.detector, shown, found, self.threshold, compose)

    def draw(self, frame: int = 0) -> tuple[Image, int]:
        """Draw all overlays over a frame; return it, and how many faces there are.

        Raises
        ------
        ScrfdError
            If an option is out of its range, or an overlay fails.
        """
        return self._now().draw(frame)

    def warnings(self) -> list[str]:
        """Return what the overlays say of options that leave a face readable, and what a clip is in want of."""
        made = [layer.make() for layer in self.layers]
        said = [reason for overlay in made if isinstance(overlay, overlays.Covering) for reason in overlay.readable()]
        return said + ([clips.MISSING] if self.media.is_clip and clips.is_missing() else [])

    def download(self, told: Callable[[str], None] | None = None) -> tuple[str, bytes | Path]:
        """Return the result's file name, and its content; of a clip, the file in which it lies until the next one.

        Parameters
        ----------
        told
            Told how far a clip is.

        Raises
        ------
        MissingDependencyError
            If it is a clip, and the extra ``video`` is not installed.
        ClosedError
            If the page is closed before a clip is done.
        ScrfdError
            If an overlay fails, or a clip cannot be read or written.
        """
        now = self._now()
        name = target_name(now.media)
        if not now.media.is_clip:
            return name, cv2.imencode(".png", now.draw(0)[0])[1].tobytes()
        self._drop(self._result)
        self._result = target = self._new_folder() / f"result{Path(name).suffix}"
        self._writing = now.media.path
        try:
            self._write(now, target, told)
        finally:
            self._writing = None
            if self.media is not now.media:
                self._drop(now.media.path)
        return name, target

    def _write(self, now: _Now, target: Path, told: Callable[[str], None] | None) -> None:
        def going_on(text: str) -> None:
            if self._closed:
                raise ClosedError("the page was closed")
            if told is not None:
                told(text)

        clips.write(now.media, target, self.detector, now.compose, threshold=now.threshold, told=going_on)

    def command(self) -> str:
        """Return the command line that makes the result."""
        layers = [(layer.name, layer.options) for layer in self.layers]
        return as_command(self.media, self.threshold, layers, self.model)

    def python(self) -> str:
        """Return the Python that makes the result."""
        layers = [(layer.name, layer.options) for layer in self.layers]
        return as_python(self.media, self.threshold, layers, self.model)

    def close(self) -> None:
        """Delete all files and let go of the picture; may be called twice."""
        with self._lock:
            self._closed = True
            kept, self._kept = self._kept, []
            self.media, self._found = Media("", (np.zeros((1, 1, 3), np.uint8),)), {}
        for path in kept:
            shutil.rmtree(path, ignore_errors=True)
