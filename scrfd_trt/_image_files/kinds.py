"""Tell image formats apart by their content."""

from __future__ import annotations

from scrfd_trt._image_files.frames import Kind


def image_kind(start: bytes) -> Kind | None:
    """Return the format of an image file that can be read, by its first 64 bytes; None for other files."""
    raise NotImplementedError
