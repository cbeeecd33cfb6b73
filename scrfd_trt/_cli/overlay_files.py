"""Cover the faces of images and videos and write the copies, for ``overlay`` and ``anonymize``."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import typer
from numpy.typing import NDArray

from scrfd_trt._cli import console, live, outputs, results
from scrfd_trt._cli.batch import FaceFinder, FileFinder, ModelFinder, Tally, detect_images, process_videos, run_size
from scrfd_trt._cli.console import count
from scrfd_trt._cli.detections_files import ImageFaces, check_inputs
from scrfd_trt._cli.folders import LeftOut
from scrfd_trt._cli.help_panels import TYPED
from scrfd_trt._cli.inputs import Source
from scrfd_trt._cli.jobs import Job, Shard
from scrfd_trt._cli.option_rules import (
    COVERED,
    DETECTING,
    ENCODED,
    LIVE,
    LOSSY,
    OPENED,
    REPLACE_WITH,
    TRACKS,
    WEB,
    check_options,
    given_options,
)
from scrfd_trt._cli.options import CopyArgs, CopySettings
from scrfd_trt._cli.report_page import Finished, ImageFace, check_page, write_page
from scrfd_trt._cli.video_copies import CopyVideo, copy_here, copying_elsewhere
from scrfd_trt._cli.video_report import (
    MAX_MOMENTS,
    SearchedCopy,
    as_cover,
    as_dict,
    headline,
    place_text,
    print_searches,
    print_written,
    report_lines,
    stream_lines,
)
from scrfd_trt._detections import Detections
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._image_files import ImageFrame, open_image
from scrfd_trt._image_files.write import image_format, storable
from scrfd_trt._jobs.decoders import OpenedImage
from scrfd_trt._jobs.images import ImageResult
from scrfd_trt._jobs.profile import measured
from scrfd_trt._looks import OWN_LOOKS, Looks
from scrfd_trt._tracking.faces import FrameFaces
from scrfd_trt.errors import MissingDependencyError, OptionError
from scrfd_trt.video import Summary
from scrfd_trt.video._animation_reader import limited
from scrfd_trt.video._canvas import OverlayFunction
from scrfd_trt.video._copy_search import NO_FACES, CopySearch, CopySearcher, Known, verified
from scrfd_trt.video._first_pass import detector_options

if TYPE_CHECKING:
    from scrfd_trt._studio.preview import Preview

LOW_SCORE = 0.5  # below which a face that was covered is to be reviewed; 'detect' leaves it out by default
ENDINGS = {True: "_anonymized", False: "_overlay"}
# Parameters that change the numbers of tracks.
NUMBERING = {"model", "threshold", "iou", "scale", "min_face", "rotations", "max_faces", "every", "bridge"}


def write_copies(
    context: typer.Context,
    inputs: list[str] | None,
    output: Path | None,
    create: Callable[[], OverlayFunction],
    args: CopyArgs,
    *,
    threshold: float,
    opener: Callable[..., SCRFDDetector],
    looks: Looks = OWN_LOOKS,
    strict: bool = False,
    verify: bool = False,
) -> None:
    """Do the work of a command that covers faces; raise OptionError before any work, Exit if an input failed.

    Without ``output``, each copy is written beside its input. ``create`` makes the overlay, and ``opener`` opens the
    detector, after the checks. ``looks`` are options of detection that differ between images and videos.
    ``strict`` reports the weakest moments of videos, and fails if images or videos in folders were not read. ``verify``
    searches the copies for faces that are not covered.
    """
    settings = replace(args.parse(threshold, looks), verify=verify)
    facts = _facts(context, settings)
    if inputs and any(live.is_address(text) and not live.is_file_address(text, output) for text in inputs):
        target = live.check(inputs, output, settings)
        check_options(context, facts | {LIVE} | ({WEB} if live.is_web_address(inputs[0]) else set()))
        draw, preview = create(), _preview(context, args, can_stop=True)
        with opener() as detector:
            live.write(inputs[0], target, detector, draw, settings, preview=preview)
        return
    left_out = LeftOut()
    context.with_resource(limited(settings.images.limits()))
    job = Job(context, args.job, folder=output)
    settings = settings if job.shard is None else _of_shard(settings, job.shard)
    found = job.find(inputs, recursive=args.recursive, skip=[output], left_out=left_out)
    sources = _without_copies(found, ENDINGS[strict]) if output is None else found
    facts |= job.facts(inputs, sources)
    check_options(context, facts | {LOSSY, ENCODED})
    draw = create()
    if settings.report is not None and not all(source.is_done for source in sources):
        check_page(settings.report, [source.path for source in sources], overwrite=args.overwrite)
    to_stdout = output == Path("-")
    stdout = context.with_resource(outputs.standard_output(sources, dry_run=args.job.dry_run)) if to_stdout else None
    how: dict[str, Any] = {
        "overwrite": args.overwrite,
        "ending": ENDINGS[strict],
        "typed": shlex.join([*context.command_path.split(), *context.meta[TYPED]]),
    }
    targets = outputs.plan_outputs(inputs or (), sources, stdout.folder if stdout else output, **how)
    if stdout is not None:
        sources[0].copy = output  # in the plan of --dry-run
    left = job.left(sources)
    written = {source: path for source, path in targets.items() if not source.is_done}
    facts |= {LOSSY} if outputs.any_lossy(written) else set()
    check_options(context, facts | ({ENCODED} if job.skipped or outputs.any_encoded(written) else set()))
    faces = check_inputs(settings, left, targets)
    _check_track_numbers(context, settings, is_known=strict)
    if args.job.dry_run:
        job.print_plan(sources, left_out, strict=strict)
        return
    tally = Tally(alone=len(sources) == 1, skipped=job.skipped)
    run = run_size(settings.images.batch, left)
    preview = _preview(context, args, can_stop=False)
    copies = CopyJob(draw, settings, targets, args.quality, strict, tally, preview, stdout)
    several = partial(copying_elsewhere, create, settings, partial(opener, max_batch=run))
    with tally.reported(left_out, strict=strict, quiet=settings.quiet), job.recording():
        if left:
            with opener(max_batch=run) if verify or not settings.files.detections else nullcontext() as detector:
                copies.run(left, output, detector, faces, several)
            copies.write_page(context, skipped=job.skipped)
        elif not sources and settings.files.save_detections is not None:
            with results.open_writer(
                "jsonl", settings.files.save_detections, threshold=threshold, overwrite=settings.overwrite
            ):
                pass


def _without_copies(sources: list[Source], ending: str) -> list[Source]:
    """Leave out the copies of an earlier run whose inputs are here, too, as with ``*.jpg``."""
    paths = {source.path for source in sources}
    copies = {path.with_name(f"{path.stem}{ending}{path.suffix}") for path in paths} & paths
    if copies and not console.is_quiet():
        which = str(min(copies)) if len(copies) == 1 else f"{len(copies)} files, {min(copies)} the first"
        text = "left out, as it is the copy of another input; name it alone to process it"
        many = "left out, as they are copies of other inputs; name one alone to process it"
        console.warning(f"{which}: {text if len(copies) == 1 else many}")
    return [source for source in sources if source.path not in copies]


def _facts(context: typer.Context, settings: CopySettings) -> set[str]:
    """Return what the options say about the job, for the rules of other options."""
    facts = {TRACKS if settings.files.detections else DETECTING} | ({OPENED} if settings.verify else set())
    cover = context.params.get("replace_with")
    if context.params.get("overlay"):
        return facts | {COVERED}
    return facts | {REPLACE_WITH, f"replace_with={cover}"} | ({COVERED} if cover != "none" else set())


def _check_track_numbers(context: typer.Context, settings: CopySettings, *, is_known: bool) -> None:
    """Raise OptionError for faces to uncover by numbers that ``tracks`` without these options gives to others."""
    selection = settings.selection
    changed = [f"with {flag}" for one, flag in given_options(context) if one.name in NUMBERING]
    changed += [] if is_known else ["in 'overlay'"]
    if changed and not settings.files.detections and selection.only_tracks | selection.except_tracks:
        raise OptionError(
            f"{changed[0]}, tracks may have other numbers than in 'scrfd-trt tracks', so the wrong one may be open; "
            "run 'scrfd-trt tracks --save-detections FILE' with the same options, and use --detections FILE"
        )


def _of_shard(settings: CopySettings, shard: Shard) -> CopySettings:
    """Return the settings with the names of this part's files."""
    saved, report = (path and shard.named(path) for path in (settings.files.save_detections, settings.report))
    return replace(settings, files=replace(settings.files, save_detections=saved), report=report)


def _preview(context: typer.Context, args: CopyArgs, *, can_stop: bool) -> Preview | None:
    """Open the page of ``--preview`` until the command ends, and print its address."""
    if not args.preview:
        return None
    try:
        from scrfd_trt._studio.preview import Preview  # noqa: PLC0415 - optional
    except ImportError as error:
        raise MissingDependencyError(
            '--preview needs starlette and uvicorn: pip install "scrfd-trt[studio]"'
        ) from error
    preview = context.with_resource(Preview(can_stop=can_stop))
    console.plain(f"preview: {preview.address}  (the page ends with the job)")
    return preview


@dataclass(frozen=True)
class CopyJob:
    """Processes images and videos, and writes the copies to their targets."""

    draw: OverlayFunction
    settings: CopySettings
    targets: dict[Source, Path]
    """Sources that cannot be read may be missing."""
    quality: int
    detailed: bool
    tally: Tally
    preview: Preview | None
    stdout: outputs.StandardOutput | None
    found_later: dict[tuple[Path | str, int], FrameFaces] = field(default_factory=dict)
    """Faces that were found in copies of images, by path and page."""
    dropped: dict[tuple[Path | str, int], list[int]] = field(default_factory=dict)
    """The rows of doubtful faces that a second look does not find, until they are saved."""
    doubtful: dict[Source, list[ImageFace]] = field(default_factory=dict)
    """Faces of images with low scores, and those that a second look does not find."""
    searched: list[SearchedCopy] = field(default_factory=list)
    finished: list[Finished] = field(default_factory=list)
    """Copies for the page."""

    def run(
        self,
        sources: Sequence[Source],
        output: Path | None,
        detector: SCRFDDetector | None,
        faces: ImageFaces | None,
        several: Callable[[str, int], AbstractContextManager[CopyVideo]],
    ) -> None:
        """Process images, then videos, in ``several`` processes; without a detector, the faces are those of a file."""
        images = [source for source in sources if not source.is_video]
        videos = [source for source in sources if source.is_video]
        finder: FaceFinder | None = None if faces is None else FileFinder(faces)
        searcher = None
        if images and detector is not None:
            images_detector = self.settings.looks.for_images(detector)
            finder = finder or ModelFinder.of(images_detector, self.settings.images.batch)
            if self.settings.verify:
                selection = self.settings.selection.model_copy(update={"only_spans": (), "except_spans": ()})
                searcher = CopySearcher(images_detector, self.draw, selection)
        try:
            if images and finder is not None:
                self._process_images(images, finder, searcher)
            self._send(images)
            self._report_images(images, output)
        finally:  # also of a job that is stopped, as what it has written is not searched again
            self._report_searches(self.searched, is_video=False)
        jobs = min(self.settings.jobs, len(videos))
        with ExitStack() as stack:
            if jobs > 1 and detector is not None:
                detector.close()  # each process has its own
                copy = stack.enter_context(several(detector.device, jobs))
            else:
                copy = copy_here(self.draw, self.settings, detector, self.preview)
            copies = process_videos(videos, self.tally, lambda source: copy(source.path, self.targets[source]), jobs)
            for source, summary in copies:
                self._send([source])
                self._report_video(self._name(self.targets[source]), summary)
                if self.settings.report is not None:
                    self.finished.append(Finished(source.path, self._name(self.targets[source]), summary))

    def write_page(self, context: typer.Context, *, skipped: int) -> None:
        """Write the page of ``--report``, if it is wanted."""
        settings = self.settings
        if settings.report is not None:
            how: dict[str, Any] = {"limits": settings.images.limits(), "skipped": skipped}
            write_page(settings.report, self.finished, context, settings.damaged, **how)
            if not settings.quiet:
                console.plain(f"wrote {settings.report}: pictures of doubtful faces, uncovered")

    def _send(self, sources: Sequence[Source]) -> None:
        """Write finished copies to standard output, if they go there."""
        for source in sources:
            target = self.targets.get(source)
            if self.stdout is not None and target is not None and target.exists():
                self.stdout.send(target)

    def _name(self, target: Path) -> Path:
        """Return the path of a copy for messages."""
        return target if self.stdout is None else Path("-")

    def _process_images(self, images: Sequence[Source], finder: FaceFinder, searcher: CopySearcher | None) -> None:
        settings, saved = self.settings, self.settings.files.save_detections
        reading, bar = settings.images.parse(settings.damaged), not settings.quiet
        with ExitStack() as stack:
            writer = None
            if saved is not None:
                how: dict[str, Any] = {"threshold": settings.tracking.threshold, "overwrite": settings.overwrite}
                how["looks"] = detector_options(finder.detector) if isinstance(finder, ModelFinder) else {}
                writer = stack.enter_context(results.open_writer("jsonl", saved, **how))
            save = partial(self._save_image, searcher, finder)
            outcomes = stack.enter_context(detect_images(images, finder, self.tally, reading, use=save, bar=bar))
            for source, outcome in outcomes:
                if writer is not None:
                    if isinstance(outcome, ImageResult):
                        faces = settings.selection.with_covers(outcome.faces)
                        if more := self.found_later.pop((source.name, outcome.page or 1), None):
                            faces = FrameFaces.of(faces).joined(more)._detections(faces.image_size)
                        rows = self.dropped.pop((source.name, outcome.page or 1), ())
                        outcome = replace(outcome, faces=faces, dropped=rows)  # noqa: PLW2901
                    writer.add_outcome(source.name, outcome)

    def _report_images(self, images: Sequence[Source], output: Path | None) -> None:
        """Print where the images are, and how many faces they have."""
        tally = self.tally
        if not tally.images or self.settings.quiet:
            return
        later = sum(len(one.of_kind("uncovered")) for _, searches in self.searched for one in searches[:-1])
        total = tally.faces + later
        faces = count(total, "face") if total else "no faces found"
        pages = [count(tally.pages, "page")] if tally.pages > tally.images else []
        text = ", ".join([*([count(tally.images, "image")] if tally.images > 1 else []), *pages, faces])
        by_hand = len(self.settings.selection.still_covers)
        text += f", {count(by_hand, 'cover')} by hand" if by_hand else ""
        if tally.faces and tally.empty:
            text += f"; {tally.empty} without a face"
        text += tally.earlier()
        if tally.left_out:
            text += f"; {count(tally.left_out, 'face')} left uncovered, as requested"
        failed = {path for path, _ in tally.failures}
        first = next(self._name(self.targets[source]) for source in images if source.name not in failed)
        target = first if tally.images == 1 else output or "copies beside the inputs"
        tally.warn_spherical()
        if tally.left_out and tally.left_out == tally.faces and not by_hand:
            console.warning(f"{target}: no face is covered; the selection leaves out every face")
        from_file = self.settings.files.detections is not None
        chosen = total + by_hand + len(self.settings.selection.drop_tracks)
        print_written(target, text, self.draw, chosen, from_file=from_file)
        for line in tally.change_lines():
            console.plain(line)
        found = [(source.name, face) for source, faces in self.doubtful.items() for face in faces]
        found.sort(key=lambda each: each[1].score)
        dropped = [
            f"{name}: --cover '{as_cover(face.box, None)}' (score {face.score:.2f})"
            for name, face in reversed(found)
            if not face.is_covered
        ]
        self._list(
            dropped, "doubtful place", "not covered: a second look finds no face there; --keep-doubtful covers them"
        )
        if self.detailed:
            low = [f"{name}: {place_text(face.box, face.score)}" for name, face in found if face.is_covered]
            self._list(low, "face", "covered with a low score, to review")

    def _list(self, lines: Sequence[str], subject: str, text: str) -> None:
        if lines:
            all_of_them = "--report shows" if self.settings.report is None else f"{self.settings.report} shows"
            more = f"; {MAX_MOMENTS} are listed, and {all_of_them} more" if len(lines) > MAX_MOMENTS else ""
            console.listing("note", f"{count(len(lines), subject)} {text}{more}", lines[:MAX_MOMENTS])

    def _save_image(
        self,
        searcher: CopySearcher | None,
        finder: FaceFinder,
        image: OpenedImage,
        pages: Iterator[tuple[ImageFrame, Detections]],
    ) -> Callable[[], None]:
        source = image.source
        copy = _ImageCopy(self, image, pages, searcher, finder)
        searches: Sequence[CopySearch] = ()
        if searcher is None:
            copy.write()
        else:
            _, searches = verified(copy.target, copy.write, copy.search, copy.cover)
        for page, more in copy.later.items():
            self.found_later[source.name, page + 1] = more

        def note() -> None:
            self.tally.left_out += copy.left_out
            self.tally.faces -= copy.dropped + copy.doubtful
            if searches:
                self.searched.append((self._name(copy.target), searches))
            if copy.faces_to_review:
                self.doubtful[source] = copy.faces_to_review
            if self.settings.report is not None:
                faces = copy.faces_to_review
                self.finished.append(Finished(source.path, self._name(copy.target), None, faces, searches))
            self.tally.add_changes(source.name, copy.removed, [*image.file.notes, *copy.changes])

        return note

    def _report_video(self, target: Path, summary: Summary) -> None:
        if self.settings.progress == "jsonl" or (console.as_json and not self.settings.quiet):
            console.progress_line("done", output=str(target), **as_dict(summary))
        if self.settings.progress != "jsonl" and not self.settings.quiet:
            if summary.left_out and not summary.faces and summary.selected:
                console.warning(f"{target}: no face is covered; the selection leaves out every track")
            dropped = len(self.settings.selection.drop_tracks)
            found = summary.faces or len(summary.left_out) or dropped or not summary.selected
            from_file = self.settings.files.detections is not None
            print_written(target, headline(summary), self.draw, found, from_file=from_file)
            console.block([*stream_lines(summary), *(report_lines(summary) if self.detailed else ())])
        self._report_searches([(target, summary.searches)] if summary.searches else [], is_video=True)

    def _report_searches(self, results: Sequence[SearchedCopy], *, is_video: bool) -> None:
        """Print what the searches of copies found, and count the faces that are left."""
        self.tally.uncovered += sum(len(searches[-1].of_kind("uncovered")) for _, searches in results)
        quiet = self.settings.quiet or (is_video and self.settings.progress == "jsonl")
        print_searches(results, self.draw, is_video=is_video, quiet=quiet)


class _ImageCopy:
    """Writes the copy of an image; searches it for faces to cover in a further round."""

    def __init__(
        self,
        job: CopyJob,
        image: OpenedImage,
        pages: Iterable[tuple[ImageFrame, Detections]],
        searcher: CopySearcher | None,
        finder: FaceFinder,
    ) -> None:
        self.target, self._job, self._settings = job.targets[image.source], job, job.settings
        self._image, self._pages, self._searcher, self._finder = image, pages, searcher, finder
        kept = image.metadata.kept(descriptive=job.settings.keep_metadata, location=job.settings.keep_location)
        self._metadata = storable(kept, self.target.suffix)
        self.removed = image.metadata.removed(self._metadata)
        self.changes: set[str] = set()
        self.left_out = self.dropped = self.doubtful = 0
        self.later: dict[int, FrameFaces] = {}
        """What was found in the copy, by page from 0 on."""
        self.faces_to_review: list[ImageFace] = []
        self._covered: list[Detections] = []
        self._known: list[Known] = []

    def write(self, inspect: Callable[[Path], None] | None = None) -> None:
        """Write the copy; ``inspect`` takes the finished file before it gets its name."""
        how: dict[str, Any] = {"quality": self._job.quality, "copy_of": self._image.file, "metadata": self._metadata}
        outputs.save_image(self._drawn(), self.target, overwrite=self._settings.overwrite, inspect=inspect, **how)

    def search(self, path: Path) -> tuple[CopySearch, dict[int, FrameFaces]]:
        """Search the copy; return what was found, and what is to be covered, by page."""
        found, to_cover = CopySearch(), dict[int, FrameFaces]()
        copy = open_image(path, limits=self._settings.images.limits())
        for page, (frame, known) in enumerate(zip(copy.frames(), self._known, strict=True)):
            result, more = cast("CopySearcher", self._searcher).search_image(frame.visible(), known)
            found.faces += [replace(face, pts_seconds=float(page)) for face in result.faces]
            to_cover |= {page: more} if len(more) else {}
        return found, to_cover

    def cover(self, to_cover: dict[int, FrameFaces]) -> None:
        """Cover more faces in the next round."""
        for page, more in to_cover.items():
            covered = self._known[page].covered.joined(more)
            self._known[page] = self._known[page]._replace(covered=covered)
            self._covered[page] = covered._detections(self._covered[page].image_size)
            self.later[page] = self.later.get(page, NO_FACES).joined(more)

    def _drawn(self) -> Iterator[ImageFrame]:
        again = zip(self._image.file.frames(), self._covered, strict=True) if self._covered else None
        for frame, covered in again or self._first_covered():
            if frame.alpha is not None and not image_format(self.target.suffix).alpha:
                self.changes.add(f"transparent areas are white, since {self.target.suffix} files have no transparency")
            with measured("draw"):
                copy = frame.drawn_on(self._job.draw(frame.visible(), covered))
            yield copy

    def _first_covered(self) -> Iterator[tuple[ImageFrame, Detections]]:
        selection = self._settings.selection
        covers = np.array([cover.boxes[0] for cover in selection.still_covers]).reshape(-1, 4)
        for page, (frame, every) in enumerate(self._pages, 1):
            is_dropped = np.zeros(len(every), bool)
            if not selection.keep_doubtful:
                is_dropped = self._finder.dropped(self._image.source, frame.visible(), page, every)
                if every.track_ids is not None:
                    is_dropped &= ~np.isin(every.track_ids, list(selection.only_tracks))
            if is_dropped.any():
                rows = np.flatnonzero(is_dropped).tolist()
                if self._settings.files.save_detections is not None:
                    self._job.dropped[self._image.source.name, page] = rows
                self.doubtful += len(rows)
            faces = every if not is_dropped.any() else every[~is_dropped]
            covered = selection.select(faces)
            still_open = [at for at in np.flatnonzero(is_dropped).tolist() if not _is_inside(every.boxes[at], covers)]
            for some, is_covered in ((every[still_open], False), (covered[covered.scores < LOW_SCORE], True)):
                self.faces_to_review += [ImageFace(page, one.box, one.score, is_covered) for one in some]
            self._covered.append(covered)
            known = FrameFaces.of(every)
            self._known.append(Known(known[~is_dropped], known[is_dropped], FrameFaces.of(covered)))
            dropped = 0 if faces.track_ids is None else int(np.isin(faces.track_ids, list(selection.drop_tracks)).sum())
            self.dropped += dropped
            self.left_out += len(faces) - dropped - len(covered) + len(selection.still_covers)
            yield frame, covered


def _is_inside(box: NDArray[np.floating[Any]], covers: NDArray[np.float64]) -> bool:
    """Whether a place that a person covers has a box, which the report names in whole pixels."""
    return bool(((covers[:, :2] <= box[:2] + 1) & (covers[:, 2:] >= box[2:] - 1)).all(1).any())
