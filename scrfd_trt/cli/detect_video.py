"""What ``scrfd-trt detect`` does with videos: follow the faces, and write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from scrfd_trt.cli import faces_files, messages, results, stdout
from scrfd_trt.cli.inputs import Source
from scrfd_trt.cli.video_bar import told
from scrfd_trt.cli.video_options import ClipSettings, ProgressKind
from scrfd_trt.cli.video_report import headline, tracks_table
from scrfd_trt.cli.work import OF_ONE_INPUT, Tally
from scrfd_trt.detector import SCRFDDetector
from scrfd_trt.errors import OptionError
from scrfd_trt.video import Summary, detect_video
from scrfd_trt.video.faces_file import SUFFIX


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
        raise OptionError(f"--format {kind} is for images; for videos take table or jsonl, or a file FILE{SUFFIX}")
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
            with faces_files.place(output if kind == "jsonl" else None) as place:
                with messages.about(source.path), told(source.path, progress, quiet=quiet) as progressed:
                    summary = detect_video(
                        source.path,
                        place,
                        detector,
                        follow=settings.follow,
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
            messages.plain(f"{'wrote ' if output else ''}{output or source.path}: {headline(summary)}")


def _show(path: Path, place: Path, summary: Summary, kind: results.Format, output: Path | None) -> None:
    if kind == "jsonl":
        if output is None:
            with place.open(encoding="utf-8") as lines:
                for line in lines:
                    stdout.write(line)
        return
    width, height = summary.size
    heading = Text.assemble((messages.printable(path), "bold"), f"  {width}×{height}, {headline(summary)}")
    text = stdout.render(heading, plain=output is not None, wrap=False)
    if summary.tracks:
        text += stdout.render(tracks_table(summary), plain=output is not None) + "\n"
    if output is None:
        stdout.write(text)
    else:
        output.write_text(text, encoding="utf-8")
