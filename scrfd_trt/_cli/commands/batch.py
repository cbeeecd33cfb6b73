"""``scrfd-trt batch``: process a pile of pictures in parts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from itertools import chain
from pathlib import Path
from threading import Thread
from typing import Annotated

import typer

from scrfd_trt import models
from scrfd_trt._cli import console, options
from scrfd_trt._cli.console import count
from scrfd_trt._cli.detector import detector_opener
from scrfd_trt._cli.exits import FAILED, add_location, at_stop
from scrfd_trt._cli.inputs import user_path
from scrfd_trt._cli.jobs import MAY_DIFFER
from scrfd_trt._cli.option_rules import DETECTING, IMAGES, check_options
from scrfd_trt._cli.option_table import option
from scrfd_trt._cli.progress import PileProgress, pile_progress
from scrfd_trt._engine.plan import is_model_path
from scrfd_trt._jobs.images import PILE_BATCH
from scrfd_trt._jobs.stages import mapped
from scrfd_trt._version import __version__
from scrfd_trt.distributed._parts import Detection, Output, Part, PartResult, plan_parts
from scrfd_trt.distributed._stores import is_uri, shown_name
from scrfd_trt.errors import OptionError, ScrfdError
from scrfd_trt.models._store import sha256_of
from scrfd_trt.video._reader import Damaged

PART_SIZE = 5000
SOURCE_HELP = "Folder, list of paths or addresses (text, .csv, .parquet), or .parquet with pictures."
Source = Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE_HELP)]
Out = Annotated[str, typer.Argument(metavar="OUT", help="Folder of the results; s3:// and gs:// as in SOURCE.")]
PartSize = Annotated[int, option("N", "Pictures in a part, which is written whole.", min=1, max=1_000_000)]


def batch(
    context: typer.Context,
    source: Source,
    out: Out,
    *,
    part_size: PartSize = PART_SIZE,
    model: options.ModelArgs,
    detection: options.LimitedDetectArgs,
    damaged: Damaged = "stop",
    image: options.ImageArgs,
    messages: options.JobMessageArgs,
    progress: options.ProgressKind = "bar",
) -> None:
    """Detect faces in a pile of pictures, of any size, and go on after a stop.

    OUT/faces has a Parquet file for each part, which appears whole;
    OUT/errors has the pictures that failed; OUT/report.json the sums. The
    same command goes on where it was stopped, and does no part twice.

    Exit codes: 0, success; 1, pictures failed and the others were
    processed; 2, usage error; 130, stopped by Ctrl-C.

    For example:
      scrfd-trt batch photos/ faces/
      scrfd-trt batch s3://bucket/photos/ s3://bucket/faces/
      scrfd-trt batch list.csv faces/ --part-size 20000
      scrfd-trt batch pictures.parquet faces/ --device cuda:all
    """
    with console.logged(**vars(messages)):
        check_options(context, {DETECTING, IMAGES})
        source, out = (text if is_uri(text) else str(user_path(text)) for text in (source, out))
        left_out = Counter[str]()
        plan = partial(plan_parts, source, part_size, skip=[out])
        parts = _with_pictures(plan(left_out=left_out), source)
        run = Run(Output(out), plan, parts, _settings(context, source, model.model), left_out)
        opener = partial(detector_opener(model, detection), max_batch=image.batch or PILE_BATCH)
        work = Detection(image.parse(damaged), image.batch)
        with pile_progress(progress, quiet=messages.quiet) as shown:
            run.process(lambda left: replace(work, advance=shown.advance).run(left, opener), shown)
        run.report(quiet=messages.quiet)


def _with_pictures(parts: Iterator[Part], source: str) -> Iterator[Part]:
    """Return the parts; raise OptionError now if the source cannot be read, or has no pictures."""
    first = next(parts, None)
    if first is None:
        raise OptionError("there are no pictures (.jpg, .png, …)", subject=shown_name(source))
    return chain([first], parts)


def _settings(context: typer.Context, source: str, model: str) -> dict[str, str]:
    """Return what has to be the same in all runs of a pile."""
    differ = {*MAY_DIFFER, "out", "source"}
    found = {name: str(value) for name, value in context.params.items() if name not in differ}
    path = user_path(model) if is_model_path(model) else models.fetch(model)
    place = source if is_uri(source) else str(Path(source).absolute())
    return {"source": shown_name(place), **found, "model_sha256": sha256_of(path)}


@dataclass
class Run:
    """One run of a pile: the parts that are left, and the sums."""

    output: Output
    plan: Callable[[], Iterator[Part]]
    parts: Iterator[Part]
    settings: Mapping[str, str]
    left_out: Counter[str]

    def __post_init__(self) -> None:
        self.done, self.before = Counter[str](), 0
        self.seconds = 0.0

    def process(self, work: Callable[[Iterator[Part]], Iterable[PartResult]], shown: PileProgress) -> None:
        """Write the results of all parts that are left, each in a thread while the next one is in work."""
        with self.output.begun(self.settings):
            done = self.output.done()
            self.before, start = len(done), time.monotonic()
            Thread(target=self._count, args=(done, shown), daemon=True).start()
            try:
                with mapped(self._write, work(self.output.left(self.parts, done)), workers=1, ahead=2) as results:
                    for result in results:
                        self.done.update(parts=1, pictures=len(result.part.uris), spherical=result.spherical)
            except KeyboardInterrupt as stop:
                add_location(stop, "", f"after {count(self.done['pictures'], 'image')} in finished parts")
                at_stop("the same command continues from here")
                raise
            finally:
                self.seconds = time.monotonic() - start

    def _write(self, result: PartResult) -> PartResult:
        self.output.write_part(result.part, result.table, result.errors)
        return result

    def _count(self, done: Mapping[int, str], shown: PileProgress) -> None:
        """Count the pictures that are left, for the estimate of the end."""
        with suppress(ScrfdError):  # raised in its turn
            shown.total = sum(len(part.uris) for part in self.output.left(self.plan(), done))

    def report(self, *, quiet: bool) -> None:
        """Write and print the sums of all runs; raise Exit if pictures failed."""
        total = self.output.totals()
        rate = self.done["pictures"] / self.seconds if self.done else 0.0
        about = {"scrfd_trt": __version__, "finished": datetime.now(timezone.utc).isoformat(timespec="seconds")}
        speed = {"seconds": round(self.seconds, 3), "images_per_second": round(rate, 2)}
        last = {"pictures": self.done["pictures"], **speed}
        sums = {**total, "parts_before": self.before, "left_out": self.left_out, "this_run": last}
        self.output.write_json("report.json", about | sums | {"settings": self.settings})
        place = self.output.place.name
        if not quiet:
            if self.done:
                console.plain(f"processed {count(self.done['pictures'], 'image')} ({rate:,.1f} images/s)")
            if self.before:
                console.plain(f"skipped {count(self.before, 'part')} done before")
            if self.left_out:
                parts = [f"{number:,} {reason}" for reason, number in self.left_out.most_common()]
                console.warning(f"left out: {', '.join(parts)}")
            if self.done["spherical"]:
                number = count(self.done["spherical"], "360° image")
                console.warning(f"{number}: in the flat picture, faces are distorted or cut, and may be missed")
            console.plain(f"wrote {place}: {count(total['pictures'], 'image')}, {count(total['faces'], 'face')}")
        if total["failures"]:
            console.error(f"{total['failures']:,} of {count(total['pictures'], 'image')} failed; see {place}/errors")
            raise typer.Exit(FAILED)
