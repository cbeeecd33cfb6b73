"""The fuzzers' runner, and a few cases of each target."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")
pytest.importorskip("resource")  # limits of memory; not on Windows

import run
import worker

BAD = """
import ctypes, os, time
import numpy as np
from hypothesis import strategies as st
from scrfd_trt.errors import ImageError

SECONDS, MEBIBYTES = 0.4, 64

def cases():
    return st.tuples(st.just("a.bin"), st.binary(max_size=8))

def check(case):
    way = os.environ["WAY"]
    if way == "crash":
        ctypes.string_at(0)
    elif way == "hang":
        time.sleep(60)
    elif way == "memory":
        np.ones(100 << 20, np.uint8)
    elif way == "allocation":
        try:
            np.empty(1 << 40, np.uint8)
        except MemoryError as error:
            raise ImageError("it is too large") from error
    elif way == "untyped":
        raise KeyError("frame")
    elif way == "silent":
        raise ImageError("")
    raise ImageError("this is no image")
"""


@pytest.fixture
def bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a target that fails as the variable WAY says."""
    (tmp_path / "fuzz_bad.py").write_text(BAD)
    (tmp_path / "worker.py").write_text(Path(worker.__file__).read_text())
    monkeypatch.setattr(run, "HERE", tmp_path)
    monkeypatch.setattr(run, "MAX_FAILURES", 1)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "reason", "output"),
    [
        ("crash", "ended by signal 11", "Segmentation fault"),
        ("hang", "exit code 1", "Timeout"),
        ("memory", "exit code 1", "MiB of memory, more than 64"),
        ("allocation", "exit code 1", "the case asked for more memory than there is"),
        ("untyped", "exit code 1", "KeyError: 'frame'"),
        ("silent", "exit code 1", "ImageError without a message"),
    ],
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
    assert f"--repeat {os.path.relpath(saved)}\n" in printed
    assert pickle.loads((saved / "case.pickle").read_bytes()) == ("a.bin", (saved / "case.bin").read_bytes())
    if way in ("crash", "untyped"):
        assert run.main(["--repeat", str(saved)]) == 1
        assert output in "".join(capfd.readouterr())


@pytest.mark.slow
def test_typed_errors_are_no_failure(
    bad: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAY", "")
    assert run.main(["--minutes", "0.02", "--seed", "7"], failures=bad / "saved") == 0
    assert "bad: " in capfd.readouterr().out
    assert not (bad / "saved").exists()


@pytest.mark.parametrize("name", run.target_names())
def test_target(name: str) -> None:
    if missing := getattr(worker.load(name), "missing", ""):
        pytest.skip(missing)
    done = worker.run_round(worker.load(name), seed=1, examples=5)
    assert not done["failure"], done["failure"]
    assert done["cases"] == 5
