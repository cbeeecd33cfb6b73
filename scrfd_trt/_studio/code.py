"""The command line and the Python that make what a page shows."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scrfd_trt._engine.plan import is_engine_file, is_model_path
from scrfd_trt._studio import media as clips
from scrfd_trt._studio.media import Media
from scrfd_trt.models import DEFAULT_MODEL

Layers = Sequence[tuple[str, Mapping[str, Any]]]


def spec(name: str, options: Mapping[str, Any]) -> str:
    """Write an overlay as ``--overlay`` takes it."""
    told = ",".join(f"{key}={_value(value)}" for key, value in options.items())
    return f"{name}:{told}" if told else name


def as_command(media: Media, threshold: float, layers: Layers, model: str = DEFAULT_MODEL) -> str:
    """Return one command line; empty without overlays."""
    if not layers:
        return ""
    # A name that begins as an option does would be taken for one.
    words = ["scrfd-trt", "overlay", f"./{media.name}" if media.name.startswith("-") else media.name]
    for name, options in layers:
        words += ["--overlay", spec(name, options)]
    if model != DEFAULT_MODEL:
        words += ["--model", model]
    words += ["--threshold", f"{threshold:g}", "-o", _target(media)]
    return shlex.join(words)


def in_lines(command: str) -> str:
    """Break a command line before its options, as POSIX shells take it: a page breaks it within ``--threshold``."""
    if os.name == "nt":
        return command
    words = [shlex.quote(word) for word in shlex.split(command)]
    return " ".join(f"\\\n  {word}" if word.startswith("-") else word for word in words)


def as_python(media: Media, threshold: float, layers: Layers, model: str = DEFAULT_MODEL) -> str:
    """Return a short program."""
    made = [f"    overlays.create({', '.join([repr(name), *_keywords(options)])})," for name, options in layers]
    draw = ["draw = overlays.Compose(", *made, ")"] if made else ["draw = overlays.Compose()"]
    lines = (_clip if media.is_clip else _picture)(media, model, threshold, draw)
    return "\n".join(lines) + "\n"


def target_name(media: Media) -> str:
    """Return the name of the file that the result becomes."""
    stem = Path(media.name).stem or "picture"
    return f"{stem}-overlay{clips.suffix(media.name) if media.is_clip else '.png'}"


def _target(media: Media) -> str:
    name = target_name(media)
    return f"./{name}" if name.startswith("-") else name


def _opened(model: str, *options: str) -> str:
    """Write what opens the detector."""
    kind, words = "from_pretrained", list(options)
    if is_model_path(model):
        kind = "from_engine" if is_engine_file(Path(model)) else "from_onnx"
    if model != DEFAULT_MODEL:
        words.insert(0, repr(model))
    return f"SCRFDDetector.{kind}({', '.join(words)})"


def _picture(media: Media, model: str, threshold: float, draw: list[str]) -> list[str]:
    opened = _opened(model, f"threshold={threshold:g}")
    return [
        "import cv2",
        "",
        "import overlays",
        "from scrfd_trt import SCRFDDetector",
        "",
        *draw,
        f"image = cv2.imread({media.name!r})",
        f"with {opened} as detector:",
        "    faces = detector.detect(image)",
        f"cv2.imwrite({_target(media)!r}, draw(image, faces))",
    ]


def _clip(media: Media, model: str, threshold: float, draw: list[str]) -> list[str]:
    follow = ", ".join(f"{key}={value:g}" for key, value in clips.follow_options(threshold).items())
    return [
        "import overlays",
        "from scrfd_trt import SCRFDDetector",
        "from scrfd_trt.video import TrackingOptions, overlay_video",
        "",
        *draw,
        f"tracking = TrackingOptions({follow})",
        f"with {_opened(model)} as detector:",
        f"    overlay_video({media.name!r}, {_target(media)!r}, detector, draw, tracking=tracking)",
    ]


def _keywords(options: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value!r}" for key, value in _plain(options).items()]


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Name files without the folder in which the page keeps them."""
    return {key: value.name if isinstance(value, Path) else value for key, value in options.items()}


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Path):
        value = value.name
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if text != text.strip() or "," in text or text[:1] in "\"'":
        return '"' + text.replace('"', '""') + '"'
    return text
