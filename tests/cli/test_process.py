"""Behaviour that requires a separate process: signals, pipes, imports."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from scrfd_trt import samples

pytestmark = pytest.mark.slow

Popen = Callable[..., "subprocess.Popen[str]"]

SPOTS = Path(__file__).with_name("spot_network.py")
posix_only = pytest.mark.skipif(os.name == "nt", reason="signals and pipes of POSIX")


def spots(seconds: float, *args: str) -> list[str]:
    """Return the command line with the fake model, which takes this many seconds an image."""
    return [sys.executable, str(SPOTS), str(seconds), *args]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    data = cv2.imencode(".png", np.full((60, 80, 3), 50, np.uint8))[1].tobytes()
    for number in range(20):
        (folder / f"{number:02}.png").write_bytes(data)
    return folder


def wait_for(condition: Path, least: int) -> None:
    until = time.monotonic() + 120
    while len(list(condition.glob("*.png"))) < least:
        assert time.monotonic() < until, "nothing was written"
        time.sleep(0.02)


@posix_only
@pytest.mark.usefixtures("known_overlays")
def test_ctrl_c_leaves_no_partial_file_and_no_traceback(popen: Popen, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    args = ("overlay", str(images), "--overlay", "landmarks", "-o", str(out))
    process = popen(spots(0.1, *args), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(out, 2)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert stdout == ""
    written = sorted(path.name for path in out.iterdir())
    assert stderr.startswith(f"error: stopped by Ctrl-C after writing {len(written)} of 20 images; unfinished files")
    assert 2 <= len(written) < 20
    for name in written:
        assert cv2.imread(str(out / name)) is not None


@posix_only
@pytest.mark.parametrize(
    ("name", "number"),
    [("faces.csv", signal.SIGINT), ("faces.jsonl", signal.SIGTERM), ("faces.json", signal.SIGHUP)],
)
def test_results_so_far_stay_after_a_signal(
    popen: Popen, images: Path, tmp_path: Path, name: str, number: signal.Signals
) -> None:
    image = np.full((60, 80, 3), 50, np.uint8)
    image[20:40, 20:40] = 255
    for path in images.iterdir():
        path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    stale, part = tmp_path / f"{name}.part", tmp_path / f"{name}.2.part"
    stale.write_text("of another run")
    process = popen(spots(0.15, "detect", "in", "-o", name), stderr=subprocess.PIPE, cwd=tmp_path)
    until = time.monotonic() + 120
    while not (part.exists() and (name == "faces.json" or part.read_text().count("\n") > 2)):
        assert time.monotonic() < until
        time.sleep(0.02)
    time.sleep(1.0 if name == "faces.json" else 0.0)  # it is written at the end
    process.send_signal(number)
    err = process.communicate(timeout=120)[1]
    assert process.returncode == 128 + number
    stopped = re.fullmatch(
        rf"error: stopped by \S+ after (\d+) of 20 images; the results so far are in {part.name}\n", err
    )
    assert stopped, err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faces" + part.name[5:], stale.name, "in"]
    assert stale.read_text() == "of another run"
    text = part.read_text()
    if name == "faces.json":
        assert 1 <= len(json.loads(text)["images"]) <= int(stopped[1])
    else:
        assert text.endswith("\n")
        assert text.count("\n") in {int(stopped[1]), int(stopped[1]) + 1}


@posix_only
def test_nothing_stays_if_a_signal_comes_before_the_first_result(popen: Popen, images: Path, tmp_path: Path) -> None:
    process = popen(spots(3, "detect", "in", "-o", "faces.jsonl"), stderr=subprocess.PIPE, cwd=tmp_path)
    until = time.monotonic() + 120
    while not (tmp_path / "faces.jsonl.part").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert "unfinished files were deleted" in process.communicate(timeout=120)[1]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@posix_only
def test_json_lines_are_written_image_by_image(images: Path) -> None:
    process = subprocess.Popen(spots(0.1, "detect", str(images), "-f", "jsonl"), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert json.loads(process.stdout.readline())["image"].endswith("00.png")
        assert process.poll() is None
        process.kill()
    process.wait(timeout=120)


@posix_only
def test_progress_bar_leaves_results_intact(images: Path) -> None:
    terminal, end = os.openpty()
    ran = subprocess.run(
        spots(0, "detect", str(images), "none.jpg", "-f", "jsonl"),
        stdout=subprocess.PIPE,
        stderr=end,
        text=True,
        check=False,
    )
    os.close(end)
    shown = read_all(terminal)
    assert ran.returncode == 1
    assert len([json.loads(line) for line in ran.stdout.splitlines()]) == 21
    assert "detecting" in shown
    assert "21/21" in shown
    assert "none.jpg: there is no such file" in shown


@posix_only
def test_colours_on_terminals_only(images: Path) -> None:
    terminal, end = os.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"}
    command = spots(0, "detect", str(images / "00.png"))
    subprocess.run(command, stdout=end, env=environment, check=True)
    os.close(end)
    assert "\x1b[1m" in read_all(terminal)
    piped = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert b"\x1b" not in piped.stdout


def read_all(terminal: int) -> str:
    """Return what was written to a terminal whose other end is closed, which Linux reports as an error."""
    found = b""
    with contextlib.suppress(OSError):
        while part := os.read(terminal, 65536):
            found += part
    os.close(terminal)
    return found.decode()


@posix_only
def test_closed_pipe_is_no_error(images: Path) -> None:
    process = subprocess.Popen(
        spots(0, "detect", str(images), "-f", "jsonl"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait(timeout=120) == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, which is a full disk")
def test_full_disk_gives_one_line(images: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            spots(0, "detect", str(images), "-f", "jsonl"), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: cannot write to standard output: No space left on device")
    assert ran.stderr.count("\n") == 1


def test_unencodable_name_is_escaped(images: Path) -> None:
    odd = images / "größe 日本.png"
    (images / "00.png").rename(odd)
    ran = subprocess.run(
        spots(0, "detect", str(odd), "-f", "csv"),
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, b"")


def test_help_imports_no_extras() -> None:
    program = (
        "import sys; from scrfd_trt._cli.application import app\n"
        "try: app(['--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "extras = {'onnxruntime', 'pooch', 'requests', 'supervision', 'onnx', 'tensorrt', 'tensorrt_rtx', 'cuda'}\n"
        "print(sorted(extras & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_python_m_runs_the_command_line(network_500m: Path, tmp_path: Path) -> None:
    image = tmp_path / "face.png"
    image.write_bytes(cv2.imencode(".png", samples.load("portrait").image)[1].tobytes())
    ran = subprocess.run(
        [sys.executable, "-m", "scrfd_trt", "detect", str(image), "-f", "jsonl"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(json.loads(ran.stdout)["faces"]) == 1


def test_model_that_is_not_scrfd(network_500m: Path, tmp_path: Path) -> None:
    other = network_500m.with_name("w600k_mbf.onnx")
    if not other.is_file():
        pytest.skip(f"no {other.name} beside the 500M network")
    image = tmp_path / "x.png"
    image.write_bytes(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    ran = subprocess.run(
        [sys.executable, "-m", "scrfd_trt", "detect", str(image), "--model", str(other)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: ")
    assert "this is not a SCRFD model" in ran.stderr
    assert ran.stderr.count("\n") == 1
