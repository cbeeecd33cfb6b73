"""Cover the faces of videos, one after the other or several at the same time, each in a process of its own."""

from __future__ import annotations

import shutil
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scrfd_trt import _devices, _files
from scrfd_trt._cli import console, outputs, signals
from scrfd_trt._cli.detections_files import path_or_temporary
from scrfd_trt._cli.options import CopySettings
from scrfd_trt._cli.progress import show_progress
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._jobs.processes import Calls, LostProcessError, Report, serve, spawned, unblock_signals
from scrfd_trt._jobs.profile import add_measured, profiled
from scrfd_trt.errors import ScrfdError, VideoError
from scrfd_trt.video import FacesReader, Summary, open_source, render_video
from scrfd_trt.video._animation_reader import limited
from scrfd_trt.video._canvas import OverlayFunction
from scrfd_trt.video._copy_search import render_verified
from scrfd_trt.video._first_pass import frame_device
from scrfd_trt.video._selection import check_tracks
from scrfd_trt.video._two_pass import ProgressCallback, try_output
from scrfd_trt.video._writer import Watch

if TYPE_CHECKING:
    from scrfd_trt._studio.preview import Preview

CopyVideo = Callable[[Path, Path], Summary]  # takes the paths of a video and of its copy


def copy_here(
    draw: OverlayFunction, settings: CopySettings, detector: SCRFDDetector | None, preview: Preview | None = None
) -> CopyVideo:
    """Return a function that covers the faces of a video in this process."""

    def copy(path: Path, target: Path) -> Summary:
        with show_progress(path, settings.progress, quiet=settings.quiet, preview=preview) as report:
            watch = None if preview is None else preview.show
            return _copy(path, target, draw, settings, detector, report=report, watch=watch)

    return copy


@contextmanager
def copying_elsewhere(
    create: Callable[[], OverlayFunction],
    settings: CopySettings,
    opener: Callable[..., SCRFDDetector],
    device: str,
    jobs: int,
) -> Iterator[CopyVideo]:
    """Yield a function that covers the faces of a video in a process with a detector of its own, on GPUs in turns."""
    gpus = [f"cuda:{gpu.index}" for gpu in _devices.all_gpus()] if device == _devices.ALL else [device]
    workers = [_Worker(create, opener, settings, gpus[job % len(gpus)], _files.part_owner) for job in range(jobs)]
    with spawned([worker.run for worker in workers]) as calls:
        yield lambda path, target: _called(calls, path, target, settings)


def _called(calls: Calls, path: Path, target: Path, settings: CopySettings) -> Summary:
    with show_progress(path, settings.progress, quiet=settings.quiet) as progress:

        def report(news: Report) -> None:
            (progress if news.kind == "progress" else console.message)(*news.values)

        try:
            with calls.process() as process:
                assert process is not None  # noqa: S101 - they are replaced
                found, seconds = process.call(path, target, report=report)
        except LostProcessError as error:
            raise VideoError(
                f"the process that worked on it ended with {error}; is there enough memory for --jobs {settings.jobs}?",
                subject=str(path),
            ) from error
    add_measured(seconds)
    if isinstance(found, Summary):
        return found
    raise found


@dataclass(frozen=True)
class _Worker:
    """What a process needs, which is pickled."""

    create: Callable[[], OverlayFunction]
    opener: Callable[..., SCRFDDetector]
    settings: CopySettings
    device: str
    part_owner: str

    def run(self, connection: Connection) -> None:
        """Cover the faces of videos until the other process closes its end, or a signal comes."""
        warnings.simplefilter("ignore")
        signals.exit_at_once()
        signals.raise_from_now_on()
        lock = threading.Lock()
        opened: list[tuple[OverlayFunction, SCRFDDetector]] = []

        def send(kind: str, *values: Any) -> None:
            with lock:
                connection.send(Report(kind, values))

        def copy(path: Path, target: Path) -> tuple[Summary | Exception, dict[Any, float]]:
            with profiled() as profile, console.about(path):
                try:
                    if not opened:
                        with console.relayed(lambda *_: None):
                            opened.append((self.create(), self.opener(device=self.device)))
                    draw, detector = opened[0]
                    progress = partial(send, "progress")
                    found: Any = _copy(path, target, draw, self.settings, detector, report=progress)
                except (ScrfdError, MemoryError) as error:
                    found = error
            return found, dict(profile.seconds)

        try:
            unblock_signals()
            messages, limits = self.settings.messages, self.settings.images.limits()
            with (
                console.relayed(partial(send, "message")),
                console.logged(quiet=messages.quiet, verbose=messages.verbose),
                limited(limits),
                _files.parts_owned_by(self.part_owner),
            ):
                serve(connection, copy)
        except KeyboardInterrupt:
            pass  # the process that started this one says so
        finally:
            for _, detector in opened:
                detector.close()


def _copy(
    path: Path,
    target: Path,
    draw: OverlayFunction,
    settings: CopySettings,
    detector: SCRFDDetector | None,
    *,
    report: ProgressCallback,
    watch: Watch | None = None,
) -> Summary:
    """Cover the faces of a video; without a detector, they come from the detections file."""
    files = settings.files
    outputs.make_folder(target.parent)
    given = files.save_detections if settings.verify else files.detections or files.save_detections
    with path_or_temporary(given, target.parent) as detections:
        if detector is not None:
            try_output(path, target, settings.encode, overwrite=settings.overwrite, damaged=settings.damaged)
            with open_source(path, damaged=settings.damaged) as reader:
                info = reader.info
            detector = settings.looks.for_video(detector, info.size)
        if files.detections is not None and settings.verify:
            with FacesReader(files.detections) as file:
                file.check(info)  # errors name this file
            shutil.copyfile(files.detections, detections)  # faces are added to it
        elif detector is not None:
            found = settings.detect(path, detections, detector, report, settings.selection)
            check_tracks(settings.selection, {*found.tracks, *found.dropped}, path)
            if settings.selection.selected_tracks and not settings.quiet:
                text = "track numbers are those of this run; 'scrfd-trt tracks --save-detections FILE' keeps them"
                console.warning(f"{path}: {text} for --detections FILE")
        how: dict[str, Any] = {
            "selection": settings.selection,
            "encode": settings.encode,
            "overwrite": settings.overwrite,
            "damaged": settings.damaged,
            "keep_metadata": settings.keep_metadata,
            "keep_location": settings.keep_location,
            "progress": report,
            "watch": watch,
            "device": "cpu" if detector is None else frame_device(detector),
        }
        if settings.verify and detector is not None:
            return render_verified(path, target, detections, draw, detector, **how)
        return render_video(path, target, detections, draw, **how)
