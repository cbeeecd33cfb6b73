"""What a forked process may do with the detector of its parent; each case runs in a process of its own."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys

import pytest

from scrfd_trt import SCRFDDetector, ScrfdError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes can be forked")

START = """
import gc, os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks beside threads
import numpy as np
from scrfd_trt import ClosedError, SCRFDDetector

image = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
images = [image] * 4

def expect_closed(call, *arguments):
    try:
        call(*arguments)
    except ClosedError as error:
        return str(error)
    raise AssertionError("no ClosedError")

def in_child(name, work):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # a child that hangs ends
        try:
            work()
        except BaseException as error:
            print(name, type(error).__name__, error)
        else:
            print(name, "ok")
        sys.stdout.flush()
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        print(name, "ended with", status)
"""

ON_CPU = """
detector = SCRFDDetector.from_onnx(sys.argv[1], device="cpu", scales=(64,), threshold=0.02)
expected = detector.detect(image)

def use():
    assert detector.detect(image) == expected
    assert detector.detect_batch(images) == [expected] * 4
    assert list(detector.stream(iter(images), batch=1)) == [expected] * 4
    assert detector.submit(images).result(15) == [expected] * 4
    import asyncio
    assert asyncio.run(detector.detect_async(image)) == expected
    detector.close()
    expect_closed(detector.detect, image)

def drop():
    global detector
    del detector
    gc.collect()

in_child("unused", use)
in_child("unused, closed", lambda: detector.close())
in_child("unused, dropped", drop)
list(detector.stream(images))
in_child("streamed", use)
in_child("streamed, closed", lambda: detector.close())
in_child("streamed, dropped", drop)

go_on = threading.Event()
worker = detector._pipeline._worker

def read():
    worker.submit(time.sleep, 0.2)  # so that the first image is in flight when the second is read
    yield image
    worker.submit(go_on.wait)
    yield image
    yield image

results = detector.stream(read(), batch=1, in_flight=2)
next(results)
waiting = detector.submit(images)
held = worker._lock
held.acquire()  # as another thread may

def continue_results():
    expect_closed(list, results)
    expect_closed(waiting.result, 15)
    use()

def drop_results():
    global results
    del results
    gc.collect()

in_child("in the middle", continue_results)
in_child("in the middle, dropped", drop_results)
in_child("in the middle, closed", lambda: detector.close())
held.release()
go_on.set()
assert waiting.result(15) == [expected] * 4
assert list(results) == [expected] * 2
use()
print("parent ok")
"""


def run(code, *arguments):
    command = [sys.executable, "-c", START + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_detector_on_the_cpu_works_in_a_forked_process(network_500m):
    lines = run(ON_CPU, network_500m)
    assert all(line.endswith(" ok") for line in lines), lines
    assert len(lines) == 10


@pytest.mark.skipif(sys.platform != "linux", reason="needs on_exit() of glibc")
def test_forked_process_ends_by_itself(network_500m):
    """Python's objects are freed at the end of a process, but not the session of the parent.

    ONNX Runtime 1.32 waits for threads of its own after that, even if it was only imported; the test leaves that out.
    """
    code = ON_CPU.split("in_child(", maxsplit=1)[0] + (
        "list(detector.stream(images))\n"
        "child = os.fork()\n"
        "if child:\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "else:\n"
        "    signal.alarm(20)\n"
        "    import ctypes\n"
        "    libc = ctypes.CDLL(None)\n"
        "    libc.on_exit(libc._exit, None)\n"
        "    assert len(list(detector.stream(images))) == 4\n"
        "print('child' if not child else 'parent')\n"
    )
    assert run(code, network_500m) == ["child", "parent"]


def test_multiprocessing_by_fork(network_500m):
    code = ON_CPU.split("in_child(", maxsplit=1)[0] + (
        "import multiprocessing\n"
        "list(detector.stream(images))\n"
        "def count(_): return detector.submit(images).result(15) == [expected] * 4\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "    print(pool.map_async(count, range(4)).get(30))\n"
    )
    assert run(code, network_500m) == [str([True] * 4)]


def test_recording_in_a_forked_process_ignores_the_lock_of_its_parent(root):
    code = (
        "from pathlib import Path\n"
        "from scrfd_trt.backends import RecordedBackend\n"
        "backend = RecordedBackend(sys.argv[1])\n"
        "backend._lock.__enter__()\n"
        "blob = np.zeros(backend._runs[0][0], np.float32)\n"
        "in_child('recording', lambda: backend.run(blob))\n"
    )
    recording = next(iter(sorted((root / "tests" / "data" / "recorded").glob("*.npz"))))
    assert run(code, recording) == ["recording ok"]


def test_locks_of_the_parent_are_free_in_a_forked_process():
    """Pictures are read with a lock, which another thread of the parent may hold at the fork."""
    code = (
        "from scrfd_trt import _forks\n"
        "lock, other, own = _forks.Lock(), _forks.Lock(threading.RLock), _forks.Lock()\n"
        "go_on, held = threading.Event(), threading.Event()\n"
        "def hold():\n"
        "    with lock, other:\n"
        "        held.set()\n"
        "        go_on.wait(30)\n"
        "thread = threading.Thread(target=hold)\n"
        "thread.start()\n"
        "held.wait(30)\n"
        "def take():\n"
        "    with lock, other, own, other:\n"
        "        pass\n"
        "with own:\n"
        "    in_child('locks', take)\n"
        "go_on.set()\n"
        "thread.join(30)\n"
        "take()\n"
    )
    assert run(code) == ["locks ok"]


@pytest.mark.parametrize("how", [pickle.dumps, copy.copy, copy.deepcopy])
def test_detectors_cannot_be_pickled(root, how):
    from scrfd_trt.backends import RecordedBackend

    recording = next(iter(sorted((root / "tests" / "data" / "recorded").glob("*.npz"))))
    with (
        SCRFDDetector.from_backend(RecordedBackend(recording)) as detector,
        pytest.raises(ScrfdError, match="open one in each process"),
    ):
        how(detector)
