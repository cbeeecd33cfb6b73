"""Names and types of the detector's options, for editors and signatures, and what other libraries call them."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import wraps
from types import FunctionType
from typing import Any, Final, Literal, TypedDict, TypeVar, cast

from scrfd_trt.errors import OptionError, shown, unknown_name

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


DEFAULTS: Final = {"threshold": 0.5, "iou": 0.4, "rotations": (), "color": "bgr", "max_batch": 8, "device": "auto"}
"""Those that are not None."""

OTHER_NAMES: Final = {
    "name": "model model_name weights",
    "device": "ctx_id providers gpu gpu_id device_id execution_provider",
    "threshold": "conf conf_thres confidence confidence_threshold min_confidence min_detection_confidence det_thresh "
    "thresh score_threshold conf_threshold min_score",
    "iou": "iou_threshold iou_thres nms nms_thresh nms_threshold min_suppression_threshold",
    "scales": "scale imgsz img_size image_size det_size input_size in_shape",
    "min_face": "min_face_size slice_wh",
    "rotations": "rotation augment",
    "max_faces": "max_det max_num max_num_faces top_k keep_top_k",
    "color": "channels channel_order color_format rgb",
    "max_batch": "batch batch_size",
}
"""Names of the options in ultralytics, InsightFace, supervision, deface, MediaPipe, RetinaFace, OpenCV and MTCNN."""

_PATHS: Final = "path file picture image"
_ARGUMENTS: Final = {
    "picture": _PATHS,
    "fill": "colour color",
    "box_color": "colour color",
    "background": "colour color",
    "image": f"{_PATHS} img frame scene input source im",
    "images": "image imgs frames source sources batch inputs",
    "path": "file filename file_name save_path output fp source",
    "margin": "padding pad expand expansion border offset scale",
    "block": "size block_size pixel_size",
    "strength": "radius ksize kernel sigma intensity",
    "kind": "emoji",
    "size": "image_size output_size crop_size shape thickness line_width radius",
    "iou": "threshold overlap",
    "image_size": "size shape orig_shape resolution_wh image_shape",
    "overwrite": "exist_ok force replace",
    "detections": "faces results boxes",
    "source": "path video input src file video_path source_path",
    "faces_file": "output target json path",
    "output": "target output_path target_path dst save_path out",
    "overlay": "callback overlays annotator",
    "region": "zone polygon roi box",
}
"""What functions and overlays take, and what one may type for it."""
_HINTS: Final = {
    **dict.fromkeys(("plot", "show", "save"), "overlays.create('landmarks', …) draws in other ways"),
    **dict.fromkeys(("to_csv", "to_json"), "it returns text, which Path(…).write_text(…) writes to a file"),
    "inside": "write inside((x1, y1, x2, y2))",
    "concat": "write concat([a, b])",
    "create": "options follow by name, as in overlays.create('skull', opacity=0.8)",
}
"""What follows errors on the arguments of a method."""

_OURS: Final = {other: ours for ours, others in OTHER_NAMES.items() for other in others.split()}
READ_ONLY: Final = {*OTHER_NAMES, *_OURS} - {"name", *OTHER_NAMES["name"].split()}


def unknown_option(name: str, known: Collection[str]) -> str:
    """Return what is wrong with the name of an option, one line."""
    ours = _OURS.get(name, name)
    if ours == "max_batch" and "batch" in known:
        ours = "batch"
    if ours in known:
        return f"{name}: did you mean {ours}?"
    if ours in OTHER_NAMES and "threshold" in known:
        meant = "it is" if ours == name else f"did you mean {ours},"
        return f"{name}: {meant} an option of SCRFDDetector(…)"
    tables = [*_ARGUMENTS.items(), *_ATTRIBUTES.items()]
    meant = next((one for one, others in tables if one in known and name in others.split()), "")
    return unknown_name("option", name, known, meant)


_ATTRIBUTES: Final = {
    "boxes": "xyxy bbox bboxes",
    "box": "xyxy bbox",
    "scores": "conf confidence confidences det_score",
    "score": "conf confidence det_score prob",
    "landmarks": "kps keypoints",
    "track_ids": "tracker_id",
    "track_id": "tracker_id id",
    "areas": "area",
    "image_size, which is width and height": "orig_shape",
    "pts_seconds": "time",
    "source, the path or address": "path orig_img",
    "boxes, which is a NumPy array": "cpu numpy",
    "box, or crop() of the Detections": "crop",
    "inside(…), or a mask: faces[faces.scores > 0.6]": "filter",
    "concat()": "merge append",
    "nms()": "with_nms",
    "plot()": "draw annotate draw_on render",
    "crop()": "save_crop crops",
    "to_dicts()": "to_dict tolist",
    "to_json()": "tojson json",
    "box, which is x1, y1, x2, y2": "x1 y1 x2 y2",
    "width and height": "area",
    "detect(image, threshold=…), or options.threshold to read it": "threshold conf",
    "to_pandas()": "to_df",
    "detect(image)": "predict get infer inference process detect_faces forward run",
    "detect(image), and scrfd_trt.video.detect_video for tracks": "track",
    "warmup()": "prepare",
    "device, an option of SCRFDDetector(…)": "to cuda",
}
"""Attributes of results and detectors of other libraries; an answer is given by the classes that have ours."""


def unknown_attribute(owner: object, name: str) -> Any:
    """Raise AttributeError, which names our attribute if the name is that of another library; ``__getattr__``."""
    kind = type(owner)
    found = [ours for ours, others in _ATTRIBUTES.items() if name in others.split()]
    hint = next((f"; use {ours}" for ours in found if hasattr(kind, re.split(r"\W", ours)[0])), "")
    raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}{hint}", name=name, obj=owner)


def listed_options(keywords: Any) -> Callable[[Function], Function]:
    """Show each key of a typed dict in the signature of a function that takes them as ``**options``."""

    def listed(function: Function) -> Function:
        signature = inspect.signature(function)
        *parameters, options = signature.parameters.values()
        for name, kind in keywords.__annotations__.items():
            shown = {"default": DEFAULTS.get(name), "annotation": getattr(kind, "__forward_arg__", kind)}
            parameters.append(options.replace(name=name, kind=options.KEYWORD_ONLY, **shown))
        function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        function.__qualname__ = function.__qualname__.replace("DetectorBase", "SCRFDDetector")  # TypeError names it
        return function

    return listed


def explained_options(function: Function) -> Function:
    """Raise OptionError for arguments that a function, or the public methods of a class, do not take: say what they do.

    Python's TypeError does not say what is meant.
    """
    if isinstance(function, type):
        for name, member in [*vars(function).items()]:
            inner = getattr(member, "__func__", member)
            if isinstance(inner, FunctionType) and (name[0] != "_" or name in _CALLS):
                explained = explained_options(inner)
                setattr(function, name, explained if inner is member else type(member)(explained))
        return cast("Function", function)
    parameters = [*inspect.signature(function).parameters.values()]
    kinds, places = {each.kind for each in parameters}, [one.name for one in parameters if one.kind in _PLACED]
    known = {each.name for each in parameters if each.kind in _NAMED}
    most = sys.maxsize if inspect.Parameter.VAR_POSITIONAL in kinds else len(places)
    takes_any = inspect.Parameter.VAR_KEYWORD in kinds

    @wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        if len(arguments) > most or not (takes_any or keywords.keys() <= known):
            raise _wrong_call(function.__qualname__, parameters, places, arguments, keywords)
        return function(*arguments, **keywords)

    return cast("Function", call)


_CALLS: Final = ("__init__", "__new__", "__call__")
_PLACED: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMED: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _wrong_call(
    function: str, parameters: Any, places: list[str], arguments: tuple[Any, ...], keywords: Mapping[str, Any]
) -> OptionError:
    """Return the error for the first surplus value, or else for names that a function does not take."""
    owner, _, name = function.rpartition(".")
    known = [each.name for each in parameters if each.kind in _NAMED and each.name not in _SELF]
    unknown = [one for one in keywords if one not in known]
    what = "; ".join(unknown_option(one, known) for one in unknown)
    if surplus := arguments[len(places) :]:
        callee = f"{owner} object" if name == "__call__" else f"{owner if name in _CALLS else name}(…)"
        named = [one for one in known if one not in places and one not in keywords]
        named = ["device"] if "device" in named and isinstance(surplus[0], str) else named
        what = f"{callee}: pass {shown(surplus[0])} by name: {', '.join(f'{one}=…' for one in named)}"
        if not named:
            taken = ", ".join(one for one in places if one not in _SELF) or "nothing"
            what = f"{callee} takes {taken}, and not also {shown(surplus[0])}"
    hint = f"; {_HINTS[name]}" if name in _HINTS and not what.endswith("?") else ""
    return OptionError(what + hint, fields=unknown)


_SELF: Final = ("self", "cls", "_cls")
