"""Draw over a camera or a stream, until it ends or somebody stops it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

from scrfd_trt.cli import messages, outputs
from scrfd_trt.cli.video_bar import told
from scrfd_trt.cli.video_options import ClipSettings, ProgressKind
from scrfd_trt.cli.video_report import as_dict, headline
from scrfd_trt.detector import SCRFDDetector
from scrfd_trt.errors import OptionError, VideoError
from scrfd_trt.video import Choice, Drawn, LiveReader, Summary, VideoReader, VideoWriter, draw_live, open_source
from scrfd_trt.video.drawing import Draw
from scrfd_trt.video.info import public_name
from scrfd_trt.video.writing import check_suffix


def is_address(text: str) -> bool:
    """Tell a camera or an address from files and folders."""
    return bool(re.match(r"camera:|[a-z][a-z0-9+.-]*://", text, re.IGNORECASE))


def check(inputs: Sequence[str], output: Path | None, settings: ClipSettings) -> Path:
    """Refuse what does not go with a camera or a stream; return where it is written to.

    Raises
    ------
    OptionError
        If there is more than one input, no video file to write, or an option that needs to know the end.
    """
    name = public_name(inputs[0])
    if len(inputs) > 1:
        raise OptionError(f"{name} comes with other inputs; a camera or a stream is taken alone")
    if output is None:
        raise OptionError(f"{name} has no file beside which a copy could lie; name one with --output")
    check_suffix(output)
    outputs.check_free(output, overwrite=settings.overwrite)
    if settings.faces_in or settings.faces_out or settings.choice != Choice():
        raise OptionError(
            f"{name} is live: files of detections and a choice of tracks, regions and times are for files"
        )
    return output


def write_live(
    address: str,
    output: Path,
    detector: SCRFDDetector,
    draw: Draw,
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
            messages.warning(
                f"{reader.name}: a video on the web is done in one pass{_without_sound(reader, settings)}; "
                "download it first for both passes"
            )
        summary = Summary(reader.info.size, settings.follow.threshold)
        with VideoWriter(output, reader, settings.encode, overwrite=settings.overwrite) as writer:
            running = draw_live(reader, detector, draw, options=settings.follow, delay=settings.delay)
            with closing(running), told(Path(reader.name), progress, quiet=quiet) as progressed:
                broken = _write(running, writer, summary, settings, lambda done: progressed("drawing", done, None))
        dropped = reader.dropped if isinstance(reader, LiveReader) else 0
    with suppress(OSError):  # of a terminal that was closed, which is what may have ended it
        _tell_end(output, summary, dropped, progress, quiet=quiet)
    if broken is not None:
        raise broken


def _tell_end(output: Path, summary: Summary, dropped: int, progress: ProgressKind, *, quiet: bool) -> None:
    if progress == "jsonl":
        messages.line(json.dumps({"progress": "done", "output": str(output), "dropped": dropped, **as_dict(summary)}))
    elif not quiet:
        late = f"; {dropped} came too fast and were left out" if dropped else ""
        messages.plain(f"wrote {output}: {headline(summary)}{late}")


def _without_sound(reader: VideoReader, settings: ClipSettings) -> str:
    return ", and without its sound" if reader.container.streams.audio and "audio" in settings.keep else ""


def _write(
    frames: Iterator[Drawn],
    writer: VideoWriter,
    summary: Summary,
    settings: ClipSettings,
    progressed: Callable[[int], None],
) -> Exception | None:
    """Write frames until they end, the time is over, or Ctrl-C; return what broke the source once there were some."""
    start: float | None = None
    try:
        for drawn in frames:
            start = drawn.frame.time if start is None else start
            if settings.duration is not None and drawn.frame.time - start >= settings.duration:
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
