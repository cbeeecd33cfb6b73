"""Tracking of faces over the frames of a video."""
