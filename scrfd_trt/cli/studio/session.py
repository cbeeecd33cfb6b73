"""What one page holds: its picture, the faces found in it, and the overlays with their options. No web in here."""

from __future__ import annotations

import shutil
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import overlays
from scrfd_trt import samples
from scrfd_trt.cli.options import DEFAULT_MODEL
from scrfd_trt.cli.studio.media import LARGEST_STICKER, Image, Media, check_pixels, read, write
from scrfd_trt.cli.studio.words import as_command, as_python
from scrfd_trt.detections import Detections
from scrfd_trt.detector import SCRFDDetector
from scrfd_trt.errors import ImageError
from scrfd_trt.options import DetectorOptions


@dataclass
class Layer:
    """One overlay on the page.

    Attributes
    ----------
    name
        The overlay's.
    options
        What was changed from its defaults.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    def make(self) -> overlays.Overlay:
        """Make the overlay."""
        return overlays.create(self.name, **self.options)


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

    Files that options name, stickers say, lie in a folder of its own, which :meth:`close` deletes.
    """

    def __init__(self, detector: SCRFDDetector, model: str = DEFAULT_MODEL) -> None:
        self.detector = detector
        self.model = model
        self.media = Media("scene.png", (samples.scene().image,))
        self.layers = [Layer("skull")]
        self.threshold = float(DetectorOptions.model_fields["threshold"].default)
        self._found: dict[int, Detections] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="scrfd-trt-studio-"))
        self._lock = threading.Lock()

    def open(self, name: str, content: bytes) -> None:
        """Take a picture or clip in the place of the one before.

        Raises
        ------
        ImageError
            If it cannot be read; the one before stays.
        """
        media = read(name, content)
        with self._lock:
            self.media, self._found = media, {}

    def keep(self, name: str, content: bytes) -> Path:
        """Keep a picture that an option names, until the page is closed.

        Raises
        ------
        ImageError
            If it is too large or no picture, or cannot be kept, for its name say.
        """
        shown = repr(name[:60])
        if len(content) > LARGEST_STICKER:
            raise ImageError(f"{shown} has more than {LARGEST_STICKER // 2**20} MiB: take a smaller one")
        check_pixels(shown, content)
        try:
            # In a folder of its own, so that another file of this name stays as it is.
            path = Path(tempfile.mkdtemp(dir=self._folder)) / (Path(name.replace("\\", "/")).name or "file")
            path.write_bytes(content)
        except (OSError, ValueError) as error:
            raise ImageError(f"{shown} cannot be kept: give the file another name") from error
        return path

    def _now(self) -> _Now:
        """Take down what is to be drawn; another picture or option may come in meanwhile."""
        with self._lock:
            media, found = self.media, self._found
            layers = [Layer(layer.name, dict(layer.options)) for layer in self.layers]
        compose = overlays.Compose(*(layer.make() for layer in layers))
        return _Now(self.detector, media, found, self.threshold, compose)

    def draw(self, frame: int = 0) -> tuple[Image, int]:
        """Draw all overlays over a frame; return it, and how many faces there are.

        Raises
        ------
        ScrfdError
            If an option is out of its range, or an overlay fails.
        """
        return self._now().draw(frame)

    def warnings(self) -> list[str]:
        """Return what the overlays say of options that leave a face readable."""
        made = [layer.make() for layer in self.layers]
        return [reason for overlay in made if isinstance(overlay, overlays.Covering) for reason in overlay.readable()]

    def download(self) -> tuple[str, bytes]:
        """Return a file name and the content of the file with the result, a whole clip where it is one."""
        now = self._now()
        frames = [now.draw(number)[0] for number in range(len(now.media.frames))]
        return write(now.media.name, frames, now.media.rate)

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
        shutil.rmtree(self._folder, ignore_errors=True)
        with self._lock:
            self.media, self._found = Media("", (np.zeros((1, 1, 3), np.uint8),)), {}
