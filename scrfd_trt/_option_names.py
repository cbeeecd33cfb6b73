"""Names and types of the detector's options, for editors and signatures, and what other libraries call them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import wraps
from typing import Any, Final, Literal, TypedDict, TypeVar, cast

from scrfd_trt.errors import OptionError

Function = TypeVar("Function", bound=Callable[..., Any])


class DetectorKeywords(TypedDict, total=False):
    """What callers pass; the fields of :class:`~scrfd_trt.DetectorOptions`, which explains and checks them."""

    threshold: float
    iou: float
    scales: int | Sequence[int | tuple[int, int]] | None
    min_face: float | None
    rotations: int | Sequence[int]
    max_faces: int | None
    color: Literal["bgr", "rgb", "nv12"]
    max_batch: int


DEFAULTS: Final[DetectorKeywords] = {
    "threshold": 0.5,
    "iou": 0.4,
    "scales": None,
    "min_face": None,
    "rotations": (),
    "max_faces": None,
    "color": "bgr",
    "max_batch": 8,
}

OTHER_NAMES: Final = {
    "name": ("model", "model_name", "weights"),
    "device": ("ctx_id", "providers", "gpu", "gpu_id", "device_id", "execution_provider"),
    "threshold": (
        *("conf", "conf_thres", "confidence", "confidence_threshold", "min_confidence", "min_detection_confidence"),
        *("det_thresh", "thresh", "score_threshold"),
    ),
    "iou": ("iou_threshold", "iou_thres", "nms_thresh", "nms_threshold", "min_suppression_threshold"),
    "scales": ("scale", "imgsz", "img_size", "image_size", "det_size", "input_size", "in_shape"),
    "min_face": ("min_face_size", "slice_wh"),
    "rotations": ("rotation", "augment"),
    "max_faces": ("max_det", "max_num", "max_num_faces", "top_k", "keep_top_k"),
    "color": ("channels", "channel_order", "color_format", "rgb"),
    "max_batch": ("batch_size",),
}
"""Names of the options in ultralytics, InsightFace, supervision, deface, MediaPipe, RetinaFace, OpenCV and MTCNN."""

_OURS: Final = {other: ours for ours, others in OTHER_NAMES.items() for other in others}


_INSTEAD: Final = {
    "stream": "call detector.stream(images)",
    "save": "call save() of the result",
    "show": "call show() of the result",
    "half": "pass build=BuildOptions(…) to SCRFDDetector(…)",
}


def unknown_option(name: str, known: Collection[str]) -> str:
    """Return what is wrong with the name of an option, one line."""
    ours = _OURS.get(name, name)
    if ours in known:
        return f"{name}: did you mean {ours}?"
    reason = f"no option {name!r}; the options are: {', '.join(known)}"
    if ours in OTHER_NAMES and ours != "name":
        return f"{reason}; {ours} is an option of SCRFDDetector(…)"
    return f"{reason}; {_INSTEAD[name]}" if name in _INSTEAD else reason


def check_names(names: Iterable[str], known: Collection[str]) -> None:
    """Raise OptionError for names that are not known."""
    if unknown := [name for name in names if name not in known]:
        raise OptionError("; ".join(unknown_option(name, known) for name in unknown), fields=unknown)


def listed_options(function: Function) -> Function:
    """Show each detector option by name in the signature of a function that takes them as ``**options``."""
    signature = inspect.signature(function)
    *parameters, options = signature.parameters.values()
    types = DetectorKeywords.__annotations__
    for name, default in DEFAULTS.items():
        annotation = getattr(types[name], "__forward_arg__", types[name])
        parameters.append(options.replace(name=name, kind=options.KEYWORD_ONLY, default=default, annotation=annotation))
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return function


def explained_options(function: Function) -> Function:
    """Raise OptionError for keywords that a method does not take: it says what is meant, as TypeError does not."""
    known = [each.name for each in inspect.signature(function).parameters.values() if each.kind is each.KEYWORD_ONLY]
    accepted = inspect.signature(function).parameters

    @wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        if not keywords.keys() <= accepted.keys():
            check_names(keywords, known)
        return function(*arguments, **keywords)

    return cast("Function", call)
