"""One clock for a file whose own begins anew in the middle, as where transport streams were put end to end."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

BACK = Fraction(1, 4)
"""Seconds that a stream's clock must go back; by less, packets are only out of order."""


class Splices:
    """Moves the times of packets, so that each piece of a file follows on the one before it."""

    def __init__(self) -> None:
        self._shifts = [Fraction(0)]
        self._piece: dict[int, int] = {}
        self._last: dict[int, Fraction] = {}
        self._moved: dict[int, int] = {}
        self._first: dict[int, Fraction] = {}
        self._end = Fraction(0)

    def place(self, packet: Any) -> bool:
        """Move a packet's times.

        Parameters
        ----------
        packet
            Of any stream, in the order of the file.

        Returns
        -------
        bool
            Whether it comes after the packet before it in its stream; those that overlap at a splice do not.
        """
        if packet.pts is None and packet.dts is None:
            return True
        index = packet.stream.index
        moved = round(self._shifts[self._piece_of(packet)] / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts + moved
        packet.dts = None if packet.dts is None else packet.dts + moved
        if packet.dts is not None:
            if moved and packet.dts <= self._moved.get(index, packet.dts - 1):
                return False
            self._moved[index] = packet.dts
        self._end = max(self._end, _shown(packet) + (packet.duration or 0) * packet.time_base)
        return True

    def _piece_of(self, packet: Any) -> int:
        """Return the number of the piece that a packet is of; a new one where its stream's clock went back."""
        index, newest = packet.stream.index, len(self._shifts) - 1
        piece = self._piece.get(index, newest)
        if packet.stream.type not in ("video", "audio"):
            return newest  # too few packets to tell
        self._first.setdefault(index, _shown(packet))
        if packet.dts is None:
            return piece  # as Matroska's first ones; times of display are out of order where there are B-frames
        time = Fraction(packet.dts * packet.time_base)
        if time < self._last.get(index, time) - BACK:
            piece += 1
            if piece > newest:
                # Its streams begin one after the other, as those of the first piece did.
                begins = _shown(packet) - (self._first[index] - min(self._first.values()))
                self._shifts.append(self._end - begins)
        self._piece[index], self._last[index] = piece, time
        return piece


def _shown(packet: Any) -> Fraction:
    return Fraction((packet.dts if packet.pts is None else packet.pts) * packet.time_base)
