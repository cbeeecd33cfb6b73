"""Options that several commands share, groups of them, and the settings that they are parsed into.

A group is a frozen dataclass whose fields are options or groups. A command takes a group as one parameter, and
:func:`flatten_groups` turns the fields into parameters for typer.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

import typer

from scrfd_trt import models
from scrfd_trt._cli.looks import Looks
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._image_files.frames import MILLION, Limits
from scrfd_trt._options import DetectorOptions
from scrfd_trt.errors import OptionError
from scrfd_trt.video import Cover, EncodeOptions, Summary, TrackingOptions, TrackSelection, detect_video
from scrfd_trt.video._encoders import AUDIO, CODECS
from scrfd_trt.video._live_pass import DELAY
from scrfd_trt.video._reader import Damaged
from scrfd_trt.video._two_pass import ProgressCallback

Text = TypeVar("Text", bound=str)
ProgressKind = Literal["bar", "jsonl", "none"]
PROGRESS: tuple[ProgressKind, ...] = get_args(ProgressKind)
DAMAGED: tuple[Damaged, ...] = get_args(Damaged)

DEFAULT_MODEL = models.DEFAULT_MODEL
THRESHOLD: float = DetectorOptions.model_fields["threshold"].default
IOU: float = DetectorOptions.model_fields["iou"].default
TRACKING = TrackingOptions()

SCALE_DEFAULT = "the model's size; 128,640 if it accepts any size"
SHARE: dict[str, Any] = {"min": 0.0, "max": 1.0, "metavar": "NUMBER"}
SECONDS: dict[str, Any] = {"min": 0.0, "max": 60.0}


def option(metavar: str | None, text: str, *names: str, **settings: Any) -> Any:
    """Declare an option, which shells complete by its metavar; without names, typer takes the parameter's name."""
    return typer.Option(*names, metavar=metavar, help=text, autocompletion=completion(metavar), **settings)


def completion(metavar: str | None) -> Callable[[], list[str]] | None:
    """Return the function that lists the values for a metavar; None if shells complete files."""
    if metavar in COMPLETED:
        return COMPLETED[metavar]
    choices = metavar.split("|") if metavar and "|" in metavar and metavar.islower() else []
    return (lambda: choices) if choices else None


def model_names() -> list[str]:
    """Return the names of all models."""
    return [model.name for model in models.list_models()]


def overlay_names() -> list[str]:
    """Return the names of all overlays."""
    import overlays  # noqa: PLC0415 - slow to import

    return list(overlays.names())


def _formats() -> list[str]:
    from scrfd_trt._cli.results import FORMATS  # noqa: PLC0415 - imports this module

    return list(FORMATS)


COMPLETED: dict[str | None, Callable[[], list[str]]] = {
    "NAME|FILE": model_names,
    "MODEL": model_names,
    "NAME:OPTION=VALUE,...": overlay_names,
    "DEVICE": lambda: ["auto", "cpu", "cuda", "cuda:0", "cuda:all"],
    "FORMAT": _formats,
    "CODEC": lambda: list(CODECS),
}
"""What shells complete, by metavar."""


INPUT_HELP = "Images, videos, folders, globs, URLs, or - for standard input."
LIVE_INPUT_HELP = "Images, videos, folders, globs, URLs, or one camera:N; - is standard input."
MODEL_HELP = "Model name ('scrfd-trt models'), .onnx file, or engine ('scrfd-trt build')."
LEAN_HELP = "Path of libnvinfer_lean.so.N, for engines built with an older TensorRT."
SCALE_HELP = "Detection sizes, multiples of 32 pixels, such as 640, 640x384 or 128,640."
MIN_FACE_HELP = "Find faces from this many pixels on; smaller numbers take longer."
ROTATIONS_HELP = "Also find faces turned by 90, 180, 270; none turns it off."

Inputs = Annotated[list[str] | None, typer.Argument(metavar="INPUT", help=INPUT_HELP)]
LiveInputs = Annotated[list[str] | None, typer.Argument(metavar="INPUT", help=LIVE_INPUT_HELP)]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Search the subfolders of input folders.")]
ModelName = Annotated[str, option("NAME|FILE", MODEL_HELP, "--model", "-m")]
Device = Annotated[str, option("DEVICE", "Device: auto, cpu, cuda, cuda:N, cuda:all. 'scrfd-trt doctor' checks GPUs.")]
LeanRuntime = Annotated[Path | None, option("FILE", LEAN_HELP, show_default="$TRT_LEAN_RUNTIME")]
AllowHostCode = Annotated[
    bool, typer.Option("--allow-host-code", help="Allow the engine to run CPU code. Only for trusted engines.")
]
Threshold = Annotated[float, typer.Option("--threshold", "-t", help="Minimum score, 0 to 1.", **SHARE)]
Iou = Annotated[float, typer.Option(help="Overlap (IoU) above which two detections count as one face.", **SHARE)]
Scale = Annotated[list[str] | None, option("SIZE", SCALE_HELP, "--scale", show_default=SCALE_DEFAULT)]
MIN_FACE: dict[str, Any] = {"min": 4.0, "max": 10_000.0}
MinFace = Annotated[
    float | None, option("PIXELS", MIN_FACE_HELP, "--min-face", show_default="what --scale finds", **MIN_FACE)
]
Rotations = Annotated[list[str] | None, option("DEGREES,...", ROTATIONS_HELP, "--rotations", show_default="none")]
MaxFaces = Annotated[
    int | None,
    option("N", "Maximum faces per image, highest scores first; others are ignored.", min=1, show_default="all"),
]
Quality = Annotated[int, option("NUMBER", "Quality of JPEG, WebP, AVIF and HEIC output, 1 to 100.", min=1, max=100)]
MaxPixels = Annotated[float, option("MILLION", "Maximum million pixels of an image.", min=0.001, max=1e6)]
Workers = Annotated[
    int | None,
    option("N", "Threads that read images, and that write copies.", min=1, max=256, show_default="one per CPU core"),
]
Batch = Annotated[
    int | None,
    option(
        "N",
        "Images per run of the model.",
        min=1,
        max=1024,
        show_default="one per CPU core; on a GPU the engine's maximum",
    ),
]
KeepMetadata = Annotated[
    bool, typer.Option("--keep-metadata", help="Keep title, author, copyright, date, camera and lens.")
]
KeepLocation = Annotated[bool, typer.Option("--keep-location", help="Keep the place of the recording.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only, without a progress bar.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Explain automatic choices, such as the device.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Texts = list[str] | None


@dataclass(frozen=True)
class ModelArgs:
    """The model and its device."""

    model: ModelName = DEFAULT_MODEL
    device: Device = "auto"
    lean_runtime: LeanRuntime = None
    allow_host_code: AllowHostCode = False


@dataclass(frozen=True)
class DetectArgs:
    """Detection options."""

    threshold: Threshold = THRESHOLD
    iou: Iou = IOU
    scale: Scale = None
    min_face: MinFace = None
    rotations: Rotations = None


@dataclass(frozen=True)
class LimitedDetectArgs(DetectArgs):
    """Detection options with a limit on the number of faces."""

    max_faces: MaxFaces = None


@dataclass(frozen=True)
class MessageArgs:
    """What is printed on stderr."""

    quiet: Quiet = False
    verbose: Verbose = False


@dataclass(frozen=True)
class JobMessageArgs(MessageArgs):
    """What is printed on stderr while files are processed."""

    profile: Annotated[bool, typer.Option("--profile", help="Print how long each stage worked.")] = False


@dataclass(frozen=True)
class JobArgs:
    """Which inputs of a large job are processed."""

    files_from: Annotated[
        Path | None, option("FILE|-", "Read more inputs from a list: lines, or separated by NUL.")
    ] = None
    shard: Annotated[str | None, option("I/N", "Process only part I of N of the inputs.", show_default="all")] = None
    resume: Annotated[bool, option(None, "Record inputs that are done; skip them in later runs.", "--resume")] = False
    dry_run: Annotated[bool, option(None, "Print what would be read and written, and why not.", "--dry-run")] = False


@dataclass(frozen=True)
class DetectionsFileArgs:
    """Detections files of a video or of images."""

    detections: Annotated[Path | None, option("FILE", "Read detections from this file instead of detecting.")] = None
    save_detections: Annotated[
        Path | None, option("FILE", "Save detections to this file, such as clip.faces.jsonl.")
    ] = None


@dataclass(frozen=True)
class SelectionArgs:
    """Which faces are covered, and when."""

    only_tracks: Annotated[
        Texts, option("N,...", "Cover only these tracks ('scrfd-trt tracks'); all other faces stay visible.")
    ] = None
    except_tracks: Annotated[Texts, option("N,...", "Leave these tracks uncovered. Review the result.")] = None
    only_region: Annotated[
        Texts, option("X,Y,W,H", "Cover only faces whose centre is (mostly) in this region (pixels).")
    ] = None
    except_region: Annotated[
        Texts, option("X,Y,W,H", "Leave faces uncovered whose centre is (mostly) in this region.")
    ] = None
    drop_tracks: Annotated[Texts, option("N,...", "Do not cover these tracks, and do not count them.")] = None
    cover: Annotated[
        Texts, option("X,Y,W,H[@TIME]", "Cover a place: 10,20,64,64@0:05-0:07, or moving: '0,0,9,9@1 5,0,9,9@2'.")
    ] = None
    only_span: Annotated[Texts, option("FROM-TO", "Cover faces only within this time: 0:05-1:12.5 or 5-72.5.")] = None
    except_span: Annotated[Texts, option("FROM-TO", "Leave faces uncovered within this time.")] = None

    def parse(self) -> TrackSelection:
        """Return the selection; raise OptionError for an invalid or contradictory track, region, span or cover."""
        only, excepted = _tracks("--only-tracks", self.only_tracks), _tracks("--except-tracks", self.except_tracks)
        if both := sorted({*only} & {*excepted}):
            raise OptionError(f"track {both[0]} is in --only-tracks and in --except-tracks; leave it out of one")
        if only and excepted:
            raise OptionError("--only-tracks leaves all other tracks uncovered, so leave out --except-tracks")
        dropped = _tracks("--drop-tracks", self.drop_tracks)
        if both := sorted({*only, *excepted} & {*dropped}):
            raise OptionError(f"track {both[0]} is in --drop-tracks and in another option; leave it out of one")
        self._check_regions()
        return TrackSelection(
            only_tracks=frozenset(only),
            except_tracks=frozenset(excepted),
            drop_tracks=frozenset(dropped),
            covers=tuple(dict.fromkeys(_cover(text) for text in self.cover or ())),
            only_regions=tuple(_region("--only-region", text) for text in self.only_region or ()),
            except_regions=tuple(_region("--except-region", text) for text in self.except_region or ()),
            only_spans=tuple(_span("--only-span", text) for text in self.only_span or ()),
            except_spans=tuple(_span("--except-span", text) for text in self.except_span or ()),
        )

    def _check_regions(self) -> None:
        """Raise OptionError if a region to cover lies in one to leave uncovered."""
        for text in self.only_region or ():
            x, y, width, height = _region("--only-region", text)
            for other in self.except_region or ():
                left, top, across, down = _region("--except-region", other)
                if left <= x and top <= y and x + width <= left + across and y + height <= top + down:
                    raise OptionError(
                        f"--only-region {text} lies in --except-region {other}, so it covers nothing; leave one out"
                    )


@dataclass(frozen=True)
class LiveArgs:
    """How cameras and streams are processed."""

    delay: Annotated[
        int, option("FRAMES", "Cameras and streams: look-ahead for filling gaps, in frames.", min=0, max=1000)
    ] = DELAY
    duration: Annotated[
        float | None, option("SECONDS", "Cameras and streams: recording time.", min=0.1, show_default="until Ctrl-C")
    ] = None


@dataclass(frozen=True)
class EncodeArgs:
    """How videos are written."""

    codec: Annotated[str, option("CODEC", f"Video codec: {', '.join(CODECS)}.")] = "auto"
    crf: Annotated[
        int | None, option("N", "Video quality, 0 to 63; lower is better.", min=0, max=63, show_default="by codec")
    ] = None
    preset: Annotated[
        str | None, option("NAME", "Encoder preset, such as veryfast, slow or p4.", show_default="by codec")
    ] = None
    audio: Annotated[str, option("|".join(AUDIO), "Copy audio or encode it again; only copy; or drop.")] = "auto"
    subtitles: Annotated[bool, option(None, "Copy or convert subtitles.", "--subtitles/--no-subtitles")] = True

    def parse(self, quality: int) -> EncodeOptions:
        """Return the options, with the quality of animated images; raise OptionError if one is invalid."""
        return EncodeOptions(
            codec=parse_choice("--codec", self.codec, CODECS),
            crf=self.crf,
            preset=self.preset,
            audio=parse_choice("--audio", self.audio, AUDIO),
            subtitles=self.subtitles,
            quality=quality,
        )


@dataclass(frozen=True)
class VideoSettings:
    """How videos are detected, and how progress is shown."""

    tracking: TrackingOptions
    damaged: Damaged
    progress: ProgressKind
    quiet: bool
    overwrite: bool
    keep_doubtful: bool

    def detect(
        self,
        video: Path,
        output: Path,
        detector: SCRFDDetector,
        report: ProgressCallback,
        selection: TrackSelection | None = None,
    ) -> Summary:
        """Write the detections file of a video, for the times that a selection needs."""
        return detect_video(
            video,
            output,
            detector,
            tracking=self.tracking,
            spans=None if selection is None else selection.detected_spans,
            covers=() if selection is None else selection.covers,
            keep_doubtful=self.keep_doubtful,
            overwrite=self.overwrite,
            damaged=self.damaged,
            progress=report,
        )


@dataclass(frozen=True)
class VideoArgs:
    """How faces are tracked, and how videos are read."""

    every: Annotated[int, option("N", "Detect on every N-th frame. Faster; may miss brief faces.", min=1, max=1000)] = (
        TRACKING.every
    )
    bridge: Annotated[float, option("SECONDS", "Longest gap to interpolate, in seconds.", **SECONDS)] = TRACKING.bridge
    extend: Annotated[float, option("SECONDS", "Time to extend tracks at both ends, in seconds.", **SECONDS)] = (
        TRACKING.extend
    )
    damaged: Annotated[
        str, option("|".join(DAMAGED), "On damaged frames or images: stop, or keep what is decoded.")
    ] = "stop"
    progress: Annotated[str, option("|".join(PROGRESS), "Progress bar, JSON lines on stderr, or none.")] = "bar"
    keep_doubtful: Annotated[
        bool, option(None, "Also cover doubtful faces (default: leave them open).", "--keep-doubtful")
    ] = False

    def parse(self, threshold: float, *, quiet: bool, overwrite: bool) -> VideoSettings:
        """Return the settings; faces below the threshold continue a track but begin none."""
        low = min(TRACKING.low, threshold)
        return VideoSettings(
            TrackingOptions(threshold=threshold, low=low, every=self.every, bridge=self.bridge, extend=self.extend),
            parse_choice("--damaged", self.damaged, DAMAGED),
            parse_choice("--progress", self.progress, PROGRESS),
            quiet,
            overwrite,
            self.keep_doubtful,
        )


@dataclass(frozen=True)
class ImageSettings:
    """How images are read, and how many at a time."""

    limits: Limits
    damaged: Damaged
    workers: int | None = None
    """Number of threads that read, and of those that write; None: one per CPU core."""


@dataclass(frozen=True)
class ImageArgs:
    """How images are read."""

    max_pixels: MaxPixels = Limits.pixels / MILLION
    workers: Workers = None
    batch: Batch = None

    def limits(self) -> Limits:
        """Return the limits of one image."""
        return Limits(pixels=round(self.max_pixels * MILLION))

    def parse(self, damaged: Damaged) -> ImageSettings:
        """Return the settings, with what ``--damaged`` says."""
        return ImageSettings(self.limits(), damaged, self.workers)


@dataclass(frozen=True)
class CopySettings(VideoSettings):
    """How images and videos are read, searched, covered and written."""

    images: ImageArgs
    jobs: int
    selection: TrackSelection
    report: Path | None
    encode: EncodeOptions
    keep_metadata: bool
    keep_location: bool
    files: DetectionsFileArgs
    live: LiveArgs
    messages: JobMessageArgs
    looks: Looks
    verify: bool = False


@dataclass(frozen=True, kw_only=True)
class CopyArgs:
    """Options of the commands that write copies of images and videos."""

    recursive: Recursive = False
    jobs: Annotated[int, option("N", "Videos that are processed at the same time.", min=1, max=64)] = 1
    quality: Quality = 95
    keep_metadata: KeepMetadata = False
    keep_location: KeepLocation = False
    overwrite: Overwrite = False
    report: Annotated[
        Path | None, option("FILE", "Write a page with pictures of doubtful moments, uncovered (.html).")
    ] = None
    preview: Annotated[bool, option(None, "Show the picture being written on a local page.", "--preview")] = False
    messages: JobMessageArgs
    job: JobArgs
    files: DetectionsFileArgs
    selection: SelectionArgs
    images: ImageArgs
    video: VideoArgs
    live: LiveArgs
    encode: EncodeArgs

    def parse(self, threshold: float, looks: Looks) -> CopySettings:
        """Return the settings; raise OptionError if an option is invalid."""
        return CopySettings(
            **vars(self.video.parse(threshold, quiet=self.messages.quiet, overwrite=self.overwrite or self.job.resume)),
            images=self.images,
            jobs=self.jobs,
            selection=self.selection.parse().model_copy(update={"keep_doubtful": self.video.keep_doubtful}),
            report=self.report,
            encode=self.encode.parse(self.quality),
            keep_metadata=self.keep_metadata,
            keep_location=self.keep_location,
            files=self.files,
            live=self.live,
            messages=self.messages,
            looks=looks,
        )


def flatten_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that takes the fields of its groups as its own parameters."""
    signature = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def call(**values: Any) -> None:
        command(**{name: _regroup(item.annotation, name, values) for name, item in signature.parameters.items()})

    parameters = [one for item in signature.parameters.values() for one in _flatten(item)]
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return call


def _flatten(item: inspect.Parameter) -> Iterator[inspect.Parameter]:
    group = item.annotation
    if not is_dataclass(group):
        yield item
        return
    hints = get_type_hints(group, include_extras=True)
    for one in fields(group):
        yield from _flatten(item.replace(name=one.name, default=one.default, annotation=hints[one.name]))


def _regroup(group: Any, name: str, values: Mapping[str, Any]) -> Any:
    if not (isinstance(group, type) and is_dataclass(group)):
        return values[name]
    hints = get_type_hints(group)
    return group(**{one.name: _regroup(hints[one.name], one.name, values) for one in fields(group)})


def split_values(texts: Iterable[str] | None) -> tuple[str, ...]:
    """Return the comma-separated values of a repeatable option."""
    return tuple(part.strip() for text in texts or () for part in text.split(","))


def parse_choice(option: str, text: str, choices: Collection[Text]) -> Text:
    """Return the choice that equals the text; raise OptionError if there is none."""
    for choice in choices:
        if choice == text:
            return choice
    raise OptionError(f"{option} {text}: the choices are: {', '.join(choices)}")


def _tracks(option: str, texts: Iterable[str] | None) -> list[int]:
    parts = split_values(texts)
    invalid = next((part for part in parts if not re.fullmatch(r"\d{1,9}", part)), None)
    if invalid is not None:
        raise OptionError(f"{option} {invalid!r}: use track numbers as listed by 'scrfd-trt tracks', such as 2,5")
    return [int(part) for part in parts]


def _region(option: str, text: str) -> tuple[float, float, float, float]:
    parts = text.split(",")
    if len(parts) == 4 and all(re.fullmatch(r"\s*-?\d{1,9}(\.\d+)?\s*", part) for part in parts):
        x, y, width, height = map(float, parts)
        if width > 0 and height > 0:
            return x, y, width, height
        raise OptionError(f"{option} {text!r}: width and height must be above 0")
    raise OptionError(f"{option} {text!r}: use x, y, width and height in pixels, such as 0,0,640,200")


def _cover(text: str) -> Cover:
    """Return ``x,y,w,h``, ``x,y,w,h@FROM-TO`` or several places ``x,y,w,h@TIME``, which spaces separate."""
    boxes: list[tuple[float, float, float, float]] = []
    times: list[float] = []
    places = [place.partition("@") for place in text.split()] if "," in text else [(text, "", "")]
    for region, at, when in places:
        x, y, width, height = _region("--cover", region)
        span = sorted({*_span("--cover", when if "-" in when else f"{when}-{when}")}) if at else []
        boxes += [(x, y, x + width, y + height)] * max(1, len(span))
        times += span
    problem = ""
    if len(places) > 1 and len(boxes) > len(times):
        problem = "each of several places needs a time, such as 'X,Y,W,H@0:05 X,Y,W,H@0:07'"
    elif len(times) == 1:
        problem = "one time is not enough; use @FROM-TO, or add a place at another time: 'X,Y,W,H@0:05 X,Y,W,H@0:07'"
    elif times != sorted({*times}):
        problem = "the times must increase"
    if problem:
        raise OptionError(f"--cover {text!r}: {problem}")
    try:
        return Cover(boxes=boxes, pts_seconds=times)
    except OptionError as error:
        raise OptionError(f"--cover {text!r}: places are at least one pixel wide and high") from error


def _span(option: str, text: str) -> tuple[float, float]:
    start, _, end = (part.strip() for part in text.partition("-"))
    if all(re.fullmatch(r"(\d{1,3}:){0,2}\d{1,6}(\.\d+)?", time) for time in (start, end)):
        span = _seconds(start), _seconds(end)
        if span[0] <= span[1]:
            return span
        raise OptionError(f"{option} {text!r}: the end is before the start")
    raise OptionError(f"{option} {text!r}: use two times, the earlier first, such as 0:05-1:12.5 or 5-72.5")


def _seconds(text: str) -> float:
    return functools.reduce(lambda total, part: total * 60 + float(part), text.split(":"), 0.0)
