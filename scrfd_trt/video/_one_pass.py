"""The one-pass form for live pictures: faces are followed with a short look-ahead and drawn over at once."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._tracking.faces import FrameFaces
from scrfd_trt._tracking.options import TrackingOptions
from scrfd_trt.video._first_pass import FrameDetector, track_faces
from scrfd_trt.video._live import LiveReader
from scrfd_trt.video._reader import Frame, VideoReader
from scrfd_trt.video._two_pass import OverlayFunction

DELAY = 10
"""Frames of look-ahead: a third of a second at 30 frames a second."""


class RenderedFrame(NamedTuple):
    """A frame that is done.

    Attributes
    ----------
    frame
        As it was read.
    image
        ``(H, W, 3)`` uint8 BGR with something drawn over its faces; None where there is none, and nothing to draw.
    faces
        The faces.
    """

    frame: Frame
    image: NDArray[np.uint8] | None
    faces: FrameFaces


def overlay_live(
    reader: LiveReader | VideoReader,
    detector: FrameDetector,
    draw: OverlayFunction,
    *,
    tracking: TrackingOptions | None = None,
    delay: int = DELAY,
) -> Generator[RenderedFrame, None, None]:
    """Find the faces of a source without an end, follow them, and draw over them in one pass.

    Parameters
    ----------
    reader
        A camera or a stream.
    detector
        Is given one image at a time, so that none waits for others.
    draw
        An overlay.
    tracking
        How faces are followed.
    delay
        Frames that what comes out lies behind what came in. A face that is missed for longer is covered for
        ``tracking.extend`` seconds at first, and its gap is not filled from behind.

    Yields
    ------
    RenderedFrame
        One a frame that was read, in order.

    Raises
    ------
    VideoError
        If the source breaks for good.
    """
    running = track_faces(reader, detector, tracking or TrackingOptions(), delay=delay, batch=1)
    with closing(running) as items:
        for frame, faces in items:
            if frame is None:
                continue
            size = (frame.picture.width, frame.picture.height)
            yield RenderedFrame(frame, draw(frame.image, faces.detections(size)) if faces.faces else None, faces)
