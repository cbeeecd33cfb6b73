"""Draw over a camera or a stream, until it ends or somebody stops it."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from scrfd_trt._cli import console, outputs
from scrfd_trt._cli.images import OF_ONE_INPUT, Tally
from scrfd_trt._cli.inputs import Source, same_file_key
from scrfd_trt._cli.options import ClipSettings, ProgressKind
from scrfd_trt._cli.progress import show_progress
from scrfd_trt._cli.report import as_dict, headline, report
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt.errors import DetectionsError, OptionError, VideoError
from scrfd_trt.video import (
    FacesReader,
    LiveReader,
    RenderedFrame,
    Summary,
    TrackingOptions,
    TrackSelection,
    VideoReader,
    VideoWriter,
    detect_video,
    open_source,
    overlay_live,
    render_video,
)
from scrfd_trt.video._detections_file import FACES_SUFFIX
from scrfd_trt.video._reader import redact_password
from scrfd_trt.video._two_pass import OverlayFunction, ProgressCallback
from scrfd_trt.video._writer import check_suffix

LINES = ".jsonl"


def check_detections_files(
    faces_in: Path | None, faces_out: Path | None, others: Mapping[str, Path | None], *, overwrite: bool
) -> None:
    """Refuse files of faces that cannot be, before anything is done.

    Parameters
    ----------
    faces_in, faces_out
        To draw from, and to write.
    others
        The other files of the command, by what they are.
    overwrite
        Whether a file may be replaced.

    Raises
    ------
    OptionError
        If both are given, or the one to write is another of the files, is there already or has no suffix for it.
    """
    if faces_in and faces_out:
        raise OptionError("--detections and --save-detections exclude each other: the faces are in a file already")
    if faces_out is None:
        return
    for what, other in others.items():
        if other is not None and same_file_key(other) == same_file_key(faces_out):
            raise OptionError(f"--save-detections {faces_out} is {what}; name another file, NAME{FACES_SUFFIX}")
    if faces_out.suffix.lower() != LINES:
        raise OptionError(
            f"--save-detections {faces_out}: JSON lines are written; name a file that ends in {FACES_SUFFIX}"
        )
    outputs.check_free(faces_out, overwrite=overwrite)


def check_single(
    faces_in: Path | None, faces_out: Path | None, choice: TrackSelection, sources: Sequence[Source]
) -> None:
    """Refuse what is for one video where something else comes in.

    Raises
    ------
    OptionError
        If a file of faces or a number of a track is named, and not a single video.
    """
    if len(sources) == 1 and sources[0].is_video:
        return
    given = {
        "--detections": faces_in,
        "--save-detections": faces_out,
        "--keep-tracks": choice.keep_tracks,
        "--leave-tracks": choice.leave_tracks,
    }
    option = next((name for name, value in given.items() if value), None)
    if option is not None:
        raise OptionError(f"{option} is for a single video; run them one by one")


def summarize(faces_file: Path) -> Summary:
    """Read a file of a video's faces to its end.

    Raises
    ------
    DetectionsError
        If it is none.
    """
    with FacesReader(faces_file) as found:
        sure = TrackingOptions.model_validate(found.head.tracking).threshold
        summary = Summary(found.head.size, sure)
        for frame in found:
            summary.add(frame)
    return summary


def missing_tracks(choice: TrackSelection, there: Iterable[int]) -> str:
    """Say which tracks were chosen that are not there, and which are; nothing if all are.

    Parameters
    ----------
    choice
        Of the person.
    there
        Numbers of the video's tracks.
    """
    known = set(there)
    wrong = sorted((choice.keep_tracks | choice.leave_tracks) - known)
    if not wrong:
        return ""
    has = f"the tracks are: {_ranges(sorted(known))}" if known else "the video has no tracks"
    return f"there is no track {', '.join(map(str, wrong))}; {has}"


@contextmanager
def detections_path(path: Path | None) -> Iterator[Path]:
    """Give a place for a file of faces: the path, or one that is gone afterwards."""
    if path is not None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="scrfd-trt-") as folder:
        yield Path(folder, f"clip{FACES_SUFFIX}")


def _ranges(numbers: Sequence[int]) -> str:
    """Write ``1-3, 7``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


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
        draw: OverlayFunction,
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
                with (
                    console.about(source.path),
                    show_progress(source.path, self._progress, quiet=self._quiet) as progress,
                ):
                    summary = self._one(source.path, targets[source], detector, progress)
            except OF_ONE_INPUT as error:
                self._tally.fail(source.path, error)
                continue
            self._tally.add_video(summary)
            self._tell(targets[source], summary)

    def _one(self, source: Path, target: Path, detector: SCRFDDetector | None, progress: ProgressCallback) -> Summary:
        how = self._settings
        outputs.make_folder(target.parent)
        if how.faces_in is not None or detector is None:
            return self._draw_from(how.faces_in or Path(), source, target, progress)
        with detections_path(how.faces_out) as place:
            found = detect_video(
                source,
                place,
                detector,
                tracking=how.follow,
                overwrite=how.overwrite,
                damaged=how.damaged,
                progress=progress,
            )
            if wrong := missing_tracks(how.choice, found.tracks):
                raise DetectionsError(wrong)
            return self._draw_from(place, source, target, progress)

    def _draw_from(self, faces: Path, source: Path, target: Path, progress: ProgressCallback) -> Summary:
        how = self._settings
        return render_video(
            source,
            target,
            faces,
            self._draw,
            selection=how.choice,
            encode=how.encode,
            overwrite=how.overwrite,
            damaged=how.damaged,
            keep_streams=how.keep,
            keep_metadata=how.keep_metadata,
            progress=progress,
        )

    def _tell(self, target: Path, summary: Summary) -> None:
        if self._progress == "jsonl":
            console.stderr_line(json.dumps({"progress": "done", "output": str(target), **as_dict(summary)}))
        elif not self._quiet:
            if summary.left_out and not summary.faces:
                console.warning(f"{target}: all faces stay in sight; what you chose leaves out every track")
            console.plain(f"wrote {target}: {headline(summary)}")
            for line in report(summary) if self._full else ():
                console.stderr_line(line)


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
    check_single(settings.faces_in, settings.faces_out, settings.choice, sources)
    if sources:
        others = {"the input": sources[0].path, "the output": targets.get(sources[0])}
        check_detections_files(settings.faces_in, settings.faces_out, others, overwrite=settings.overwrite)
    if settings.faces_in and (settings.choice.keep_tracks or settings.choice.leave_tracks):
        wrong = missing_tracks(settings.choice, summarize(settings.faces_in).tracks)
        if wrong:
            raise OptionError(f"{settings.faces_in}: {wrong}")


def is_address(text: str) -> bool:
    """Tell a camera or an address from files and folders."""
    return bool(re.match(r"camera:|[a-z][a-z0-9+.-]*://", text, re.IGNORECASE))


def check_live(inputs: Sequence[str], output: Path | None, settings: ClipSettings) -> Path:
    """Refuse what does not go with a camera or a stream; return where it is written to.

    Raises
    ------
    OptionError
        If there is more than one input, no video file to write, or an option that needs to know the end.
    """
    name = redact_password(inputs[0])
    if len(inputs) > 1:
        raise OptionError(f"{name} comes with other inputs; a camera or a stream is taken alone")
    if output is None:
        raise OptionError(f"{name} has no file beside which a copy could lie; name one with --output")
    check_suffix(output)
    outputs.check_free(output, overwrite=settings.overwrite)
    if settings.faces_in or settings.faces_out or settings.choice != TrackSelection():
        raise OptionError(
            f"{name} is live: files of detections and a choice of tracks, regions and times are for files"
        )
    return output


def write_live(
    address: str,
    output: Path,
    detector: SCRFDDetector,
    draw: OverlayFunction,
    settings: ClipSettings,
    *,
    progress: ProgressKind,
    quiet: bool,
) -> None:
    """Write a video of a live source; Ctrl-C ends it, and what came until then is kept.

    Parameters
    ----------
    address
        As :func:`scrfd_trt.video.open_source` takes it.
    output
        The video.
    detector, draw, settings
        Finds faces, draws over them, and how.
    progress, quiet
        How it is told how far it is.

    Raises
    ------
    VideoError
        If the source breaks for good; what came until then is kept.
    """
    with open_source(address, damaged=settings.damaged) as reader:
        if isinstance(reader, VideoReader) and not quiet:
            console.warning(
                f"{reader.name}: a video on the web is done in one pass{_without_sound(reader, settings)}; "
                "download it first for both passes"
            )
        summary = Summary(reader.info.size, settings.follow.threshold)
        with VideoWriter(output, reader, settings.encode, overwrite=settings.overwrite) as writer:
            running = overlay_live(reader, detector, draw, tracking=settings.follow, delay=settings.delay)
            with closing(running), show_progress(Path(reader.name), progress, quiet=quiet) as progressed:
                broken = _write(running, writer, summary, settings, lambda done: progressed("drawing", done, None))
        dropped = reader.dropped if isinstance(reader, LiveReader) else 0
    with suppress(OSError):  # of a terminal that was closed, which is what may have ended it
        _tell_end(output, summary, dropped, progress, quiet=quiet)
    if broken is not None:
        raise broken


def _tell_end(output: Path, summary: Summary, dropped: int, progress: ProgressKind, *, quiet: bool) -> None:
    if progress == "jsonl":
        console.stderr_line(
            json.dumps({"progress": "done", "output": str(output), "dropped": dropped, **as_dict(summary)})
        )
    elif not quiet:
        late = f"; {dropped} came too fast and were left out" if dropped else ""
        console.plain(f"wrote {output}: {headline(summary)}{late}")


def _without_sound(reader: VideoReader, settings: ClipSettings) -> str:
    return ", and without its sound" if reader.container.streams.audio and "audio" in settings.keep else ""


def _write(
    frames: Iterator[RenderedFrame],
    writer: VideoWriter,
    summary: Summary,
    settings: ClipSettings,
    progressed: Callable[[int], None],
) -> Exception | None:
    """Write frames until they end, the time is over, or Ctrl-C; return what broke the source once there were some."""
    start: float | None = None
    try:
        for drawn in frames:
            start = drawn.frame.pts_seconds if start is None else start
            if settings.duration is not None and drawn.frame.pts_seconds - start >= settings.duration:
                return None
            writer.write(drawn.frame, drawn.image)
            summary.add(drawn.faces)
            progressed(summary.frames)
    except KeyboardInterrupt:
        if not summary.frames:
            raise
    except VideoError as error:
        if not summary.frames:
            raise
        return error
    return None
