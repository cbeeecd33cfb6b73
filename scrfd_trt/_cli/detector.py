"""Open the detector that the command line names: a model by name or file, or an engine."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from scrfd_trt import _devices
from scrfd_trt._cli import console
from scrfd_trt._cli.option_table import altered
from scrfd_trt._cli.options import DetectArgs, ModelArgs, split_values
from scrfd_trt._cli.progress import build_progress
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._engine.plan import is_engine_file, is_model_path
from scrfd_trt._files import user_path
from scrfd_trt._looks import ROTATIONS, Looks, gflops
from scrfd_trt._options import DetectorOptions
from scrfd_trt.errors import OptionError

Size = tuple[int, int]

THRESHOLD = 0.3
"""Of commands that hide faces, lower than of others: covering too much is better than too little."""
STRIDE = 32
THRESHOLD_HELP = "Minimum score. Lower values hide more."
SCALE_HELP = "Detection sizes, such as 640x360; rounded up to multiples of 32 pixels."
MIN_FACE_DEFAULT = "16; larger for large videos on a CPU; none with --scale"
Threshold = altered("threshold", help=THRESHOLD_HELP)
Scale = altered("scale", param_decls=["-s"], metavar="WxH", help=SCALE_HELP)


@dataclass(frozen=True)
class CoverDetectArgs(DetectArgs):
    """Detection options of ``anonymize``, and of ``tracks``, which numbers the same tracks."""

    threshold: Annotated[float, Threshold] = THRESHOLD
    scale: Annotated[list[str] | None, Scale] = None
    min_face: Annotated[float | None, altered("min_face", show_default=MIN_FACE_DEFAULT)] = None
    rotations: Annotated[list[str] | None, altered("rotations", show_default="90,180,270")] = None

    def search(self, model: ModelArgs) -> tuple[Callable[..., SCRFDDetector], Looks]:
        """Return what opens the detector, and how it looks at images and videos; raise OptionError as the opener."""
        chosen = self.min_face is None and self.scale is None
        looks = Looks(min_face=chosen, rotations=self.rotations is None, gflops=gflops(model.model))
        opener = detector_opener(model, self)

        def opened(*args: Any, **options: Any) -> SCRFDDetector:
            if self.scale is not None and self.min_face is None and not console.is_quiet():
                console.warning(
                    f"--scale {','.join(self.scale)} is the size for detection, not of copies; small faces may be "
                    "missed without --min-face 16"
                )
            return opener(*args, **options)

        return opened, looks


def open_detector(
    model: str,
    device: str = "auto",
    *,
    threshold: float,
    iou: float,
    scale: Iterable[str] | None = None,
    min_face: float | None = None,
    rotations: Iterable[str] | None = None,
    max_faces: int | None = None,
    lean_runtime: Path | None = None,
    allow_host_code: bool = False,
    max_batch: int | None = None,
) -> SCRFDDetector:
    """Open a model by its name, or an ONNX or engine file by its path; ``auto`` is the first GPU for an engine."""
    common: dict[str, Any] = {"threshold": threshold, "iou": iou, "scales": parse_scales(scale), "max_faces": max_faces}
    common |= {"min_face": min_face, "rotations": parse_rotations(rotations)}
    if max_batch is not None:
        common["max_batch"] = max_batch
    path = user_path(model)
    if is_model_path(model) and is_engine_file(path):
        gpu = device if device == _devices.ALL else f"cuda:{gpu_number(device)}"
        detector = SCRFDDetector.from_engine(
            path, device=gpu, lean_runtime=lean_runtime, allow_host_code=allow_host_code, **common
        )
    else:
        check_no_engine_options(model, lean_runtime, allow_host_code=allow_host_code)
        with build_progress(quiet=console.is_quiet()) as progress:
            if is_model_path(model):
                detector = SCRFDDetector.from_onnx(path, device=device, progress=progress, **common)
            else:
                detector = SCRFDDetector.from_pretrained(model, device=device, progress=progress, **common)
    if console.is_verbose():
        console.note(detector.description)
    return detector


def detector_opener(model: ModelArgs, detection: DetectArgs) -> Callable[..., SCRFDDetector]:
    """Return a function that opens the detector; raise OptionError now for an invalid size or rotation."""
    parse_scales(detection.scale)
    parse_rotations(detection.rotations)
    return partial(open_detector, **vars(model), **vars(detection))


def check_no_engine_options(model: str, lean_runtime: Path | None, *, allow_host_code: bool) -> None:
    """Raise OptionError if an option for engines is set, for a model that is not an engine."""
    flag = "--lean-runtime" if lean_runtime else "--allow-host-code" if allow_host_code else ""
    if flag:
        raise OptionError(
            f"{flag} applies only to engines; {model} is not one: leave it out, or name an engine with --model"
        )


def gpu_number(device: str) -> int:
    """Return n of ``cuda:n``, or 0 for ``cuda`` and ``auto``; raise OptionError for others."""
    kind, number = _devices.parse(device)
    if kind == "all":
        raise OptionError(f"--device {device}: this command uses one GPU; the choices are: cuda, cuda:0, cuda:1, …")
    if kind == "cpu":
        raise OptionError(
            f"--device {device}: engines run on NVIDIA GPUs only; the choices are: cuda, cuda:0, cuda:1, …"
        )
    return number or 0


def parse_scales(texts: Iterable[str] | None, option: str = "--scale") -> tuple[Size, ...] | None:
    """Return widths and heights of texts such as ``640``, ``640x384`` or ``128,640``; None without texts.

    Those of ``--scale`` are rounded up to multiples of 32, so that the size of a video can be given.
    """
    return tuple(_parse_size(part, option) for part in split_values(texts)) or None


def parse_rotations(texts: Iterable[str] | None) -> tuple[int, ...]:
    """Return the degrees of texts such as ``90,270``; none for ``none`` or 0. Raises OptionError if one is invalid."""
    parts = split_values(texts)
    if parts in {("none",), ("0",)}:
        return ()
    if parts == ("all",):
        return ROTATIONS
    invalid = next((part for part in parts if part not in map(str, ROTATIONS)), None)
    if invalid in {"none", "all", "0"}:
        raise OptionError(f"--rotations {','.join(parts)}: {invalid} stands alone; leave it or the others out")
    if invalid is not None:
        raise OptionError(f"--rotations {invalid!r}: use none, all, or some of 90, 180 and 270, such as 90,270")
    return tuple(int(part) for part in parts)


def _parse_size(text: str, option: str) -> Size:
    match = re.fullmatch(r"(\d{1,9})(?:[x×X](\d{1,9}))?", text)
    size = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if option == "--scale":
        size = (-(-size[0] // STRIDE) * STRIDE, -(-size[1] // STRIDE) * STRIDE)
    try:
        DetectorOptions(scales=[size])
    except OptionError as error:
        raise OptionError(
            f"{option} {text!r}: sides are multiples of 32 up to 8192 pixels, such as 640, 640x384 or 128,640"
        ) from error
    return size
