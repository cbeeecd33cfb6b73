"""Signals while packages load, output that cannot be written, and a lack of memory: one line and the right code."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from scrfd_trt._cli import console, exits, signals
from scrfd_trt._cli.commands import models

Run = Callable[..., Any]
posix_only = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

STOP_IN_IMPORT = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
name, number, swallow = sys.argv.pop(1), int(sys.argv.pop(1)), sys.argv.pop(1) == "True"

class Stop:
    def find_spec(self, found, *rest):
        if found == name:
            try:
                os.kill(os.getpid(), number)
                time.sleep(5)
            except KeyboardInterrupt:
                if not swallow:
                    raise
            if swallow:
                raise ImportError("initialization failed")

sys.meta_path.insert(0, Stop())
from scrfd_trt._cli import main
main()
"""


def stop_in_import(module: str, number: signal.Signals, *args: str, swallow: bool = False) -> tuple[int, str, str]:
    command = [sys.executable, "-c", STOP_IN_IMPORT, module, str(int(number)), str(swallow), *args]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return ran.returncode, ran.stdout, ran.stderr


@posix_only
@pytest.mark.parametrize(
    ("module", "number", "cause"),
    [("typer", signal.SIGINT, "Ctrl-C"), ("cv2", signal.SIGTERM, "SIGTERM"), ("pydantic", signal.SIGHUP, "SIGHUP")],
)
def test_signal_while_packages_load(module: str, number: signal.Signals, cause: str) -> None:
    assert stop_in_import(module, number, "detect", "x.png") == (128 + number, "", f"error: stopped by {cause}\n")


@posix_only
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_that_looks_like_a_missing_package(network_500m: Path, tmp_path: Path, number: signal.Signals) -> None:
    image = tmp_path / "x.png"
    image.write_bytes(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    args = ("detect", str(image), "--model", str(network_500m), "--device", "cpu")
    code, out, err = stop_in_import("onnxruntime", number, *args, swallow=True)
    assert (code, out) == (128 + number, "")
    assert err == f"error: stopped by {signals.name(number)}; unfinished files were deleted\n"


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the handlers of the command line for one test."""
    monkeypatch.setattr(signals, "_received", None)
    monkeypatch.setattr(signals, "_raised_at", -signals.REPEAT_SECONDS)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in signals.SIGNALS}
    signals.exit_at_once()
    signals.raise_from_now_on()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Finalized:
    """Sends a signal while it is deleted, where Python swallows exceptions."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            time.sleep(0)


@posix_only
@pytest.mark.usefixtures("handlers")
def test_signal_in_a_finalizer_is_raised_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", signals._raise_again)  # pytest 8.2 has an own hook
    with pytest.raises(signals.StoppedError) as caught:  # noqa: PT012 - the signal comes in one of these lines
        Finalized()
        for _ in range(1000):
            time.sleep(0.001)
    assert caught.value.number == signal.SIGINT == signals.received()
    assert capsys.readouterr().err == ""


@posix_only
@pytest.mark.usefixtures("handlers")
def test_repeated_signals_do_not_interrupt_the_cleanup() -> None:
    with pytest.raises(signals.StoppedError):
        signal.raise_signal(signal.SIGHUP)
    signal.raise_signal(signal.SIGTERM)
    assert signals.received() == signal.SIGHUP


def test_error_after_a_signal_is_the_stop(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(*_: object) -> None:
        raise exits.OutputError("cannot write x")

    monkeypatch.setattr(models, "_print", failed)
    assert run("models").error == "cannot write x"
    monkeypatch.setattr(signals, "_received", signal.SIGTERM)
    ran = run("models")
    assert (ran.code, ran.error) == (143, "stopped by SIGTERM; unfinished files were deleted")


def of_opencv() -> cv2.error:
    error = cv2.error("OpenCV(5) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 99 bytes")
    error.code = -4
    return error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MemoryError(), "there is not enough memory; use"),
        (MemoryError("Unable to allocate 8.00 EiB"), "there is not enough memory: Unable to allocate 8.00 EiB; use"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "there is not enough memory: "),
        (ImportError("libx.so: failed to map segment from shared object"), "there is not enough memory: libx.so"),
        (of_opencv(), "there is not enough memory: OpenCV(5) alloc.cpp:73"),
    ],
)
def test_lack_of_memory_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, text: str) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(models, "_print", fail)
    ran = run("models")
    assert ran.code == 1
    assert ran.error.startswith(text)


COMMANDS = [("--help",), ("--version",), ("detect", "--help"), ("models",), ("overlays",), ("models", "--json")]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, which is a full disk")
@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_full_disk(run: Run, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], unbuffered: bool) -> None:
    with io.TextIOWrapper(io.FileIO("/dev/full", "w"), write_through=unbuffered) as full:  # type: ignore[type-var]
        monkeypatch.setattr(sys, "stdout", full)
        ran = run(*args)
        monkeypatch.undo()
    assert ran.code == 1
    assert ran.error == "cannot write to standard output: No space left on device; the results are incomplete"


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_closed_stdout(run: Run, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(console.os, "open", lambda *_: 99)
    monkeypatch.setattr(console.os, "close", lambda _: None)
    console.open_closed_streams()
    monkeypatch.setattr(console, "os", SimpleNamespace(open=failing, devnull=os.devnull, O_WRONLY=0, strerror=str))
    ran = run(*args)
    assert ran.code == 1
    assert ran.error.startswith("standard output is closed, and results go there")


def failing(*_: object) -> int:
    raise OSError


@posix_only
@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_closed_pipe(run: Run, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as pipe:  # noqa: PTH123 - a number
        monkeypatch.setattr(sys, "stdout", pipe)
        ran = run(*args)
        monkeypatch.undo()
    assert (ran.code, ran.err) == (141, "")
