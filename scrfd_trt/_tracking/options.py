"""How faces are followed from frame to frame."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from pydantic import Field

from scrfd_trt._options import OptionsModel

HALF_WINDOW = 4
"""Frames to either side that a box is smoothed over."""


LEAST_BRIDGE, LEAST_EXTEND = 6, 2
"""Frames that are bridged from one sighting to the next, and that a track reaches on, however few come in a second."""
ROUNDING = 0.02
"""Most seconds by which a span may be longer, so that it ends at the nearest frame."""


class Reach(NamedTuple):
    """How far something reaches: so many frames, or so many seconds where that is further.

    Attributes
    ----------
    frames, seconds
        Both of these.
    """

    frames: int
    seconds: float

    def holds(self, frames: int, seconds: float) -> bool:
        """Tell whether a distance in frames, which is one in seconds, too, is within reach."""
        return frames <= self.frames or seconds <= self.seconds


class Spans(NamedTuple):
    """How far tracks reach.

    Attributes
    ----------
    bridging
        From one sighting to the next of a track.
    extending
        Beyond the sightings of a track.
    window
        Frames to either side that a box is smoothed over; 0 for not at all.
    rate
        Frames a second, on average.
    """

    bridging: Reach
    extending: Reach
    window: int
    rate: float

    @property
    def bridge(self) -> int:
        """Most frames from one sighting to the next, where they come at an even rate."""
        return max(self.bridging.frames, int(self.bridging.seconds * self.rate))

    @property
    def extend(self) -> int:
        """Frames that a track reaches beyond its sightings, where they come at an even rate."""
        return max(self.extending.frames, int(self.extending.seconds * self.rate))


class TrackingOptions(OptionsModel):
    """How faces are followed from frame to frame.

    Attributes
    ----------
    threshold
        Lowest score of a face that begins a track.
    low
        Lowest score of one that carries a track on; the detector must look for faces down to it.
    bridge
        Seconds from one sighting to the next within which it is taken for the same face: what lies between is filled.
        Five frames without a sighting are filled at any rate, unless it is 0.
    extend
        Seconds that a track reaches before its first and beyond its last sighting; two frames at any rate, unless it
        is 0.
    smooth
        Whether boxes and landmarks are smoothed over time, from both sides.
    every
        Faces are looked for in each n-th frame; those between are filled.
    """

    threshold: float = Field(0.3, ge=0.0, le=1.0, description="Lowest score of a face that begins a track.")
    low: float = Field(0.15, ge=0.0, le=1.0, description="Lowest score of a face that carries a track on.")
    bridge: float = Field(1.0, ge=0.0, le=60.0, description="Seconds without a sighting that are filled.")
    extend: float = Field(0.2, ge=0.0, le=60.0, description="Seconds that a track reaches beyond its sightings.")
    smooth: bool = Field(True, description="Smooth boxes and landmarks over time.")
    every: int = Field(1, ge=1, le=1000, description="Look for faces in every n-th frame only.")

    @property
    def lowest(self) -> float:
        """The score down to which faces are to be looked for."""
        return min(self.threshold, self.low)

    def spans(self, rate: Fraction | float) -> Spans:
        """Tell how far tracks reach.

        Parameters
        ----------
        rate
            Frames a second, on average.
        """
        nearest = min(0.5 / float(rate), ROUNDING)
        # A face that every n-th frame shows twice in a row must never fall into two tracks.
        # Two sightings beside each other are one track, whatever is bridged.
        bridge = max(LEAST_BRIDGE if self.bridge else 1, 2 * self.every if self.every > 1 else 0)
        extend = max(LEAST_EXTEND if self.extend else 0, self.every - 1)
        return Spans(
            Reach(bridge, self.bridge + nearest if self.bridge else 0.0),
            Reach(extend, self.extend + nearest if self.extend else 0.0),
            HALF_WINDOW * self.every if self.smooth else 0,
            float(rate),
        )
