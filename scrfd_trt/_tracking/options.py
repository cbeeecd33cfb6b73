"""Tracking options, and the limits that they set at a frame rate."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

from pydantic import Field, StrictFloat, field_validator

from scrfd_trt._options import OptionsModel, whole_number

HALF_WINDOW = 4  # frames on either side that contribute to a smoothed box
MIN_GAP_FRAMES, MIN_EXTENSION_FRAMES = 6, 2
"""Frames from one detection to the next that are always bridged, and frames that a track is always extended by."""
ROUNDING_SECONDS = 0.02  # longest rounding of a limit up to the nearest frame


class Limit(NamedTuple):
    """A distance in frames or in seconds, whichever reaches further."""

    frames: int
    seconds: float

    def includes(self, frames: Any, seconds: Any) -> Any:
        """Return whether a distance, or each of several ``(N,)``, is within the limit."""
        return (frames <= self.frames) | (seconds <= self.seconds)


class TrackLimits(NamedTuple):
    """How far tracks reach."""

    gap: Limit  # from one detection to the next of the same track
    extension: Limit  # before the first and after the last detection
    half_window: int  # frames on either side that a box is smoothed over; 0: no smoothing


class TrackingOptions(OptionsModel):
    """How faces are tracked from frame to frame.

    The detector has to return faces down to ``low``. At any frame rate, gaps of five frames are filled, and tracks are
    extended by two frames; 0 for ``bridge`` or ``extend`` turns that off, too. Without a ``threshold``, that of the
    detector counts if it was opened with one; its own default is for single images.
    """

    threshold: StrictFloat = Field(0.3, ge=0.0, le=1.0, description="Minimum score of a face that starts a track.")
    low: StrictFloat = Field(0.15, ge=0.0, le=1.0, description="Minimum score of a face that continues a track.")
    bridge: StrictFloat = Field(
        1.0, ge=0.0, le=60.0, description="Longest gap between two detections to fill, in seconds."
    )
    extend: StrictFloat = Field(0.2, ge=0.0, le=60.0, description="Extension of tracks at both ends, in seconds.")
    smooth: bool = Field(True, description="Smooth boxes and landmarks over time.")
    every: int = Field(1, ge=1, le=1000, description="Detect faces in every n-th frame only, and fill the rest.")

    @field_validator("every", mode="before")
    @classmethod
    def _check_whole(cls, value: object) -> object:
        return whole_number(value)

    @property
    def detection_threshold(self) -> float:
        """The score down to which the detector has to return faces."""
        return min(self.threshold, self.low)

    def limits(self, rate: Fraction | float) -> TrackLimits:
        """Return how far tracks reach at an average of ``rate`` frames per second."""
        rounding = min(0.5 / float(rate), ROUNDING_SECONDS)
        # A face found in two detected frames in a row is one track, whatever ``every`` and ``bridge`` are.
        gap_frames = max(MIN_GAP_FRAMES if self.bridge else 1, 2 * self.every if self.every > 1 else 0)
        extension_frames = max(MIN_EXTENSION_FRAMES if self.extend else 0, self.every - 1)
        return TrackLimits(
            Limit(gap_frames, self.bridge + rounding if self.bridge else 0.0),
            Limit(extension_frames, self.extend + rounding if self.extend else 0.0),
            HALF_WINDOW * self.every if self.smooth else 0,
        )


def tracking_of(detector: Any, tracking: TrackingOptions | None) -> TrackingOptions:
    """Return the options, with the threshold of the detector if only that was given one."""
    options = tracking or TrackingOptions()
    own: Any = getattr(detector, "options", None)
    if "threshold" in options.model_fields_set or "threshold" not in getattr(own, "model_fields_set", ()):
        return options
    return options.model_copy(update={"threshold": own.threshold, "low": min(options.low, own.threshold)})
