"""One pass for live video: track faces with a short look-ahead, and apply the overlay at once."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._crops import drawn_by
from scrfd_trt._option_names import explained_options
from scrfd_trt._tracking.faces import FrameFaces
from scrfd_trt._tracking.options import TrackingOptions, tracking_of
from scrfd_trt.video._canvas import OverlayFunction
from scrfd_trt.video._first_pass import FrameDetector, track_faces
from scrfd_trt.video._live_reader import Reader
from scrfd_trt.video._reader import Frame

DELAY = 10  # frames of look-ahead: a third of a second at 30 frames per second


class RenderedFrame(NamedTuple):
    """A frame as read, its image ``(H, W, 3)`` uint8 BGR with the overlay (None without faces), and its faces."""

    frame: Frame
    image: NDArray[np.uint8] | None
    faces: FrameFaces


@explained_options
def overlay_live(
    reader: Reader,
    detector: FrameDetector,
    overlay: OverlayFunction,
    *,
    tracking: TrackingOptions | None = None,
    delay: int = DELAY,
) -> Generator[RenderedFrame, None, None]:
    """Detect the faces of a live source, track them and apply an overlay, in one pass; yield all frames in order.

    Parameters
    ----------
    detector
        It gets one image at a time, so that no frame waits for others.
    overlay
        Takes an image and its faces, and returns the image with the overlay.
    delay
        Frames by which the output lags behind the input. A face that is missed for longer stays covered for
        ``tracking.extend`` seconds; the rest of the gap is not filled.

    Raises
    ------
    VideoError
        If the source is lost for good.
    """
    with closing(track_faces(reader, detector, tracking_of(detector, tracking), delay=delay, batch=1)) as items:
        for frame, faces in items:
            if frame is None:
                continue
            image = drawn_by(overlay, frame.image, faces._detections(reader.info.size)) if len(faces) else None
            yield RenderedFrame(frame, image, faces)
