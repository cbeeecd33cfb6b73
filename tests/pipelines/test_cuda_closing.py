"""The GPU pipeline is closed while other threads use it, and other misuse."""

from __future__ import annotations

import gc
import os
import threading
import weakref

import numpy as np
import pytest

from scrfd_trt import ClosedError, ImageError, MissingDependencyError
from scrfd_trt._engine.plan import read_plan
from scrfd_trt._engine.runtime import opener
from scrfd_trt._options import DetectorOptions
from scrfd_trt._pipelines.cuda import CudaPipeline, program

pytestmark = pytest.mark.slow
IMAGE = np.full((64, 64, 3), 90, np.uint8)


@pytest.fixture
def pipeline(gpu, fakes):
    opened = CudaPipeline(opener(read_plan(fakes.plan()), 0), DetectorOptions(max_batch=2))
    yield opened
    opened.close()


class OnGpu:
    """An array of another library whose memory does not exist."""

    def __init__(self, **about):
        self.__cuda_array_interface__ = {"typestr": "|u1", "data": (4096, False), "version": 3, **about}


def pausing(device, before):
    """Return ``device.current`` that calls ``before`` first in the thread that closes."""
    current = device.current

    def paused():
        if threading.current_thread().name == "closer":
            before()
        return current()

    return paused


def test_detect_during_close_raises_closed_error(pipeline, gpu, monkeypatch):
    pipeline.detect([IMAGE], 0.5, None)
    release, has_slot, go_on, refused = pipeline._pool._add_idle, threading.Event(), threading.Event(), []

    def late():
        try:
            pipeline.detect([IMAGE], 0.5, None)
        except ClosedError as error:
            refused.append(error)

    def slow(slot):
        if threading.current_thread().name == "late":
            has_slot.set()
            go_on.wait(20)
        release(slot)

    thread = threading.Thread(target=late, name="late")

    def before():
        if thread.ident is None:
            thread.start()
        while thread.is_alive() and not has_slot.wait(0.01):
            pass

    monkeypatch.setattr(pipeline._pool, "_add_idle", slow)
    monkeypatch.setattr(pipeline.device, "current", pausing(pipeline.device, before))
    closer = threading.Thread(target=pipeline.close, name="closer")
    closer.start()
    closer.join(0.5)
    go_on.set()
    closer.join(120)
    thread.join(120)
    assert not closer.is_alive()
    assert len(refused) == 1
    assert gpu.leaks == {}


def test_callback_of_a_future_may_close(pipeline, gpu):
    future, closed = pipeline.submit([IMAGE], 0.5, None), threading.Event()

    def close(_):
        pipeline.close()
        closed.set()

    future.add_done_callback(close)
    assert closed.wait(20)
    assert gpu.leaks == {}


def test_rejected_image_is_released(pipeline):
    other, one = OnGpu(shape=(5, 4, 2)), IMAGE.copy()
    alive = [weakref.ref(other), weakref.ref(one)]
    with pytest.raises(ImageError):
        pipeline.detect([one, other], 0.5, None)
    del other, one
    gc.collect()
    assert [each() for each in alive] == [None, None]
    assert len(pipeline.detect([IMAGE, IMAGE], 0.5, None)) == 2


def test_interrupted_capture_is_tried_again(pipeline, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(program, "capture", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pipeline.detect([IMAGE], 0.5, None)
    pipeline.detect([IMAGE], 0.5, None)
    with pipeline.borrow_slot() as slot:
        assert slot.program(1).is_captured


@pytest.mark.parametrize(
    "about",
    [
        {"typestr": "|u1"},
        {"shape": (5, 5, 3), "typestr": 7},
        {"shape": None},
        {"shape": (-4, 4, 3)},
        {"shape": (4.5, 4, 3)},
        {"shape": (2**40, 4, 3)},
        {"shape": (2**70, 4, 3)},
        {"shape": (5, 5, 3), "strides": (15, 3)},
        {"shape": (5, 5, 3), "strides": (2**70, 3, 1)},
        {"shape": (5, 5, 3), "strides": "abc"},
        {"shape": (5, 5, 3), "data": (2**70, False)},
        {"shape": (5, 5, 3), "data": (-1, False)},
        {"shape": (5, 5, 3), "data": 5},
    ],
)
def test_invalid_array_interface_is_rejected(pipeline, about):
    with pytest.raises((ImageError, MissingDependencyError)):
        pipeline.detect([OnGpu(**about)], 0.5, None)


def test_array_interface_may_contain_lists(pipeline):
    image = OnGpu(shape=[64, 64, 3], strides=[192, 3, 1], data=(IMAGE.ctypes.data, False))
    assert pipeline.detect([image], 0.5, None) == pipeline.detect([IMAGE], 0.5, None)


def test_slot_may_be_closed_twice(pipeline, gpu):
    pipeline.detect([IMAGE], 0.5, None)
    slot = pipeline._pool._idle[0]
    pipeline.close()
    slot.close()
    assert gpu.leaks == {}


def test_too_large_strides_are_rejected(pipeline):
    with pytest.raises(ImageError, match="copy it first"):
        pipeline.detect([OnGpu(shape=(5, 5, 3), strides=(4, 1, 2**31))], 0.5, None)


def test_forked_process_is_refused_and_touches_no_gpu(pipeline, gpu, monkeypatch):
    """A forked process has the objects of its parent, but not its GPU and its threads."""
    pipeline.detect([IMAGE], 0.5, None)
    going, pinned = pipeline.start([IMAGE], 0.5, None), pipeline.pinned((64, 64, 3))
    pipeline._lock.__enter__()  # as other threads of the parent may
    pipeline._pool._changed.acquire()
    going._lock = threading.Lock()
    going._lock.acquire()
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    calls = len(gpu.calls)
    for item in (pipeline._lock, pipeline._workers, pipeline):
        item._after_fork()
    for call in (pipeline.detect, pipeline.detect_on_gpu, pipeline.submit, pipeline.start):
        with pytest.raises(ClosedError, match="forked"):
            call([IMAGE], 0.5, None)
    with pytest.raises(ClosedError, match="forked"):
        pipeline.pinned((4, 4, 3))
    assert going.done()
    with pytest.raises(ClosedError):
        going.result()
    going.abandon()
    pipeline.close()
    del pipeline, going, pinned
    gc.collect()
    assert gpu.calls[calls:] == []
