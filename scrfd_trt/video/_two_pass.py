"""Both passes over a video: find its faces, then draw over them."""

from __future__ import annotations

import gc
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._detections import Detections
from scrfd_trt._tracking.faces import FrameFaces
from scrfd_trt._tracking.options import TrackingOptions
from scrfd_trt.errors import DetectionsError
from scrfd_trt.video._detections_file import FACES_SUFFIX, FacesReader, FacesWriter
from scrfd_trt.video._encoders import EncodeOptions
from scrfd_trt.video._first_pass import FrameDetector, Reader, ahead, find_faces
from scrfd_trt.video._reader import Damaged, Frame, VideoReader
from scrfd_trt.video._selection import TrackSelection
from scrfd_trt.video._sources import open_source
from scrfd_trt.video._summary import Summary
from scrfd_trt.video._timestamps import ConstantFrameRate, format_time
from scrfd_trt.video._writer import VideoWriter

OverlayFunction = Callable[[NDArray[np.uint8], Detections], NDArray[np.uint8]]
"""An overlay."""

SLACK = 0.002
"""Seconds by which a frame's time may differ from what stands beside its faces."""


def render_frames(
    reader: Reader, faces: Iterable[FrameFaces], draw: OverlayFunction, writer: VideoWriter
) -> Iterator[Frame]:
    """Draw over the faces of a video and write it, with its other streams.

    Parameters
    ----------
    reader
        The video; read to its end.
    faces
        Of each of its frames, in order.
    draw
        Takes an image and its faces, and returns the image with something drawn over them; it is called on the thread
        that decodes, while the frames before are encoded. Frames without a face go to the writer as they are.
    writer
        Takes the frames; it is not closed here.

    Yields
    ------
    Frame
        Each frame that was written.

    Raises
    ------
    DetectionsError
        If the faces are those of another video.
    """
    with ahead(_drawn(reader, faces, draw, writer)) as items:
        for item, picture in items:
            if isinstance(item, Frame):
                writer.encode(item, picture)
                yield item
            else:
                writer.copy(item)


def _drawn(
    reader: Reader, faces: Iterable[FrameFaces], draw: OverlayFunction, writer: VideoWriter
) -> Iterator[tuple[Any, Any]]:
    """Draw over frames, and make them ready to be encoded; packets of other streams come along."""
    source = iter(faces)
    for item in reader.items():
        if not isinstance(item, Frame):
            yield item, None
            continue
        found = next(source, None)
        if found is None:
            raise DetectionsError(
                f"{reader.name}: there are faces of {item.number} frames, and the video has more; find its faces anew"
            )
        if abs(found.pts_seconds - item.pts_seconds) > SLACK:
            raise DetectionsError(
                f"{reader.name}: frame {item.number} is shown at {format_time(item.pts_seconds)}, and its faces are of "
                f"{format_time(found.pts_seconds)}; they are those of another video"
            )
        size = (item.picture.width, item.picture.height)
        drawn = draw(item.image, found.detections(size)) if found.faces else None
        yield item, writer.prepare(item, drawn)
    if next(source, None) is not None:
        raise DetectionsError(f"{reader.name}: there are faces of more frames than the video has; find its faces anew")


log = logging.getLogger("scrfd_trt")

Source = str | os.PathLike[str]
Stage = Literal["finding", "drawing"]
ProgressCallback = Callable[[Stage, int, int | None], None]
"""Told after each frame: which pass, how many frames of it are done, and of how many, if that is known."""


def _silent(stage: Stage, done: int, total: int | None) -> None:
    """Tell nobody."""


def detect_video(
    source: Source,
    faces_file: Source,
    detector: FrameDetector,
    *,
    tracking: TrackingOptions | None = None,
    overwrite: bool = False,
    damaged: Damaged = "stop",
    progress: ProgressCallback = _silent,
) -> Summary:
    """Find the faces of a video, follow them, and write them into a file.

    Parameters
    ----------
    source
        What :func:`open_source` takes, but what is live.
    faces_file
        Where its faces are written to, as JSON lines.
    detector
        Looks for them.
    tracking
        How they are followed.
    overwrite, damaged
        As for :class:`FacesWriter` and :class:`VideoReader`.
    progress
        Told after each frame.

    Returns
    -------
    Summary
        What was found.

    Raises
    ------
    VideoError, OutputError, OptionError
        If the video cannot be read or the file not written; then there is no file.
    """
    return _find(
        source, faces_file, detector, tracking=tracking, overwrite=overwrite, damaged=damaged, progress=progress
    )


def _find(
    source: Source,
    faces_file: Source,
    detector: FrameDetector,
    *,
    tracking: TrackingOptions | None,
    overwrite: bool,
    damaged: Damaged,
    progress: ProgressCallback,
    even: ConstantFrameRate | None = None,
) -> Summary:
    options = tracking or TrackingOptions()
    with open_source(source, damaged=damaged) as reader:
        summary = Summary(reader.info.size, options.threshold)
        with (
            FacesWriter(faces_file, reader.info, options, overwrite=overwrite) as file,
            closing(find_faces(reader, detector, options)) as frames,
        ):
            for frame in frames:
                if even is not None:
                    even.place(frame.number, frame.pts_seconds)
                file.write(frame)
                summary.add(frame)
                progress("finding", summary.frames, reader.info.frames)
        summary.lost = reader.lost
    _tidy()
    return summary


def render_video(
    source: Source,
    output: Source,
    faces_file: Source,
    draw: OverlayFunction,
    *,
    selection: TrackSelection | None = None,
    encode: EncodeOptions | None = None,
    overwrite: bool = False,
    damaged: Damaged = "stop",
    keep_streams: tuple[str, ...] = ("audio", "subtitle"),
    keep_metadata: bool = False,
    progress: ProgressCallback = _silent,
) -> Summary:
    """Draw over the faces of a video that were found before.

    Parameters
    ----------
    source, output
        The video, and the one that is written.
    faces_file
        What :func:`detect_video` wrote.
    draw
        An overlay.
    selection
        Which faces are drawn over; all where left out.
    encode, overwrite, keep_metadata
        As for :class:`VideoWriter`.
    damaged
        As for :class:`VideoReader`, and as the faces were found with.
    keep_streams
        Kinds of other streams that are copied.
    progress
        Told after each frame.

    Returns
    -------
    Summary
        Of the faces that were drawn over.

    Raises
    ------
    VideoError, OutputError, OptionError
        If the video cannot be read or the other not written; then there is no file.
    DetectionsError
        If the faces are those of another video.
    """
    return _draw(
        source,
        output,
        faces_file,
        draw,
        selection=selection,
        encode=encode,
        overwrite=overwrite,
        damaged=damaged,
        keep_streams=keep_streams,
        keep_metadata=keep_metadata,
        progress=progress,
        warn=True,
    )


def _draw(
    source: Source,
    output: Source,
    faces_file: Source,
    draw: OverlayFunction,
    *,
    selection: TrackSelection | None,
    encode: EncodeOptions | None,
    overwrite: bool,
    damaged: Damaged,
    keep_streams: tuple[str, ...],
    keep_metadata: bool,
    progress: ProgressCallback,
    warn: bool,
) -> Summary:
    with FacesReader(faces_file) as found, open_source(source, damaged=damaged, extra_streams=keep_streams) as reader:
        found.check(reader.info)
        chosen = (selection or TrackSelection()).settle(found if selection and selection.needs_tracks else ())
        sure = TrackingOptions.model_validate(found.head.tracking).threshold
        summary = Summary(reader.info.size, sure)

        def faces() -> Iterator[FrameFaces]:
            for frame in found:
                kept = chosen.of(frame)
                summary.add(kept)
                summary.left_out.update({face.track for face in frame.faces} - {face.track for face in kept.faces})
                yield kept

        with VideoWriter(output, reader, encode, overwrite=overwrite, keep_metadata=keep_metadata) as writer:
            if warn:
                _warn(reader)
            for frame in render_frames(reader, faces(), draw, writer):
                progress("drawing", frame.number + 1, reader.info.frames)
        summary.lost = reader.lost
    _tidy()
    return summary


def overlay_video(
    source: Source,
    output: Source,
    detector: FrameDetector,
    draw: OverlayFunction,
    *,
    tracking: TrackingOptions | None = None,
    selection: TrackSelection | None = None,
    encode: EncodeOptions | None = None,
    faces_file: Source | None = None,
    overwrite: bool = False,
    damaged: Damaged = "stop",
    keep_streams: tuple[str, ...] = ("audio", "subtitle"),
    keep_metadata: bool = False,
    progress: ProgressCallback = _silent,
) -> Summary:
    """Find the faces of a video and draw over them, in two passes.

    Whether the file can be written is tried before the first: its folder, the encoder, and what of sound and subtitles
    the container can hold. What it cannot is refused, and never left out without a word;
    ``keep_streams`` leaves it out.

    Of several streams of pictures, such as the front and the rear of a dashcam, only the first is read and written, and
    a warning is logged (``scrfd_trt``).

    Parameters
    ----------
    faces_file
        Where the faces are written to; None for a file that is gone afterwards.
    source, output, detector, draw, tracking, selection, encode, overwrite, damaged, keep_streams, keep_metadata,
    progress
        As for :func:`detect_video` and :func:`render_video`.

    Returns
    -------
    Summary
        Of the faces that were drawn over.

    Raises
    ------
    VideoError, OutputError, OptionError
        As for :func:`detect_video` and :func:`render_video`.
    """
    with _place(faces_file) as place:
        with open_source(source, damaged=damaged, extra_streams=keep_streams) as reader:
            even = _try(output, reader, encode, overwrite)
        _find(
            source,
            place,
            detector,
            tracking=tracking,
            overwrite=overwrite,
            damaged=damaged,
            progress=progress,
            even=even,
        )
        return _draw(
            source,
            output,
            place,
            draw,
            selection=selection,
            encode=encode,
            overwrite=overwrite,
            damaged=damaged,
            keep_streams=keep_streams,
            keep_metadata=keep_metadata,
            progress=progress,
            warn=False,
        )


def _try(output: Source, reader: Reader, encode: EncodeOptions | None, overwrite: bool) -> ConstantFrameRate | None:
    """Begin to write and leave it at that: what cannot work is told before all of the video was looked at."""
    writer = VideoWriter(output, reader, encode, overwrite=overwrite)
    writer.discard()
    _tidy()
    _warn(reader)
    return writer.even


def _tidy() -> None:
    """Let go of what was closed: PyAV's containers and streams hold on to each other, and to their encoders' frames."""
    gc.collect()


def _warn(reader: Reader) -> None:
    unread_streams = reader.unread_streams if isinstance(reader, VideoReader) else 0
    if unread_streams:
        log.warning(
            "%s: there are %d streams of pictures; only the first is read and written, so run the others one by one",
            reader.name,
            unread_streams + 1,
        )


@contextmanager
def _place(faces_file: Source | None) -> Iterator[Path]:
    if faces_file is not None:
        yield Path(faces_file)
        return
    with tempfile.TemporaryDirectory(prefix="scrfd-trt-") as folder:
        yield Path(folder, f"clip{FACES_SUFFIX}")
