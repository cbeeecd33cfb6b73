"""Names and types of the detector's options, for editors and signatures, and what other libraries call them."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import wraps
from numbers import Real
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, TypeVar, cast

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
    "name": "model model_name model_path model_file onnx_file weights",
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
    "out": "output dst",
    "images": "image imgs frames source sources batch inputs",
    "path": "file filename file_name save_path output fp source",
    "margin": "padding pad expand expansion border offset scale",
    "block": "size block_size pixel_size",
    "strength": "radius ksize kernel sigma intensity",
    "size": "image_size output_size crop_size shape",
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
    **dict.fromkeys(("plot", "show", "save"), "overlays.create('blur')(image, faces) draws in another way"),
    **dict.fromkeys(("to_csv", "to_json"), "it returns text, which Path(…).write_text(…) writes to a file"),
    "crop": "align(size=112) returns faces of one size",
    "inside": "write inside((x1, y1, x2, y2))",
    "to_coco": "it returns a list of dicts, which json.dumps(…) makes text",
    "concat": "write concat([a, b])",
    "create": "options follow by name, as in overlays.create('skull', opacity=0.8)",
}
"""What follows errors on the arguments of a method."""

_NESTED: Final = {
    "tracking": ("TrackingOptions", "threshold low bridge extend smooth every conf skip stride"),
    "encode": ("EncodeOptions", "codec crf preset quality pixel_format audio subtitles keep_audio bitrate"),
    "selection": ("TrackSelection", "only_tracks except_tracks drop_tracks covers only_regions only_spans track_ids"),
    "only_tracks": ("except_tracks leaves these visible, only_tracks covers these alone", "keep tracks exclude"),
    "build": ("build=BuildOptions(precision=…) sets the precision on a GPU", "half fp16 precision"),
    "device": ("leave it out; nothing is printed", "verbose"),
    "keep_location": ("only the command has it: scrfd-trt anonymize searches copies with the option verify", "verify"),
    "max_faces": ("use save(path), show(), plot() or crop() of the faces", "save show plot draw save_txt save_crop"),
    "threshold": ("call stream(images), which yields the faces of each", "stream"),
}  # fmt: skip
"""Options of options, and what a result does, by an option that the function takes."""

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
    for one, (kind, others) in _NESTED.items():
        if one in known and name in others.split():
            return f"{name}: {kind if ' ' in kind else f'pass {one}={kind}(…), which has such options'}"
    return unknown_name("option", name, known, meant_by(name, known))


def meant_by(name: str, known: Collection[str]) -> str:
    """Return which of the known names has this one in other libraries; empty if none has."""
    tables = [*_ARGUMENTS.items(), *_ATTRIBUTES.items()]
    return (
        name if name in known else next((one for one, others in tables if one in known and name in others.split()), "")
    )


_ATTRIBUTES: Final = {
    "boxes, or to_supervision() for its annotators": "xyxy",
    "boxes": "box bbox bboxes xyxy",
    "box": "boxes bbox xyxy",
    "scores": "score conf confidence confidences det_score",
    "score": "scores conf confidence det_score prob",
    "landmarks": "landmark kps kpss keypoints",
    "track_ids": "tracker_id id track_id",
    "track_id": "tracker_id id",
    "areas": "area",
    "image_size, which is width and height": "orig_shape",
    "pts_seconds": "time timestamp",
    "source, the path or address": "path orig_img",
    "boxes, which is a NumPy array": "cpu numpy to_numpy data",
    "box, or crop() of the Detections": "crop",
    "inside(…), or a mask: faces[faces.scores > 0.6]": "filter",
    "concat()": "merge append extend",
    "nms()": "with_nms",
    "plot()": "draw annotate draw_on render visualize",
    "crop()": "save_crop save_crops crops",
    "align()": "norm_crop",
    "to_dicts()": "to_dict tolist to_list",
    "to_json()": "tojson json",
    "box, which is x1, y1, x2, y2": "x1 y1 x2 y2 x y",
    "width and height": "area w h size",
    "detect(image, threshold=…), or options.threshold to read it": "threshold conf det_thresh thresh confidence",
    "to_pandas()": "to_df to_dataframe",
    "to_arrow(), which pyarrow.parquet.write_table writes": "to_parquet",
    "detect(image)": "get_faces process process_image "
    "predict get infer inference process detect_faces forward run detect_image detectMultiScale",
    "detect_batch(images), or stream(images)": "predict_batch batch detect_many detect_folder",
    "detect(image), and scrfd_trt.video.detect_video for tracks": "track",
    "warmup()": "prepare",
    "device, an option of SCRFDDetector(…)": "to cuda",
    "scales": "input_size det_size imgsz",
}
"""Attributes of results and detectors of other libraries; an answer is given by the classes that have ours."""
_OWN: Final = (
    ("Detections", "shape count is_empty", "len(faces) is the number of faces"),
    ("Detections", "size image img", "the image is not kept; image_size is its width and height, source its path"),
    ("Detections Detection", "class_id cls names class_name label", "all are faces; to_supervision() has class_id"),
    ("Detections Detection", "embedding normed_embedding", "compute it from align(): docs/how-to/examples.md"),
    ("Detections", "empty", "write len(faces) == 0, or not len(faces); Detections.empty(image_size) makes them"),
    ("Detections", "copy", "use copy.copy(faces), or copy.deepcopy(faces), which copies the arrays, too"),
    ("Detections", "sort sorted sort_values top head largest best max", "index: faces[(-faces.areas).argsort()[:5]]"),
    ("Detections", "verbose summary", "print(faces) describes them"),
    ("Detections", "xywhn", "use xyxyn, which has corners"),
    ("Detections", "to_yolo yolo", "the command scrfd-trt detect writes it with the format yolo"),
    ("Detections", "width height", "faces have it: face.width; widths and heights of all are xywh[:, 2:]"),
    ("Detections", "iou box_iou", "nms(iou=…) drops faces that overlap"),
    ("Detections", "save_txt to_file", "write to_csv() or to_json() with Path(…).write_text(…)"),
    ("Detections", "from_dicts from_list from_pandas from_csv from_ultralytics", "use from_rows(rows, image_size)"),
    ("Detections", "load from_file read", "use from_json(Path(…).read_text())"),
    ("Detection", "to_dict keys items get values", "use _asdict()"),
    ("Box", "width height center w h size area", "it is of the face: face.width, face.height, face.center"),
    ("Box Point", "astype tolist shape", "it is a tuple of numbers; boxes and landmarks of Detections are arrays"),
    ("Detection", "shape astype xywh", "a Detection is one face; boxes, scores and landmarks of Detections are arrays"),
    ("DetectorBase", "find_faces", "use scrfd_trt.video.find_faces(VideoReader(path), detector)"),
    ("DetectorBase", "detect_video", "use scrfd_trt.video.detect_video(path, faces_file, detector)"),
    ("DetectorBase", "nms_thresh max_faces iou min_face rotations color max_batch", "it is in options"),
    ("DetectorBase", "names classes", "all are faces"),
    ("DetectorBase", "model session providers version info", "description names the model's runtime"),
    ("DetectorBase", "half fuse eval train fp16", "models are ready; build_engine makes engines of half precision"),
    ("DetectorBase", "align crop crop_faces extract_faces draw plot save show", "faces of detect(image) have it"),
    ("Detections", "iloc loc iterrows apply query df values columns T to_excel", "use to_pandas(), which has it"),
    ("Detection", "plot save show to_json to_csv", "it is of Detections: faces[0:1] has one face"),
    ("VideoInfo", "fps frame_rate", "use rate"),
    ("VideoInfo", "width height shape resolution", "use size"),
    ("VideoInfo", "frame_count nb_frames num_frames", "use frames"),
    ("overlays", "get", "use overlays.create(name)"),
    ("scrfd_trt.video", "open read load VideoCapture", "use VideoReader(path), or open_source('camera:0')"),
    ("DetectorBase", "export", "use scrfd_trt.build_engine(onnx, path)"),
    ("DetectorBase", "closed is_closed", "calls after close() raise ClosedError"),
    ("OverlayModel Compose", "apply annotate render", "call it: overlay(image, faces)"),
    ("OverlayModel", "options", "options are attributes, and model_dump() has all"),
    ("FrameReader", "read frames grab get_frame next", "iterate over it: for frame in reader"),
    ("FrameReader", "fps size width height frame_count duration get isOpened", "use info: size, rate and frames"),
    ("FrameReader", "release", "use close()"),
    ("Frame", "shape to_ndarray", "use image, an array (H, W, 3) in BGR"),
    ("FrameFaces", "image frame", "it has faces only; overlay_live yields frames with their faces"),
    ("FrameFaces", "to_pandas to_polars to_arrow to_csv to_dicts", "use detections(reader.info.size), which has it"),
    ("TrackSummary", "id track_id track", "use number"),
    ("TrackSummary", "start end score", "use first.pts_seconds, last.pts_seconds, or best, its best face"),
    ("Summary", "to_polars to_df to_dict to_csv to_json", "use to_pandas(), a row for each track"),
    ("FrameFaces", "plot save show crop align to_json", "use detections(size), whose methods take the image"),
    ("FrameFaces", "ids track_id", "use track_ids"),
    ("Face", "id track_id tracker_id", "use track"),
    ("Tracker", "update", "use push(FrameObservation(number, seconds, detector(image)))"),
    ("scrfd_trt", "detect_faces load_model get_model YOLO RetinaFace", "use SCRFDDetector()"),
    ("scrfd_trt", "list_models available_models", "use scrfd_trt.models.list_models()"),
    ("scrfd_trt", "find_faces detect_video overlay_video overlay_live open_source", "import it from scrfd_trt.video"),
    ("scrfd_trt", "VideoReader VideoWriter Tracker TrackingOptions EncodeOptions", "import it from scrfd_trt.video"),
    ("scrfd_trt", "FacesReader FacesWriter TrackSelection Summary LiveReader", "import it from scrfd_trt.video"),
    ("scrfd_trt", "anonymize_video blur_video", "use scrfd_trt.video.overlay_video(source, output, detector, overlay)"),
    ("scrfd_trt scrfd_trt.video", "read_detections read_faces", "use scrfd_trt.video.FacesReader(path)"),
    (
        "scrfd_trt DetectorBase Detections",
        "anonymize blur overlays",
        "import overlays; overlays.create('blur')(image, faces) hides faces",
    ),
    ("scrfd_trt.video", "anonymize_video anonymize", "use overlay_video(source, output, detector, overlay)"),
    ("scrfd_trt.video", "SCRFDDetector Detections Detection", "import it from scrfd_trt"),
    ("scrfd_trt.video", "detect track track_video", "use find_faces(reader, detector), or detect_video"),
    ("overlays", "list available list_overlays", "use overlays.names()"),
    ("overlays", "apply draw", "an overlay is called: overlays.create('blur')(image, faces)"),
    ("overlays", "options", "use overlays.describe(name)"),
    ("overlays", "register", "an entry point registers an overlay; docs/how-to/writing-an-overlay.md has an example"),
    ("overlays", "Mosaic mosaic", "use overlays.create('pixelate')"),
)  # fmt: skip
"""Classes or modules, names that they do not have, and what to use instead."""


def attribute_hint(owner: type | str, name: str) -> str:
    """Return ``"; use …"`` for a name that a class or module of ours does not have; empty if nothing is known of it."""
    owners = {owner} if isinstance(owner, str) else {each.__name__ for each in owner.__mro__}
    for of, others, hint in _OWN:
        if name in others.split() and owners & {*of.split()}:
            return f"; {hint}"
    found = (ours for ours, others in _ATTRIBUTES.items() if name in others.split())
    known = [each for each in (*dir(owner), *getattr(owner, "__dataclass_fields__", ())) if each[0] != "_"]
    if hint := next((f"; use {ours}" for ours in found if re.split(r"\W", ours)[0] in known), ""):
        return hint
    words = {*re.findall(r"[a-z]+", re.sub(r"([A-Z])", r" \1", name).lower())}
    similar = [] if isinstance(owner, str) else [one for one in known if _overlap({*one.split("_")}, words)]
    return f"; there is {' and '.join(dict.fromkeys(similar[:3]))}" if similar else ""


def _overlap(some: set[str], others: set[str]) -> bool:
    return some <= others or others <= some


def unknown_attribute(owner: object, name: str) -> Any:
    """Raise AttributeError, which says what to use if the name is that of another library; ``__getattr__``."""
    kind = owner if isinstance(owner, type) else type(owner)
    what = f"type object {kind.__name__!r}" if kind is owner else f"{kind.__name__!r} object"
    hint = "" if name[0] == "_" else attribute_hint(kind, name)
    raise AttributeError(f"{what} has no attribute {name!r}{hint}", name=name, obj=owner)


def unknown_member(module: str, name: str, hint: str = "") -> Exception:
    """Return the error for a name that a module does not have; called by its ``__getattr__``.

    ``from module import name`` drops the text of AttributeError, and shows that of ImportError.
    """
    hint = hint or attribute_hint(module, name)
    is_import = sys._getframe(2).f_globals.get("__name__") in {"importlib._bootstrap", "_frozen_importlib"}
    return (ImportError if hint and is_import else AttributeError)(f"module {module!r} has no attribute {name!r}{hint}")


class Explained:
    """Base of classes whose missing attributes are explained; type checkers know which exist."""

    __slots__: tuple[str, ...] = ()
    if not TYPE_CHECKING:
        __getattr__ = unknown_attribute


class ExplainedType(Explained, type):
    """Type of classes of which that holds without an object, too."""


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
    required = [each.name for each in parameters if each.kind in _NAMED and each.default is inspect.Parameter.empty]
    types = {each.name: str(each.annotation).removesuffix(" | None") for each in parameters}
    checked = {name: each for name, each in types.items() if each in _TYPES}
    optional = {each.name for each in parameters if str(each.annotation).endswith(" | None")}

    @wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        if not (takes_any or keywords.keys() <= known):
            raise _wrong_call(function.__qualname__, parameters, places, arguments, keywords)
        if missing := {*required} - keywords.keys() - {*places[: len(arguments)]}:
            raise _incomplete_call(function.__qualname__, required, missing, arguments, checked)
        if checked:
            for name, value in (*zip(places, arguments), *keywords.items()):  # noqa: B905 - some have defaults
                if name in checked and not (value is None and name in optional):
                    check_type(name, checked[name], value)
        if len(arguments) > most:
            raise _wrong_call(function.__qualname__, parameters, places, arguments, keywords)
        return function(*arguments, **keywords)

    return cast("Function", call)


_CALLS: Final = ("__init__", "__new__", "__call__")
_PLACED: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMED: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _is_a(kind: str) -> Callable[[Any], bool]:
    return lambda value: any(each.__name__ == kind for each in type(value).__mro__)


_TYPES: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "TrackingOptions": (_is_a("TrackingOptions"), "TrackingOptions, such as TrackingOptions(threshold=0.3)"),
    "TrackSelection": (_is_a("TrackSelection"), "a TrackSelection, such as TrackSelection(only_tracks={1, 2})"),
    "EncodeOptions": (_is_a("EncodeOptions"), "EncodeOptions, such as EncodeOptions(crf=23)"),
    "FrameObservation": (
        _is_a("FrameObservation"),
        "a FrameObservation, such as FrameObservation(number, seconds, detector(image))",
    ),
    "FrameDetector": (lambda value: hasattr(value, "stream"), "a detector, such as SCRFDDetector()"),
    "OverlayFunction": (callable, "an overlay, such as overlays.create('blur')"),
    "Overlay": (callable, "an overlay, such as overlays.create('blur')"),
    "ProgressCallback": (callable, "a function of stage, done and total"),
    "Reader": (lambda value: hasattr(value, "info"), "an open reader, such as VideoReader(path)"),
    "Source": (lambda value: isinstance(value, (str, os.PathLike)), "a path or an address"),
}
"""Annotations of arguments that callers often confuse: what is checked, and what is required."""


def check_type(name: str, annotation: str, value: Any) -> None:
    """Raise OptionError if the value of an argument is not of the type that its annotation says."""
    is_right, what = _TYPES[annotation]
    is_overlay, hint = annotation in ("Overlay", "OverlayFunction"), ""
    if isinstance(value, type) and annotation != "ProgressCallback":
        hint = f"{value.__name__} is a class: write {value.__name__}(…)"
    elif is_overlay and hasattr(value, "detect_batch"):
        hint = "this is a detector: pass the detector first, and then the overlay"
    elif is_overlay and hasattr(value, "annotate") and not callable(value):
        hint = f"write overlays.from_supervision({type(value).__name__}(…))"
    elif is_right(value):
        return
    elif annotation == "FrameDetector" and callable(value):
        hint = "pass the detector first, and then the overlay"
    elif is_overlay and isinstance(value, (list, tuple)):
        hint = "write overlays.Compose(*them)"
    elif is_overlay and isinstance(value, str):
        hint = f"write overlays.create({value!r})"
    elif annotation == "Source" and hasattr(value, "shape"):
        hint = "overlays.create('blur')(image, detector(image)) hides the faces of an image"
    elif annotation == "Source" and (hasattr(value, "read") or hasattr(value, "info")):
        hint = "pass the path of the video"
    elif annotation == "Source" and type(value) is int:
        hint = f"open_source('camera:{value}') opens a camera"
    text = f"{name} must be {what}, not {shown(value)}" + (f"; {hint}" if hint else "")
    raise OptionError(text, fields=[name], value=value)


def _incomplete_call(
    function: str,
    required: list[str],
    missing: Collection[str],
    arguments: tuple[Any, ...],
    types: Mapping[str, str],
) -> OptionError:
    """Return the error for a call without some of the arguments that are required.

    Values by position that are of the type of a later argument are taken for that one.
    """
    owner, _, name = function.rpartition(".")
    if required[0] == "self" and arguments and owner not in {each.__name__ for each in type(arguments[0]).__mro__}:
        return OptionError(f"{function}(…) is called on an object, not on the class: {owner}(…).{name}(…)")
    takes = [one for one in required if one not in _SELF]
    left, skipped = [*arguments[required[0] in _SELF :]], []
    for one in takes:
        if left and (one not in types or _TYPES[types[one]][0](left[0])):
            del left[0]
        else:
            skipped.append(one)
    absent = ", ".join(skipped if len(skipped) == len(missing) and not left else (x for x in takes if x in missing))
    callee = owner if name in _CALLS else name
    is_size = [*missing] == ["image_size"] and isinstance(arguments[-1], tuple) and len(arguments[-1]) == 2
    hint = f": write image_size={arguments[-1]}" if is_size else ""
    return OptionError(f"{callee}({', '.join(takes)}) requires {absent}, too{hint}", fields=missing)


def _wrong_call(
    function: str, parameters: Any, places: list[str], arguments: tuple[Any, ...], keywords: Mapping[str, Any]
) -> OptionError:
    """Return the error for the first surplus value, or else for names that a function does not take."""
    owner, _, name = function.rpartition(".")
    known = [each.name for each in parameters if each.kind in _NAMED and each.name not in _SELF]
    unknown = [one for one in keywords if one not in known]
    what = "; ".join(unknown_option(one, known) for one in unknown)
    if name == "__call__" and (
        own := [one for one in unknown if one in getattr(type(arguments[0]), "model_fields", ())]
    ):
        kind, given = type(arguments[0]), ", ".join(f"{one}={shown(keywords[one])}" for one in own)
        ours = kind.__module__.removeprefix("overlays._")  # named as the overlay
        create = f"{kind.__name__}(" if ours == kind.__module__ else f"overlays.create({ours!r}, "
        what = f"{', '.join(own)}: pass it when the overlay is created, {create}{given})"
    if surplus := arguments[len(places) :]:
        callee = f"{owner} object" if name == "__call__" else f"{owner if name in _CALLS else name}(…)"
        named = [one for one in known if one not in places and one not in keywords]
        named = ["device"] if "device" in named and isinstance(surplus[0], str) else named
        what = f"{callee}: pass {shown(surplus[0])} by name: {', '.join(f'{one}=…' for one in named)}"
        if places[-1] in ("image", "images") and "threshold" in named and not isinstance(surplus[0], Real):
            many = name if places[-1] == "images" else "detect_batch"
            what = f"{callee}: for several images, pass a list: {many}([first, second])"
        if not named:
            taken = ", ".join(one for one in places if one not in _SELF) or "nothing"
            what = f"{callee} takes {taken}, and not also {shown(surplus[0])}"
    hint = f"; {_HINTS[name]}" if name in _HINTS and not what.endswith("?") else ""
    return OptionError(what + hint, fields=unknown)


_SELF: Final = ("self", "cls", "_cls")
