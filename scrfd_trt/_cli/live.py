"""Cover the faces of a camera or stream until it ends or is stopped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from scrfd_trt._cli import console, outputs, signals
from scrfd_trt._cli.content import VIDEO_SUFFIXES
from scrfd_trt._cli.options import CopySettings
from scrfd_trt._cli.progress import show_progress
from scrfd_trt._cli.video_report import as_dict, headline, missed_lines, print_written, stream_lines
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._image_files.read import IMAGE_SUFFIXES
from scrfd_trt.errors import OptionError, VideoError, redact_password
from scrfd_trt.video import (
    LiveReader,
    RenderedFrame,
    Summary,
    VideoReader,
    VideoWriter,
    _pyav,
    open_source,
    overlay_live,
)
from scrfd_trt.video._canvas import OverlayFunction
from scrfd_trt.video._first_pass import detector_options
from scrfd_trt.video._reader import is_camera
from scrfd_trt.video._two_pass import ProgressCallback
from scrfd_trt.video._writer import check_suffix

STREAMED_SUFFIXES = (".ts", ".flv", ".mjpeg", ".mjpg")  # of addresses that cameras and broadcasts have, too

if TYPE_CHECKING:
    from scrfd_trt._studio.preview import Preview


def is_address(text: str) -> bool:
    """Return whether an input is a camera or an address, and not a file of that name."""
    kind = _pyav.scheme(text)
    if kind and kind not in _pyav.PROTOCOLS:
        how = f"use the path {text[7:]}" if kind == "file" else f"they begin with {', '.join(_pyav.PROTOCOLS)}"
        raise OptionError(f"{redact_password(text)}: {kind}:// addresses are not read; {how}")
    return is_camera(text) or bool(kind)


def is_web_address(text: str) -> bool:
    """Return whether an address may be a video, with streams other than its pictures."""
    return _pyav.scheme(text) in {"http", "https"}


def is_file_address(text: str, output: Path | None) -> bool:
    """Return whether a web address is that of a file, by its suffix, or of a picture, by that of the output."""
    if not is_web_address(text):
        return False
    suffix = Path(urlsplit(text).path).suffix.lower()
    is_picture = output is not None and output.suffix.lower() in IMAGE_SUFFIXES
    return is_picture or suffix in IMAGE_SUFFIXES or (suffix in VIDEO_SUFFIXES and suffix not in STREAMED_SUFFIXES)


def refuse(inputs: Sequence[str], command: str) -> None:
    """Raise OptionError if an input is a camera or the address of a stream."""
    if found := next((text for text in inputs if is_address(text) and not is_web_address(text)), None):
        raise OptionError(
            f"{redact_password(found)}: {command} does not read cameras or streams; use overlay or anonymize"
        )


def check(inputs: Sequence[str], output: Path | None, settings: CopySettings) -> Path:
    """Return the video to write; raise OptionError if the options do not fit a live source."""
    name = redact_password(next(filter(is_address, inputs)))
    if len(inputs) > 1:
        raise OptionError(f"{name} cannot be combined with other inputs; process it alone")
    if output is None:
        raise OptionError(f"{name} requires --output FILE")
    if output == Path("-"):
        raise OptionError(f"{name} cannot go to standard output, because a finished video is checked; name a file")
    check_suffix(output)
    outputs.check_free(output, kind="video", overwrite=settings.overwrite)
    return output


def write(
    address: str,
    output: Path,
    detector: SCRFDDetector,
    draw: OverlayFunction,
    settings: CopySettings,
    *,
    preview: Preview | None,
) -> None:
    """Write the video of a live source; after Ctrl-C, a stop on the page or a VideoError, what is written is kept."""
    with open_source(address, damaged=settings.damaged) as reader:
        if isinstance(reader, VideoReader) and not settings.quiet:
            _warn_of_one_pass(reader, settings)
        detector = settings.looks.for_video(detector, reader.info.size, live=True)
        summary = Summary(reader.info.size, settings.tracking.threshold)
        summary.detector_options = detector_options(detector)
        with VideoWriter(output, reader, settings.encode, overwrite=settings.overwrite) as writer:
            writer.watch = None if preview is None else preview.show
            frames = overlay_live(reader, detector, draw, tracking=settings.tracking, delay=settings.live.delay)
            display = show_progress(reader.name, settings.progress, quiet=settings.quiet, preview=preview)
            with closing(frames), display as report:
                duration = settings.live.duration
                error = _write_frames(frames, writer, summary, duration, report=report, preview=preview)
        summary.converted, summary.omitted = writer.converted, writer.omitted
        dropped = reader.dropped if isinstance(reader, LiveReader) else 0
    with suppress(OSError):  # a closed terminal, which may be what stopped the recording
        _report_end(output, summary, dropped, draw, settings)
    if error is not None:
        raise error


def _warn_of_one_pass(reader: VideoReader, settings: CopySettings) -> None:
    loses_audio = reader.container.streams.audio and settings.encode.audio != "drop"
    console.warning(
        f"{reader.name}: a video on the web is processed in one pass{', without its audio' if loses_audio else ''}; "
        "download it first for two passes"
    )


def _write_frames(
    frames: Iterator[RenderedFrame],
    writer: VideoWriter,
    summary: Summary,
    duration: float | None,
    *,
    report: ProgressCallback,
    preview: Preview | None,
) -> Exception | None:
    """Write frames until they end, the time is over, or a stop; return an error that occurs after the first frame."""
    start: float | None = None
    try:
        for drawn in frames:
            start = drawn.frame.pts_seconds if start is None else start
            if duration is not None and drawn.frame.pts_seconds - start >= duration:
                return None
            writer.write(drawn.frame, drawn.image)
            summary.add(drawn.faces)
            report("drawing", summary.frames, None)
            if preview is not None and preview.stopped:
                return None
    except KeyboardInterrupt:
        if not summary.frames:
            raise
        signals.forget()
    except VideoError as error:
        if not summary.frames:
            raise
        return error
    return None


def _report_end(output: Path, summary: Summary, dropped: int, draw: OverlayFunction, settings: CopySettings) -> None:
    if settings.progress == "jsonl" or (console.as_json and not settings.quiet):
        console.progress_line("done", output=str(output), dropped=dropped, **as_dict(summary))
    if settings.progress != "jsonl" and not settings.quiet:
        late = f"; {console.count(dropped, 'late frame')} dropped" if dropped else ""
        print_written(output, f"{headline(summary)}{late}", draw, summary.faces)
        for line in [*stream_lines(summary), *missed_lines(summary)]:
            console.stderr_line(line)
