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
from typing import Annotated, Any, Literal, TypeVar, get_origin, get_type_hints

import typer

from scrfd_trt import models
from scrfd_trt._cli import console
from scrfd_trt._cli.option_table import OPTIONS
from scrfd_trt._cli.settings import GeneralArgs
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._image_files.frames import MILLION, Limits
from scrfd_trt._jobs.decoders import ImageSettings
from scrfd_trt._looks import Looks
from scrfd_trt._options import DetectorOptions
from scrfd_trt.errors import OptionError
from scrfd_trt.video import Cover, EncodeOptions, Summary, TrackingOptions, TrackSelection, detect_video
from scrfd_trt.video._encoders import Audio, Codec
from scrfd_trt.video._live_pass import DELAY
from scrfd_trt.video._reader import Damaged
from scrfd_trt.video._two_pass import ProgressCallback

Text = TypeVar("Text", bound=str)
ProgressKind = Literal["bar", "jsonl", "none"]

LOW = 0.1  # below this threshold, a warning
MAX_RANGE = 10_000  # tracks in one range
DEFAULT_MODEL = models.DEFAULT_MODEL
THRESHOLD: float = DetectorOptions.model_fields["threshold"].default
IOU: float = DetectorOptions.model_fields["iou"].default
TRACKING = TrackingOptions()

INPUT_HELP = "Images, videos, folders, globs, URLs, or - for standard input."
LIVE_INPUT_HELP = "Images, videos, folders, globs, URLs, or one camera:N; - is standard input."
Inputs = Annotated[list[str] | None, typer.Argument(metavar="INPUT", help=INPUT_HELP)]
LiveInputs = Annotated[list[str] | None, typer.Argument(metavar="INPUT", help=LIVE_INPUT_HELP)]
Texts = list[str] | None


@dataclass(frozen=True)
class ModelArgs:
    """The model and its device."""

    model: str = DEFAULT_MODEL
    device: str = "auto"
    lean_runtime: Path | None = None
    allow_host_code: bool = False


@dataclass(frozen=True)
class DetectArgs:
    """Detection options."""

    threshold: float = THRESHOLD
    iou: float = IOU
    scale: Texts = None
    min_face: float | None = None
    rotations: Texts = None


@dataclass(frozen=True)
class LimitedDetectArgs(DetectArgs):
    """Detection options with a limit on the number of faces."""

    max_faces: int | None = None


@dataclass(frozen=True)
class MessageArgs:
    """What is printed on stderr."""

    quiet: bool = False
    verbose: bool = False


@dataclass(frozen=True)
class JobMessageArgs(MessageArgs):
    """What is printed on stderr while files are processed."""

    profile: bool = False


@dataclass(frozen=True)
class JobArgs:
    """Which inputs of a large job are processed."""

    files_from: Path | None = None
    shard: str | None = None
    resume: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class DetectionsFileArgs:
    """Detections files of a video or of images."""

    detections: Path | None = None
    save_detections: Path | None = None


@dataclass(frozen=True)
class SelectionArgs:
    """Which faces are covered, and when."""

    only_tracks: Texts = None
    except_tracks: Texts = None
    only_region: Texts = None
    except_region: Texts = None
    drop_tracks: Texts = None
    cover: Texts = None
    only_span: Texts = None
    except_span: Texts = None

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

    delay: int = DELAY
    duration: float | None = None


@dataclass(frozen=True)
class EncodeArgs:
    """How videos are written."""

    codec: Codec = "auto"
    crf: int | None = None
    preset: str | None = None
    audio: Audio = "auto"
    subtitles: bool = True

    def parse(self, quality: int) -> EncodeOptions:
        """Return the options, with the quality of animated images; raise OptionError if one is invalid."""
        return EncodeOptions(**vars(self), quality=quality)


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

    every: int = TRACKING.every
    bridge: float = TRACKING.bridge
    extend: float = TRACKING.extend
    damaged: Damaged = "stop"
    progress: ProgressKind = "bar"
    keep_doubtful: bool = False

    def parse(self, threshold: float, *, quiet: bool, overwrite: bool) -> VideoSettings:
        """Return the settings; faces below the threshold continue a track but begin none."""
        low = min(TRACKING.low, threshold)
        if threshold < LOW and not quiet:
            console.warning(f"--threshold {threshold:g} finds hundreds of places that are no faces, and takes long")
        return VideoSettings(
            TrackingOptions(threshold=threshold, low=low, every=self.every, bridge=self.bridge, extend=self.extend),
            self.damaged,
            self.progress,
            quiet,
            overwrite,
            self.keep_doubtful,
        )


@dataclass(frozen=True)
class ImageArgs:
    """How images are read."""

    max_pixels: float = Limits.pixels / MILLION
    workers: int | None = None
    batch: int | None = None

    def limits(self) -> Limits:
        """Return the limits of one image."""
        return Limits(pixels=round(self.max_pixels * MILLION))

    def parse(self, damaged: Damaged) -> ImageSettings:
        """Return the settings, with what ``--damaged`` says."""
        return ImageSettings(self.limits(), damaged, self.workers)


@dataclass(frozen=True, kw_only=True)
class _CopyFields:
    """What options and settings of copies have in common."""

    jobs: int = 1
    keep_metadata: bool = False
    keep_location: bool = False
    report: Path | None = None
    messages: JobMessageArgs
    files: DetectionsFileArgs
    images: ImageArgs
    live: LiveArgs


@dataclass(frozen=True, kw_only=True)
class CopySettings(_CopyFields, VideoSettings):
    """How images and videos are read, searched, covered and written."""

    selection: TrackSelection
    encode: EncodeOptions
    looks: Looks
    verify: bool = False


@dataclass(frozen=True, kw_only=True)
class CopyArgs(_CopyFields):
    """Options of the commands that write copies of images and videos."""

    recursive: bool = False
    quality: int = 95
    overwrite: bool = False
    preview: bool = False
    job: JobArgs
    selection: SelectionArgs
    video: VideoArgs
    encode: EncodeArgs

    def parse(self, threshold: float, looks: Looks) -> CopySettings:
        """Return the settings; raise OptionError if an option is invalid."""
        video = self.video.parse(threshold, quiet=self.messages.quiet, overwrite=self.overwrite or self.job.resume)
        return CopySettings(
            **{one.name: getattr(self, one.name) for one in fields(_CopyFields)},
            **vars(video),
            selection=self.selection.parse().model_copy(update={"keep_doubtful": self.video.keep_doubtful}),
            encode=self.encode.parse(self.quality),
            looks=looks,
        )


def flatten_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that takes the fields of its groups as its own parameters, and what all commands take."""
    signature = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def call(**values: Any) -> None:
        command(**{name: _regroup(item.annotation, name, values) for name, item in signature.parameters.items()})

    general = inspect.Parameter("general", inspect.Parameter.KEYWORD_ONLY, annotation=GeneralArgs)
    parameters = [one for item in (*signature.parameters.values(), general) for one in _flatten(item)]
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return call


def _flatten(item: inspect.Parameter) -> Iterator[inspect.Parameter]:
    group = item.annotation
    if not is_dataclass(group):
        is_plain = get_origin(group) is not Annotated and item.name in OPTIONS
        yield item.replace(annotation=Annotated[group, OPTIONS[item.name]]) if is_plain else item
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
    found: list[int] = []
    for text, part in [(one, part.strip()) for one in texts or () for part in one.split(",")]:
        ends = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part)
        numbers = range(int(ends[1]), int(ends[2] or ends[1]) + 1) if ends else ()
        if not 0 < len(numbers) <= MAX_RANGE:
            shown = part or text
            raise OptionError(f"{option} {shown!r}: use track numbers of 'scrfd-trt tracks', such as 2,5 or 2-5")
        found += numbers
    return found


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
