"""What each option applies to: an option that would do nothing is refused before any work.

A command states its *facts*, such as the kinds of its inputs. A rule of an option is a set of facts of which at least
one has to hold, and the reason if none does. Options without a rule apply to everything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import typer

from scrfd_trt._cli.inputs import Source, is_folder
from scrfd_trt._files import user_path
from scrfd_trt.errors import OptionError

IMAGES, ANIMATIONS, VIDEOS, LIVE, WEB = "images", "animations", "videos", "live", "web"
FOLDERS, DETECTING, TRACKS = "folders", "detecting", "tracks"
ENGINES, BATCH_RANGE, OUTPUT, ANNOTATED, READING = "engines", "batch range", "output", "annotated", "reading"
ALL_FILES = (IMAGES, ANIMATIONS, VIDEOS)
REPLACE_WITH, LOSSY, ENCODED, REPORTED = "replace_with", "lossy", "encoded", "reported"
FACES, COPIES = "faces", "copies"  # what a pile becomes
OPENED, COVERED, COMPARED = "opened", "covered", "compared"
"""A model is opened in any case; the overlay covers faces; two runs are compared."""


Rule = tuple[frozenset[str], str]  # facts of which one has to hold, and what an error message says otherwise


def _rule(reason: str, *facts: str) -> Rule:
    return frozenset(facts), reason


_VIDEOS = _rule("applies to videos only", VIDEOS, LIVE)
_FILES = _rule("applies to files, not to cameras and streams", IMAGES, VIDEOS)
_IMAGES = _rule("applies to images only", IMAGES)
_LIVE = _rule("applies to cameras and streams only", LIVE)
_STREAMS = _rule("applies to video files only", VIDEOS, WEB)
_FOLDERS = _rule("applies to input folders only, and no input is one", FOLDERS)
_DETECTING = _rule("has no effect with --detections, whose faces are already detected", DETECTING)
_OPENED = _rule(_DETECTING[1], DETECTING, OPENED)
_TRACKS = _rule("applies to videos, and to images with --detections; for others use --except-region", VIDEOS, TRACKS)
_REPLACE_WITH = _rule("cannot be combined with --overlay, which has options of its own", REPLACE_WITH)
_LOSSY = _rule("applies to JPEG, WebP, AVIF and HEIC files only, and none is written", LOSSY)
_ENCODED = _rule("applies to video files only, and none is written", ENCODED, LIVE)
_ENGINES = _rule("applies to engines only", ENGINES)
_SHAPED = ("replace_with=blur", "replace_with=solid", "replace_with=mosaic")

RULES: dict[str, tuple[Rule, ...]] = {
    **dict.fromkeys(("threshold", "iou", "scale", "min_face", "rotations", "max_faces"), (_DETECTING,)),
    **dict.fromkeys(("model", "device", "lean_runtime", "allow_host_code"), (_OPENED,)),
    "verify": (_FILES, _rule("has no effect with --replace-with none", COVERED)),
    **dict.fromkeys(("every", "bridge", "extend"), (_VIDEOS, _DETECTING)),
    **dict.fromkeys(("codec", "crf", "preset"), (_VIDEOS, _ENCODED)),
    **dict.fromkeys(("audio", "subtitles"), (_STREAMS, _ENCODED)),
    **dict.fromkeys(("progress", "preview"), (_VIDEOS,)),
    "jobs": (_rule("applies to video files only", VIDEOS),),
    **dict.fromkeys(("keep_doubtful", "report"), (_FILES,)),
    **dict.fromkeys(("detections", "save_detections", "keep_metadata", "keep_location", "damaged"), (_FILES,)),
    **dict.fromkeys(("only_region", "except_region", "cover"), (_FILES,)),
    **dict.fromkeys(("only_tracks", "except_tracks", "drop_tracks"), (_FILES, _TRACKS)),
    **dict.fromkeys(("only_span", "except_span"), (_FILES, _rule("applies to videos only", VIDEOS))),
    **dict.fromkeys(("delay", "duration"), (_LIVE,)),
    **dict.fromkeys(("replace_with", "replace_image", "mosaic_size"), (_REPLACE_WITH,)),
    "mask_scale": (_REPLACE_WITH, _rule("has no effect with --replace-with none", *_SHAPED, "replace_with=img")),
    "boxes": (_REPLACE_WITH, _rule("applies to --replace-with blur, solid and mosaic", *_SHAPED)),
    "recursive": (_FOLDERS,),
    **dict.fromkeys(("files_from", "shard", "resume", "dry_run"), (_FILES,)),
    "max_pixels": (_rule("applies to images only", IMAGES, ANIMATIONS),),
    "workers": (_IMAGES,),
    **dict.fromkeys(
        (f"{name}.batch" for name in ("detect", "anonymize", "overlay", "evaluate")), (_IMAGES, _DETECTING)
    ),
    "quality": (_LOSSY,),
    **dict.fromkeys(
        ("detect.annotate", "detect.show"),
        (_rule("applies to images only; for videos use 'scrfd-trt overlay --overlay landmarks'", IMAGES),),
    ),
    "detect.save_crops": (_rule("applies to images only; for videos use 'scrfd-trt tracks -o FILE.jpg'", IMAGES),),
    "batch.progress": (),
    **dict.fromkeys(("batch.overlay", "batch.quality"), (_rule("requires --anonymize", COPIES),)),
    "batch.max_faces": (_rule("would leave faces visible with --anonymize", FACES),),
    "detect.repeat": (_IMAGES, _rule("prints nothing with --quiet, except in tables", REPORTED)),
    "detect.quality": (_rule("requires --annotate or --save-crops", ANNOTATED), _LOSSY),
    "detect.overwrite": (_rule("requires --output, --annotate or --save-crops", OUTPUT),),
    "tracks.overwrite": (_rule("requires --output or --save-detections", OUTPUT),),
    **dict.fromkeys((f"evaluate.{name}" for name in ("output", "resume", "workers", "max_pixels")), (_DETECTING,)),
    "evaluate.sheet": (_rule("requires --against", COMPARED),),
    "evaluate.overwrite": (_rule("requires --output, --plot, --sheet or --save-wider", OUTPUT),),
    **dict.fromkeys(("tracks.progress", "tracks.keep_doubtful"), (_DETECTING,)),
    "tracks.damaged": (_rule("has no effect with --detections and without --output", READING),),
    "build.no_batch_one_profile": (_rule("applies to a range of batch sizes, such as --batch 1,8,32", BATCH_RANGE),),
    **dict.fromkeys((f"inspect.{name}" for name in ("device", "lean_runtime", "allow_host_code")), (_ENGINES,)),
}
"""Rules by parameter, or by command and parameter, which takes precedence."""

EXCLUSIVE = (
    *(("quiet", "verbose"), ("resume", "overwrite"), ("resume", "save_detections")),
    *(("preview", "quiet"), ("preview", "jobs"), ("preview", "dry_run")),
)
"""Parameters that do not fit together."""


def check_options(context: typer.Context, facts: Collection[str] = (DETECTING,)) -> None:
    """Raise OptionError for an option on the command line that would do nothing."""
    given = {str(parameter.name): flag for parameter, flag in given_options(context)}
    for first, second in EXCLUSIVE:
        if first in given and second in given:
            raise OptionError(f"{given[first]} and {given[second]} exclude each other; leave one of them out")
    for parameter, flag in given_options(context):
        name = str(parameter.name)
        for needed, reason in RULES.get(f"{context.info_name}.{name}", RULES.get(name, ())):
            if not needed.intersection(facts):
                raise OptionError(f"{flag} {reason}" + ("" if "; " in reason else "; leave it out"))


def given_options(context: typer.Context) -> Iterable[tuple[Any, str]]:
    """Yield the parameters that are on the command line, each with its flag."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE":
            off = context.params.get(parameter.name or "") is False and parameter.secondary_opts
            yield parameter, (off or parameter.opts)[0]


def input_facts(inputs: Iterable[str], sources: Iterable[Source]) -> set[str]:
    """Return the kinds of the files that were found; all kinds if there is none, which is reported later."""
    found = {VIDEOS if source.is_video else IMAGES for source in sources if not source.problem}
    is_missing = any(source.problem for source in sources)  # that is reported first
    folders = {FOLDERS} if is_missing or any(is_folder(user_path(text)) for text in inputs) else set()
    animations = {ANIMATIONS} if any(source.is_animation for source in sources if not source.problem) else set()
    return (found or {IMAGES, VIDEOS}) | folders | animations
