"""Detectors and engines that are dropped without ``close()`` are freed; ``close()`` in the callback of a future."""

from __future__ import annotations

import _thread
import gc
import os
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from engine_backend import EngineBackend, load_engine

from scrfd_trt import ClosedError, SCRFDDetector
from scrfd_trt._cuda import driver, finalizers, kernels
from scrfd_trt._cuda import stream as streams
from scrfd_trt._cuda.finalizers import wait_for_dropped
from scrfd_trt._cuda.memory import pinned_array
from scrfd_trt._engine import logs
from scrfd_trt._engine.plan import read_plan
from scrfd_trt._engine.runtime import opener
from scrfd_trt._options import DetectorOptions
from scrfd_trt._pipelines import HostPipeline
from scrfd_trt._pipelines.cuda import CudaPipeline
from scrfd_trt._pipelines.cuda.slot import Slot

pytestmark = pytest.mark.slow

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
DROPS = 200


@pytest.fixture
def opened(gpu, fakes):
    """Open a detector; at the end, all of it must be freed."""

    def open_one(**options):
        options = DetectorOptions(**{"max_batch": 2, **options})
        return SCRFDDetector._of(CudaPipeline(opener(read_plan(fakes.plan()), 0), options), options, device="cuda")

    threads = set(threading.enumerate())
    yield open_one
    gc.collect()
    wait_for_dropped()
    assert gpu.leaks == {}
    for thread in set(threading.enumerate()) - threads:
        thread.join(120)
        assert not thread.is_alive()


def files():
    folder = Path("/proc/self/fd")
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_200_drops_leave_nothing(gpu, opened):
    before = files()
    for number in range(DROPS):
        detector = opened()
        assert len(detector.detect(IMAGE)) > 0
        if number % 4 == 1:
            detector.submit([IMAGE] * 3).result()
        if number % 4 == 2:
            next(detector.stream([IMAGE] * 8, batch=1))
        if number % 4 == 3:
            detector.itself = detector  # freed by the garbage collector only
    del detector
    gc.collect()
    wait_for_dropped()
    assert files() == before


def test_drop_leaves_no_thread(gpu, opened):
    before = set(threading.enumerate())
    detector = opened()
    detector.detect_batch([np.zeros((900, 900, 3), np.uint8)] * 2)  # large enough for threads that help to copy
    del detector
    gc.collect()
    wait_for_dropped()
    deadline = time.monotonic() + 120
    while set(threading.enumerate()) != before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(threading.enumerate()) == before


def test_new_detector_waits_until_dropped_ones_are_freed(gpu, opened):
    for _ in range(5):
        detector = opened()
        detector.detect(IMAGE)
        assert gpu.engines == 1
        assert len(gpu.memory) == 3
        del detector


@pytest.mark.parametrize("is_cycle", [False, True])
def test_stream_dropped_with_its_detector(gpu, opened, is_cycle):
    detector = opened()
    expected = detector.detect(IMAGE)
    results = detector.stream([IMAGE] * 20, batch=1)
    assert next(results) == expected
    if is_cycle:
        detector.results = results
    del detector, results
    gc.collect()


def test_unfinished_runs_are_waited_for(gpu, opened):
    detector, steps = opened(), []
    runs = [detector._pipeline.start([IMAGE], 0.5, None) for _ in range(3)]
    for run in runs:
        gpu.streams[run._slot._stream.handle].append(lambda: steps.append(gpu.engines))
    del detector, runs, run
    gc.collect()
    wait_for_dropped()
    assert steps == [3] * 3  # TensorRT 8.6 has a copy of the engine for each context


def test_run_of_dropped_detector_raises_closed_error(gpu, opened):
    detector = opened()
    run = detector._pipeline.start([IMAGE], 0.5, None)
    del detector
    gc.collect()
    wait_for_dropped()
    with pytest.raises(ClosedError):
        run.result()


def test_pending_futures_finish_after_drop(gpu, opened):
    detector = opened()
    expected = detector.detect(IMAGE)
    futures = [detector.submit([IMAGE]) for _ in range(12)]
    del detector
    gc.collect()
    assert [future.result(20) for future in futures] == [[expected]] * 12


def test_interrupted_run_is_waited_for(gpu, opened):
    detector = opened()
    detector.detect(IMAGE)
    with detector._pipeline.borrow_slot() as slot:
        stream = gpu.streams[slot._stream.handle]

    def interrupt():
        raise KeyboardInterrupt

    steps = []
    stream.extend([interrupt, lambda: steps.append(gpu.leaks["memory"])])
    with pytest.raises(KeyboardInterrupt):
        detector.detect(IMAGE)
    del detector, slot
    gc.collect()
    wait_for_dropped()
    assert steps == [3]


def test_garbage_collection_in_thread_that_holds_all_locks(gpu, opened):
    detector = opened()
    detector.detect(IMAGE)
    detector.itself = detector
    later = opened()
    resources = later._pipeline._resources
    del detector
    with logs._lock, kernels._lock, streams._one_at_a_time, resources.setup_lock, resources.contexts._lock:
        gc.collect()
        wait_for_dropped()
    assert gpu.engines == 1


def test_stream_is_collected_in_thread_that_holds_all_locks(gpu, opened):
    detector, results = opened(), []
    results.append(detector.stream([IMAGE] * 8, batch=1))
    next(results[0])  # the first run of each slot is captured at its end, with calls of TensorRT
    resources = detector._pipeline._resources

    def collect():
        with logs._lock, streams._one_at_a_time, resources.setup_lock, resources.contexts._lock:
            results.clear()

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(120)
    assert not thread.is_alive()


def test_stream_is_collected_while_close_ends_its_runs(gpu, opened, monkeypatch):
    detector, results = opened(), []
    results.append(detector.stream([IMAGE] * 8, batch=1))
    next(results[0])
    abandon = Slot.abandon

    def abandon_and_collect(slot):
        results.clear()
        abandon(slot)

    monkeypatch.setattr(Slot, "abandon", abandon_and_collect)
    thread = threading.Thread(target=detector.close, daemon=True)
    thread.start()
    thread.join(120)
    assert not thread.is_alive()
    assert gpu.leaks == {}


def test_drop_during_capture_in_same_thread(gpu, opened, monkeypatch):
    detector, dropped = opened(), opened()
    dropped.detect(IMAGE)
    kept = [dropped, pinned_array((8, 8, 3), detector._pipeline.device), *dropped.detect_on_gpu([IMAGE])]
    del dropped
    letterbox = kernels.Launch.start

    def start(*arguments):
        if gpu.is_capturing and kept:
            kept.clear()
            gc.collect()
            wait_for_dropped()
        letterbox(*arguments)

    monkeypatch.setattr(kernels.Launch, "start", start)
    detector.detect(IMAGE)
    assert kept == []
    with detector._pipeline.borrow_slot() as slot:
        assert slot.program(1).is_captured


def test_no_garbage_collection_from_begin_to_end_of_capture(gpu, opened, monkeypatch):
    enabled, bindings = [], driver.bindings()
    for name in ("cuStreamBeginCapture", "cuStreamEndCapture"):
        function = getattr(bindings, name)
        monkeypatch.setattr(bindings, name, lambda *args, of=function: enabled.append(gc.isenabled()) or of(*args))
    opened().detect(IMAGE)
    assert enabled == [False, False]
    assert gc.isenabled()


def test_dropped_engine_is_freed(gpu, fakes, opened):
    engine = load_engine(fakes.plan())
    assert gpu.engines == 1
    del engine
    gc.collect()
    wait_for_dropped()
    assert gpu.engines == 0


@pytest.mark.parametrize("call", ["cuMemFree", "cuStreamSynchronize", "cuCtxPushCurrent"])
def test_drop_after_gpu_failure_raises_nothing(gpu, fakes, caplog, call):
    caplog.set_level("DEBUG", "scrfd_trt")
    pipeline = CudaPipeline(opener(read_plan(fakes.plan()), 0), DetectorOptions())
    pipeline.detect([IMAGE], 0.5, None)
    gpu.fail(call)
    del pipeline
    gc.collect()
    wait_for_dropped()
    gpu.failing.clear()
    gc.collect()  # what could not be closed is dropped as well
    wait_for_dropped()
    assert (gpu.engines, gpu.contexts) == (0, 0)
    assert ("closing what was dropped" in caplog.text) == (call != "cuStreamSynchronize")


class TestCloseInACallback:
    @pytest.fixture(params=["cuda", "host"])
    def detector(self, request, gpu, fakes, opened):
        if request.param == "cuda":
            return opened()
        options = DetectorOptions(max_batch=2)
        return SCRFDDetector._of(HostPipeline(EngineBackend(fakes.plan()), options), options, device="cpu")

    def test_callback_of_pending_future(self, gpu, detector, monkeypatch):
        errors, closed, go_on = [], threading.Event(), threading.Event()
        pipeline = detector._pipeline
        name = "detect" if isinstance(pipeline, HostPipeline) else "_run_all"
        detect = getattr(pipeline, name)
        monkeypatch.setattr(pipeline, name, lambda *arguments: go_on.wait(20) and detect(*arguments))

        def close(future):
            try:
                assert len(future.result()[0]) > 0
                detector.close()
                detector.close()
                assert gpu.leaks == {}
            except BaseException as error:  # noqa: BLE001 - the future would only log it
                errors.append(error)
            closed.set()

        future = detector.submit([IMAGE])
        future.add_done_callback(close)
        assert not future.done()
        go_on.set()
        assert closed.wait(20)
        assert errors == []
        with pytest.raises(ClosedError):
            detector.detect(IMAGE)

    def test_callbacks_of_many_futures(self, gpu, detector):
        errors = []

        def close(_):
            try:
                detector.close()
            except BaseException as error:  # noqa: BLE001
                errors.append(error)

        futures = [detector.submit([IMAGE, IMAGE]) for _ in range(20)]
        for future in futures:
            future.add_done_callback(close)
        deadline = time.monotonic() + 120
        while gpu.leaks and time.monotonic() < deadline:  # the worker may still be closing
            time.sleep(0.01)
        assert gpu.leaks == {}
        assert all(future.done() for future in futures)
        assert errors == []

    def test_callback_in_calling_thread(self, gpu, detector):
        future = detector.submit([IMAGE])
        future.result()
        future.add_done_callback(lambda _: detector.close())
        assert gpu.leaks == {}

    def test_callback_with_last_reference(self, gpu, detector):
        holder = [detector]
        future = detector.submit([IMAGE])
        future.add_done_callback(lambda _: holder.pop().close())
        future.result(20)


def test_process_exit_waits_for_dropped_objects():
    code = (
        "import time\n"
        "from contextlib import nullcontext\n"
        "from scrfd_trt._cuda import finalizers\n"
        "class Owner: pass\n"
        "finalizers.RelaxedCapture = nullcontext\n"
        "owner, kept = Owner(), Owner()\n"
        "finalizers.close_when_dropped(owner, lambda: (time.sleep(0.3), print('closed')))\n"
        "finalizers.close_when_dropped(kept, lambda: print('not closed'))\n"
        "del owner\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("closed\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes can be forked")
def test_forked_process_does_not_wait_for_closing_in_its_parent():
    code = (
        "import os, time\n"
        "from contextlib import nullcontext\n"
        "from scrfd_trt._cuda import finalizers\n"
        "class Owner: pass\n"
        "finalizers.RelaxedCapture = nullcontext\n"
        "owner = Owner()\n"
        "finalizers.close_when_dropped(owner, lambda: time.sleep(1))\n"
        "del owner\n"
        "if os.fork() == 0:\n"
        "    finalizers.wait_for_dropped()\n"
        "    os._exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "7\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes can be forked")
def test_forked_process_does_not_close_what_its_parent_opened():
    code = (
        "import os\n"
        "from contextlib import nullcontext\n"
        "from scrfd_trt._cuda import finalizers\n"
        "class Owner: pass\n"
        "finalizers.RelaxedCapture = nullcontext\n"
        "owner, parent = Owner(), os.getpid()\n"
        "finalizers.close_when_dropped(owner, lambda: print('closed by parent', os.getpid() == parent))\n"
        "if os.fork() != 0:\n"
        "    os.wait()\n"
        "del owner\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert (done.stdout, done.stderr) == ("closed by parent True\n", "")


def test_drop_after_python_waited_for_threads_closes_at_once():
    code = (
        "import atexit, time, weakref\n"
        "from contextlib import nullcontext\n"
        "class Owner: pass\n"
        "kept = [Owner()]\n"
        "weakref.finalize(kept[0], print, 'dropped')\n"
        "atexit.register(kept.clear)\n"
        "from scrfd_trt._cuda import finalizers\n"
        "finalizers.RelaxedCapture = nullcontext\n"
        "finalizers.close_when_dropped(kept[0], lambda: (time.sleep(0.3), print('closed')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert (set(done.stdout.split()), done.stderr) == ({"closed", "dropped"}, "")


def test_drop_at_thread_limit_closes_at_once(monkeypatch):
    class Owner:
        pass

    def no_thread(*_):
        raise RuntimeError("can't start new thread")

    closed = []
    monkeypatch.setattr(finalizers, "RelaxedCapture", nullcontext)
    monkeypatch.setattr(_thread, "start_new_thread", no_thread)
    owner = Owner()
    finalizers.close_when_dropped(owner, lambda: closed.append(True))
    del owner
    gc.collect()
    assert closed == [True]
    wait_for_dropped()


def test_detached_object_is_not_closed():
    class Owner:
        pass

    owner = Owner()
    finalizer = finalizers.close_when_dropped(owner, pytest.fail)
    finalizer.detach()
    del owner, finalizer
    gc.collect()
    wait_for_dropped()
