"""Both passes over a video: find its faces, then draw over them."""

from __future__ import annotations

import gc
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

from scrfd_trt.video.choice import Choice
from scrfd_trt.video.detecting import Finder, Reader, find_faces
from scrfd_trt.video.drawing import Draw, draw_faces
from scrfd_trt.video.even import Even
from scrfd_trt.video.faces import FrameFaces
from scrfd_trt.video.faces_file import SUFFIX, FacesReader, FacesWriter
from scrfd_trt.video.follow_options import FollowOptions
from scrfd_trt.video.options import EncodeOptions
from scrfd_trt.video.reading import Damaged, VideoReader
from scrfd_trt.video.sources import open_source
from scrfd_trt.video.summary import Summary
from scrfd_trt.video.writing import VideoWriter

log = logging.getLogger("scrfd_trt")

Source = str | os.PathLike[str]
Stage = Literal["finding", "drawing"]
Progress = Callable[[Stage, int, int | None], None]
"""Told after each frame: which pass, how many frames of it are done, and of how many, if that is known."""


def _silent(stage: Stage, done: int, total: int | None) -> None:
    """Tell nobody."""


def detect_video(
    source: Source,
    faces_file: Source,
    detector: Finder,
    *,
    follow: FollowOptions | None = None,
    overwrite: bool = False,
    damaged: Damaged = "stop",
    progress: Progress = _silent,
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
    follow
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
    return _find(source, faces_file, detector, follow=follow, overwrite=overwrite, damaged=damaged, progress=progress)


def _find(
    source: Source,
    faces_file: Source,
    detector: Finder,
    *,
    follow: FollowOptions | None,
    overwrite: bool,
    damaged: Damaged,
    progress: Progress,
    even: Even | None = None,
) -> Summary:
    options = follow or FollowOptions()
    with open_source(source, damaged=damaged) as reader:
        summary = Summary(reader.info.size, options.threshold)
        with (
            FacesWriter(faces_file, reader.info, options, overwrite=overwrite) as file,
            closing(find_faces(reader, detector, options)) as frames,
        ):
            for frame in frames:
                if even is not None:
                    even.place(frame.number, frame.time)
                file.write(frame)
                summary.add(frame)
                progress("finding", summary.frames, reader.info.frames)
        summary.lost = reader.lost
    _tidy()
    return summary


def draw_video(
    source: Source,
    output: Source,
    faces_file: Source,
    draw: Draw,
    *,
    choice: Choice | None = None,
    encode: EncodeOptions | None = None,
    overwrite: bool = False,
    damaged: Damaged = "stop",
    keep: tuple[str, ...] = ("audio", "subtitle"),
    keep_metadata: bool = False,
    progress: Progress = _silent,
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
    choice
        Which faces are drawn over; all where left out.
    encode, overwrite, keep_metadata
        As for :class:`VideoWriter`.
    damaged
        As for :class:`VideoReader`, and as the faces were found with.
    keep
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
        choice=choice,
        encode=encode,
        overwrite=overwrite,
        damaged=damaged,
        keep=keep,
        keep_metadata=keep_metadata,
        progress=progress,
        warn=True,
    )


def _draw(
    source: Source,
    output: Source,
    faces_file: Source,
    draw: Draw,
    *,
    choice: Choice | None,
    encode: EncodeOptions | None,
    overwrite: bool,
    damaged: Damaged,
    keep: tuple[str, ...],
    keep_metadata: bool,
    progress: Progress,
    warn: bool,
) -> Summary:
    with FacesReader(faces_file) as found, open_source(source, damaged=damaged, others=keep) as reader:
        found.check(reader.info)
        chosen = (choice or Choice()).settle(found if choice and choice.needs_tracks else ())
        sure = FollowOptions.model_validate(found.head.follow).threshold
        summary = Summary(reader.info.size, sure)

        def faces() -> Iterator[FrameFaces]:
            for frame in found:
                kept = chosen.of(frame)
                summary.add(kept)
                summary.left.update({face.track for face in frame.faces} - {face.track for face in kept.faces})
                yield kept

        with VideoWriter(output, reader, encode, overwrite=overwrite, keep_metadata=keep_metadata) as writer:
            if warn:
                _warn(reader)
            for frame in draw_faces(reader, faces(), draw, writer):
                progress("drawing", frame.number + 1, reader.info.frames)
        summary.lost = reader.lost
    _tidy()
    return summary


def overlay_video(
    source: Source,
    output: Source,
    detector: Finder,
    draw: Draw,
    *,
    follow: FollowOptions | None = None,
    choice: Choice | None = None,
    encode: EncodeOptions | None = None,
    faces_file: Source | None = None,
    overwrite: bool = False,
    damaged: Damaged = "stop",
    keep: tuple[str, ...] = ("audio", "subtitle"),
    keep_metadata: bool = False,
    progress: Progress = _silent,
) -> Summary:
    """Find the faces of a video and draw over them, in two passes.

    Whether the file can be written is tried before the first: its folder, the encoder, and what of sound and subtitles
    the container can hold. What it cannot is refused, and never left out without a word; ``keep`` leaves it out.

    Of several streams of pictures, such as the front and the rear of a dashcam, only the first is read and written, and
    a warning is logged (``scrfd_trt``).

    Parameters
    ----------
    faces_file
        Where the faces are written to; None for a file that is gone afterwards.
    source, output, detector, draw, follow, choice, encode, overwrite, damaged, keep, keep_metadata, progress
        As for :func:`detect_video` and :func:`draw_video`.

    Returns
    -------
    Summary
        Of the faces that were drawn over.

    Raises
    ------
    VideoError, OutputError, OptionError
        As for :func:`detect_video` and :func:`draw_video`.
    """
    with _place(faces_file) as place:
        with open_source(source, damaged=damaged, others=keep) as reader:
            even = _try(output, reader, encode, overwrite)
        _find(
            source,
            place,
            detector,
            follow=follow,
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
            choice=choice,
            encode=encode,
            overwrite=overwrite,
            damaged=damaged,
            keep=keep,
            keep_metadata=keep_metadata,
            progress=progress,
            warn=False,
        )


def _try(output: Source, reader: Reader, encode: EncodeOptions | None, overwrite: bool) -> Even | None:
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
    unread = reader.unread if isinstance(reader, VideoReader) else 0
    if unread:
        log.warning(
            "%s: there are %d streams of pictures; only the first is read and written, so run the others one by one",
            reader.name,
            unread + 1,
        )


@contextmanager
def _place(faces_file: Source | None) -> Iterator[Path]:
    if faces_file is not None:
        yield Path(faces_file)
        return
    with tempfile.TemporaryDirectory(prefix="scrfd-trt-") as folder:
        yield Path(folder, f"clip{SUFFIX}")
