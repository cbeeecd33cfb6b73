"""Open the detector that the options ask for: a network by name or file, or an engine."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scrfd_trt import _devices
from scrfd_trt._cli import console
from scrfd_trt._cli.options import split_values
from scrfd_trt._cli.progress import LateProgress
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._engine.plan import is_engine_file, is_model_path
from scrfd_trt._options import DetectorOptions
from scrfd_trt.errors import OptionError

Size = tuple[int, int]


def open_detector(
    model: str,
    device: str = "auto",
    *,
    threshold: float,
    iou: float,
    scale: Iterable[str] | None = None,
    max_faces: int | None = None,
    lean_runtime: Path | None = None,
    allow_host_code: bool = False,
) -> SCRFDDetector:
    """Open a network by its name, or a network or engine by the path of its file.

    Parameters
    ----------
    model
        The name of one of ``scrfd_trt.models.list_models()``, or a path.
    scale
        As on the command line; see :func:`parse_scales`.
    device, threshold, iou, max_faces
        As for :meth:`scrfd_trt.SCRFDDetector.from_pretrained`, which says which errors there are. ``auto`` is the first
        GPU for an engine.
    lean_runtime, allow_host_code
        As for :meth:`scrfd_trt.SCRFDDetector.from_engine`; for engines only.
    """
    options: dict[str, Any] = {
        "threshold": threshold,
        "iou": iou,
        "scales": parse_scales(scale),
        "max_faces": max_faces,
    }
    path = Path(model).expanduser()
    if is_model_path(model) and is_engine_file(path):
        where = f"cuda:{gpu_number(device)}"
        return SCRFDDetector.from_engine(
            path, device=where, lean_runtime=lean_runtime, allow_host_code=allow_host_code, **options
        )
    check_no_engine_options(model, lean_runtime, allow_host_code=allow_host_code)
    with LateProgress(quiet=console.is_quiet()) as progress:
        if is_model_path(model):
            return SCRFDDetector.from_onnx(path, device=device, progress=progress, **options)
        return SCRFDDetector.from_pretrained(model, device=device, progress=progress, **options)


def check_no_engine_options(model: str, lean_runtime: Path | None, *, allow_host_code: bool) -> None:
    """Refuse options of engines beside a network.

    Raises
    ------
    OptionError
        If one is set.
    """
    given = "--lean-runtime" if lean_runtime else "--allow-host-code" if allow_host_code else ""
    if given:
        raise OptionError(f"{given} is for engines, and {model} is none; leave it out, or name an engine with --model")


def gpu_number(device: str) -> int:
    """Return the number of the GPU that an engine is for: n of ``cuda:n``, 0 for ``cuda`` and ``auto``.

    Raises
    ------
    OptionError
        If it is the processor, or no device.
    """
    kind, number = _devices.parse(device)
    if kind == "cpu":
        raise OptionError(
            f"--device {device}: engines run on NVIDIA GPUs only; the choices are: cuda, cuda:0, cuda:1, …"
        )
    return number or 0


def parse_scales(texts: Iterable[str] | None, option: str = "--scale") -> tuple[Size, ...] | None:
    """Read sizes of passes, or of an engine's input.

    Parameters
    ----------
    texts
        Each one size or several with commas: ``640``, ``640x384``, ``128,640``.
    option
        What messages call them.

    Returns
    -------
    tuple or None
        Width and height of each in pixels; None where there are none.

    Raises
    ------
    OptionError
        If one is no size that a network can have.
    """
    sizes = tuple(_size(part, option) for part in split_values(texts))
    return sizes or None


def _size(text: str, option: str) -> Size:
    match = re.fullmatch(r"(\d{1,9})(?:[x×X](\d{1,9}))?", text)
    size = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    try:
        DetectorOptions(scales=[size])
    except OptionError as error:
        raise OptionError(
            f"{option} {text!r}: sides are multiples of 32 up to 8192 pixels, such as 640, 640x384 or 128,640"
        ) from error
    return size
