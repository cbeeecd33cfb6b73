"""Messages of OpenCV's libraries when several threads decode."""

from __future__ import annotations

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from scrfd_trt._image_files import open_image, stderr
from scrfd_trt.errors import ImageError

RNG = np.random.default_rng(3)
GOOD = cv2.imencode(".jpg", RNG.integers(0, 255, (96, 128, 3), np.uint8))[1].tobytes()
LOST = GOOD[:9000] + GOOD[9100:]
"""Pixels are lost, which only a message of libjpeg says."""
BROKEN = cv2.imencode(".png", RNG.integers(0, 255, (40, 40, 3), np.uint8))[1].tobytes()
BROKEN = BROKEN[:60] + bytes(40) + BROKEN[100:]


def read(data: bytes) -> tuple[bytes, list[str]] | str:
    try:
        file = open_image(data, damaged="keep")
        (frame,) = file.frames()
    except ImageError as error:
        return str(error)
    return frame.pixels.tobytes(), file.damage


def test_threads_find_the_damage_that_one_finds() -> None:
    alone = {data: read(data) for data in (GOOD, LOST, BROKEN)}
    assert alone[GOOD][1] == []
    assert "Corrupt JPEG data" in alone[LOST][1][0]
    datas = [GOOD, GOOD, LOST, GOOD, BROKEN, GOOD] * 12
    with stderr.redirected_stderr(), ThreadPoolExecutor(6) as threads:
        assert list(threads.map(read, datas)) == [alone[data] for data in datas]


def test_calls_run_at_the_same_time_and_again_alone_in_doubt() -> None:
    both, runs, running, most_again = threading.Barrier(2, timeout=60), [0, 0], 0, 0

    def call(index: int) -> str:
        nonlocal running, most_again
        runs[index] += 1
        running += 1
        if runs[index] == 1:
            both.wait()  # passed only if both are here
            if index:
                os.write(2, b"Corrupt JPEG data: of the second\n")
            both.wait()
        else:
            most_again = max(most_again, running)
            if index:
                os.write(2, b"Corrupt JPEG data: of the second\n")
            time.sleep(0.01)
        running -= 1
        return "done"

    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(lambda index: stderr.watched(lambda: call(index)), range(2)))
    assert results == [("done", []), ("done", ["Corrupt JPEG data: of the second"])]
    assert (runs, most_again) == ([2, 2], 1)


def test_harmless_messages_cost_no_second_run() -> None:
    runs = []

    def call() -> str:
        runs.append(1)
        os.write(2, b"libpng warning: iCCP: known incorrect sRGB profile\n")
        return "done"

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda _: stderr.watched(call), range(8))) == [("done", [])] * 8
    assert len(runs) == 8


def test_what_python_prints_stays_visible(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with open(2, "w", closefd=False) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with stderr.redirected_stderr():
            assert sys.stderr is not stream
            print("of Python", file=sys.stderr)
            os.write(2, b"of a library\n")
            _, lines = stderr.watched(lambda: os.write(2, b"Corrupt data of this call\n"))
        assert sys.stderr is stream
        assert lines == ["Corrupt data of this call"]
        os.write(2, b"after\n")
        assert capfd.readouterr().err == "of Python\nafter\n"


def test_signal_leaves_no_redirection(monkeypatch: pytest.MonkeyPatch) -> None:
    before, real = os.fstat(2), os.dup2

    def interrupted(*numbers: int) -> int:
        monkeypatch.setattr(os, "dup2", real)
        real(*numbers)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "dup2", interrupted)
    with pytest.raises(KeyboardInterrupt), stderr.redirected_stderr():
        pass
    assert os.path.samestat(os.fstat(2), before)
    left = stderr._STDERR.used()
    left.__enter__()  # a signal comes before the block
    with stderr.redirected_stderr():
        pass
    assert os.path.samestat(os.fstat(2), before)
    assert read(GOOD)[1] == []
