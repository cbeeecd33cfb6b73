"""The command line and the Python that make what a page shows."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scrfd_trt.cli.network import is_engine, is_file
from scrfd_trt.cli.options import DEFAULT_MODEL
from scrfd_trt.cli.studio.media import Media

Layers = Sequence[tuple[str, Mapping[str, Any]]]


def spec(name: str, options: Mapping[str, Any]) -> str:
    """Write an overlay as ``--overlay`` takes it."""
    told = ",".join(f"{key}={_value(value)}" for key, value in options.items())
    return f"{name}:{told}" if told else name


def as_command(media: Media, threshold: float, layers: Layers, model: str = DEFAULT_MODEL) -> str:
    """Return one command line; empty without overlays, and for a clip, which ``scrfd-trt overlay`` does not take."""
    if media.is_clip or not layers:
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
    opened = _opened(model, threshold)
    steps = _clip(media, opened) if media.is_clip else _picture(media, opened)
    lines = ["import cv2", "", "import overlays", "from scrfd_trt import SCRFDDetector", "", *draw, *steps]
    return "\n".join(lines) + "\n"


def _target(media: Media) -> str:
    name = f"{Path(media.name).stem}-overlay.{'mp4' if media.is_clip else 'png'}"
    return f"./{name}" if name.startswith("-") else name


def _opened(model: str, threshold: float) -> str:
    """Write what opens the detector."""
    if not is_file(model):
        name = "" if model == DEFAULT_MODEL else f"{model!r}, "
        return f"SCRFDDetector.from_pretrained({name}threshold={threshold:g})"
    kind = "from_engine" if is_engine(Path(model)) else "from_onnx"
    return f"SCRFDDetector.{kind}({model!r}, threshold={threshold:g})"


def _picture(media: Media, opened: str) -> list[str]:
    return [
        f"image = cv2.imread({media.name!r})",
        f"with {opened} as detector:",
        "    faces = detector.detect(image)",
        f"cv2.imwrite({_target(media)!r}, draw(image, faces))",
    ]


def _clip(media: Media, opened: str) -> list[str]:
    height, width = media.frames[0].shape[:2]
    return [
        f"video = cv2.VideoCapture({media.name!r})",
        "mp4 = cv2.VideoWriter.fourcc(*'mp4v')",
        f"writer = cv2.VideoWriter({_target(media)!r}, mp4, {media.rate:g}, ({width}, {height}))",
        f"with {opened} as detector:",
        "    while (read := video.read())[0]:",
        f"        frame = cv2.resize(read[1], ({width}, {height}))",
        "        writer.write(draw(frame, detector.detect(frame)))",
        "writer.release()",
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
