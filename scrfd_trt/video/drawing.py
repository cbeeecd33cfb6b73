"""The second pass: draw over the faces of a video, and write it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.detections import Detections
from scrfd_trt.errors import DetectionsError
from scrfd_trt.video.ahead import ahead
from scrfd_trt.video.detecting import Reader
from scrfd_trt.video.faces import FrameFaces
from scrfd_trt.video.info import clock
from scrfd_trt.video.reading import Frame
from scrfd_trt.video.writing import VideoWriter

Draw = Callable[[NDArray[np.uint8], Detections], NDArray[np.uint8]]
"""An overlay."""

SLACK = 0.002
"""Seconds by which a frame's time may differ from what stands beside its faces."""


def draw_faces(reader: Reader, faces: Iterable[FrameFaces], draw: Draw, writer: VideoWriter) -> Iterator[Frame]:
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


def _drawn(reader: Reader, faces: Iterable[FrameFaces], draw: Draw, writer: VideoWriter) -> Iterator[tuple[Any, Any]]:
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
        if abs(found.time - item.time) > SLACK:
            raise DetectionsError(
                f"{reader.name}: frame {item.number} is shown at {clock(item.time)}, and its faces are of "
                f"{clock(found.time)}; they are those of another video"
            )
        size = (item.picture.width, item.picture.height)
        drawn = draw(item.image, found.detections(size)) if found.faces else None
        yield item, writer.prepare(item, drawn)
    if next(source, None) is not None:
        raise DetectionsError(f"{reader.name}: there are faces of more frames than the video has; find its faces anew")
