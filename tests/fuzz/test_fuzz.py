"""The fuzzers' runner. The targets themselves run in ``nox -s fuzz``."""

from __future__ import annotations

import errno
import io
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from scrfd_trt.errors import ImageError

pytest.importorskip("hypothesis")
pytest.importorskip("resource")  # limits of memory; not on Windows

sys.path.append(str(Path(__file__).parent))
import mutations
import run
import worker
from hypothesis import strategies as st

pytestmark = pytest.mark.slow

BAD = """
import ctypes, os, time
from hypothesis import strategies as st
from mutations import File

SECONDS, MEBIBYTES = 0.4 if os.environ["WAY"] == "hang" else 30.0, 64

def cases():
    return st.tuples(st.builds(File, st.just("a.bin"), st.binary(max_size=8)))

def check(case):
    time.sleep(60) if os.environ["WAY"] == "hang" else ctypes.string_at(0)
"""


@pytest.fixture
def bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a target that fails as the variable WAY says."""
    (tmp_path / "fuzz_bad.py").write_text(BAD)
    for module in (worker, mutations):
        (tmp_path / f"{module.__name__}.py").write_text(Path(module.__file__).read_text())
    monkeypatch.setattr(run, "HERE", tmp_path)
    monkeypatch.setattr(run, "MAX_FAILURES", 1)
    return tmp_path


@pytest.mark.parametrize(
    ("way", "reason", "output"),
    [("crash", "ended by signal 11", "Segmentation fault"), ("hang", "exit code 1", "Timeout")],
)
def test_failure_is_reported_and_repeated(
    way: str, reason: str, output: str, bad: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAY", way)
    assert run.main(["--minutes", "0.2", "--seed", "7"], failures=bad / "saved") == 1
    printed = capfd.readouterr().out
    assert f"bad: FAILED ({reason}), seed 7\n" in printed
    assert output in printed
    saved = bad / "saved/bad-7"
    assert f"worker.py bad {os.path.relpath(saved)} --repeat\n" in printed
    assert pickle.loads((saved / "case.pickle").read_bytes())[0].content == (saved / "case.bin").read_bytes()
    if way == "crash":
        repeated = subprocess.run(
            [sys.executable, bad / "worker.py", "bad", saved, "--repeat"], check=False, capture_output=True
        )
        assert repeated.returncode == -signal.SIGSEGV


def fail_untyped(case: bytes) -> None:
    raise KeyError("frame")


def fail_typed(case: bytes) -> None:
    raise ImageError("this is no image")


@pytest.mark.parametrize(
    ("check", "reason", "count"),
    [
        (fail_typed, "", worker.ROUND),
        (fail_untyped, "KeyError: 'frame'", 1),
        # Much more than what earlier tests may leave to free meanwhile.
        (lambda case: np.ones(400 << 20, np.uint8), "MiB of memory, more than 64", 1),
    ],
)
def test_round_ends_with_the_first_failure(
    check: Callable[[bytes], object], reason: str, count: int, tmp_path: Path
) -> None:
    target: Any = SimpleNamespace(cases=st.binary, check=check, SECONDS=30.0, MEBIBYTES=64)
    done, failure = worker.run_round(target, 7, folder=tmp_path, end=time.monotonic() + 30)
    assert reason in failure
    assert (done, bool(failure)) == (count, bool(reason))


def test_typed_errors_have_a_message_and_follow_no_lack_of_memory() -> None:
    worker.check_error(ImageError("one line"))
    with pytest.raises(AssertionError, match="ImageError without a message"):
        worker.check_error(ImageError(""))
    for cause in (MemoryError(), OSError(errno.ENOMEM, "no memory")):
        error = ImageError("it is too large")
        error.__cause__ = ValueError()
        error.__cause__.__context__ = cause
        cause.__context__ = error  # errors may refer to each other
        with pytest.raises(AssertionError, match="asked for more memory than there is"):
            worker.check_error(error)


def test_changed_png_gets_its_checksums() -> None:
    good = cv2.imencode(".png", np.zeros((3, 3), np.uint8))[1].tobytes()
    assert mutations.with_checksums(good) == good
    changed = good[:19] + b"\x09" + good[20:]
    mended = mutations.with_checksums(changed)
    assert mended != changed
    assert Image.open(io.BytesIO(mended)).size == (9, 3)
