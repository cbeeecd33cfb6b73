"""Two passes over a video: detect its faces, then render it with an overlay."""

from __future__ import annotations

import ctypes
import gc
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Literal

import numpy as np

from scrfd_trt._files import check_not_input, temporary_folder
from scrfd_trt._jobs.profile import measured, measured_items
from scrfd_trt._jobs.stages import prefetched
from scrfd_trt._option_names import explained_options
from scrfd_trt._tracking.faces import FrameFaces
from scrfd_trt._tracking.options import TrackingOptions, tracking_of
from scrfd_trt.errors import DetectionsError, OptionError
from scrfd_trt.video._animation_writer import Writer, open_writer
from scrfd_trt.video._canvas import OverlayFunction, gpu_overlay
from scrfd_trt.video._detections_file import FACES_SUFFIX, FacesReader, FacesWriter, Header
from scrfd_trt.video._encoders import EncodeOptions
from scrfd_trt.video._extra_streams import kinds
from scrfd_trt.video._first_pass import FrameDetector, detector_options, frame_device, queue_size, track_faces
from scrfd_trt.video._live_reader import Reader
from scrfd_trt.video._reader import Damaged, Frame, Source, VideoInfo, VideoReader
from scrfd_trt.video._second_look import SecondLook
from scrfd_trt.video._selection import (
    ALWAYS,
    Cover,
    Span,
    TrackSelection,
    add_covers,
    check_tracks,
    format_spans,
    is_within,
    join_spans,
)
from scrfd_trt.video._sources import open_source
from scrfd_trt.video._summary import Summary
from scrfd_trt.video._timestamps import ConstantFrameRate, format_time
from scrfd_trt.video._writer import Watch

logger = logging.getLogger("scrfd_trt")

Stage = Literal["finding", "drawing", "verifying"]
ProgressCallback = Callable[[Stage, int, int | None], None]
"""Called after each frame with the pass, the number of frames done and the total number, if that is known."""

SMALL_BYTES = 1 << 20  # of a frame whose decoder and encoder may stay in memory during another pass
LATE = 0.5  # seconds by which a cover may end after the video
PTS_TOLERANCE = 0.002  # seconds by which a frame's time may differ from that in the detections file


def _no_progress(stage: Stage, done: int, total: int | None) -> None:
    pass


@explained_options
def detect_video(
    source: Source,
    faces_file: Source,
    detector: FrameDetector,
    *,
    tracking: TrackingOptions | None = None,
    spans: Sequence[Span] | None = None,
    covers: Sequence[Cover] = (),
    keep_doubtful: bool = False,
    overwrite: bool = False,
    damaged: Damaged = "stop",
    progress: ProgressCallback = _no_progress,
    watch: Callable[[Frame], object] | None = None,
) -> Summary:
    """Detect the faces of a video, track them, write them to a file, and return their summary.

    Tracks of low scores get a second look: the detector sees crops of some of their frames, upright and turned. If it
    finds no face in sharp ones, the track is dropped: the file keeps it, and states that it is not to be covered. A
    detector without ``detect_batch(images, threshold=…, max_faces=…)`` has no second look.

    Parameters
    ----------
    source
        Any source of :func:`open_source` that is not live.
    faces_file
        The file to write, JSON lines.
    spans
        Start and end, in seconds, of the parts of the video whose faces are wanted, as for :func:`find_faces`; the file
        states them, and its faces cover nothing elsewhere.
    covers
        Places that are covered by hand, for the file.
    keep_doubtful
        Whether no track is dropped.
    overwrite, damaged
        As for :class:`FacesWriter` and :class:`VideoReader`.
    progress
        Called after each frame.
    watch
        Called with each frame once it is decoded, on another thread and before its faces are known.

    Raises
    ------
    VideoError, OutputError, OptionError
        If the video cannot be read or the file cannot be written; no file is left then.
    """
    options = tracking_of(detector, tracking)
    spans = None if spans is None else join_spans(spans)
    how: dict[str, Any] = {"spans": spans, "covers": covers, "overwrite": overwrite, **detector_options(detector)}
    is_judged = not keep_doubtful and hasattr(detector, "detect_batch")  # others only take streams of images
    looks = SecondLook(detector, options.threshold) if is_judged else None
    with (
        open_source(source, damaged=damaged, device=frame_device(detector), checked=True) as reader,
        FacesWriter(faces_file, reader.info, options, **how) as file,
        closing(
            track_faces(reader, detector, options, keep=False, spans=spans, second_look=looks, watch=watch)
        ) as frames,
    ):
        _warn_of_late_covers(covers, reader)
        summary = Summary(reader.info.size, options.threshold, options.every)
        summary.spans, summary.detector_options = spans, detector_options(detector)
        last = None if spans is None else max((end for _, end in spans), default=0.0)
        total = reader.info.frames
        if total is not None and last is not None and math.isfinite(last):
            total = min(total, math.ceil(last * reader.info.rate))
        for _, frame in frames:
            file.write(frame)
            summary.add(add_covers(frame, covers))
            progress("finding", summary.frames, None if total is None else max(total, summary.frames))
        file.dropped = () if looks is None else looks.finish()
        lost = summary.lost = reader.lost
    if file.dropped:
        summary = summarize(faces_file)
        summary.lost = lost
    info, summary.device = reader.info, getattr(reader, "device", "cpu")
    del reader, frames
    _free_closed(info)
    return summary


def summarize(faces_file: Source) -> Summary:
    """Read a detections file and return its summary; raise DetectionsError if it is invalid."""
    with FacesReader(faces_file) as file:
        return summarize_frames(file.header, file)


def summarize_frames(header: Header, frames: Iterable[FrameFaces]) -> Summary:
    """Return the summary of frames with all their faces, of a file with this header."""
    summary = _summary_of(header)
    summary.spans, summary.detector_options = header.detected_spans, header.detector_options
    for frame in frames:
        is_dropped = np.isin(frame.track_ids, header.dropped) if header.dropped else np.zeros(len(frame), bool)
        summary.add(frame[~is_dropped] if is_dropped.any() else frame)
        if is_dropped.any():
            summary.add_dropped(frame[is_dropped])
    return summary


def _summary_of(header: Header) -> Summary:
    """Return an empty summary for the faces of a file."""
    tracking = TrackingOptions.model_validate(header.tracking)
    return Summary(header.size, tracking.threshold, tracking.every)


@explained_options
def render_video(
    source: Source,
    output: Source,
    faces_file: Source,
    overlay: OverlayFunction,
    *,
    selection: TrackSelection | None = None,
    encode: EncodeOptions | None = None,
    overwrite: bool = False,
    damaged: Damaged = "stop",
    keep_metadata: bool = False,
    keep_location: bool = False,
    progress: ProgressCallback = _no_progress,
    device: str = "cpu",
    inspect: Callable[[Path], None] | None = None,
    watch: Watch | None = None,
) -> Summary:
    """Apply an overlay to the faces of a video that were detected before; return the summary of the covered faces.

    Parameters
    ----------
    source, output, faces_file
        The video, the video to write, and the output of :func:`detect_video`.
    overlay
        Takes an image and its faces, and returns the image with the overlay.
    selection
        Which faces are covered, by default all, and places that are covered by hand.
    encode, overwrite, keep_metadata, keep_location
        As for :class:`VideoWriter`.
    damaged
        As for :class:`VideoReader`; the same as for :func:`detect_video`.
    progress
        Called after each frame.
    device
        Where frames are decoded and drawn on, as for :class:`VideoReader`. Functions and overlays without the base
        class :class:`overlays.OverlayModel` draw on the CPU.
    inspect
        Called with the finished file before it gets its name; if it raises an error, no output is left.
    watch
        Called with each picture once it is encoded, an ``av.VideoFrame`` (of animations an image), which it must not
        modify, and with the width of a pixel for a height of 1.

    Raises
    ------
    VideoError, OutputError, OptionError
        If the video cannot be read, the output cannot be written or is the video itself, a selected track does not
        exist, a selected span or cover has no frame, or a cover lies outside of the frames; no output is left then.
    DetectionsError
        If the faces belong to another video.
    """
    check_not_input(output, faces_file, "detections file")
    if Path(output).suffix == ".jsonl":
        raise OptionError(
            f"{output} is no video: pass the output before the faces file", fields=["output"], value=output
        )
    encode, chosen = encode or EncodeOptions(), selection or TrackSelection()
    kept = {"keep_metadata": keep_metadata, "keep_location": keep_location}
    device = "cpu" if gpu_overlay(overlay) is None else device
    with (
        FacesReader(faces_file) as file,
        open_source(source, damaged=damaged, extra_streams=kinds(encode), device=device) as reader,
    ):
        file.check(reader.info)
        file.check_selection(chosen)
        _check_frames_in_spans(file, chosen, reader)
        with open_writer(output, reader, encode, overwrite=overwrite, **kept) as writer:
            _warn_of_limits(reader)
            _warn_of_late_covers([cover for cover in chosen.covers if cover not in file.header.covers], reader)
            writer.inspect, writer.watch = inspect, watch
            summary = _render(reader, file, overlay, writer, chosen=chosen, progress=progress)
        summary.converted, summary.omitted = writer.converted, writer.omitted
    del reader, writer
    _free_closed()
    return summary


def _render(
    reader: Reader,
    file: FacesReader,
    overlay: OverlayFunction,
    writer: Writer,
    *,
    chosen: TrackSelection,
    progress: ProgressCallback,
) -> Summary:
    dropped = list(file.dropped(chosen))
    summary = _summary_of(file.header)
    summary.spans, summary.detector_options = chosen.covered_spans, file.header.detector_options

    def selected() -> Iterator[FrameFaces]:
        for frame, covered in file.covered(chosen):
            summary.add(covered)
            for row in np.flatnonzero(np.isin(frame.track_ids, list(chosen.drop_tracks))).tolist():
                number, score = int(frame.track_ids[row]), float(frame.scores[row])
                summary.no_faces[number] = max(score, summary.no_faces.get(number, 0.0))
            if dropped:
                summary.add_dropped(frame[np.isin(frame.track_ids, dropped)])
            if covered is not frame:
                left = np.setdiff1d(frame.track_ids, [*covered.track_ids, *dropped]).tolist()
                summary.left_out.update(set(left) - chosen.drop_tracks)
            yield covered

    for frame in render_frames(reader, selected(), overlay, writer, spans=file.header.detected_spans):
        if frame.number >= summary.frames:  # after the last span in which faces were detected
            summary.add(FrameFaces(frame.number, frame.pts_seconds))
        summary.selected += chosen.covers_time(frame.pts_seconds)
        progress("drawing", frame.number + 1, reader.info.frames)
    summary.lost = reader.lost
    if not summary.selected:
        logger.warning("%s: the spans leave out every frame, so nothing is covered", reader.name)
    return summary


def _check_frames_in_spans(file: FacesReader, selection: TrackSelection, reader: Reader) -> None:
    """Raise OptionError for a span without a frame; frames behind the last detected span may be missing in the file."""
    known = ALWAYS if file.header.detected_spans is None else file.header.detected_spans
    last = max((end for _, end in known), default=-math.inf)
    chosen = {"only_spans": selection.only_spans, "except_spans": selection.except_spans}
    spans = [(name, span) for name, found in chosen.items() for span in found if span[0] <= last]
    spans += [("covers", cover.span) for cover in selection.covers]
    for frame in file if spans else ():
        spans = [(name, span) for name, span in spans if not is_within(frame.pts_seconds, [span])]
        if not spans:
            return
    for name, span in spans:
        lasts = "" if reader.info.duration is None else f"; the video lasts {format_time(reader.info.duration)}"
        raise OptionError(f"{reader.name}: no frame lies {format_spans([span])}{lasts}", fields=[name], value=span)


@explained_options
def overlay_video(
    source: Source,
    output: Source,
    detector: FrameDetector,
    overlay: OverlayFunction,
    *,
    tracking: TrackingOptions | None = None,
    selection: TrackSelection | None = None,
    encode: EncodeOptions | None = None,
    faces_file: Source | None = None,
    overwrite: bool = False,
    damaged: Damaged = "stop",
    keep_metadata: bool = False,
    keep_location: bool = False,
    progress: ProgressCallback = _no_progress,
) -> Summary:
    """Detect the faces of a video and apply an overlay to them, in two passes; return the summary of the covered faces.

    The output is checked before the first pass: its folder, the encoder, and what becomes of audio and subtitles.

    Of several video streams, such as front and rear of a dashcam, only the first is read and written, and a warning is
    logged (``scrfd_trt``).

    Parameters
    ----------
    faces_file
        Where to write the faces; None for a temporary file.
    source, output, overlay, selection, encode, keep_metadata, keep_location
        As for :func:`render_video`.
    detector, tracking, overwrite, damaged, progress
        As for :func:`detect_video` and :func:`render_video`.

    Raises
    ------
    VideoError, OutputError, OptionError
        As for :func:`detect_video` and :func:`render_video`.
    """
    check_not_input(output, faces_file, "detections file")
    chosen = selection or TrackSelection()
    how: dict[str, Any] = {"overwrite": overwrite, "damaged": damaged, "progress": progress}
    kept = {"keep_metadata": keep_metadata, "keep_location": keep_location}
    with ExitStack() as stack:
        if faces_file is None:
            faces_file = stack.enter_context(temporary_folder(Path(output).parent)) / f"clip{FACES_SUFFIX}"
        rate = try_output(source, output, encode, overwrite=overwrite, damaged=damaged)
        found = detect_video(
            source,
            faces_file,
            detector,
            tracking=tracking,
            spans=chosen.detected_spans,
            covers=chosen.covers,
            keep_doubtful=chosen.keep_doubtful,
            watch=None if rate is None else lambda frame: rate.slot(frame.number, frame.pts_seconds),
            **how,
        )
        check_tracks(chosen, {*found.tracks, *found.dropped}, source)
        how |= {"device": found.device, **kept}  # where NVDEC cannot decode, it is not tried again
        return render_video(source, output, faces_file, overlay, selection=chosen, encode=encode, **how)


def try_output(
    source: Source, output: Source, encode: EncodeOptions | None, *, overwrite: bool, damaged: Damaged
) -> ConstantFrameRate | None:
    """Open the output and discard it, so that its errors come first; return what AVI asks of frames' times."""
    encode = encode or EncodeOptions()
    with open_source(source, damaged=damaged, extra_streams=kinds(encode)) as reader:
        writer = open_writer(output, reader, encode, overwrite=overwrite)
        writer.discard()
    info, constant_rate = reader.info, writer.constant_rate
    del writer, reader
    _free_closed(info)
    return constant_rate


@explained_options
def render_frames(
    reader: Reader,
    faces: Iterable[FrameFaces],
    overlay: OverlayFunction,
    writer: Writer,
    *,
    spans: Sequence[Span] | None = None,
) -> Iterator[Frame]:
    """Apply an overlay to the faces of a video, write it with its other streams, and yield each frame written.

    Parameters
    ----------
    reader, faces
        The video, which is read to its end, and the faces of each of its frames, in order.
    overlay
        Takes an image and its faces, and returns the image with the overlay. It is called on the decoding thread, while
        earlier frames are encoded. Frames without faces are written unchanged.
    writer
        Takes the frames; it is not closed here.
    spans
        Start and end, in seconds, of the parts of the video in which faces were detected; None for the whole video.
        ``faces`` may end after the last of them.

    Raises
    ------
    DetectionsError
        If the faces belong to another video.
    """
    with prefetched(_rendered(reader, faces, overlay, writer, spans), queue_size(reader)) as items:
        for item, picture in items:
            if isinstance(item, Frame):
                writer.encode(item, picture)
                yield item
            else:
                writer.copy(item)


def _rendered(
    reader: Reader,
    faces: Iterable[FrameFaces],
    overlay: OverlayFunction,
    writer: Writer,
    spans: Sequence[Span] | None,
) -> Iterator[tuple[Any, Any]]:
    """Yield frames with their pictures to encode, and packets of other streams with None."""
    end = math.inf if spans is None else max((end for _, end in spans), default=-math.inf)
    remaining = iter(faces)
    for item in measured_items("decode", reader.items()):
        if not isinstance(item, Frame):
            yield item, None
            continue
        found = next(remaining, None)
        if found is None and item.pts_seconds > end:
            found = FrameFaces(item.number, item.pts_seconds)
        if found is None:
            raise DetectionsError(
                f"{reader.name}: the detections file has {item.number} frames, and the video has more; detect "
                "its faces again"
            )
        if abs(found.pts_seconds - item.pts_seconds) > PTS_TOLERANCE:
            raise DetectionsError(
                f"{reader.name}: frame {item.number} is at {format_time(item.pts_seconds)}, but at "
                f"{format_time(found.pts_seconds)} in the detections file, which belongs to another video"
            )
        if len(found):
            yield item, writer.prepare_drawn(item, overlay, found._detections(reader.info.size))
        else:
            with measured("draw"):
                picture = writer.prepare(item)
            yield item, picture
    if next(remaining, None) is not None:
        raise DetectionsError(
            f"{reader.name}: the detections file has more frames than the video; detect its faces again"
        )


def _free_closed(next_pass: VideoInfo | None = None) -> None:
    """Free closed containers, in cycles with their encoders' frames, unless another pass of small frames follows."""
    if next_pass is None or next_pass.frame_bytes > SMALL_BYTES:
        gc.collect()
        # The C library keeps what large frames of several threads have left between others.
        if trim := getattr(ctypes.pythonapi, "malloc_trim", None):
            trim(0)


def _warn_of_late_covers(covers: Iterable[Cover], reader: Reader) -> None:
    for cover in covers:
        end, lasts = cover.span[1], reader.info.duration
        if lasts is not None and lasts + LATE < end < math.inf:
            ends = f"a cover by hand ends at {format_time(end)}, and the video at {format_time(lasts)}"
            logger.warning("%s: %s; check its times", reader.name, ends)


def _warn_of_limits(reader: Reader) -> None:
    if reader.info.spherical is not None and reader.info.spherical.projection is not None:
        logger.warning(
            "%s: this is a 360° video; faces are detected in its flat frames, where they are distorted or cut at the "
            "edges, and may be missed; review the result",
            reader.name,
        )
    if isinstance(reader, VideoReader) and reader.unread_streams:
        logger.warning(
            "%s: the file has %d video streams; only the first is read and written; extract others first, for "
            "example with ffmpeg -map 0:v:1 -c copy",
            reader.name,
            reader.unread_streams + 1,
        )
