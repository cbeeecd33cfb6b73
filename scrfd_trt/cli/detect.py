"""``scrfd-trt detect``: find the faces of images and videos."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

import overlays
from scrfd_trt.cli import detect_video, messages, options, outputs, results, stdout, video_options
from scrfd_trt.cli.exits import FAILED
from scrfd_trt.cli.inputs import Source, find_inputs, same_file_key
from scrfd_trt.cli.network import open_detector
from scrfd_trt.cli.work import Seen, Tally, each
from scrfd_trt.detections import Detections
from scrfd_trt.errors import OptionError

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
    model: options.ModelName = options.DEFAULT_MODEL,
    device: options.Device = "auto",
    lean_runtime: options.LeanRuntime = None,
    allow_host_code: options.AllowHostCode = False,
    threshold: options.Threshold = options.THRESHOLD,
    iou: options.Iou = options.IOU,
    scale: options.Scale = None,
    max_faces: options.MaxFaces = None,
    quality: options.Quality = 95,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    every: video_options.Every = 1,
    bridge: video_options.Bridge = video_options.BRIDGE,
    extend: video_options.Extend = video_options.EXTEND,
    damaged: video_options.DamagedFrames = "stop",
    progress: video_options.ProgressName = "bar",
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
    with messages.logged(quiet=quiet, verbose=verbose):
        output = None if output == Path("-") else output
        kind = results.choose_format(format_name, as_json=as_json, output=output)
        sources = find_inputs(inputs, recursive=recursive, skip=annotate)
        if output is not None:
            _check_output(output, sources, overwrite=overwrite)
        detect_video.check(kind, sources, output, annotate=annotate is not None, repeat=bool(repeat))
        settings = video_options.ClipSettings(
            follow=video_options.following(threshold, every, bridge, extend),
            damaged=video_options.damaged(damaged),
            overwrite=overwrite,
        )
        images = [source for source in sources if not source.is_video]
        shown = video_options.progress_kind(progress)
        copies = None if annotate is None else _Copies(sources, annotate, overwrite=overwrite, quality=quality)
        tally = Tally()
        try:
            with open_detector(
                model,
                device,
                threshold=threshold,
                iou=iou,
                scale=scale,
                max_faces=max_faces,
                lean_runtime=lean_runtime,
                allow_host_code=allow_host_code,
            ) as detector:
                if verbose:
                    messages.note(detector.description)
                # Results that scroll by on a terminal are progress enough, and a bar would be in their way.
                bar = not quiet and (output is not None or not stdout.is_terminal())
                if images:
                    with _results(kind, output, overwrite=overwrite) as sink:
                        _fill(sink, each(images, detector, copies, tally, bar=bar, repeat=repeat or 0), quiet=quiet)
                videos = [source for source in sources if source.is_video]
                detect_video.detect_videos(
                    videos, detector, tally, settings, kind=kind, output=output, progress=shown, quiet=quiet
                )
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
                messages.plain(f"{outcome.path}: {outcome.pace}")
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
        sink = results.KINDS[kind](stdout.write)
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
        messages.plain(f"wrote {output}: {tally.summary()}")
    elif tally.images > 1:
        messages.plain(tally.summary())
    if annotate is not None and tally.images:
        messages.plain(f"annotated copies in {annotate}")
