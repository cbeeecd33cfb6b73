"""The options that several commands share, groups of them, and what they are parsed into.

A group is a frozen dataclass whose fields are options or groups. A command takes a group as one parameter;
:func:`ungrouped` shows the fields to typer.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, get_args, get_type_hints

import typer

from scrfd_trt import models
from scrfd_trt._options import DetectorOptions
from scrfd_trt.errors import OptionError
from scrfd_trt.video import EncodeOptions, TrackingOptions, TrackSelection
from scrfd_trt.video._encoders import CODECS
from scrfd_trt.video._one_pass import DELAY
from scrfd_trt.video._reader import Damaged

Text = TypeVar("Text", bound=str)

THRESHOLD: float = DetectorOptions.model_fields["threshold"].default
IOU: float = DetectorOptions.model_fields["iou"].default
DEFAULT_MODEL = models.DEFAULT_MODEL

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT",
        help="Image and video files, folders, and globs such as 'photos/*.jpg'.",
        show_default=False,
    ),
]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Look into the folders of folders, too.")]
ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|FILE",
        help="A name that 'scrfd-trt models' lists, an .onnx file of your own, or an engine of 'scrfd-trt build'.",
    ),
]
Device = Annotated[
    str, typer.Option(metavar="DEVICE", help="What to run on: auto, cpu, cuda or cuda:N. Doctor tells what there is.")
]
Threshold = Annotated[
    float, typer.Option("--threshold", "-t", min=0.0, max=1.0, metavar="NUMBER", help="Lowest score of a face.")
]
Iou = Annotated[
    float,
    typer.Option(min=0.0, max=1.0, metavar="NUMBER", help="Two boxes that overlap by more than this are one face."),
]
Scale = Annotated[
    list[str] | None,
    typer.Option(
        "--scale",
        metavar="SIZE",
        help="Size of a pass in pixels, a multiple of 32: 640 or 640x384. Several: 128,640, or give it again. "
        "Left out: the network's own size, or 128,640 where that is free.",
        show_default=False,
    ),
]
MaxFaces = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Keep the N best faces of an image.", show_default="all")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")]
Quality = Annotated[
    int, typer.Option(min=1, max=100, metavar="NUMBER", help="Quality of JPEG and WebP files that are written.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show errors only, and no progress bar.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Tell what was chosen, and why.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, for machines.")]

LeanRuntime = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="libnvinfer_lean.so.N of the release that built a version compatible engine, where TensorRT here is a "
        "newer one. Left out: what TRT_LEAN_RUNTIME names.",
        show_default=False,
    ),
]
AllowHostCode = Annotated[
    bool,
    typer.Option(
        "--allow-host-code",
        help="Let code for the processor that is inside the engine run; only if you trust where it comes from.",
    ),
]


@dataclass(frozen=True)
class ModelArgs:
    """What finds faces, and on which device."""

    model: ModelName = DEFAULT_MODEL
    device: Device = "auto"
    lean_runtime: LeanRuntime = None
    allow_host_code: AllowHostCode = False


@dataclass(frozen=True)
class DetectArgs:
    """How faces are found."""

    threshold: Threshold = THRESHOLD
    iou: Iou = IOU
    scale: Scale = None


@dataclass(frozen=True)
class LimitedDetectArgs(DetectArgs):
    """How faces are found, and how many are kept."""

    max_faces: MaxFaces = None


def ungrouped(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that takes the fields of its groups as parameters of its own."""
    signature = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def call(**values: Any) -> None:
        command(**{name: _regroup(item.annotation, name, values) for name, item in signature.parameters.items()})

    parameters = [field for item in signature.parameters.values() for field in _parameters(item)]
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return call


def _parameters(item: inspect.Parameter) -> Iterator[inspect.Parameter]:
    group = item.annotation
    if not is_dataclass(group):
        yield item
        return
    hints = get_type_hints(group, include_extras=True)
    for one in fields(group):
        yield from _parameters(item.replace(name=one.name, default=one.default, annotation=hints[one.name]))


def _regroup(group: Any, name: str, values: Mapping[str, Any]) -> Any:
    if not (isinstance(group, type) and is_dataclass(group)):
        return values[name]
    hints = get_type_hints(group)
    return group(**{one.name: _regroup(hints[one.name], one.name, values) for one in fields(group)})


def split_values(texts: Iterable[str] | None) -> tuple[str, ...]:
    """Return the values of an option that may be repeated and holds several, separated by commas."""
    return tuple(part.strip() for text in texts or () for part in text.split(","))


def parse_choice(option: str, text: str, choices: Collection[Text]) -> Text:
    """Return the choice that a text names.

    Raises
    ------
    OptionError
        If it names none.
    """
    for choice in choices:
        if choice == text:
            return choice
    raise OptionError(f"{option} {text}: the choices are: {', '.join(choices)}")


ProgressKind = Literal["bar", "jsonl", "none"]
PROGRESS: tuple[ProgressKind, ...] = get_args(ProgressKind)
FAINT: float = TrackingOptions.model_fields["low"].default

BRIDGE: float = TrackingOptions.model_fields["bridge"].default
EXTEND: float = TrackingOptions.model_fields["extend"].default
LOOK_AHEAD: int = DELAY

PANEL = "Videos"


def _option(*names: str, metavar: str, text: str, **more: object) -> object:
    return typer.Option(*names, metavar=metavar, help=text, rich_help_panel=PANEL, show_default=False, **more)  # type: ignore[arg-type]


Every = Annotated[
    int,
    typer.Option(
        min=1,
        max=1000,
        metavar="N",
        rich_help_panel=PANEL,
        help="Look for faces in every N-th frame, and fill between: faster, and who is there for less is not seen.",
    ),
]
Bridge = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=60.0,
        metavar="SECONDS",
        rich_help_panel=PANEL,
        help="How long a face may be missed and is filled from both sides.",
    ),
]
Extend = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=60.0,
        metavar="SECONDS",
        rich_help_panel=PANEL,
        help="How far a face's track reaches before its first and beyond its last sighting.",
    ),
]
FacesIn = Annotated[
    Path | None,
    _option(
        "--detections", metavar="FILE", text="Take the faces of a video from this file in place of looking for them."
    ),
]
FacesOut = Annotated[
    Path | None,
    _option(
        "--save-detections",
        metavar="FILE",
        text="Write the faces of a video into this file, NAME.faces.jsonl, for --detections.",
    ),
]
KeepTracks = Annotated[
    list[str] | None,
    _option("--keep-tracks", metavar="N,...", text="Draw over these tracks only; 'scrfd-trt tracks' lists them."),
]
LeaveTracks = Annotated[
    list[str] | None,
    _option("--leave-tracks", metavar="N,...", text="Do not draw over these tracks; look at the result."),
]
KeepRegions = Annotated[
    list[str] | None,
    _option(
        "--keep-region",
        metavar="X,Y,W,H",
        text="Draw only over tracks that are mostly in this part of the picture, in pixels.",
    ),
]
LeaveRegions = Annotated[
    list[str] | None,
    _option("--leave-region", metavar="X,Y,W,H", text="Do not draw over tracks that are mostly there."),
]
KeepSpans = Annotated[
    list[str] | None,
    _option("--keep-span", metavar="FROM-TO", text="Draw within this time only: 0:05-1:12.5, or in seconds."),
]
LeaveSpans = Annotated[
    list[str] | None, _option("--leave-span", metavar="FROM-TO", text="Do not draw within this time.")
]
Delay = Annotated[
    int,
    typer.Option(
        min=0,
        max=1000,
        metavar="FRAMES",
        rich_help_panel=PANEL,
        help="For cameras and streams: how far what is written lies behind, so that gaps can be filled.",
    ),
]
Duration = Annotated[
    float | None,
    _option("--duration", metavar="SECONDS", text="For cameras and streams: stop after this time.", min=0.0),
]
CodecName = Annotated[
    str, typer.Option("--codec", metavar="NAME", rich_help_panel=PANEL, help=f"One of {', '.join(CODECS)}.")
]
Crf = Annotated[
    int | None,
    _option("--crf", metavar="N", text="Quality of the video, 0 to 63, lower is better.", min=0, max=63),
]
Preset = Annotated[str | None, _option("--preset", metavar="NAME", text="The encoder's preset: veryfast, slow, p4, …")]
KeepAudio = Annotated[
    bool,
    typer.Option(
        "--keep-audio/--no-keep-audio",
        "-k",
        rich_help_panel=PANEL,
        help="Copy the sound of files; what comes from cameras and addresses has none.",
    ),
]
KeepSubtitles = Annotated[
    bool, typer.Option("--subtitles/--no-subtitles", rich_help_panel=PANEL, help="Copy the subtitles of files.")
]
KeepMetadata = Annotated[
    bool,
    typer.Option("--keep-metadata", help="Keep title, place, device and the like, which are dropped otherwise."),
]
DamagedFrames = Annotated[
    str,
    typer.Option(
        "--damaged",
        metavar="stop|keep",
        rich_help_panel=PANEL,
        help="What to do at a damaged frame: stop, or take it as it is.",
    ),
]
ProgressName = Annotated[
    str,
    typer.Option(
        "--progress", metavar="|".join(PROGRESS), rich_help_panel=PANEL, help="A bar, or JSON lines on stderr."
    ),
]


@dataclass(frozen=True)
class ClipSettings:
    """How a command treats the videos that it is given.

    Attributes
    ----------
    follow, choice, encode
        See ``scrfd_trt.video``.
    damaged
        At a damaged frame.
    keep
        Kinds of streams that are copied.
    keep_metadata, overwrite
        As the options of these names.
    faces_in, faces_out
        Files of a video's faces.
    delay, duration
        Of live sources: frames of look-ahead, and seconds after which they are stopped.
    """

    follow: TrackingOptions = field(default_factory=TrackingOptions)
    choice: TrackSelection = field(default_factory=TrackSelection)
    encode: EncodeOptions = field(default_factory=EncodeOptions)
    damaged: Damaged = "stop"
    keep: tuple[str, ...] = ("audio", "subtitle")
    keep_metadata: bool = False
    overwrite: bool = False
    faces_in: Path | None = None
    faces_out: Path | None = None
    delay: int = DELAY
    duration: float | None = None


@dataclass(frozen=True)
class FacesFileArgs:
    """Files of a video's faces."""

    faces_in: FacesIn = None
    faces_out: FacesOut = None


@dataclass(frozen=True)
class ChoiceArgs:
    """Which faces of a video are covered."""

    keep_tracks: KeepTracks = None
    leave_tracks: LeaveTracks = None
    keep_regions: KeepRegions = None
    leave_regions: LeaveRegions = None
    keep_spans: KeepSpans = None
    leave_spans: LeaveSpans = None

    def parsed(self) -> TrackSelection:
        """Return the choice.

        Raises
        ------
        OptionError
            If a text is no number, region or span.
        """
        return TrackSelection(
            keep_tracks=frozenset(_tracks("--keep-tracks", self.keep_tracks)),
            leave_tracks=frozenset(_tracks("--leave-tracks", self.leave_tracks)),
            keep_regions=tuple(_region("--keep-region", text) for text in self.keep_regions or ()),
            leave_regions=tuple(_region("--leave-region", text) for text in self.leave_regions or ()),
            keep_spans=tuple(_span("--keep-span", text) for text in self.keep_spans or ()),
            leave_spans=tuple(_span("--leave-span", text) for text in self.leave_spans or ()),
        )


@dataclass(frozen=True)
class FollowArgs:
    """How faces are followed."""

    every: Every = 1
    bridge: Bridge = BRIDGE
    extend: Extend = EXTEND

    def parsed(self, threshold: float) -> TrackingOptions:
        """Return how faces are followed; faint ones carry a track on."""
        return TrackingOptions(
            threshold=threshold, low=min(FAINT, threshold), bridge=self.bridge, extend=self.extend, every=self.every
        )


@dataclass(frozen=True)
class LiveArgs:
    """How cameras and streams are followed."""

    delay: Delay = LOOK_AHEAD
    duration: Duration = None


@dataclass(frozen=True)
class EncodeArgs:
    """How videos are written."""

    codec: CodecName = "auto"
    crf: Crf = None
    preset: Preset = None
    keep_audio: KeepAudio = True
    keep_subtitles: KeepSubtitles = True

    def parsed(self) -> EncodeOptions:
        """Return how videos are written.

        Raises
        ------
        OptionError
            If the codec is none of the choices.
        """
        codec = parse_choice("--codec", self.codec, CODECS)
        return EncodeOptions(codec=codec, crf=self.crf, preset=self.preset)

    def kept_streams(self) -> tuple[str, ...]:
        """Return FFmpeg's names of the kinds of streams that are copied."""
        return (*(("audio",) if self.keep_audio else ()), *(("subtitle",) if self.keep_subtitles else ()))


@dataclass(frozen=True)
class ReadArgs:
    """How videos are read, and how progress is shown."""

    damaged: DamagedFrames = "stop"
    progress: ProgressName = "bar"

    def damaged_kind(self) -> Damaged:
        """Return what is done at a damaged frame."""
        return cast("Damaged", parse_choice("--damaged", self.damaged, get_args(Damaged)))

    def progress_kind(self) -> ProgressKind:
        """Return how progress is shown."""
        return parse_choice("--progress", self.progress, PROGRESS)


@dataclass(frozen=True)
class CopyArgs:
    """All options for videos of a command that writes copies."""

    faces: FacesFileArgs
    choice: ChoiceArgs
    follow: FollowArgs
    live: LiveArgs
    encode: EncodeArgs
    read: ReadArgs

    def settings(self, threshold: float, *, keep_metadata: bool, overwrite: bool) -> ClipSettings:
        """Return how videos are treated.

        Raises
        ------
        OptionError
            If an option is none of its choices, or is no number, region or span.
        """
        return ClipSettings(
            follow=self.follow.parsed(threshold),
            choice=self.choice.parsed(),
            encode=self.encode.parsed(),
            damaged=self.read.damaged_kind(),
            keep=self.encode.kept_streams(),
            keep_metadata=keep_metadata,
            overwrite=overwrite,
            **vars(self.faces),
            **vars(self.live),
        )


def _tracks(option: str, texts: Iterable[str] | None) -> list[int]:
    parts = split_values(texts)
    wrong = next((part for part in parts if not re.fullmatch(r"\d{1,9}", part)), None)
    if wrong is not None:
        raise OptionError(f"{option} {wrong!r}: numbers of tracks are wanted, as 'scrfd-trt tracks' lists them: 2,5")
    return [int(part) for part in parts]


def _region(option: str, text: str) -> tuple[float, float, float, float]:
    numbers = [_number(part) for part in text.split(",")]
    if len(numbers) != 4 or None in numbers or (numbers[2] or 0) <= 0 or (numbers[3] or 0) <= 0:
        raise OptionError(f"{option} {text!r}: x, y, width and height in pixels are wanted: 0,0,640,200")
    x, y, width, height = cast("list[float]", numbers)
    return x, y, width, height


def _span(option: str, text: str) -> tuple[float, float]:
    start, _, end = text.partition("-")
    times = [_seconds(start.strip()), _seconds(end.strip())]
    if None in times or cast("float", times[0]) > cast("float", times[1]):
        raise OptionError(f"{option} {text!r}: two times are wanted, the earlier first: 0:05-1:12.5, or 5-72.5")
    return cast("float", times[0]), cast("float", times[1])


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\s*-?\d{1,9}(\.\d+)?\s*", text) else None


def _seconds(text: str) -> float | None:
    if not re.fullmatch(r"(\d{1,3}:)?(\d{1,3}:)?\d{1,6}(\.\d+)?", text):
        return None
    total = 0.0
    for part in text.split(":"):
        total = total * 60 + float(part)
    return total


LOOKING = ("threshold", "scale", "iou", "max_faces", "model", "every", "bridge", "extend")
"""Say how faces are looked for and followed."""
LIVE = ("delay", "duration")
"""Are for cameras and streams."""


def refuse(context: typer.Context, names: Collection[str], why: str) -> None:
    """Refuse options that were given on the command line.

    Parameters
    ----------
    context
        Of the command.
    names
        Of its parameters; those that it has not are passed over.
    why
        Follows on the option's own name.

    Raises
    ------
    OptionError
        If one of them was given.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":
            raise OptionError(f"{parameter.opts[0]} {why}")


def refuse_looking(context: typer.Context) -> None:
    """Refuse what says how faces are looked for where they come from a file."""
    refuse(context, LOOKING, "does nothing with --detections, whose faces were found before; leave it out")
