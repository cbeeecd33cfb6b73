"""Tell a video that ends where it should from one that was cut off."""

from __future__ import annotations

from typing import Any

from scrfd_trt.errors import VideoError
from scrfd_trt.video.info import clock

SLACK = 0.5
"""Seconds that a claimed end may lie beyond the last packet, where frames are not counted: claims are rounded."""


class Ending:
    """Compares what a file claims with what came.

    Parameters
    ----------
    container, stream
        PyAV's, of the video.

    Attributes
    ----------
    seconds : float or None
        How long the video claims to be.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        self._stream = stream
        self._start = (container.start_time or 0) / 1e6
        whole = None if container.duration is None else container.duration / 1e6
        own = None if stream.duration is None else float(stream.duration * stream.time_base)
        self.seconds = own if own is not None else whole
        self._whole = whole
        self._packets = 0
        self._end = 0.0

    def saw(self, packet: Any) -> None:
        """Note a packet that came."""
        if packet.pts is not None and packet.time_base is not None:
            self._end = max(self._end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.stream is self._stream and packet.size:
            self._packets += 1

    def check(self, name: str, frames: int) -> None:
        """Complain where the video ended early.

        Raises
        ------
        VideoError
            With the last frame that came.
        """
        claims = [seconds for seconds in (self.seconds, self._whole) if seconds is not None]
        if not claims or self._end <= 0:
            return
        claimed, missing = self._stream.frames, min(claims) - (self._end - self._start)
        step = 1.5 / float(self._stream.average_rate or 25)
        if missing > SLACK or (self._packets < claimed and missing > step):
            rest = f" of {claimed}" if claimed else ""
            raise VideoError(
                f"{name}: the video ends early, after frame {frames - 1}{rest}, at {clock(self._end)} of "
                f"{clock(self._start + min(claims))}; copy it anew, or take --damaged keep"
            )
