"""How faces are followed from frame to frame."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from pydantic import Field

from scrfd_trt.options import OptionsModel

HALF_WINDOW = 4
"""Frames to either side that a box is smoothed over."""


class Spans(NamedTuple):
    """Lengths in frames.

    Attributes
    ----------
    bridge
        Most frames from one sighting to the next of a track.
    extend
        That a track reaches beyond its sightings.
    window
        To either side, that a box is smoothed over; 0 for not at all.
    """

    bridge: int
    extend: int
    window: int

    @property
    def ahead(self) -> int:
        """Frames that must have been seen after one before all about it is certain."""
        return self.bridge + max(self.window, self.extend)


class FollowOptions(OptionsModel):
    """How faces are followed from frame to frame.

    Attributes
    ----------
    threshold
        Lowest score of a face that begins a track.
    low
        Lowest score of one that carries a track on; the detector must look for faces down to it.
    bridge
        Seconds for which a face may be missed and is still taken for the same: what lies between is filled.
    extend
        Seconds that a track reaches before its first and beyond its last sighting.
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
        """Turn seconds into frames.

        Parameters
        ----------
        rate
            Frames a second.
        """
        # A face that every n-th frame shows twice in a row must never fall into two tracks.
        bridge = max(round(self.bridge * float(rate)), 2 * self.every if self.every > 1 else 0)
        extend = max(round(self.extend * float(rate)), self.every - 1)
        return Spans(bridge, extend, HALF_WINDOW * self.every if self.smooth else 0)
