"""The command line ``scrfd-trt``, where detector and overlays meet."""

from scrfd_trt._cli.main import app, main

__all__ = ["app", "main"]
