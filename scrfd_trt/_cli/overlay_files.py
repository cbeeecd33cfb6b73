"""Cover the faces of images and videos and write the copies, for ``overlay`` and ``anonymize``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import typer

from scrfd_trt._cli import console, live, outputs, results
from scrfd_trt._cli.batch import Tally, process_videos
from scrfd_trt._cli.console import count
from scrfd_trt._cli.decoders import OpenedImage
from scrfd_trt._cli.detections_files import check_inputs
from scrfd_trt._cli.folders import LeftOut
from scrfd_trt._cli.image_faces import ImageFaces
from scrfd_trt._cli.images import FaceFinder, FileFinder, ImageResult, ModelFinder, detect_images, run_size
from scrfd_trt._cli.inputs import Source
from scrfd_trt._cli.jobs import Job
from scrfd_trt._cli.looks import OWN_LOOKS, Looks
from scrfd_trt._cli.option_rules import (
    COVERED,
    DETECTING,
    ENCODED,
    LIVE,
    LOSSY,
    OPENED,
    REPLACEWITH,
    TRACKS,
    WEB,
    check_options,
)
from scrfd_trt._cli.options import CopyArgs, CopySettings
from scrfd_trt._cli.report_page import Finished, check_page, write_page
from scrfd_trt._cli.video_copies import CopyVideo, copy_here, copying_elsewhere
from scrfd_trt._cli.video_report import (
    SearchedCopy,
    as_dict,
    headline,
    print_searches,
    print_written,
    report_lines,
    stream_lines,
)
from scrfd_trt._detections import Detections
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._image_files import ImageFrame, open_image
from scrfd_trt._image_files.write import image_format, storable
from scrfd_trt._jobs.profile import measured
from scrfd_trt.video import Summary
from scrfd_trt.video._animation_reader import limited
from scrfd_trt.video._canvas import OverlayFunction
from scrfd_trt.video._open_faces import CopySearch, CopySearcher, verified
from scrfd_trt.video._selection import join_faces


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
    facts = {TRACKS if settings.files.detections else DETECTING} | ({OPENED} if verify else set())
    if context.params.get("overlay") or context.params.get("replacewith") != "none":
        facts.add(COVERED)
    facts |= (
        set() if context.params.get("overlay") else {REPLACEWITH, f"replacewith={context.params.get('replacewith')}"}
    )
    if inputs and any(live.is_address(text) for text in inputs):
        target = live.check(inputs, output, settings)
        check_options(context, facts | {LIVE} | ({WEB} if live.is_web_address(inputs[0]) else set()))
        draw = create()
        with opener() as detector:
            live.write(inputs[0], target, detector, draw, settings)
        return
    left_out = LeftOut()
    context.with_resource(limited(settings.images.limits()))
    job = Job(context, args.job, folder=output)
    if job.shard is not None and settings.files.save_detections is not None:
        saved = job.shard.named(settings.files.save_detections)
        settings = replace(settings, files=replace(settings.files, save_detections=saved))
    sources = job.find(inputs, recursive=args.recursive, skip=output, left_out=left_out)
    facts |= job.facts(inputs, sources)
    check_options(context, facts | {LOSSY, ENCODED})
    draw = create()
    targets = outputs.plan_outputs(inputs or (), sources, output, overwrite=args.overwrite)
    left = job.left(sources)
    written = {source: path for source, path in targets.items() if not source.is_done}
    facts |= {LOSSY} if outputs.any_lossy(written) else set()
    check_options(context, facts | ({ENCODED} if job.skipped or outputs.any_encoded(written) else set()))
    if settings.report is not None:
        others = [*targets.values(), *(source.path for source in sources)]
        check_page(settings.report, others, overwrite=settings.overwrite)
    faces = check_inputs(settings, left, targets)
    if args.job.dry_run:
        job.print_plan(sources, left_out, strict=strict)
        return
    tally = Tally(alone=len(sources) == 1, skipped=job.skipped)
    run = run_size(settings.images.batch, left)
    copies = _CopyJob(draw, settings, targets, args.quality, detailed=strict, tally=tally)
    several = partial(copying_elsewhere, create, settings, partial(opener, max_batch=run))
    with tally.reported(left_out, strict=strict, quiet=settings.quiet), job.recording():
        if left:
            with opener(max_batch=run) if verify or not settings.files.detections else nullcontext() as detector:
                copies.run(left, output, detector, faces, several)
            if settings.report is not None:
                write_page(settings.report, copies.finished, context, settings.damaged)
                if not settings.quiet:
                    console.plain(f"wrote {settings.report}: pictures of doubtful moments, with uncovered faces")
        elif not sources and settings.files.save_detections is not None:
            with results.open_writer(
                "jsonl", settings.files.save_detections, threshold=threshold, overwrite=settings.overwrite
            ):
                pass


@dataclass(frozen=True)
class _CopyJob:
    draw: OverlayFunction
    settings: CopySettings
    targets: dict[Source, Path]
    """Sources that cannot be read may be missing."""
    quality: int
    detailed: bool
    tally: Tally
    found_later: dict[tuple[Path, int], list[Detections]] = field(default_factory=dict)
    """Faces that were found in copies of images, by path and page."""
    searched: list[SearchedCopy] = field(default_factory=list)
    finished: list[Finished] = field(default_factory=list)
    """Videos for the page."""

    def run(
        self,
        sources: Sequence[Source],
        output: Path | None,
        detector: SCRFDDetector | None,
        faces: ImageFaces | None,
        several: Callable[[str, int], AbstractContextManager[CopyVideo]],
    ) -> None:
        """Process the images, then the videos; without a detector, the faces of images are those of a file.

        ``several`` starts processes, by the detector's device and their number.
        """
        images = [source for source in sources if not source.is_video]
        videos = [source for source in sources if source.is_video]
        searcher = None
        if images and detector is not None:
            images_detector = self.settings.looks.for_images(detector)
        if images and detector is not None and self.settings.verify:
            searcher = CopySearcher(images_detector, self.draw, self.settings.selection)
        if images and faces is not None:
            self._process_images(images, FileFinder(faces), searcher)
        elif images and detector is not None:
            self._process_images(images, ModelFinder.of(images_detector, self.settings.images.batch), searcher)
        self._report_images(images, output)
        jobs = min(self.settings.jobs, len(videos))
        with ExitStack() as stack:
            if jobs > 1 and detector is not None:
                detector.close()  # each process has its own
                copy = stack.enter_context(several(detector.device, jobs))
            else:
                copy = copy_here(self.draw, self.settings, detector)
            process = partial(self._copy_video, copy)
            for source, summary in process_videos(videos, self.tally, process, jobs):
                self._report_video(self.targets[source], summary)
                if self.settings.report is not None:
                    self.finished.append(Finished(source.path, self.targets[source], summary))

    def _copy_video(self, copy: CopyVideo, source: Source) -> Summary:
        return copy(source.path, self.targets[source])

    def _process_images(self, images: Sequence[Source], finder: FaceFinder, searcher: CopySearcher | None) -> None:
        settings, saved = self.settings, self.settings.files.save_detections
        reading, bar = settings.images.parse(settings.damaged), not settings.quiet
        with ExitStack() as stack:
            writer = None
            if saved is not None:
                threshold, overwrite = settings.tracking.threshold, settings.overwrite
                writer = stack.enter_context(
                    results.open_writer("jsonl", saved, threshold=threshold, overwrite=overwrite)
                )
            save = partial(self._save_image, searcher)
            outcomes = stack.enter_context(detect_images(images, finder, self.tally, reading, use=save, bar=bar))
            for source, outcome in outcomes:
                if writer is not None:
                    if isinstance(outcome, ImageResult):
                        more = self.found_later.pop((source.path, outcome.page or 1), [])
                        faces = join_faces([settings.selection.with_covers(outcome.faces), *more])
                        outcome = replace(outcome, faces=faces)  # noqa: PLW2901
                    writer.add_outcome(source.path, outcome)

    def _report_images(self, images: Sequence[Source], output: Path | None) -> None:
        """Print where the images are, and how many faces they have."""
        tally = self.tally
        if not tally.images or self.settings.quiet:
            self._report_searches(self.searched, is_video=False)
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
        first = next(self.targets[source] for source in images if source.path not in failed)
        target = first if tally.images == 1 else output or "copies beside the inputs"
        tally.warn_spherical()
        if tally.left_out and tally.left_out == tally.faces and not by_hand:
            console.warning(f"{target}: no face is covered; the selection leaves out every face")
        from_file = self.settings.files.detections is not None
        print_written(target, text, self.draw, total + by_hand, from_file=from_file)
        for line in tally.change_lines():
            console.plain(line)
        self._report_searches(self.searched, is_video=False)

    def _save_image(
        self, searcher: CopySearcher | None, image: OpenedImage, pages: Iterator[tuple[ImageFrame, Detections]]
    ) -> Callable[[], None]:
        source, settings = image.source, self.settings
        target, changes, by_hand = self.targets[source], set[str](), len(settings.selection.still_covers)
        known: list[tuple[Detections, Detections]] = []  # all faces of each page, and what is covered
        searches: Sequence[CopySearch] = ()

        def covers() -> Iterator[tuple[ImageFrame, Detections]]:
            if known:  # in further rounds
                yield from zip(image.file.frames(), (covered for _, covered in known), strict=True)
            for frame, faces in pages:
                known.append((faces, settings.selection.select(faces)))
                yield frame, known[-1][1]

        def drawn() -> Iterator[ImageFrame]:
            for frame, covered in covers():
                if frame.alpha is not None and not image_format(target.suffix).alpha:
                    changes.add(f"transparent areas are white, since {target.suffix} files have no transparency")
                with measured("draw"):
                    copy = frame.drawn_on(self.draw(frame.visible(), covered))
                yield copy

        kept = image.metadata.kept(descriptive=settings.keep_metadata, location=settings.keep_location)
        kept = storable(kept, target.suffix)

        def save(inspect: Callable[[Path], None] | None) -> None:
            how: dict[str, Any] = {"quality": self.quality, "copy_of": image.file, "metadata": kept}
            outputs.save_image(drawn(), target, overwrite=settings.overwrite, inspect=inspect, **how)

        def search(path: Path) -> tuple[CopySearch, dict[int, Detections]]:
            found, to_cover = CopySearch(), dict[int, Detections]()
            copy = open_image(path, limits=settings.images.limits())
            for page, (frame, (faces, covered)) in enumerate(zip(copy.frames(), known, strict=True)):
                result, more = cast("CopySearcher", searcher).search_image(frame.visible(), faces, covered)
                found.faces += result.faces
                to_cover |= {page: more} if len(more) else {}
            return found, to_cover

        def cover(more: dict[int, Detections]) -> None:
            for page, faces in more.items():
                known[page] = known[page][0], join_faces([known[page][1], faces])
                self.found_later.setdefault((source.path, page + 1), []).append(faces)

        if searcher is None:
            save(None)
        else:
            searches = verified(target, save, search, cover)
        left_out = sum(len(faces) - len(settings.selection.select(faces)) + by_hand for faces, _ in known)
        removed, notes = image.metadata.removed(kept), [*image.file.notes, *changes]

        def note() -> None:
            self.tally.left_out += left_out
            if searches:
                self.searched.append((target, searches))
            self.tally.add_changes(source.path, removed, notes)

        return note

    def _report_video(self, target: Path, summary: Summary) -> None:
        if self.settings.progress == "jsonl":
            console.stderr_line(json.dumps({"progress": "done", "output": str(target), **as_dict(summary)}))
        elif not self.settings.quiet:
            if summary.left_out and not summary.faces and summary.selected:
                console.warning(f"{target}: no face is covered; the selection leaves out every track")
            found = summary.faces or len(summary.left_out) or not summary.selected
            from_file = self.settings.files.detections is not None
            print_written(target, headline(summary), self.draw, found, from_file=from_file)
            for line in (*stream_lines(summary), *(report_lines(summary) if self.detailed else ())):
                console.stderr_line(line)
        self._report_searches([(target, summary.searches)] if summary.searches else [], is_video=True)

    def _report_searches(self, results: Sequence[SearchedCopy], *, is_video: bool) -> None:
        """Print what the searches of copies found, and count the faces that are left."""
        self.tally.uncovered += sum(len(searches[-1].of_kind("uncovered")) for _, searches in results)
        quiet = self.settings.quiet or (is_video and self.settings.progress == "jsonl")
        print_searches(results, self.draw, is_video=is_video, quiet=quiet)
