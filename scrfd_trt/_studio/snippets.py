"""The command line and the Python program that reproduce what a page shows."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scrfd_trt._engine.plan import is_engine_file, is_model_path
from scrfd_trt._studio.uploads import Media, output_suffix, tracking_options
from scrfd_trt.models import DEFAULT_MODEL

Layers = Sequence[tuple[str, Mapping[str, Any]]]


def as_command(media: Media, threshold: float, layers: Layers, model: str = DEFAULT_MODEL) -> str:
    """Return a command line; empty without overlays."""
    if not layers:
        return ""
    words = ["scrfd-trt", "overlay", _not_an_option(media.name)]
    for name, options in layers:
        words += ["--overlay", overlay_spec(name, options)]
    if model != DEFAULT_MODEL:
        words += ["--model", model]
    words += ["--threshold", f"{threshold:g}", "-o", _not_an_option(_command_output_name(media))]
    return shlex.join(words)


def wrap_command(command: str) -> str:
    """Break a command line before its options, for POSIX shells: the page would break it within ``--threshold``."""
    if os.name == "nt":
        return command
    words = [shlex.quote(word) for word in shlex.split(command)]
    return " ".join(f"\\\n  {word}" if word.startswith("-") else word for word in words)


def overlay_spec(name: str, options: Mapping[str, Any]) -> str:
    """Return an overlay in the text form of ``--overlay``."""
    text = ",".join(f"{key}={_spec_value(value)}" for key, value in options.items())
    return f"{name}:{text}" if text else name


def _spec_value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Path):
        value = value.name
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if text != text.strip() or "," in text or text[:1] in "\"'":
        return '"' + text.replace('"', '""') + '"'
    return text


def output_name(media: Media) -> str:
    """Return the file name of the result."""
    stem = Path(media.name).stem or "picture"
    return f"{stem}-overlay{output_suffix(media.name) if media.is_clip else '.png'}"


def _command_output_name(media: Media) -> str:
    """Return the file name of the command's result; a file of several images keeps its format, which holds them."""
    name = Path(output_name(media))
    several = media.truncated and not media.is_clip
    return str(name.with_suffix(Path(media.name).suffix) if several else name)


def _not_an_option(name: str) -> str:
    """Return a file name that is not taken for an option."""
    return f"./{name}" if name.startswith("-") else name


def as_python(media: Media, threshold: float, layers: Layers, model: str = DEFAULT_MODEL) -> str:
    """Return a short program."""
    calls = [f"    overlays.create({', '.join([repr(name), *_keywords(options)])})," for name, options in layers]
    draw = ["draw = overlays.Compose(", *calls, ")"] if calls else ["draw = overlays.Compose()"]
    lines = (_clip_lines if media.is_clip else _image_lines)(media, model, threshold, draw)
    return "\n".join(lines) + "\n"


def _keywords(options: Mapping[str, Any]) -> list[str]:
    """Return ``name=value``; files without the temporary folder of the page."""
    return [f"{key}={value.name if isinstance(value, Path) else value!r}" for key, value in options.items()]


def _open_detector(model: str, *options: str) -> str:
    method, words = "", list(options)
    if is_model_path(model):
        method = ".from_engine" if is_engine_file(Path(model)) else ".from_onnx"
    if model != DEFAULT_MODEL:
        words.insert(0, repr(model))
    return f"SCRFDDetector{method}({', '.join(words)})"


def _image_lines(media: Media, model: str, threshold: float, draw: list[str]) -> list[str]:
    return [
        "import cv2",
        "",
        "import overlays",
        "from scrfd_trt import SCRFDDetector",
        "",
        *draw,
        *(["# only the first image of the file"] if media.truncated else []),
        f"image = cv2.imread({media.name!r})",
        f"with {_open_detector(model, f'threshold={threshold:g}')} as detector:",
        "    faces = detector.detect(image)",
        f"cv2.imwrite({output_name(media)!r}, draw(image, faces))",
    ]


def _clip_lines(media: Media, model: str, threshold: float, draw: list[str]) -> list[str]:
    options = ", ".join(f"{key}={value:g}" for key, value in tracking_options(threshold).items())
    return [
        "import overlays",
        "from scrfd_trt import SCRFDDetector",
        "from scrfd_trt.video import TrackingOptions, overlay_video",
        "",
        *draw,
        f"tracking = TrackingOptions({options})",
        f"with {_open_detector(model)} as detector:",
        f"    overlay_video({media.name!r}, {output_name(media)!r}, detector, draw, tracking=tracking)",
    ]
