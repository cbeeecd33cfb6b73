"""Detections files of videos: checks before any work, and what they contain."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from scrfd_trt._cli import outputs
from scrfd_trt._cli.inputs import Source, same_file_key
from scrfd_trt._cli.options import CopySettings, DetectionsFileArgs
from scrfd_trt.errors import OptionError
from scrfd_trt.video import FacesReader, Summary, TrackingOptions, TrackSelection
from scrfd_trt.video._detections_file import FACES_SUFFIX


def check_inputs(settings: CopySettings, sources: Sequence[Source], targets: Mapping[Source, Path]) -> None:
    """Raise OptionError for detections files and tracks without a single video, conflicts, and missing tracks."""
    files, selection = settings.files, settings.selection
    if len(sources) != 1 or not sources[0].is_video:
        given = vars(files) | {"only_tracks": selection.only_tracks, "except_tracks": selection.except_tracks}
        name = next((name for name, value in given.items() if value), None)
        if name is not None:
            raise OptionError(f"--{name.replace('_', '-')} applies to a single video; process the inputs one by one")
    if sources:
        others = {"the input": sources[0].path, "the output": targets.get(sources[0])}
        check_files(files, others, overwrite=settings.overwrite)
    if files.detections and (selection.only_tracks or selection.except_tracks):
        message = missing_tracks(selection, summarize(files.detections).tracks)
        if message:
            raise OptionError(f"{files.detections}: {message}")


def check_files(files: DetectionsFileArgs, others: Mapping[str, Path | None], *, overwrite: bool) -> None:
    """Raise OptionError if the file to save exists, has another suffix, or is one of the command's other files.

    ``others`` maps names such as "the input" to paths.
    """
    target = files.save_detections
    if files.detections and target:
        raise OptionError("--detections and --save-detections exclude each other: the faces are already in a file")
    if target is None:
        return
    for name, other in others.items():
        if other is not None and same_file_key(other) == same_file_key(target):
            raise OptionError(f"--save-detections {target} is {name}; name another file, NAME{FACES_SUFFIX}")
    if target.suffix.lower() != ".jsonl":
        raise OptionError(
            f"--save-detections {target}: the format is JSON lines; name a file that ends in {FACES_SUFFIX}"
        )
    outputs.check_free(target, overwrite=overwrite)


def summarize(path: Path) -> Summary:
    """Read a detections file and return its summary; raise DetectionsError if it is invalid."""
    with FacesReader(path) as reader:
        threshold = TrackingOptions.model_validate(reader.header.tracking).threshold
        summary = Summary(reader.header.size, threshold)
        for frame in reader:
            summary.add(frame)
    return summary


def missing_tracks(selection: TrackSelection, known: Iterable[int]) -> str:
    """Return a message on selected tracks that do not exist, or an empty string."""
    existing = sorted(known)
    missing = sorted((selection.only_tracks | selection.except_tracks).difference(existing))
    if not missing:
        return ""
    hint = f"the tracks are: {_ranges(existing)}" if existing else "the video has no tracks"
    return f"there is no track {', '.join(map(str, missing))}; {hint}"


def _ranges(numbers: Sequence[int]) -> str:
    """Return ``1-3, 7`` for sorted numbers."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


@contextmanager
def path_or_temporary(path: Path | None) -> Iterator[Path]:
    """Yield the path, or without one the path of a file that is deleted at the end of the block."""
    if path is not None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="scrfd-trt-") as folder:
        yield Path(folder, f"clip{FACES_SUFFIX}")
