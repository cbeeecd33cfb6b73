"""Settle which file each copy becomes, before anything is done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from scrfd_trt.cli import files, kinds, writing
from scrfd_trt.errors import OptionError
from scrfd_trt.video.writing import SUFFIXES, check_suffix

BESIDE = "_anonymized"


def settle(
    inputs: list[str], sources: list[files.Source], output: Path, *, overwrite: bool
) -> dict[files.Source, Path]:
    """Settle what each copy is called: ``output`` itself for one input that was named, else a file below it.

    Parameters
    ----------
    inputs, sources
        As named, and what was found.
    output
        A file or a folder.
    overwrite
        Whether files may be replaced.

    Returns
    -------
    dict
        Without the sources that there is nothing to read of.

    Raises
    ------
    OptionError
        If that cannot be.
    """
    single = len(inputs) == len(sources) == 1 and not files.is_folder(Path(inputs[0]).expanduser())
    if single and not files.is_folder(output) and output.suffix:
        _check_one(sources[0], output, overwrite=overwrite)
        return dict.fromkeys(sources, output)
    if output.suffix.lower() in kinds.SUFFIXES + kinds.VIDEO_SUFFIXES and not files.is_folder(output):
        raise OptionError(f"{output} is the name of a file, but a folder or several files come in; name a folder")
    if files.is_plain_file(output):
        raise OptionError(f"{output} is a file, and there are several inputs; name a folder")
    writing.check_folder(output)
    named = {source: _written_as(source) for source in sources}
    settled = writing.targets(named.values(), output, overwrite=overwrite)
    for copy, target in settled.items():
        if copy.is_video:
            _check_not_itself(copy, target, "folder")
    return {source: settled[copy] for source, copy in named.items() if copy in settled}


def beside(inputs: list[str], sources: list[files.Source], *, overwrite: bool) -> dict[files.Source, Path]:
    """Name each copy after its input, beside it: ``clip_anonymized.mp4`` of ``clip.mp4``.

    Raises
    ------
    OptionError
        If a folder comes in, or a file is there already.
    """
    folder = next((text for text in inputs if files.is_folder(Path(text).expanduser())), None)
    if folder is not None:
        raise OptionError(f"{folder} is a folder; name another one for the copies with --output")
    found = {}
    taken = {files.same_file_key(source.path): source for source in sources}
    for source in sources:
        place = _written_as(source).below
        target = found[source] = source.path.with_name(f"{place.stem}{BESIDE}{place.suffix}")
        if source.problem:
            continue
        if other := taken.get(files.same_file_key(target)):
            raise OptionError(
                f"{target} is to be the copy of {source.path}, and comes in or is the copy of {other.path}; run them "
                "one by one, or name a folder with --output"
            )
        taken[files.same_file_key(target)] = source
        writing.check_target(target, overwrite=overwrite)
    return found


def _check_one(source: files.Source, output: Path, *, overwrite: bool) -> None:
    if source.is_video:
        check_suffix(output)
        _check_not_itself(source, output, "file")
    else:
        writing.check_kind(output)
    writing.check_free(output, overwrite=overwrite)


def _check_not_itself(source: files.Source, target: Path, what: str) -> None:
    """Refuse to write a video over itself: what was covered cannot be had back."""
    if files.same_file_key(target) == files.same_file_key(source.path):
        raise OptionError(f"{target} is the input; name another {what}")


def _written_as(source: files.Source) -> files.Source:
    """Give videos of containers that are only read a suffix that is written."""
    if not source.is_video or source.below.suffix.lower() in SUFFIXES:
        return source
    return replace(source, below=source.below.with_suffix(".mp4"))
