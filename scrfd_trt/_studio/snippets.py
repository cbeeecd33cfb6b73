"""The command line and the Python program that make the same result as the page."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scrfd_trt._engine.plan import is_engine_file, is_model_path
from scrfd_trt._image_files.write import is_writable
from scrfd_trt._looks import MIN_FACE, ROTATIONS
from scrfd_trt._studio.settings import ANONYMIZE, THRESHOLDS, Settings
from scrfd_trt.models import DEFAULT_MODEL

if TYPE_CHECKING:
    from scrfd_trt._studio.photos import Photo

Layers = Sequence[tuple[str, Mapping[str, Any]]]


def command(
    name: str, settings: Settings, layers: Layers, model: str = DEFAULT_MODEL, *, faces: str = "", output: str = ""
) -> str:
    """Return the command line for a file; ``faces`` names a faces file, if it draws from one."""
    words = ["scrfd-trt", "anonymize" if settings.mode == "hide" else "overlay", _not_an_option(name)]
    if faces:
        words += ["--detections", _not_an_option(faces)]
    if settings.mode == "fun" or settings.overlays != (ANONYMIZE,):
        for overlay, options in layers:
            words += ["--overlay", overlay_spec(overlay, options)]
    if not faces:
        words += _search_flags(settings)
        words += ["--model", model] if model != DEFAULT_MODEL else []
    words += ["-o", _not_an_option(output)] if output else []
    return wrap_command(words)


def _search_flags(settings: Settings) -> list[str]:
    words = []
    if settings.threshold not in (None, THRESHOLDS[settings.mode]):
        words += ["--threshold", f"{settings.threshold:g}"]
    if settings.mode == "hide":
        return words + ([] if settings.rotations else ["--rotations", "none"])
    words += ["--min-face", str(MIN_FACE)] if settings.small_faces else []
    return words + (["--rotations", "all"] if settings.rotations else [])


def wrap_command(words: Sequence[str]) -> str:
    """Return a command line that breaks before its options, for POSIX shells."""
    if os.name == "nt":
        return shlex.join(words)
    return " ".join(f"\\\n  {word}" if word.startswith("-") else shlex.quote(word) for word in words)


def overlay_spec(name: str, options: Mapping[str, Any]) -> str:
    """Return an overlay in the text form of ``--overlay``."""
    text = ",".join(f"{key}={_spec_value(value)}" for key, value in options.items())
    return f"{name}:{text}" if text else name


def _spec_value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if text != text.strip() or "," in text or text[:1] in "\"'":
        return '"' + text.replace('"', '""') + '"'
    return text


def _not_an_option(name: str) -> str:
    """Return a file name that is not taken for an option."""
    return f"./{name}" if name.startswith("-") else name


def draw_lines(layers: Layers) -> list[str]:
    """Return the lines of a program that make the overlays."""
    calls = [f"    overlays.create({', '.join([repr(name), *_keywords(options)])})," for name, options in layers]
    return ["draw = overlays.Compose(", *calls, ")"] if calls else ["draw = overlays.Compose()"]


def _keywords(options: Mapping[str, Any]) -> list[str]:
    return [f"{key}={str(value) if isinstance(value, Path) else value!r}" for key, value in options.items()]


def open_detector(model: str, *options: str) -> str:
    """Return the call that opens the detector."""
    method, words = "", list(options)
    if is_model_path(model):
        method = ".from_engine" if is_engine_file(Path(model)) else ".from_onnx"
    if model != DEFAULT_MODEL:
        words.insert(0, repr(model))
    return f"SCRFDDetector{method}({', '.join(words)})"


def photo_code(photo: Photo) -> tuple[str, str]:
    """Return the command line and the program for a photograph."""
    settings, name, output = photo.settings, photo.name, photo.output_name
    layers = photo.session.layers(settings)
    faces = photo.faces_name if photo.needs_faces_file else ""
    own = is_writable(Path(name).suffix)
    line = command(name, settings, layers, photo.session.model, faces=faces, output="" if own else output)
    if faces:
        imports, found = (
            ["import json", "from pathlib import Path", ""],
            [
                f"entry = json.loads(Path({faces!r}).read_text())",
                'faces = Detections.from_rows(entry["faces"], entry["image_size"])',
            ],
        )
    else:
        options = [f"threshold={settings.score:g}"]
        options += [f"min_face={MIN_FACE}"] if settings.small_faces else []
        options += [f"rotations={ROTATIONS}"] if settings.rotations else []
        imports, found = (
            [],
            [
                f"with {open_detector(photo.session.model, *options)} as detector:",
                f"    faces = detector.detect({name!r})",
            ],
        )
    lines = [
        *imports,
        "import cv2",
        "",
        "import overlays",
        f"from scrfd_trt import {'Detections' if faces else 'SCRFDDetector'}",
        "",
        *draw_lines(layers),
        f"image = cv2.imread({name!r})",
        *found,
        f"cv2.imwrite({output!r}, draw(image, faces))",
    ]
    return line, "\n".join(lines) + "\n"
