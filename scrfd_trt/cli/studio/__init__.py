"""``scrfd-trt studio``: a local page to try overlays on one's own pictures and clips."""

from scrfd_trt.cli.studio.command import studio

__all__ = ["studio"]
