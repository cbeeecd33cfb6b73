"""``scrfd-trt detect``: find the faces of images and videos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.text import Text

import overlays
from scrfd_trt._cli import console, options, outputs, results
from scrfd_trt._cli import videos as faces_files
from scrfd_trt._cli.detector import open_detector
from scrfd_trt._cli.exits import FAILED
from scrfd_trt._cli.images import OF_ONE_INPUT, Seen, Tally, each
from scrfd_trt._cli.inputs import Source, find_inputs, same_file_key
from scrfd_trt._cli.options import ClipSettings, ProgressKind
from scrfd_trt._cli.progress import show_progress
from scrfd_trt._cli.report import headline, tracks_table
from scrfd_trt._detections import Detections
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt.errors import OptionError
from scrfd_trt.video import Summary, detect_video
from scrfd_trt.video._detections_file import FACES_SUFFIX


def check(
    kind: results.Format, sources: Sequence[Source], output: Path | None, *, annotate: bool, repeat: bool
) -> None:
    """Refuse what does not go with videos.

    Raises
    ------
    OptionError
        If there is a video and something else that it cannot be done with.
    """
    videos = [source for source in sources if source.is_video]
    if not videos:
        return
    if kind not in ("table", "jsonl"):
        raise OptionError(
            f"--format {kind} is for images; for videos take table or jsonl, or a file FILE{FACES_SUFFIX}"
        )
    if output is not None and len(sources) > 1:
        raise OptionError(f"{output} can hold the faces of one video; run them one by one")
    if annotate or repeat:
        option = "--annotate" if annotate else "--repeat"
        raise OptionError(f"{option} is for images; for videos take 'scrfd-trt overlay --overlay landmarks'")


def detect_videos(
    sources: Sequence[Source],
    detector: SCRFDDetector,
    tally: Tally,
    settings: ClipSettings,
    *,
    kind: results.Format,
    output: Path | None,
    progress: ProgressKind,
    quiet: bool,
) -> None:
    """Follow the faces of videos; one that fails is noted and the others are done all the same.

    Parameters
    ----------
    sources
        The videos.
    detector, tally, settings
        Finds the faces, counts, and says how they are followed.
    kind, output
        A table of the tracks, or JSON lines; None is stdout.
    progress, quiet
        How it is told how far they are.
    """
    for source in sources:
        tally.inputs += 1
        try:
            source.check()
            with faces_files.detections_path(output if kind == "jsonl" else None) as place:
                with console.about(source.path), show_progress(source.path, progress, quiet=quiet) as progressed:
                    summary = detect_video(
                        source.path,
                        place,
                        detector,
                        tracking=settings.follow,
                        overwrite=settings.overwrite,
                        damaged=settings.damaged,
                        progress=progressed,
                    )
                _show(source.path, place, summary, kind, output)
        except OF_ONE_INPUT as error:
            tally.fail(source.path, error)
            continue
        tally.add_video(summary)
        if not quiet and (output is not None or kind == "jsonl"):
            console.plain(f"{'wrote ' if output else ''}{output or source.path}: {headline(summary)}")


def _show(path: Path, place: Path, summary: Summary, kind: results.Format, output: Path | None) -> None:
    if kind == "jsonl":
        if output is None:
            with place.open(encoding="utf-8") as lines:
                for line in lines:
                    console.write(line)
        return
    width, height = summary.size
    heading = Text.assemble((console.printable(path), "bold"), f"  {width}×{height}, {headline(summary)}")
    text = console.render(heading, plain=output is not None, wrap=False)
    if summary.tracks:
        text += console.render(tracks_table(summary), plain=output is not None) + "\n"
    if output is None:
        console.write(text)
    else:
        output.write_text(text, encoding="utf-8")


FormatName = Annotated[
    str | None,
    typer.Option(
        "--format",
        "-f",
        metavar="FORMAT",
        help="One of table, jsonl (a JSON object a line for each image), csv, coco. Left out: what the suffix of "
        "--output says (.jsonl, .csv, .json for coco), else table.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Write the results into this file, not to stdout.", show_default=False
    ),
]
Annotate = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write copies with what was found drawn in into this folder.", show_default=False),
]
Repeat = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Find the faces of each image N times more, and tell how many images a second that is.",
        show_default=False,
    ),
]


def detect(
    inputs: options.Inputs,
    *,
    format_name: FormatName = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format jsonl.")] = False,
    output: Output = None,
    annotate: Annotate = None,
    repeat: Repeat = None,
    recursive: options.Recursive = False,
    network: options.ModelArgs,
    detection: options.LimitedDetectArgs,
    quality: options.Quality = 95,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    follow: options.FollowArgs,
    read: options.ReadArgs,
) -> None:
    """Find the faces of images and videos.

    Results go to stdout, messages to stderr. In videos, faces are followed;
    their file (.jsonl) is what 'overlay' and 'anonymize' draw from. The exit
    code is 0, or 1 if some inputs failed (the others are done), or 2 for
    wrong use.

    For example:
      scrfd-trt detect photo.jpg
      scrfd-trt detect photos/ --recursive --json > faces.jsonl
      scrfd-trt detect photos/*.jpg --output faces.csv --annotate marked/
      scrfd-trt detect group.jpg --model 2.5g_bnkps --scale 640,1280
      scrfd-trt detect clip.mp4 --output clip.faces.jsonl

    Image in, annotated image out, and images a second of an engine:
      scrfd-trt detect photo.jpg --model face.plan --annotate out/ --repeat 100
    """
    with console.logged(quiet=quiet, verbose=verbose):
        output = None if output == Path("-") else output
        kind = results.choose_format(format_name, as_json=as_json, output=output)
        sources = find_inputs(inputs, recursive=recursive, skip=annotate)
        if output is not None:
            _check_output(output, sources, overwrite=overwrite)
        check(kind, sources, output, annotate=annotate is not None, repeat=bool(repeat))
        settings = options.ClipSettings(
            follow=follow.parsed(detection.threshold),
            damaged=read.damaged_kind(),
            overwrite=overwrite,
        )
        images = [source for source in sources if not source.is_video]
        shown = read.progress_kind()
        copies = None if annotate is None else _Copies(sources, annotate, overwrite=overwrite, quality=quality)
        tally = Tally()
        try:
            with open_detector(**vars(network), **vars(detection)) as detector:
                if verbose:
                    console.note(detector.description)
                # Results that scroll by on a terminal are progress enough, and a bar would be in their way.
                bar = not quiet and (output is not None or not console.is_terminal())
                if images:
                    with _results(kind, output, overwrite=overwrite) as sink:
                        _fill(sink, each(images, detector, copies, tally, bar=bar, repeat=repeat or 0), quiet=quiet)
                videos = [source for source in sources if source.is_video]
                detect_videos(videos, detector, tally, settings, kind=kind, output=output, progress=shown, quiet=quiet)
        finally:
            tally.tell_failures()
        if images:
            _say_where(tally, output, annotate, quiet=quiet)
        if tally.failures:
            raise typer.Exit(FAILED)


def _check_output(output: Path, sources: list[Source], *, overwrite: bool) -> None:
    if same_file_key(output) in {same_file_key(source.path) for source in sources}:
        raise OptionError(f"{output} is an input; name another file for the results")
    outputs.check_free(output, overwrite=overwrite)


def _fill(sink: results.Results, outcomes: Iterator[tuple[Source, Seen | str]], *, quiet: bool) -> None:
    for source, outcome in outcomes:
        if isinstance(outcome, Seen):
            sink.done(outcome)
            if outcome.pace and not quiet:
                console.plain(f"{outcome.path}: {outcome.pace}")
        else:
            sink.failed(source.path, outcome)


class _Copies:
    """Writes annotated copies."""

    def __init__(self, sources: list[Source], folder: Path, *, overwrite: bool, quality: int) -> None:
        outputs.check_folder(folder)
        self._targets = outputs.plan_folder(sources, folder, overwrite=overwrite)
        self._draw = overlays.create("landmarks")
        self._save = partial(outputs.save_image, overwrite=overwrite, quality=quality)

    def __call__(self, source: Source, image: NDArray[np.uint8], faces: Detections) -> None:
        self._save(self._draw(image, faces), self._targets[source])


@contextmanager
def _results(kind: results.Format, output: Path | None, *, overwrite: bool) -> Iterator[results.Results]:
    """Open the place for the results: stdout, or a file that is there only when all is written."""
    if output is None:
        sink = results.KINDS[kind](console.write)
        sink.begin()
        yield sink
        sink.end()
        return
    with outputs.atomic_output(output, overwrite=overwrite) as file:
        sink = results.KINDS[kind](lambda text: _put(file.write(text.encode("utf-8", "backslashreplace"))), plain=True)
        sink.begin()
        yield sink
        sink.end()


def _put(_: int) -> None:
    """Forget how many bytes were written."""


def _say_where(tally: Tally, output: Path | None, annotate: Path | None, *, quiet: bool) -> None:
    if quiet:
        return
    if output is not None:
        console.plain(f"wrote {output}: {tally.summary()}")
    elif tally.images > 1:
        console.plain(tally.summary())
    if annotate is not None and tally.images:
        console.plain(f"annotated copies in {annotate}")
