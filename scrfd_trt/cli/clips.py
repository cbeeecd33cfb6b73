"""Take the videos of a command through their passes, one after the other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from scrfd_trt.cli import messages, writing
from scrfd_trt.cli.files import Source
from scrfd_trt.cli.video_bar import told
from scrfd_trt.cli.video_options import ClipSettings, ProgressKind
from scrfd_trt.cli.video_report import as_dict, headline, report
from scrfd_trt.cli.work import OF_ONE_INPUT, Tally
from scrfd_trt.detector import SCRFDDetector
from scrfd_trt.errors import OptionError
from scrfd_trt.video import Summary, draw_video, overlay_video
from scrfd_trt.video.drawing import Draw
from scrfd_trt.video.running import Progress


class Clips:
    """Draws over videos.

    Parameters
    ----------
    settings
        How.
    draw
        The overlay.
    tally
        Counts them.
    progress, quiet
        How it is told how far they are.
    full
        Whether the weakest moments are told, too.
    """

    def __init__(
        self,
        settings: ClipSettings,
        draw: Draw,
        tally: Tally,
        *,
        progress: ProgressKind,
        quiet: bool,
        full: bool = False,
    ) -> None:
        self._settings, self._draw, self._tally = settings, draw, tally
        self._progress, self._quiet, self._full = progress, quiet, full

    def run(self, sources: Sequence[Source], targets: Mapping[Source, Path], detector: SCRFDDetector | None) -> None:
        """Go through the videos; one that fails is noted and the others are done all the same.

        Parameters
        ----------
        sources
            The videos.
        targets
            What each becomes; those that there is nothing to read of may be missing.
        detector
            None where the faces are in a file already.
        """
        for source in sources:
            self._tally.inputs += 1
            try:
                source.check()
                with messages.about(source.path), told(source.path, self._progress, quiet=self._quiet) as progress:
                    summary = self._one(source.path, targets[source], detector, progress)
            except OF_ONE_INPUT as error:
                self._tally.fail(source.path, error)
                continue
            self._tally.add_video(summary)
            self._tell(targets[source], summary)

    def _one(self, source: Path, target: Path, detector: SCRFDDetector | None, progress: Progress) -> Summary:
        how = self._settings
        writing.make_folder(target.parent)
        if how.faces_in is not None or detector is None:
            return draw_video(
                source,
                target,
                how.faces_in or "",
                self._draw,
                choice=how.choice,
                encode=how.encode,
                overwrite=how.overwrite,
                damaged=how.damaged,
                keep=how.keep,
                keep_metadata=how.keep_metadata,
                progress=progress,
            )
        return overlay_video(
            source,
            target,
            detector,
            self._draw,
            follow=how.follow,
            choice=how.choice,
            encode=how.encode,
            faces_file=how.faces_out,
            overwrite=how.overwrite,
            damaged=how.damaged,
            keep=how.keep,
            keep_metadata=how.keep_metadata,
            progress=progress,
        )

    def _tell(self, target: Path, summary: Summary) -> None:
        if self._progress == "jsonl":
            messages.line(json.dumps({"progress": "done", "output": str(target), **as_dict(summary)}))
        elif not self._quiet:
            messages.plain(f"wrote {target}: {headline(summary)}")
            for line in report(summary) if self._full else ():
                messages.line(line)


def check_files(settings: ClipSettings, sources: Sequence[Source]) -> None:
    """Refuse files of faces that do not go with what comes in.

    Raises
    ------
    OptionError
        If there is one, and not a single video; or a file that is to be written is there already.
    """
    given = "--detections" if settings.faces_in else "--save-detections" if settings.faces_out else ""
    if given and (len(sources) != 1 or not sources[0].is_video):
        raise OptionError(f"{given} is for a single video; run them one by one")
    if settings.faces_in and settings.faces_out:
        raise OptionError("--detections and --save-detections exclude each other: the faces are in a file already")
    if settings.faces_out:
        writing.check_free(settings.faces_out, overwrite=settings.overwrite)
