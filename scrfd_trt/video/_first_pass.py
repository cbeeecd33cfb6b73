"""First pass: detect the faces of a video and track them."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from fractions import Fraction
from math import inf
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np

from scrfd_trt._detections import Detections
from scrfd_trt._jobs.profile import measured, measured_items
from scrfd_trt._jobs.stages import grouped, prefetched
from scrfd_trt._option_names import explained_options
from scrfd_trt._passes import Look
from scrfd_trt._tracking.faces import FrameFaces
from scrfd_trt._tracking.motion import Motion, Preview, estimate_motion, grey_size
from scrfd_trt._tracking.options import TrackingOptions, tracking_of
from scrfd_trt._tracking.scene_cuts import MAX_REPEATS, THUMBNAIL_SHAPE, CutCandidates, Thumbnail, mark_cuts
from scrfd_trt._tracking.tracker import FrameObservation, Tracker
from scrfd_trt.video import _colors
from scrfd_trt.video._directions import Directions, counted
from scrfd_trt.video._live_reader import Reader
from scrfd_trt.video._nvdec import PendingPreview, Previewer, finished
from scrfd_trt.video._reader import Frame
from scrfd_trt.video._second_look import SecondLook
from scrfd_trt.video._selection import Span, format_spans, is_within

logger = logging.getLogger("scrfd_trt")

THUMBNAIL_LINES = 160  # lines of a plane above which a thumbnail is made from every 2nd, 3rd, … line and column
GPU_BYTES, HOST_BYTES = 128 << 20, 24 << 20
"""Bytes of frames in a batch, in the memory of a GPU, or of the host without their images; three are in flight."""
GPU_GROUP = 16  # frames on a GPU that go from thread to thread at once: each time, others may take Python's lock
RETURN_SECONDS, RETURN_FRAMES, LIVE_RETURN_FRAMES = 1.0, (5, 120), 3
"""Time within which a scene that comes back was only interrupted: seconds, their bounds in frames, frames if live."""
SCENE_START_FRAMES = 2  # frames at the start of a scene that are always detected in, so that none is skipped


class FrameDetector(Protocol):
    """A face detector for consecutive frames, such as :class:`scrfd_trt.SCRFDDetector`."""

    def stream(
        self, images: Iterable[Any], *, batch: int | None = None, threshold: float | None = None
    ) -> Iterator[Detections]:
        """Detect the faces of consecutive images; yield one result per image, in order."""
        ...


class FrameResult(NamedTuple):
    """A frame (None if not kept) and its detections (None if skipped), near a wanted span or not, and its motion."""

    number: int
    pts_seconds: float
    frame: Frame | None
    detections: Detections | None
    is_near_span: bool = True
    motion: Motion | None = None


class _Windows:
    """The times around spans in which detections may change the faces in the spans."""

    LEAD_SECONDS = 5.0  # time in which a face with low scores has to have had a high one

    def __init__(self, spans: Iterable[Span], options: TrackingOptions, rate: Fraction, near: int) -> None:
        limits = options.limits(rate)
        frames = 2 * limits.half_window + options.every + near + MAX_REPEATS
        reach = frames / float(rate)
        reach += sum(max(limit.seconds, limit.frames / float(rate)) for limit in (limits.gap, limits.extension))
        self._spans = [(start - reach - self.LEAD_SECONDS, end + reach) for start, end in spans]
        self.end = max((end for _, end in self._spans), default=-inf)

    def __contains__(self, seconds: float) -> bool:
        return is_within(seconds, self._spans)


class _Waiting(NamedTuple):
    """A frame whose faces are due; ``look`` is None if the detector does not see it."""

    result: FrameResult
    thumbnail: Thumbnail
    frame: Frame | None
    look: Any


class _PreparedFrame(NamedTuple):
    frame: Frame
    preview: Preview | PendingPreview
    is_detected: bool
    is_near_span: bool = True
    look: Any = None  # what the detector sees, if it sees the frame
    found: Detections | None = None  # the faces, if they are known already
    motion: Motion | None = None


@explained_options
def find_faces(
    reader: Reader,
    detector: FrameDetector,
    tracking: TrackingOptions | None = None,
    *,
    delay: int | None = None,
    spans: Sequence[Span] | None = None,
) -> Generator[FrameFaces, None, None]:
    """Detect the faces of a video and track them; yield the faces of each frame, in order, to the video's end.

    Tracks of low scores get no second look. :func:`detect_video` drops those without a face, and
    :meth:`FacesReader.covered` yields the others from its file.

    Parameters
    ----------
    reader
        An open :class:`VideoReader`, or what :func:`open_source` returns; not the path of a file.
    detector
        Its :meth:`stream` processes several frames at once. The ``rotations`` of a :class:`~scrfd_trt.SCRFDDetector`
        are used in the first frames of a scene and once a second, and those in which a face is found in all frames.
    delay
        Frames by which a result may lag behind the newest frame, plus up to three for telling a flash from a new scene.
        None gives the best result.
    spans
        Start and end, in seconds, of the parts of the video whose faces are wanted; None for the whole video. Faces are
        detected in the spans and, so that tracks are the same there, in the seconds around them. Other frames have no
        faces, and reading ends after the last span.

    Raises
    ------
    VideoError
        If the video cannot be read to its end; all frames before have been yielded.
    OptionError
        If ``reader`` is no reader. Other errors are raised when the first frame is asked for.
    """
    options = tracking_of(detector, tracking)
    is_empty = bool(spans)
    with closing(track_faces(reader, detector, options, delay=delay, keep=False, spans=spans)) as found:
        for _, faces in found:
            is_empty = is_empty and not is_within(faces.pts_seconds, spans or ())
            yield faces
    if is_empty:
        logger.warning("%s: no frame lies %s, so no face is detected", reader.info.name, format_spans(spans or ()))


def track_faces(
    reader: Reader,
    detector: FrameDetector,
    tracking: TrackingOptions,
    *,
    delay: int | None = None,
    keep: bool = True,
    batch: int | None = None,
    spans: Sequence[Span] | None = None,
    second_look: SecondLook | None = None,
    watch: Callable[[Frame], object] | None = None,
) -> Generator[tuple[Frame | None, FrameFaces], None, None]:
    """Do what :func:`find_faces` does, and yield the frames, too (None unless ``keep``); serve a second look.

    ``watch`` is called with each frame on the thread that decodes.
    """
    rate = reader.info.rate
    near = min(max(round(RETURN_SECONDS * float(rate)), RETURN_FRAMES[0]), RETURN_FRAMES[1])
    if delay is not None:
        near = max(1, min(delay, LIVE_RETURN_FRAMES))
    windows = None if spans is None else _Windows(spans, tracking, rate, near)
    how: dict[str, Any] = {"keep": keep, "windows": windows, "second_look": second_look, "watch": watch}
    results = detect_frames(reader, detector, tracking, batch, **how)
    for frame, faces in link_faces(results, Tracker(tracking, rate, delay=delay), near):
        if second_look is not None:
            second_look.add(faces)
        is_wanted = spans is None or is_within(faces.pts_seconds, spans)
        yield frame, faces if is_wanted else faces[:0]


def link_faces(
    results: Iterable[tuple[FrameResult, Thumbnail]], tracker: Tracker, near: int
) -> Generator[tuple[Frame | None, FrameFaces], None, None]:
    """Find the scene cuts between the frames of :func:`detect_frames`, and track their faces."""
    frames: deque[Frame | None] = deque()
    is_connected = True
    for result, transition in mark_cuts(results, near):
        frames.append(result.frame)
        # Where the background has only moved, as in a whip pan, the scene goes on.
        if not (is_connected and result.is_near_span) or (transition == 1 and result.motion is not None):
            transition = 0  # noqa: PLW2901
        is_connected = result.is_near_span
        observation = FrameObservation(result.number, result.pts_seconds, result.detections, transition, result.motion)
        with measured("track"):
            final = tracker.push(observation)
        for faces in final:
            yield frames.popleft(), faces
    for faces in measured_items("track", tracker.finish()):
        yield frames.popleft(), faces


def queue_size(reader: Reader) -> int:
    """Return the number of frames that wait for the next stage: up to 4, fewer if they are large."""
    return min(max(1, HOST_BYTES // reader.info.frame_bytes), 4)


def frame_device(detector: FrameDetector) -> str:
    """Return the device in whose memory a detector takes frames, ``cpu`` or ``cuda:n``."""
    return str(getattr(detector, "_frame_device", "cpu"))


def detector_options(detector: FrameDetector) -> dict[str, Any]:
    """Return the options that say which faces a detector finds."""
    options = getattr(detector, "options", None)
    return {"min_face": getattr(options, "min_face", None), "rotations": getattr(options, "rotations", ())}


def detect_frames(
    reader: Reader,
    detector: FrameDetector,
    tracking: TrackingOptions,
    batch: int | None = None,
    *,
    keep: bool = True,
    windows: _Windows | None = None,
    second_look: SecondLook | None = None,
    watch: Callable[[Frame], object] | None = None,
) -> Iterator[tuple[FrameResult, Thumbnail]]:
    """Detect faces in every n-th frame, and in the first frames after a possible cut; yield all frames in order."""
    waiting: deque[_Waiting] = deque()
    device = getattr(reader, "device", "cpu")
    is_on_gpu = device != "cpu"

    def images(groups: Iterable[list[_PreparedFrame]]) -> Iterator[Any]:
        is_known = False
        for group in measured_items(None, groups):
            for frame, preview, is_detected, is_near_span, look, found, motion in group:
                # Frames are large, and many wait if few are detected in.
                kept = frame if keep else None
                result = FrameResult(frame.number, frame.pts_seconds, kept, found, is_near_span, motion)
                if is_detected:  # of two frames in a row, one is asked for at least, so that others do not wait long
                    is_known = found is not None and not is_known
                asked = look if is_detected and not is_known else None
                waiting.append(_Waiting(result, finished(preview).thumbnail, frame if is_detected else None, asked))
                if asked is not None:
                    yield asked

    def finish(item: _Waiting, found: Detections | None = None) -> tuple[FrameResult, Thumbnail]:
        result = item.result
        if isinstance(item.look, Look) and found is not None and item.look.rotations:
            found = counted(found, item.look.rotations)
        if result.detections is None:
            result = result._replace(detections=found)
        if item.frame is not None and result.detections is not None and second_look is not None:
            second_look.take(item.frame, result.detections)
        return result, item.thumbnail

    ahead, size = queue_size(reader), 1
    if batch is None:
        batch = max(1, (GPU_BYTES if is_on_gpu else HOST_BYTES) // reader.info.frame_bytes)
        ahead, size = (2, min(batch, GPU_GROUP)) if is_on_gpu else (ahead, 1)
    with ExitStack() as stack:
        previewer = stack.enter_context(closing(Previewer(device))) if is_on_gpu else None
        if is_on_gpu:
            stack.enter_context(one_opencv_thread())
        frames: Iterable[Frame] = measured_items("decode", reader)
        if watch is not None:
            frames = _watched(frames, watch)
        prepared = _prepare(frames, tracking.every, windows, previewer)
        directions = Directions(detector, tracking.detection_threshold, **detector_options(detector))
        looks = _looks(grouped(prepared, size), directions)
        decoded = stack.enter_context(prefetched(looks, max(1, ahead - 1)))
        groups = stack.enter_context(prefetched(_followed(decoded, reader.info.size), 1))
        results = detector.stream(images(groups), batch=batch, threshold=tracking.detection_threshold)
        for detections in measured_items("detect", results):
            while waiting[0].look is None:
                yield finish(waiting.popleft())
            yield finish(waiting.popleft(), detections)
        for item in waiting:
            yield finish(item)


def _watched(frames: Iterable[Frame], watch: Callable[[Frame], object]) -> Iterator[Frame]:
    for frame in frames:
        watch(frame)
        yield frame


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Let OpenCV work in the calling threads only: to share small pictures takes milliseconds of all threads."""
    with _OpenCVThreads.lock:
        if not _OpenCVThreads.blocks:
            _OpenCVThreads.before = cv2.getNumThreads()
            cv2.setNumThreads(1)
        _OpenCVThreads.blocks += 1
    try:
        yield
    finally:
        with _OpenCVThreads.lock:
            _OpenCVThreads.blocks -= 1
            if not _OpenCVThreads.blocks:
                cv2.setNumThreads(_OpenCVThreads.before)


class _OpenCVThreads:
    lock = threading.Lock()
    blocks = before = 0  # blocks in progress, and OpenCV's threads before them


def _followed(groups: Iterable[list[_PreparedFrame]], size: tuple[int, int]) -> Iterator[list[_PreparedFrame]]:
    """Yield the frames with finished previews, and with how the background moves from the frame before."""
    last: Preview | None = None
    for group in measured_items(None, groups):
        for at, item in enumerate(group):
            preview, motion = finished(item.preview), None
            if last is not None and item.is_near_span:
                with measured("track"):
                    motion = estimate_motion(last.grey, preview.grey, size)
            last = preview if item.is_near_span else None
            group[at] = item._replace(preview=preview, motion=motion)
        yield group


def _looks(groups: Iterable[list[_PreparedFrame]], directions: Directions) -> Iterator[list[_PreparedFrame]]:
    """Yield the frames with what the detector sees of them, which may depend on the faces of earlier ones."""
    for group in groups:
        for at, item in enumerate(group):
            frame, preview = item.frame, item.preview
            if not item.is_near_span:
                directions.interrupt()
            elif directions.choices:
                preview = finished(preview)
                directions.add(preview.thumbnail, frame.pts_seconds)
            if item.is_detected:
                look, found = directions.look(frame.yuv if frame.is_on_gpu else frame.image, frame.pts_seconds)
                item = item._replace(look=look, found=found)  # noqa: PLW2901
            group[at] = item._replace(preview=preview)
        yield group


def _prepare(
    frames: Iterable[Frame], every: int, windows: _Windows | None, previewer: Previewer | None
) -> Iterator[_PreparedFrame]:
    cuts, remaining = CutCandidates(), 0
    preview: Preview | PendingPreview
    preview = blank = Preview(np.zeros(THUMBNAIL_SHAPE, np.float32), np.zeros((0, 0), np.uint8))
    for frame in frames:
        if windows is not None and frame.pts_seconds not in windows:
            if frame.pts_seconds > windows.end:
                return
            yield _PreparedFrame(frame, blank, False, False)
            continue
        if previewer is not None and frame.is_on_gpu:
            preview = previewer.start(frame.yuv)
        else:
            preview = make_preview(frame.picture)
        if every > 1:
            preview = finished(preview)
            remaining = SCENE_START_FRAMES if cuts.add(preview.thumbnail) else remaining - 1
        is_detected = frame.number % every == 0 or remaining > 0
        if is_detected and not frame.is_on_gpu:
            with measured("decode"):
                _ = frame.image  # converted here, on the decoding thread
        yield _PreparedFrame(frame, preview, is_detected)


def make_preview(picture: Any) -> Preview:
    """Shrink an ``av.VideoFrame``: to ``(3, 18, 32)`` float32, Y, U and V, levels up to 255, and to a grey picture."""
    grey_width, grey_height = grey_size(picture.width, picture.height)
    _, height, width = THUMBNAIL_SHAPE
    if picture.format.name not in _colors.LAYOUTS:
        picture = _colors.reformat(picture, format="yuv420p", width=2 * grey_width, height=2 * grey_height)
    scale = 255.0 / ((1 << _colors.LAYOUTS[picture.format.name].bits) - 1)
    parts: list[Any] = []
    for plane in _colors.planes(picture)[:3]:
        step = max(1, plane.shape[0] // THUMBNAIL_LINES)
        sampled = np.ascontiguousarray(plane[::step, ::step])
        parts.append(cv2.resize(sampled, (width, height), interpolation=cv2.INTER_AREA))
        if len(parts) == 1:
            reduced = cv2.resize(sampled, (grey_width, grey_height), interpolation=cv2.INTER_AREA)
            grey = np.asarray(cv2.convertScaleAbs(reduced, alpha=scale), np.uint8)
    return Preview(np.stack(parts).astype(np.float32) * np.float32(scale), grey)
