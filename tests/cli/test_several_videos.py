"""Videos that are processed at the same time, each in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from scrfd_trt import _devices
from scrfd_trt._cli import video_copies

from .conftest import PROGRAM, files_below

pytestmark = pytest.mark.slow
Film = Callable[..., Path]
COMMAND = ("overlay", "in", "--overlay", "blur", "-o", "out", "--jobs", "2", "--preset", "ultrafast", "--codec", "h264")


def start(seconds: float, *args: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROGRAM), str(seconds), *COMMAND, *args]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=os.name != "nt")


@pytest.fixture
def films(film: Film) -> list[Path]:
    Path("in").mkdir()
    return [film(f"in/{name}.mp4", frames=frames) for name, frames in (("a", 8), ("b", 2), ("c", 2))]


@pytest.mark.usefixtures("spots")
def test_results_are_those_of_one_after_the_other(run: Callable[..., Any], films: list[Path]) -> None:
    data = bytearray(films[1].read_bytes())
    data[data.index(b"mdat") + 800 : data.index(b"mdat") + 900] = bytes(100)
    films[1].write_bytes(data)
    Path("in/bad.mp4").write_bytes(b"\0\0\0\x18ftypisom")
    outcomes = []
    for jobs in (1, 2):
        if jobs == 1:
            code, _, err = run(*COMMAND, "--jobs", "1", "--profile")
        else:
            with start(0, "--profile", "--overwrite") as process:
                _, err = process.communicate(timeout=120)
            code = process.returncode
        copies = {path: path.read_bytes() for path in sorted(Path("out").iterdir())}
        outcomes.append((code, re.sub(r"\d+\.\d\d +\d+%|the run .*", "", err), copies))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] == 1
    assert re.findall(r"^wrote out/(.)", outcomes[0][1], re.MULTILINE) == ["a", "c"]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_processes_end_without_unfinished_files(film: Film, tmp_path: Path, number: signal.Signals) -> None:
    Path("in").mkdir()
    for name in "abc":
        film(f"in/{name}.mp4", frames=6)
    before = files_below(tmp_path)
    with start(1, "--progress", "jsonl") as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert '"progress": "finding"' in line, line
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        err = process.stderr.read()  # ends when all processes have ended
    assert process.returncode in {-number, 128 + number}
    stop = r"error: stopped by Ctrl-C after \d of 3 videos; unfinished files were deleted"
    (line,) = [line for line in err.splitlines() if not line.startswith(("{", "wrote "))] or [""]
    assert re.fullmatch("" if number == signal.SIGKILL else stop, line), err
    finished = [f"out/{name}.mp4" for name in "abc"]  # before they notice
    assert [path for path in files_below(tmp_path) if path not in finished] == before


def test_processes_use_all_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = tuple(_devices.Gpu(index, "", (9, 0)) for index in range(2))
    monkeypatch.setattr(_devices, "driver", lambda: _devices.Driver(None, gpus))
    found: list[str] = []

    def spawned(targets: list[Any]) -> AbstractContextManager[None]:
        found.extend(target.__self__.device for target in targets)
        return nullcontext()

    monkeypatch.setattr(video_copies, "spawned", spawned)
    for device in ("cuda:all", "cuda:1", "cpu"):
        with video_copies.copying_elsewhere(*[lambda: None] * 3, device, 3):  # type: ignore[call-arg]
            pass
    assert found == ["cuda:0", "cuda:1", "cuda:0", *["cuda:1"] * 3, *["cpu"] * 3]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes in /proc")
def test_lost_process_costs_its_video_only(film: Film) -> None:
    Path("in").mkdir()
    for name in "abc":
        film(f"in/{name}.mp4", frames=6)
    with start(0.2, "--progress", "jsonl") as process:
        assert process.stderr is not None
        assert '"progress": "finding"' in process.stderr.readline()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
        os.kill(int(children[1]), signal.SIGKILL)  # the first is multiprocessing's own
        err = process.stderr.read()
    assert process.returncode == 1
    assert "1 of 3 inputs failed, the others succeeded:" in err
    assert "the process that worked on it ended with SIGKILL; is there enough memory for --jobs 2?" in err
    failed = re.findall(r"in/(\w)\.mp4: the process that worked on it", err)
    assert len(set(failed)) == 1
    written = {path.stem for path in Path("out").glob("?.mp4")}
    assert written | set(failed) == set("abc")  # its own may have been finished already
