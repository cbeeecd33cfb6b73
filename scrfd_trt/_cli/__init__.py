"""The command line, ``scrfd-trt``: the one place where detector and overlays meet."""

from scrfd_trt._cli.main import app, main

__all__ = ["app", "main"]
