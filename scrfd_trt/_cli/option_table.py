"""The options that several commands share, by their panel in the help, and what shells complete for them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import typer

from scrfd_trt import models
from scrfd_trt.video._encoders import AUDIO, CODECS

SHARE: dict[str, Any] = {"min": 0.0, "max": 1.0}
SECONDS: dict[str, Any] = {"min": 0.0, "max": 60.0}
MIN_FACE: dict[str, Any] = {"min": 4.0, "max": 10_000.0, "show_default": "what --scale finds"}
EAGER: dict[str, Any] = {"is_eager": True, "expose_value": False}
SIZES = "multiples of 32 pixels, such as 640, 640x384 or 128,640."
SIZES_DEFAULT = "the model's size; 128,640 if it accepts any size"
PER_CORE = "one per CPU core"
BATCH_DEFAULT = f"{PER_CORE}; on a GPU the engine's maximum"
RTX_DEFAULT = "TensorRT-RTX's own: 8.0, 8.6, 8.9, 12.0 and newer"


def option(metavar: str | None, text: str, *names: str, panel: str | None = None, **settings: Any) -> Any:
    """Declare an option, which shells complete by its metavar; without names, typer takes the parameter's name."""
    more = {"autocompletion": COMPLETIONS.get(metavar), "rich_help_panel": panel, **settings}
    return typer.Option(*names, metavar=metavar, help=text, **more)


def _overlay_names() -> list[str]:
    import overlays  # noqa: PLC0415 - slow to import

    return list(overlays.names())


COMPLETIONS: dict[str | None, Callable[[], list[str]]] = {
    **dict.fromkeys(("NAME|FILE", "MODEL"), lambda: [model.name for model in models.list_models()]),
    **dict.fromkeys(("NAME:OPTION=VALUE,...", "NAME|new"), _overlay_names),
    "DEVICE": lambda: ["auto", "cpu", "cuda", "cuda:0", "cuda:all"],
}
"""What shells complete, by metavar; typer completes choices, and shells complete files."""

PANELS: dict[str, dict[str, Any]] = {
    "Options": {
        "as_json": option(None, "Print JSON.", "--json"),
        "recursive": option(None, "Search the subfolders of input folders.", "-r"),
        "overwrite": option(None, "Replace existing files."),
        "preview": option(None, "Show videos on a local web page while they are written."),
        "report": option("FILE", "Write a page with pictures of doubtful faces, uncovered (.html)."),
        "quality": option("NUMBER", "Quality of JPEG, WebP, AVIF and HEIC output.", min=1, max=100),
        "keep_metadata": option(None, "Keep title, author, copyright, date, camera and lens."),
        "keep_location": option(None, "Keep the place of the recording."),
        "max_pixels": option("MILLION", "Maximum million pixels of an image.", min=0.001, max=1e6),
    },
    "Detection": {
        "model": option("NAME|FILE", "Name ('scrfd-trt models'), .onnx file, or engine ('scrfd-trt build').", "-m"),
        "device": option("DEVICE", "Device: auto, cpu, cuda, cuda:N, cuda:all. 'scrfd-trt doctor' checks GPUs."),
        "threshold": option("NUMBER", "Minimum score.", "-t", **SHARE),
        "min_face": option("PIXELS", "Find faces from this many pixels on; smaller numbers take longer.", **MIN_FACE),
        "rotations": option("DEGREES,...", "Also find faces turned by 90, 180, 270; or none.", show_default="none"),
        "scale": option("SIZE", f"Detection sizes, {SIZES}", show_default=SIZES_DEFAULT),
        "max_faces": option("N", "Maximum faces per image, highest scores first.", min=1, show_default="all"),
        "iou": option("NUMBER", "Overlap (IoU) above which two detections count as one face.", **SHARE),
        "lean_runtime": option("FILE", "libnvinfer_lean.so.N, for older engines.", show_default="$TRT_LEAN_RUNTIME"),
        "allow_host_code": option(None, "Allow the engine to run CPU code. Only for trusted engines."),
    },
    "Selection of faces": {
        "detections": option("FILE", "Read detections from this file instead of detecting."),
        "save_detections": option("FILE", "Save detections to this file, such as clip.faces.jsonl."),
        "only_tracks": option("N,...", "Cover only these tracks ('scrfd-trt tracks'); all other faces stay visible."),
        "except_tracks": option("N,...", "Leave these tracks ('scrfd-trt tracks') uncovered. Review the result."),
        "drop_tracks": option("N,...", "Do not cover these tracks, and do not count them."),
        "only_region": option("X,Y,W,H", "Cover only faces whose centre is in this region, in pixels."),
        "except_region": option("X,Y,W,H", "Leave faces whose centre is in this region uncovered."),
        "only_span": option("FROM-TO", "Cover faces only within this time: 0:05-1:12.5 or 5-72.5."),
        "except_span": option("FROM-TO", "Leave faces uncovered within this time."),
        "cover": option("X,Y,W,H[@TIME]", "Cover a place: 10,20,64,64@0:05-0:07, or moving: '0,0,9,9@1 5,0,9,9@2'."),
        "keep_doubtful": option(None, "Also keep faces that the second look doubts."),
    },
    "Videos": {
        "every": option("N", "Detect on every N-th frame. Faster; may miss brief faces.", min=1, max=1000),
        "bridge": option("SECONDS", "Longest gap to interpolate, in seconds.", **SECONDS),
        "extend": option("SECONDS", "Time to extend tracks at both ends, in seconds.", **SECONDS),
        "damaged": option("stop|keep", "On damaged frames or images: stop, or keep what is decoded."),
        "delay": option("FRAMES", "Cameras and streams: look-ahead for filling gaps, in frames.", min=0, max=1000),
        "duration": option("SECONDS", "Cameras and streams: recording time.", min=0.1, show_default="until Ctrl-C"),
    },
    "Video encoding": {
        "codec": option("CODEC", f"Video codec: {', '.join(CODECS)}."),
        "crf": option("N", "Video quality; lower is better.", min=0, max=63, show_default="by codec"),
        "preset": option("NAME", "Encoder preset, such as veryfast, slow or p4.", show_default="by codec"),
        "audio": option("|".join(AUDIO), "Copy audio or encode it again; only copy; or drop."),
        "subtitles": option(None, "Copy or convert subtitles.", "--subtitles/--no-subtitles"),
    },
    "Large jobs": {
        "jobs": option("N", "Videos that are processed at the same time.", min=1, max=64),
        "workers": option("N", "Threads that read images, and that write.", min=1, max=256, show_default=PER_CORE),
        "batch": option("N", "Images per run of the model.", min=1, max=1024, show_default=BATCH_DEFAULT),
        "files_from": option("FILE|-", "Read more inputs from a list: lines, or separated by NUL."),
        "shard": option("I/N", "Process only part I of N of the inputs.", show_default="all"),
        "resume": option(None, "Record inputs that are done; skip them in later runs."),
        "dry_run": option(None, "Print what would be read and written, and why not."),
    },
    "Build tuning": {
        "precision": option("NAME", "Precision: int8, fp16, tf32 (10-bit mantissa) or fp32."),
        "calibration": option("FOLDER", "Photographs like yours, for int8.", show_default="drawn scenes"),
        "max_face_change": option("SHARE", "Faces that int8 may lose or add; 0.01 is 1 %.", min=0.0, max=1.0),
        "size": option("SIZE", f"Input sizes, {SIZES}", show_default=SIZES_DEFAULT),
        "io": option("NAME", "Type of input and outputs: float32 or float16."),
        "no_batch_one_profile": option(None, "Omit the profile for single images: smaller, but slower for these."),
        "level": option("N", "Optimization level; higher levels build longer.", min=0, max=5, show_default="3"),
        "workspace": option("MIB", "Maximum GPU workspace per layer, in MiB.", min=1, show_default="all"),
        "timing_cache": option("FILE", "File for cached kernel timings.", show_default="beside the engine"),
    },
    "Portability": {
        "version_compatible": option(None, "Let newer TensorRT releases run the engine; slightly slower."),
        "hardware_compatible": option(None, "Let GPUs of compute capability 8.0 or newer run it; slightly slower."),
        "lean_runtime_inside": option(None, "Embed the lean runtime; the engine then requires --allow-host-code."),
        "compute_capability": option(
            "X.Y", "TensorRT-RTX only: compute capabilities, such as 8.6,12.0.", show_default=RTX_DEFAULT
        ),
    },
    "Messages": {
        "quiet": option(None, "Print errors only, without a progress bar.", "-q"),
        "verbose": option(None, "Explain automatic choices, such as the device.", "-v"),
        "profile": option(None, "Print how long each stage worked."),
        "progress": option("bar|jsonl|none", "Progress bar, JSON lines on stderr, or none."),
        "settings": option("FILE", "Read defaults of options from this file.", **EAGER),
        "log_format": option("text|json", "Print messages as text, or as one JSON object a line.", **EAGER),
    },
}
"""Options by panel and parameter, in the order of the help."""


def _named() -> dict[str, Any]:
    """Return the options by parameter, each with its panel and its long name."""
    for panel, found in PANELS.items():
        for name, one in found.items():
            one.rich_help_panel = panel
            given = [text for text in (one.default, *(one.param_decls or ())) if isinstance(text, str)]
            long = [] if any("--" in text for text in given) else [f"--{name.replace('_', '-')}"]
            one.default, *one.param_decls = *long, *given  # typer corrects the default
    return {name: one for found in PANELS.values() for name, one in found.items()}


OPTIONS = _named()


def altered(name: str, **changes: Any) -> Any:
    """Return a shared option with other attributes."""
    one = copy.copy(OPTIONS[name])
    vars(one).update(changes)
    return one
