"""Open the detector that the options ask for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from scrfd_trt.cli.files import is_plain_file
from scrfd_trt.detector import SCRFDDetector
from scrfd_trt.errors import OptionError
from scrfd_trt.options import DetectorOptions

Size = tuple[int, int]


def open_detector(
    model: str,
    device: str = "auto",
    *,
    threshold: float,
    iou: float,
    scale: Iterable[str] | None = None,
    max_faces: int | None = None,
) -> SCRFDDetector:
    """Open a network by its name, or by the path of its file.

    Parameters
    ----------
    model
        A name of ``scrfd_trt.zoo``, or a path.
    scale
        As on the command line; see :func:`parse_scales`.
    device, threshold, iou, max_faces
        As for :meth:`scrfd_trt.SCRFDDetector.from_pretrained`, which says which errors there are.
    """
    scales = parse_scales(scale)
    if is_file(model):
        return SCRFDDetector.from_onnx(
            Path(model).expanduser(), device=device, threshold=threshold, iou=iou, scales=scales, max_faces=max_faces
        )
    return SCRFDDetector.from_pretrained(
        model, device=device, threshold=threshold, iou=iou, scales=scales, max_faces=max_faces
    )


def is_file(model: str) -> bool:
    """Tell a path from a name: it ends in ``.onnx``, or has a folder in it, or is a file."""
    return model.lower().endswith(".onnx") or Path(model).name != model or is_plain_file(Path(model))


def parse_scales(texts: Iterable[str] | None) -> tuple[Size, ...] | None:
    """Read sizes of passes.

    Parameters
    ----------
    texts
        Each one size or several with commas: ``640``, ``640x384``, ``128,640``.

    Returns
    -------
    tuple or None
        Width and height of each in pixels; None where there are none.

    Raises
    ------
    OptionError
        If one is no size that a network can have.
    """
    sizes = tuple(_size(part.strip()) for text in texts or () for part in text.split(","))
    return sizes or None


def _size(text: str) -> Size:
    match = re.fullmatch(r"(\d{1,9})(?:[x×X](\d{1,9}))?", text)
    size = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    try:
        DetectorOptions(scales=[size])
    except OptionError as error:
        raise OptionError(
            f"--scale {text!r}: sides are multiples of 32 up to 8192 pixels, such as 640, 640x384 or 128,640"
        ) from error
    return size
