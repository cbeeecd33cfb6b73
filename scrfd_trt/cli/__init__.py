"""The command line, ``scrfd-trt``: the one place where detector and overlays meet."""

from scrfd_trt.cli.commands import app, main

__all__ = ["app", "main"]
