"""Draw over images and videos and write the copies: what ``overlay`` and ``anonymize`` have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.cli import messages, writing
from scrfd_trt.cli.clips import Clips
from scrfd_trt.cli.files import Source
from scrfd_trt.cli.metadata import save_with_metadata
from scrfd_trt.cli.work import Tally, count, each
from scrfd_trt.detections import Detections
from scrfd_trt.detector import SCRFDDetector
from scrfd_trt.video.drawing import Draw


class Copies:
    """Draws over what comes in.

    Parameters
    ----------
    targets
        What each copy is called.
    draw
        The overlay.
    clips
        Does the videos.
    tally
        Counts.
    quality
        Of JPEG and WebP files.
    overwrite, keep_metadata, quiet
        As the options of these names.
    """

    def __init__(
        self,
        targets: dict[Source, Path],
        draw: Draw,
        clips: Clips,
        tally: Tally,
        *,
        quality: int,
        overwrite: bool,
        keep_metadata: bool,
        quiet: bool,
    ) -> None:
        self._targets, self._draw, self._clips, self._tally = targets, draw, clips, tally
        self._quality, self._overwrite = quality, overwrite
        self._keep_metadata, self._quiet = keep_metadata, quiet

    def run(self, sources: Sequence[Source], detector: SCRFDDetector | None) -> None:
        """Go through images, then videos.

        Parameters
        ----------
        sources
            All that came in.
        detector
            None where there is a single video, whose faces are in a file.
        """
        images = [source for source in sources if not source.is_video]
        try:
            if images and detector is not None:
                for _ in each(images, detector, self._save, self._tally, bar=not self._quiet):
                    pass
            self._clips.run([source for source in sources if source.is_video], self._targets, detector)
        finally:
            self._tally.tell_failures()

    def _save(self, source: Source, image: NDArray[np.uint8], faces: Detections) -> None:
        drawn, target = self._draw(image, faces), self._targets[source]
        if self._keep_metadata:
            save_with_metadata(drawn, target, source.path, overwrite=self._overwrite, quality=self._quality)
        else:
            writing.save_image(drawn, target, overwrite=self._overwrite, quality=self._quality)

    def say_where(self, where: Path | None) -> None:
        """Tell where the images are."""
        tally = self._tally
        if not tally.images or self._quiet:
            return
        without = f"; {tally.empty} without a face" if tally.empty else ""
        faces = count(tally.faces, "face")
        found = f"{count(tally.images, 'image')}, {faces}" if tally.images > 1 else faces
        messages.plain(f"wrote {where or next(iter(self._targets.values()))}: {found}{without}")
