"""Tell a video that ends where it should from one that was cut off."""

from __future__ import annotations

import re
from typing import Any

from scrfd_trt.errors import VideoError
from scrfd_trt.video.info import clock

SLACK = 0.5
"""Seconds that a claimed end may lie beyond the last packet, where neither frames are counted nor pictures timed."""
FRAMES = 1.5
"""Frames of the same, where they are."""


class Ending:
    """Compares what a file claims with what came.

    Files that claim nothing cannot be checked: transport streams, and what was recorded as a stream.

    Parameters
    ----------
    container, stream
        PyAV's, of the video.

    Attributes
    ----------
    seconds : float or None
        How long the pictures claim to last.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        self._stream = stream
        self._start: float = (container.start_time or 0) / 1e6
        self._whole: float | None = None if container.duration is None else container.duration / 1e6
        self._last_picture = _tagged(stream)
        own = None if stream.duration is None else float(stream.duration * stream.time_base)
        if own is None and self._last_picture is not None:
            own = self._last_picture - float((stream.start_time or 0) * stream.time_base)
        self.seconds: float | None = own if own is not None else self._whole
        self._packets = 0
        self._end = self._picture_end = 0.0

    def saw(self, packet: Any) -> None:
        """Note a packet that came, of any stream."""
        end = 0.0
        if packet.pts is not None and packet.time_base is not None:
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
        self._end = max(self._end, end)
        if packet.stream is self._stream and packet.size:
            self._packets += 1
            self._picture_end = max(self._picture_end, end)

    def check(self, name: str, frames: int) -> None:
        """Complain where the video ended early.

        Raises
        ------
        VideoError
            With the last frame that came.
        """
        claimed = self._stream.frames
        due = self._due(claimed)
        if due is None:
            return
        rest = f" of {claimed}" if claimed else ""
        raise VideoError(
            f"the video ends early, after frame {frames - 1}{rest}, at {clock(self._picture_end)} of "
            f"{clock(due)}; copy it again, or read it with damaged='keep'",
            source=name,
            fields=["damaged"],
        )

    def _due(self, claimed: int) -> float | None:
        """Return when the video should have ended; None where it did."""
        step = FRAMES / float(self._stream.average_rate or 25)
        if self._end <= 0:
            return None
        if self._last_picture is not None and self._last_picture - self._picture_end > step:
            return self._last_picture
        if self._whole is None:
            return None
        if self._start + self._whole - self._end > SLACK:
            return self._start + self._whole
        own = min(self._whole, self.seconds if self.seconds is not None else self._whole)
        short = own - (self._picture_end - self._start)
        return self._start + own if self._packets < claimed and short > step else None


def _tagged(stream: Any) -> float | None:
    """Return when the last picture ends, in seconds, as FFmpeg notes it in Matroska; None where it did not."""
    found = re.fullmatch(r"(\d+):(\d\d):(\d\d\.\d+)\0*", stream.metadata.get("DURATION", ""))
    return None if found is None else int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])
