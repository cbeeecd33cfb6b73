"""``scrfd-trt detect``: detect faces in images and videos."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.text import Text

from scrfd_trt._cli import console, live, options, outputs, results
from scrfd_trt._cli.batch import ModelFinder, Tally, detect_images, process_videos, run_size
from scrfd_trt._cli.detections_files import path_or_temporary
from scrfd_trt._cli.detector import open_detector, parse_rotations
from scrfd_trt._cli.folders import LeftOut
from scrfd_trt._cli.help_panels import TYPED
from scrfd_trt._cli.inputs import Source, is_folder, same_file_key
from scrfd_trt._cli.jobs import Job
from scrfd_trt._cli.option_rules import ANNOTATED, DETECTING, LOSSY, OUTPUT, REPORTED, check_options
from scrfd_trt._cli.option_table import option
from scrfd_trt._cli.options import VideoSettings
from scrfd_trt._cli.progress import show_progress
from scrfd_trt._cli.video_report import headline, tracks_table
from scrfd_trt._detections import Detections
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._formats import yolo_lines
from scrfd_trt._image_files import ImageFrame
from scrfd_trt._image_files.write import is_writable, storable
from scrfd_trt._jobs.decoders import OpenedImage, decoding_processes
from scrfd_trt._jobs.images import ImageResult
from scrfd_trt._jobs.profile import measured
from scrfd_trt.errors import OptionError, OutputError
from scrfd_trt.video import Summary
from scrfd_trt.video._animation_reader import limited
from scrfd_trt.video._detections_file import FACES_SUFFIX

CROP_MARGIN = 0.2  # what pictures of faces show around the box, as a share of its sides
MAX_SHOWN = 10
Pages = Iterator[tuple[ImageFrame, Detections]]
_one_at_a_time = threading.Lock()


def check_show(images: Sequence[Source]) -> None:
    """Raise OptionError if there is no display, or too many images to show."""
    if images and sys.platform.startswith("linux") and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        raise OptionError("--show requires a display, and there is none; use --annotate DIR")
    if len(images) > MAX_SHOWN:
        raise OptionError(f"--show opens at most {MAX_SHOWN} images, not {len(images)}; use --annotate DIR")


def plan_crops(sources: Sequence[Source], folder: Path, *, overwrite: bool) -> dict[Source, Path]:
    """Choose the path of the first face of each image, as :func:`outputs.plan_folder` does."""
    targets = outputs.plan_folder(sources, folder, overwrite=overwrite, name=_first_crop)
    for source in targets:
        source.copy = source.copy if source.is_done else None  # an image without faces has none
    return targets


def plan_labels(sources: Sequence[Source], folder: Path, *, overwrite: bool) -> dict[Source, Path]:
    """Choose the path of YOLO's labels of each image."""
    return outputs.plan_folder(sources, folder, overwrite=overwrite, name=lambda path: path.with_suffix(outputs.LABELS))


def _first_crop(path: Path) -> Path:
    suffix = path.suffix if is_writable(path.suffix) and path.suffix.lower() != ".gif" else ".png"
    return path.with_name(f"{path.stem}_1{suffix}")


@dataclass(frozen=True)
class ImageOutputs:
    """Takes the pages of an image with their faces; each of the outputs may be empty."""

    crops: Mapping[Source, Path]
    labels: Mapping[Source, Path]
    copies: Mapping[Source, Path]
    show: bool
    quality: int
    replace: bool

    def __bool__(self) -> bool:
        return bool(self.crops or self.labels or self.copies or self.show)

    def __call__(self, image: OpenedImage, pages: Pages) -> Callable[[], None]:
        pages = self._used(image, pages)
        if self.copies:
            target = self.copies[image.source]
            kept = storable(image.metadata.kept(descriptive=False, location=False), target.suffix)
            self._save(image, _marked(pages), target, metadata=kept)
        deque(pages, 0)
        return lambda: None

    def _used(self, image: OpenedImage, pages: Pages) -> Pages:
        numbers = count(1)
        if self.labels:
            image.source.copy = None
        for page, (frame, faces) in enumerate(pages, 1):
            if self.crops:
                self._save_crops(image, faces.crop(frame.visible(), CROP_MARGIN), numbers)
            if self.labels:
                self._save_labels(image, page, yolo_lines(faces))
            if self.show:
                _show(frame, faces)
            yield frame, faces

    def _save(self, image: OpenedImage, frames: Iterable[ImageFrame], path: Path, **how: Any) -> None:
        outputs.save_image(frames, path, overwrite=self.replace, quality=self.quality, copy_of=image.file, **how)

    def _save_crops(self, image: OpenedImage, crops: Sequence[NDArray[np.uint8]], numbers: Iterator[int]) -> None:
        """Write faces to ``NAME_1``, ``NAME_2`` and so on; one outside of the image has no crop."""
        first = self.crops[image.source]
        for crop in (crop for crop in crops if crop.size):
            self._save(image, [ImageFrame(crop)], first.with_stem(f"{first.stem[:-1]}{next(numbers)}"))

    def _save_labels(self, image: OpenedImage, page: int, text: str) -> None:
        """Write YOLO's labels, of each page if there are several."""
        path = self.labels[image.source]
        outputs.make_folder(path.parent)
        path = path if image.file.count == 1 else path.with_stem(f"{path.stem}_page{page}")
        with outputs.atomic_output(path, kind="text", overwrite=self.replace) as file:
            file.write(text.encode())
        if text:  # an empty file is no sign that the image is done
            image.source.copy = path


def _show(frame: ImageFrame, faces: Detections) -> None:
    try:
        faces.show(frame.visible())
    except OutputError as error:
        raise OutputError("there is no program here that shows pictures; use --annotate DIR") from error


def _marked(pages: Pages) -> Iterator[ImageFrame]:
    import overlays  # noqa: PLC0415 - slow to import

    draw = overlays.create("landmarks")
    for frame, faces in pages:
        with _one_at_a_time, measured("draw"):  # threads would pass Python's lock around at each line and point
            marked = frame.drawn_on(draw(frame.visible(), faces))
        yield marked


FORMAT_DEFAULT = "by suffix of --output: .txt, .jsonl, .csv, .json, .parquet; else table"
FORMAT_HELP = f"Output format: {', '.join(results.FORMATS)}."
FORMATS = {"autocompletion": lambda: [*results.FORMATS], "show_default": FORMAT_DEFAULT}
FormatName = Annotated[str | None, option("FORMAT", FORMAT_HELP, "--format", "-f", **FORMATS)]
OUTPUT_HELP = "Write the results to this file; YOLO's into this folder."
Output = Annotated[Path | None, option("FILE|DIR", OUTPUT_HELP, "--output", "-o", show_default="stdout")]
Annotate = Annotated[Path | None, option("DIR", "Write copies with the faces marked into this folder.")]
SaveCrops = Annotated[Path | None, option("DIR", "Write a picture of each face into this folder.")]
Show = Annotated[bool, option(None, "Show the images with the faces marked.", "--show")]
Repeat = Annotated[int | None, option("N", "Repeat each detection N times and print images per second.", min=1)]


def detect(
    context: typer.Context,
    inputs: options.Inputs = None,
    *,
    format_name: FormatName = None,
    output: Output = None,
    annotate: Annotate = None,
    save_crops: SaveCrops = None,
    show: Show = False,
    repeat: Repeat = None,
    recursive: bool = False,
    model: options.ModelArgs,
    detection: options.LimitedDetectArgs,
    quality: int = 95,
    overwrite: bool = False,
    messages: options.JobMessageArgs,
    job: options.JobArgs,
    image: options.ImageArgs,
    video: options.VideoArgs,
) -> None:
    """Detect faces in images and videos.

    Results go to stdout, messages to stderr. In videos, faces are tracked;
    'overlay' and 'anonymize' read the .jsonl output with --detections.

    Exit codes: 0, success; 1, an input failed and the others were
    processed; 2, usage error; 130, stopped by Ctrl-C.

    For example:
      scrfd-trt detect photo.jpg
      scrfd-trt detect photos/ --recursive --format jsonl > faces.jsonl
      scrfd-trt detect photos/*.jpg --output faces.csv --annotate marked/
      scrfd-trt detect photos/ --save-crops faces/ --format yolo -o labels/
      curl -s https://example.com/a.jpg | scrfd-trt detect - --format csv
      scrfd-trt detect group.jpg --model 2.5g_bnkps --scale 640,1280
      scrfd-trt detect clip.mp4 --output clip.faces.jsonl
      scrfd-trt detect photo.jpg --model face.plan --annotate out/ --repeat 100
    """
    with console.logged(**vars(messages)):
        output = None if output == Path("-") else output
        kind = results.choose_format(format_name, output, context.meta[TYPED])
        labels = output if kind == "yolo" else None
        live.refuse(inputs or (), "detect")
        left_out = LeftOut()
        context.with_resource(limited(image.limits()))
        work = Job(context, job, folder=labels or annotate, rows=None if labels else output)
        output = labels or work.rows
        if job.resume:
            results.check_resumable(kind, output)
        found = work.find(inputs, recursive=recursive, skip=(annotate, save_crops), left_out=left_out)
        if output is not None and labels is None:
            is_own = work.ledger is not None and work.ledger.is_own(output)
            _check_output(output, found, kind, overwrite=overwrite or is_own)
        sources = work.left(found)
        _refuse_videos(sources, kind, output)
        images = [source for source in sources if source.problem or not source.is_video]
        videos = [source for source in sources if not source.problem and source.is_video]
        settings = video.parse(detection.threshold, quiet=messages.quiet, overwrite=overwrite or job.resume)
        copied = [source for source in found if source.is_done] + images
        use = ImageOutputs(
            crops={} if save_crops is None else plan_crops(copied, save_crops, overwrite=overwrite),
            copies={} if annotate is None else outputs.plan_folder(copied, annotate, overwrite=overwrite),
            labels={} if labels is None else plan_labels(copied, labels, overwrite=overwrite),
            show=show,
            quality=quality,
            replace=overwrite or job.resume,
        )
        check_show(images if show else ())
        facts = work.facts(inputs, found) | (set() if messages.quiet and kind != "table" else {REPORTED})
        check_options(context, facts | _written_facts(use, output, annotate or save_crops))
        for source in videos:
            source.copy = output
        if job.dry_run:
            work.print_plan(found, left_out, strict=False)
            return
        looks = {"min_face": detection.min_face, "rotations": parse_rotations(detection.rotations)}
        writing = partial(
            results.open_writer,
            kind,
            work.rows,
            overwrite=overwrite,
            threshold=detection.threshold,
            looks=looks,
            ledger=work.ledger,
        )
        tally = Tally(alone=len(found) == 1, skipped=work.skipped)
        with tally.reported(left_out, strict=False, quiet=messages.quiet), work.recording():
            if not found and output is not None and labels is None:  # the results of an empty shard are a valid file
                with writing():
                    pass
            if not sources:
                return
            run, reading = run_size(image.batch, sources), image.parse(settings.damaged)
            decoded = [] if use or repeat else images
            with (
                decoding_processes(decoded, reading) as decoders,
                open_detector(**vars(model), **vars(detection), max_batch=run) as detector,
            ):
                # On a terminal, the results themselves show progress. A closed stdout is None.
                bar = not messages.quiet and (output is not None or not (sys.stdout and sys.stdout.isatty()))
                if images:
                    finder = ModelFinder.of(detector, image.batch, repeat=repeat or 0)
                    with (
                        writing() as writer,
                        detect_images(
                            images,
                            finder,
                            tally,
                            reading,
                            use=use or None,
                            bar=bar,
                            decoders=decoders,
                            as_json=kind in {"json", "jsonl"},
                        ) as outcomes,
                    ):
                        _write_results(writer, outcomes, quiet=messages.quiet)
                detect_video = partial(_detect_video, detector=detector, settings=settings, kind=kind, output=output)
                for source, summary in process_videos(videos, tally, detect_video):
                    if not messages.quiet and (output is not None or kind == "jsonl"):
                        console.plain(f"{'wrote ' if output else ''}{output or source.name}: {headline(summary)}")
            if images and not messages.quiet:
                _print_summary(tally, output, kind, annotate, save_crops)


def _check_output(output: Path, sources: Sequence[Source], kind: results.Format, *, overwrite: bool) -> None:
    if same_file_key(output) in {source.key for source in sources}:
        raise OptionError(f"{output} is an input; name another file for the results")
    outputs.check_free(output, kind=results.content_kind(kind), overwrite=overwrite)


def _written_facts(use: ImageOutputs, output: Path | None, pictures: Path | None) -> set[str]:
    facts = {DETECTING, OUTPUT, ANNOTATED} if pictures else {DETECTING, OUTPUT} if output else {DETECTING}
    return facts | ({LOSSY} if outputs.any_lossy({**use.crops, **use.copies}) else set())


def _refuse_videos(sources: Sequence[Source], kind: results.Format, output: Path | None) -> None:
    """Give videos a problem where options do not support them; raise OptionError if all inputs are such videos."""
    if len(sources) > 1 and (output is not None or kind not in ("table", "jsonl")):
        for source in sources:
            source.is_video = not source.problem and source.is_video and not source.is_animation
    videos = [source for source in sources if not source.problem and source.is_video]
    if kind not in ("table", "jsonl"):
        name = {"parquet": "Parquet", "wider": "WIDER FACE"}.get(kind, kind.upper())
        problem = f"{name} output is for images only; for videos use table, jsonl, or a file NAME{FACES_SUFFIX}"
    elif output is not None and len(sources) > 1:
        problem = f"{output} can hold the faces of one video; "
        problem += "give each video a file of its own, or leave out --output and use --format jsonl > FILE"
    else:
        return
    if videos and len(videos) == len(sources):
        raise OptionError(problem)
    for source in videos:
        source.problem = problem


def _write_results(
    writer: results.ResultWriter, outcomes: Iterator[tuple[Source, ImageResult | str]], *, quiet: bool
) -> None:
    for source, outcome in outcomes:
        with measured("write"):
            writer.add_outcome(source.name, outcome)
        if isinstance(outcome, ImageResult) and outcome.timings and not quiet:
            console.plain(f"{outcome.path}: {outcome.timings}")


def _detect_video(
    source: Source, detector: SCRFDDetector, settings: VideoSettings, kind: results.Format, output: Path | None
) -> Summary:
    """Track the faces of a video, and write the detections or a table of the tracks."""
    with path_or_temporary(output if kind == "jsonl" else None, None if output is None else output.parent) as path:
        with show_progress(source.name, settings.progress, quiet=settings.quiet) as report:
            summary = settings.detect(source.path, path, detector, report)
        if kind == "table":
            _write_tracks(source.name, summary, output, overwrite=settings.overwrite)
        elif output is None:
            with path.open(encoding="utf-8") as lines:
                for line in lines:
                    console.write(line)
    return summary


def _write_tracks(path: Path | str, summary: Summary, output: Path | None, *, overwrite: bool) -> None:
    width, height = summary.size
    heading = Text.assemble((console.printable(path), "bold"), f"  {width}×{height}, {headline(summary)}")
    text = console.render(heading, plain=output is not None, wrap=False)
    if summary.tracks:
        text += console.render(tracks_table(summary), plain=output is not None) + "\n"
    if output is None:
        console.write(text)
    else:
        with outputs.atomic_output(output, kind="text", overwrite=overwrite) as file:
            file.write(text.encode())


def _print_summary(
    tally: Tally, output: Path | None, kind: results.Format, annotate: Path | None, crops: Path | None
) -> None:
    tally.warn_spherical()
    if output is not None and (tally.images or not is_folder(output)):
        form = {"coco": " (COCO)", "json": " (an array of images)"}.get(kind, "")
        console.plain(f"wrote {output}{form}: {tally.summary()}")
    elif tally.images > 1:
        console.plain(tally.summary())
    if annotate is not None and tally.images:
        console.plain(f"annotated copies in {annotate}")
    if crops is not None and tally.faces:
        console.plain(f"pictures of faces in {crops}")
