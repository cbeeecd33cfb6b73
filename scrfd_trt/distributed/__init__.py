"""Faces of piles of pictures that one call does not hold: in parts, on this machine or on many."""

__all__: list[str] = []
