"""``scrfd-trt batch``: process a pile of pictures in parts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from itertools import chain
from threading import Thread
from typing import Annotated

import typer

from scrfd_trt import models
from scrfd_trt._cli import console, options
from scrfd_trt._cli.commands.anonymize import CoverArgs
from scrfd_trt._cli.console import count
from scrfd_trt._cli.content import VIDEO_SUFFIXES
from scrfd_trt._cli.detector import THRESHOLD as COVER_THRESHOLD
from scrfd_trt._cli.detector import CoverDetectArgs, detector_opener
from scrfd_trt._cli.exits import FAILED, add_location, at_stop
from scrfd_trt._cli.jobs import MAY_DIFFER
from scrfd_trt._cli.option_rules import COPIES, DETECTING, FACES, IMAGES, LOSSY, check_options
from scrfd_trt._cli.option_table import altered, option
from scrfd_trt._cli.pile_copies import CopyParts, PileCopies
from scrfd_trt._cli.progress import PileProgress, pile_progress
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._engine.plan import is_model_path
from scrfd_trt._files import user_path
from scrfd_trt._image_files.read import IMAGE_SUFFIXES
from scrfd_trt._jobs.images import PILE_BATCH
from scrfd_trt._jobs.stages import mapped
from scrfd_trt._looks import OWN_LOOKS, Looks
from scrfd_trt._version import __version__
from scrfd_trt.distributed._cluster import DetectParts, PartWork, run_parts
from scrfd_trt.distributed._parts import Detection, Output, Part, PartResult, plan_parts
from scrfd_trt.distributed._stores import Place, is_uri, shown_name
from scrfd_trt.errors import ImageError, OptionError, ScrfdError
from scrfd_trt.models._store import sha256_of
from scrfd_trt.video._animation_reader import limited
from scrfd_trt.video._reader import Damaged

PART_SIZE, WRITERS = 5000, 4
SOURCE_HELP = "Folder, list of paths (text, .csv, .parquet), or .parquet with pictures."
Source = Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE_HELP)]
Out = Annotated[str, typer.Argument(metavar="OUT", help="Folder of the results; s3:// and gs:// as in SOURCE.")]
Address = Annotated[str | None, option("ADDRESS", "Ray cluster; auto: that of this machine, or a new one.")]
PartSize = Annotated[int, option("N", "Pictures in a part, which is written whole.", min=1, max=1_000_000)]

ANONYMIZE_HELP = "Write copies of pictures and videos with the faces hidden."
Anonymize = Annotated[bool, typer.Option("--anonymize", help=ANONYMIZE_HELP)]
OVERLAY_HELP = "Hide faces with this overlay, not a blur. Repeat to combine several."
Overlay = Annotated[list[str] | None, option("NAME:OPTION=VALUE,...", OVERLAY_HELP)]
Threshold = altered("threshold", show_default=f"{options.THRESHOLD:g}; {COVER_THRESHOLD:g} with --anonymize")


@dataclass(frozen=True)
class PileDetectArgs(options.LimitedDetectArgs):
    """Detection options; their defaults are those of ``detect``, or of ``anonymize``."""

    threshold: Annotated[float | None, Threshold] = None  # type: ignore[assignment]

    def opened(self, model: options.ModelArgs, *, cover: bool) -> tuple[Callable[..., SCRFDDetector], Looks, float]:
        """Return what opens the detector, how it looks at images and videos, and the threshold."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        if cover:
            args = CoverDetectArgs(**given)
            return *args.search(model), args.threshold
        found = options.LimitedDetectArgs(**given)
        return detector_opener(model, found), OWN_LOOKS, found.threshold


def batch(
    context: typer.Context,
    source: Source,
    out: Out,
    *,
    part_size: PartSize = PART_SIZE,
    anonymize: Anonymize = False,
    overlay: Overlay = None,
    quality: int = 95,
    model: options.ModelArgs,
    detection: PileDetectArgs,
    damaged: Damaged = "stop",
    image: options.ImageArgs,
    messages: options.JobMessageArgs,
    progress: options.ProgressKind = "bar",
    address: Address = None,
) -> None:
    """Detect faces in a pile of pictures, of any size, and go on after a stop.

    OUT/faces has a Parquet file for each part, which appears whole;
    OUT/errors has the pictures that failed; OUT/report.json the sums. The
    same command goes on where it was stopped, and does no part twice.

    With --anonymize, OUT/copies has copies of the pictures and videos with
    the faces hidden, and OUT/index their names. What fails is not copied.

    Exit codes: 0, success; 1, pictures failed, or a store cannot be read;
    2, usage error; 130, stopped by Ctrl-C.

    For example:
      scrfd-trt batch photos/ faces/
      scrfd-trt batch s3://bucket/photos/ s3://bucket/faces/
      scrfd-trt batch list.csv faces/ --part-size 20000
      scrfd-trt batch s3://bucket/photos/ s3://other/hidden/ --anonymize
      scrfd-trt batch pictures.parquet faces/ --device cuda:all
      scrfd-trt batch s3://bucket/photos/ s3://bucket/faces/ --address auto
    """
    with console.logged(**vars(messages)):
        check_options(context, {DETECTING, IMAGES, LOSSY, COPIES if anonymize else FACES})
        source, out = (text if is_uri(text) else str(user_path(text)) for text in (source, out))
        left_out = Counter[str]()
        suffixes = IMAGE_SUFFIXES + (VIDEO_SUFFIXES if anonymize else ())
        plan = partial(plan_parts, source, part_size, suffixes=suffixes, skip=[out])
        output = Output(out, "index" if anonymize else "faces")
        if address and is_model_path(model.model):
            model = replace(model, model=str(user_path(model.model).absolute()))
        opener, looks, threshold = detection.opened(model, cover=anonymize)
        create = partial(CoverArgs(overlay=overlay).create)
        if anonymize:
            create()  # mistakes in its options come first
        context.with_resource(limited(image.limits()))
        parts = _with_pictures(plan(left_out=left_out), source)
        settings = _settings(context, source, model.model, threshold)
        run = Run(output, plan, parts, settings, left_out, quiet=messages.quiet)
        with pile_progress(progress, quiet=messages.quiet) as shown:
            if anonymize:
                args = _copy_args(image, damaged).parse(threshold, looks)
                copies = PileCopies(create, opener, args, quality, output, run.settings["source"])
                on_cluster: PartWork = CopyParts(copies)
                here = partial(copies.run, advance=shown.advance)
            else:
                opened = partial(opener, max_batch=image.batch or PILE_BATCH)
                work = Detection(image.parse(damaged), image.batch)
                on_cluster = DetectParts(output, lambda device: opened(device=device), work)
                here = partial(replace(work, advance=shown.advance).run, open_detector=opened)
            run.process(partial(_on_cluster, on_cluster, address, model.device, shown) if address else here, shown)
        run.report()


def _on_cluster(
    work: PartWork, address: str, device: str, shown: PileProgress, parts: Iterable[Part]
) -> Generator[PartResult, None, None]:
    """Yield the results of parts without the tables, which the workers of a cluster have written."""
    for part, spherical in run_parts(parts, work, address=address, device=device):
        shown.advance(len(part.uris))
        yield PartResult(part, None, None, spherical)


def _copy_args(image: options.ImageArgs, damaged: Damaged) -> options.CopyArgs:
    """Return the options of copies: those of 'anonymize', without messages about single files."""
    return options.CopyArgs(
        messages=options.JobMessageArgs(quiet=True),
        files=options.DetectionsFileArgs(),
        images=image,
        live=options.LiveArgs(),
        overwrite=True,
        job=options.JobArgs(),
        selection=options.SelectionArgs(),
        video=options.VideoArgs(damaged=damaged, progress="none"),
        encode=options.EncodeArgs(),
    )


def _with_pictures(parts: Iterator[Part], source: str) -> Iterator[Part]:
    """Return the parts; raise OptionError now if the source cannot be read, or has no pictures."""
    first = next(parts, None)
    if first is None:
        raise OptionError("there are no pictures (.jpg, .png, …)", subject=shown_name(source))
    return chain([first], _read_on(parts))


def _read_on(parts: Iterator[Part]) -> Iterator[Part]:
    """Yield the parts; a source that cannot be read to its end is no usage error."""
    try:
        yield from parts
    except OptionError as error:
        raise ImageError(error.reason, subject=error.subject) from error


def _settings(context: typer.Context, source: str, model: str, threshold: float) -> dict[str, str]:
    """Return what has to be the same in all runs of a pile."""
    differ = {*MAY_DIFFER, "out", "source", "address"}
    found = {name: str(value) for name, value in context.params.items() if name not in differ}
    path = user_path(model) if is_model_path(model) else models.fetch(model)
    return {"source": Place.of(source).name, **found, "threshold": str(threshold), "model_sha256": sha256_of(path)}


Results = Generator[PartResult, None, None]


@dataclass
class Run:
    """One run of a pile: the parts that are left, and the sums."""

    output: Output
    plan: Callable[[], Iterator[Part]]
    parts: Iterator[Part]
    settings: Mapping[str, str]
    left_out: Counter[str]
    quiet: bool

    def __post_init__(self) -> None:
        self.done, self.before = Counter[str](), 0
        self.seconds = 0.0

    def process(self, work: Callable[[Iterator[Part]], Results], shown: PileProgress) -> None:
        """Write the results of all parts that are left, in threads while the next ones are in work."""
        with self.output.begun(self.settings):
            done = self.output.done()
            self.before, start = len(done), time.monotonic()
            if done and not self.quiet:
                console.plain(f"skipped {count(self.before, 'part')} done before")
            Thread(target=self._count, args=(done, shown), daemon=True).start()
            try:
                with (
                    closing(work(self.output.left(self.parts, done))) as found,
                    mapped(self._write, found, workers=WRITERS, ahead=2 * WRITERS) as results,
                ):
                    for result in results:
                        self.done.update(parts=1, pictures=len(result.part.uris), spherical=result.spherical)
            except ImageError as error:
                console.error(f"{error}; the same command continues from here")
                raise typer.Exit(FAILED) from error
            except KeyboardInterrupt as stop:
                add_location(stop, "", f"after {count(self.done['pictures'], 'image')} in finished parts")
                at_stop("the same command continues from here")
                raise
            finally:
                self.seconds = time.monotonic() - start

    def _write(self, result: PartResult) -> PartResult:
        if result.table is not None:
            self.output.write_part(result.part, result.table, result.errors, result.faces)
        return result

    def _count(self, done: Mapping[int, str], shown: PileProgress) -> None:
        """Count the pictures that are left, for the estimate of the end."""
        with suppress(ScrfdError):  # raised in its turn
            shown.total = sum(len(part.uris) for part in self.output.left(self.plan(), done))

    def report(self) -> None:
        """Write and print the sums of all runs; raise Exit if pictures failed."""
        total = self.output.totals()
        rate = self.done["pictures"] / self.seconds if self.done else 0.0
        about = {"scrfd_trt": __version__, "finished": datetime.now(timezone.utc).isoformat(timespec="seconds")}
        speed = {"seconds": round(self.seconds, 3), "images_per_second": round(rate, 2)}
        last = {"pictures": self.done["pictures"], **speed}
        sums = {**total, "parts_before": self.before, "left_out": self.left_out, "this_run": last}
        self.output.write_json("report.json", about | sums | {"settings": self.settings})
        place = self.output.place.name.rstrip("/")
        if not self.quiet:
            if self.done:
                console.plain(f"processed {count(self.done['pictures'], 'image')} ({rate:,.1f} images/s)")
            if self.left_out:
                parts = [f"{reason} ({number:,})" for reason, number in self.left_out.most_common()]
                console.warning(f"left out: {', '.join(parts)}")
            if self.done["spherical"]:
                number = count(self.done["spherical"], "360° image")
                console.warning(f"{number}: in the flat picture, faces are distorted or cut, and may be missed")
            console.plain(f"wrote {place}: {count(total['pictures'], 'image')}, {count(total['faces'], 'face')}")
        if total["failures"]:
            console.error(f"{total['failures']:,} of {count(total['pictures'], 'image')} failed; see {place}/errors")
            raise typer.Exit(FAILED)
