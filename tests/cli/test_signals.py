"""Video commands that are stopped in either pass: remaining files and messages."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from scrfd_trt._cli import console, exits
from scrfd_trt._cli.progress import show_progress

pytest.importorskip("av")
pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="signals of POSIX"),
    pytest.mark.usefixtures("known_overlays"),
    pytest.mark.slow,
]

WAIT = 120  # seconds, for a machine that does other work, too
SPOTS = Path(__file__).with_name("spot_network.py")
Film = Callable[..., Path]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, popen: Start) -> Start:
    """Return a function that starts the command line in the current folder, with the temporary folder ``tmp``."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))

    def start(*args: str, seconds: float = 0.0, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        command = [*before, sys.executable, str(SPOTS), str(seconds), *args]
        return popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    return start


def wait_for(pattern: str) -> None:
    until = time.monotonic() + WAIT
    while not list(Path().glob(pattern)):
        assert time.monotonic() < until, f"there is no {pattern}"
        time.sleep(0.01)


def stop_in(stage: str, process: subprocess.Popen[str], *numbers: signal.Signals) -> str:
    """Send signals during a pass; return the last line of stderr."""
    assert process.stderr is not None
    while f'"{stage}"' not in (line := process.stderr.readline()):
        assert line, f"it ended before {stage}"
    for number in numbers:
        process.send_signal(number)
    _, err = process.communicate(timeout=WAIT)
    assert process.returncode in {128 + number for number in numbers}
    assert "Traceback" not in err
    return err.splitlines()[-1]


def left() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*"))


@pytest.mark.parametrize(
    ("number", "by"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "SIGHUP")]
)
def test_stop_while_detecting(film: Film, start: Start, number: signal.Signals, by: str) -> None:
    film(frames=60)
    process = start("anonymize", "clip.mp4", "-o", "out.mp4", "--progress", "jsonl", seconds=0.2)
    err = stop_in("finding", process, number)
    assert re.fullmatch(
        rf"error: clip\.mp4: stopped by {by} while finding faces, at frame \d+ of 60; "
        r"unfinished files were deleted",
        err,
    )
    assert left() == ["clip.mp4", "tmp"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_while_drawing(film: Film, start: Start, number: signal.Signals) -> None:
    film(frames=600)
    args = ("anonymize", "clip.mp4", "-o", "out.mp4", "--preset", "placebo", "--crf", "1", "--progress", "jsonl")
    err = stop_in("drawing", start(*args), number)
    assert re.search(r": stopped by \S+ while drawing, at frame \d+ of 600; ", err)
    assert left() == ["clip.mp4", "tmp"]


def test_several_signals_stop_once(film: Film, start: Start) -> None:
    film(frames=60)
    process = start("tracks", "clip.mp4", "--progress", "jsonl", seconds=0.2)
    err = stop_in("finding", process, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP)
    assert err.startswith("error: clip.mp4: stopped by SIG")
    assert left() == ["clip.mp4", "tmp"]


def test_nohup_ignores_sighup(film: Film, start: Start) -> None:
    film(frames=20)
    process = start("anonymize", "clip.mp4", "-o", "out.mp4", seconds=0.05, before=("nohup",))
    wait_for("tmp/scrfd-trt-*/.*.part")
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=WAIT)
    assert process.returncode == 0
    assert left() == ["clip.mp4", "out.mp4", "tmp"]


@pytest.mark.parametrize("args", [("tracks", "clip.mp4", "--json"), ("detect", "clip.mp4"), ("tracks", "clip.mp4")])
def test_closed_stdout_gives_error(film: Film, start: Start, args: tuple[str, ...]) -> None:
    film()
    process = start(*args, before=("sh", "-c", 'exec "$@" >&-', "sh"))
    _, err = process.communicate(timeout=WAIT)
    assert process.returncode == 1
    assert err.startswith("error: "), err
    assert "standard output is closed, and results go there" in err
    assert err.count("\n") == 1


def test_files_are_written_with_closed_stdout_and_stderr(film: Film, start: Start) -> None:
    film()
    process = start("anonymize", "clip.mp4", "-o", "out.mp4", before=("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"))
    assert process.wait(timeout=WAIT) == 0
    process.communicate()
    assert left() == ["clip.mp4", "out.mp4", "tmp"]


class Gone(io.StringIO):
    """A closed terminal."""

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("kind", ["bar", "jsonl"])
def test_closed_terminal_does_not_stop_video(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "STDERR", Console(file=Gone(), force_terminal=True))
    done = []
    with show_progress(Path("clip.mp4"), kind, quiet=False) as progressed:
        for number in range(3):
            progressed("drawing", number, 3)
            done.append(number)
    assert done == [0, 1, 2]


def test_progress_names_the_address_of_a_stream(capsys: pytest.CaptureFixture[str]) -> None:
    address = "rtsp://camera.local/stream"
    stop = KeyboardInterrupt()
    with suppress(KeyboardInterrupt), show_progress(address, "jsonl", quiet=False) as progressed:
        progressed("drawing", 1, None)
        raise stop
    assert json.loads(capsys.readouterr().err)["input"] == address
    assert exits.stop_text(stop).startswith(f"{address}: stopped by Ctrl-C")
