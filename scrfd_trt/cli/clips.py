"""Take the videos of a command through their passes, one after the other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from scrfd_trt.cli import faces_files, messages, outputs
from scrfd_trt.cli.inputs import Source
from scrfd_trt.cli.video_bar import told
from scrfd_trt.cli.video_options import ClipSettings, ProgressKind
from scrfd_trt.cli.video_report import as_dict, headline, report
from scrfd_trt.cli.work import OF_ONE_INPUT, Tally
from scrfd_trt.detector import SCRFDDetector
from scrfd_trt.errors import DetectionsError, OptionError
from scrfd_trt.video import Summary, detect_video, draw_video
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
        outputs.make_folder(target.parent)
        if how.faces_in is not None or detector is None:
            return self._draw_from(how.faces_in or Path(), source, target, progress)
        with faces_files.place(how.faces_out) as place:
            found = detect_video(
                source,
                place,
                detector,
                follow=how.follow,
                overwrite=how.overwrite,
                damaged=how.damaged,
                progress=progress,
            )
            if wrong := faces_files.missing_tracks(how.choice, found.tracks):
                raise DetectionsError(wrong)
            return self._draw_from(place, source, target, progress)

    def _draw_from(self, faces: Path, source: Path, target: Path, progress: Progress) -> Summary:
        how = self._settings
        return draw_video(
            source,
            target,
            faces,
            self._draw,
            choice=how.choice,
            encode=how.encode,
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
            if summary.left and not summary.faces:
                messages.warning(f"{target}: all faces stay in sight; what you chose leaves out every track")
            messages.plain(f"wrote {target}: {headline(summary)}")
            for line in report(summary) if self._full else ():
                messages.line(line)


def check_files(settings: ClipSettings, sources: Sequence[Source], targets: Mapping[Source, Path]) -> None:
    """Refuse files of faces and numbers of tracks that do not go with what comes in, before anything is done.

    Raises
    ------
    OptionError
        If there are some, and not a single video; or a file would be written over another of them; or the file of
        faces has no such tracks.
    DetectionsError
        If there is no file of faces that can be read.
    """
    faces_files.check_single(settings.faces_in, settings.faces_out, settings.choice, sources)
    if sources:
        others = {"the input": sources[0].path, "the output": targets.get(sources[0])}
        faces_files.check(settings.faces_in, settings.faces_out, others, overwrite=settings.overwrite)
    if settings.faces_in and (settings.choice.keep_tracks or settings.choice.leave_tracks):
        wrong = faces_files.missing_tracks(settings.choice, faces_files.summarize(settings.faces_in).tracks)
        if wrong:
            raise OptionError(f"{settings.faces_in}: {wrong}")
