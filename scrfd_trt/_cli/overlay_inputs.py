"""Draw over images and videos and write the copies: what ``overlay`` and ``anonymize`` have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray

from scrfd_trt._cli import console, videos
from scrfd_trt._cli.exits import FAILED
from scrfd_trt._cli.images import Tally, count, each
from scrfd_trt._cli.inputs import Source, find_inputs
from scrfd_trt._cli.options import ClipSettings, ProgressKind
from scrfd_trt._cli.outputs import plan_outputs, save_image
from scrfd_trt._cli.videos import Clips, check_files
from scrfd_trt._detections import Detections
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt.video._two_pass import OverlayFunction

Opener = Callable[[], SCRFDDetector]


def write_copies(
    inputs: list[str],
    output: Path | None,
    draw: OverlayFunction,
    settings: ClipSettings,
    opened: Opener,
    *,
    recursive: bool,
    quality: int,
    progress: ProgressKind,
    quiet: bool,
    verbose: bool,
    full: bool = False,
) -> None:
    """Do the whole work of a command that draws over what comes in.

    Parameters
    ----------
    inputs, output
        As named; None is beside each input.
    draw, settings
        The overlay, and how videos are treated.
    opened
        Opens the detector, once all that can be refused before has been.
    recursive, quality, progress, quiet, verbose
        As the options of these names.
    full
        Whether the weakest moments of videos are told.

    Raises
    ------
    OptionError
        If it cannot be done as asked for.
    typer.Exit
        If some inputs failed.
    """
    if any(videos.is_address(text) for text in inputs):
        place = videos.check_live(inputs, output, settings)
        with _described(opened, verbose=verbose) as detector:
            videos.write_live(inputs[0], place, detector, draw, settings, progress=progress, quiet=quiet)
        return
    sources = find_inputs(inputs, recursive=recursive, skip=output)
    targets = plan_outputs(inputs, sources, output, overwrite=settings.overwrite)
    check_files(settings, sources, targets)
    tally = Tally()
    clips = Clips(settings, draw, tally, progress=progress, quiet=quiet, full=full)
    copies = Copies(targets, draw, clips, tally, settings, quality=quality, quiet=quiet)
    if settings.faces_in is not None:
        copies.run(sources, None)
    else:
        with _described(opened, verbose=verbose) as detector:
            copies.run(sources, detector)
    copies.say_where(output)
    if tally.failures:
        raise typer.Exit(FAILED)


@contextmanager
def _described(opened: Opener, *, verbose: bool) -> Iterator[SCRFDDetector]:
    with opened() as detector:
        if verbose:
            console.note(detector.description)
        yield detector


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
    settings
        Tells whether files are replaced, and metadata kept.
    quality
        Of JPEG and WebP files.
    quiet
        Show no bar, and do not tell what was written.
    """

    def __init__(
        self,
        targets: dict[Source, Path],
        draw: OverlayFunction,
        clips: Clips,
        tally: Tally,
        settings: ClipSettings,
        *,
        quality: int,
        quiet: bool,
    ) -> None:
        self._targets, self._draw, self._clips, self._tally = targets, draw, clips, tally
        self._quality, self._quiet = quality, quiet
        self._overwrite, self._keep_metadata = settings.overwrite, settings.keep_metadata

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
        original = source.path if self._keep_metadata else None
        save_image(drawn, target, overwrite=self._overwrite, quality=self._quality, metadata_from=original)

    def say_where(self, where: Path | None) -> None:
        """Tell where the images are."""
        tally = self._tally
        if not tally.images or self._quiet:
            return
        without = f"; {tally.empty} without a face" if tally.empty else ""
        faces = count(tally.faces, "face")
        found = f"{count(tally.images, 'image')}, {faces}" if tally.images > 1 else faces
        console.plain(f"wrote {where or next(iter(self._targets.values()))}: {found}{without}")
