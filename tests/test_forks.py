"""What a forked process may do with the detector of its parent."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import traceback

import numpy as np
import pytest

from scrfd_trt import ClosedError, SCRFDDetector, _forks
from scrfd_trt.backends import RecordedBackend

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes can be forked"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),  # Python 3.12 warns of forks beside threads
]

IMAGE = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
IMAGES = [IMAGE] * 4
TIMEOUT = 20


def in_child(work):
    """Run a function in a forked process; fail if it raises an error or hangs."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(TIMEOUT)
        try:
            work()
        except BaseException:  # noqa: BLE001 - reported by the exit code
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def detector(network_500m):
    with SCRFDDetector.from_onnx(network_500m, device="cpu", scales=(64,), threshold=0.02) as opened:
        yield opened


@pytest.fixture
def recorded(root):
    with SCRFDDetector.from_backend(RecordedBackend(root / "tests/data/recorded/500m_fp16.npz")) as opened:
        yield opened


def use(detector, expected):
    """Call all methods, and close the detector."""
    assert detector.detect(IMAGE) == expected
    assert detector.detect_batch(IMAGES) == [expected] * 4
    assert list(detector.stream(iter(IMAGES), batch=1)) == [expected] * 4
    assert detector.submit(IMAGES).result(TIMEOUT) == [expected] * 4
    assert asyncio.run(detector.detect_async(IMAGE)) == expected
    detector.close()
    with pytest.raises(ClosedError):
        detector.detect(IMAGE)


@pytest.mark.parametrize("has_streamed", [False, True])
def test_detector_on_the_cpu_works_in_a_forked_process(network_500m, detector, has_streamed, monkeypatch):
    expected = detector.detect(IMAGE)
    monkeypatch.chdir(network_500m.parent)
    owned = [SCRFDDetector.from_onnx(network_500m.name, device="cpu", scales=(64,), threshold=0.02)]
    if has_streamed:
        assert list(owned[0].stream(IMAGES)) == [expected] * 4

    def use_elsewhere():
        os.chdir("/")  # as a process that becomes a daemon
        use(owned[0], expected)

    def drop():
        owned.clear()
        gc.collect()

    for work in (use_elsewhere, owned[0].close, drop):
        in_child(work)
    use(owned[0], expected)


def test_fork_in_the_middle_of_a_stream(detector):
    expected, go_on, worker = detector.detect(IMAGE), threading.Event(), detector._pipeline._worker

    def read():
        worker.submit(time.sleep, 0.2)  # so that the first image is in flight when the second is read
        yield IMAGE
        worker.submit(go_on.wait)
        yield IMAGE
        yield IMAGE

    streams = [detector.stream(read(), batch=1, in_flight=2)]
    next(streams[0])
    waiting = detector.submit(IMAGES)

    def continue_stream():
        for call in (lambda: list(streams[0]), lambda: waiting.result(TIMEOUT)):
            with pytest.raises(ClosedError):
                call()
        use(detector, expected)

    def drop_stream():
        streams.clear()
        gc.collect()

    with worker._lock:  # as another thread may
        for work in (continue_stream, drop_stream, detector.close):
            in_child(work)
    go_on.set()
    assert waiting.result(TIMEOUT) == [expected] * 4
    assert list(streams[0]) == [expected] * 2
    use(detector, expected)


@pytest.mark.skipif(sys.platform != "linux", reason="needs on_exit() of glibc")
def test_forked_process_ends_by_itself(network_500m):
    """Python's objects are freed at the end of a process, but not the session of the parent.

    ONNX Runtime 1.32 waits for threads of its own after that, even if it was only imported; the test leaves that out.
    """
    code = (
        "import ctypes, os, signal, sys\n"
        "import numpy as np\n"
        "from scrfd_trt import SCRFDDetector\n"
        "detector = SCRFDDetector.from_onnx(sys.argv[1], device='cpu', scales=(64,))\n"
        "images = [np.zeros((64, 64, 3), np.uint8)] * 4\n"
        "list(detector.stream(images))\n"
        "child = os.fork()\n"
        "if child:\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "else:\n"
        "    signal.alarm(20)\n"
        "    libc = ctypes.CDLL(None)\n"
        "    libc.on_exit(libc._exit, None)\n"
        "    assert len(list(detector.stream(images))) == 4\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(network_500m)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_multiprocessing_by_fork(detector):
    list(detector.stream(IMAGES))
    queue = multiprocessing.get_context("fork").SimpleQueue()
    work = multiprocessing.get_context("fork").Process(
        target=lambda: queue.put(detector.submit(IMAGES).result(TIMEOUT))
    )
    work.start()
    work.join(TIMEOUT)
    assert work.exitcode == 0
    assert queue.get() == [detector.detect(IMAGE)] * 4


def test_recording_in_a_forked_process_ignores_the_lock_of_its_parent(recorded):
    backend = recorded._pipeline._backend
    blob = np.zeros(backend._runs[0][0], np.float32)
    with backend._lock:
        in_child(lambda: backend.run(blob))


def test_locks_of_the_parent_are_free_in_a_forked_process():
    """Pictures are read with a lock, which another thread of the parent may hold at the fork."""
    lock, other, own = _forks.Lock(), _forks.Lock(threading.RLock), _forks.Lock()
    go_on, held = threading.Event(), threading.Event()

    def hold():
        with lock, other:
            held.set()
            go_on.wait(TIMEOUT)

    def take():
        with lock, other, own, other:
            pass

    def fork_within_the_block():
        with own:
            if os.fork() == 0:
                return
        os._exit(os.waitstatus_to_exitcode(os.wait()[1]))

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(TIMEOUT)
    with own:
        in_child(take)
    in_child(lambda: (fork_within_the_block(), take()))
    go_on.set()
    thread.join(TIMEOUT)
    take()
