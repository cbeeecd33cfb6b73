"""The pipeline on a GPU is closed while others use it."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest

from scrfd_trt import ClosedError, ImageError, MissingDependencyError
from scrfd_trt._engine.plan import read_plan
from scrfd_trt._engine.runtime import opener
from scrfd_trt._options import DetectorOptions
from scrfd_trt._pipelines.cuda import CudaPipeline, program

IMAGE = np.full((64, 64, 3), 90, np.uint8)


@pytest.fixture
def pipeline(gpu, fakes):
    opened = CudaPipeline(opener(read_plan(fakes.plan()), 0), DetectorOptions(max_batch=2))
    yield opened
    opened.close()


class OnGpu:
    """An array of another library that only claims to be there."""

    def __init__(self, **about):
        self.__cuda_array_interface__ = {"typestr": "|u1", "data": (4096, False), "version": 3, **about}


def pausing(device, before):
    """Make the device current, as its method does, and stop the thread that closes before it goes on."""
    current = device.current

    def paused():
        if threading.current_thread().name == "closer":
            before()
        return current()

    return paused


def test_whoever_comes_while_all_is_given_back_finds_it_closed(pipeline, gpu, monkeypatch):
    pipeline.detect([IMAGE], 0.5, None)
    release, has_slot, go_on, refused = pipeline._pool._release, threading.Event(), threading.Event(), []

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

    monkeypatch.setattr(pipeline._pool, "_release", slow)
    monkeypatch.setattr(pipeline.device, "current", pausing(pipeline.device, before))
    closer = threading.Thread(target=pipeline.close, name="closer")
    closer.start()
    closer.join(0.5)
    go_on.set()
    closer.join(20)
    thread.join(20)
    assert not closer.is_alive()
    assert len(refused) == 1
    assert gpu.leaks == {}


def test_a_future_s_callback_may_close(pipeline, gpu):
    future, closed = pipeline.submit([IMAGE], 0.5, None), threading.Event()

    def close(_):
        pipeline.close()
        closed.set()

    future.add_done_callback(close)
    assert closed.wait(20)
    assert gpu.leaks == {}


def test_a_refused_image_is_let_go_of(pipeline):
    other, one = OnGpu(shape=(4, 4, 2)), IMAGE.copy()
    alive = [weakref.ref(other), weakref.ref(one)]
    with pytest.raises(ImageError):
        pipeline.detect([one, other], 0.5, None)
    del other, one
    gc.collect()
    assert [each() for each in alive] == [None, None]
    assert len(pipeline.detect([IMAGE, IMAGE], 0.5, None)) == 2


def test_a_capture_that_was_interrupted_is_tried_again(pipeline, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(program, "capture", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pipeline.detect([IMAGE], 0.5, None)
    pipeline.detect([IMAGE], 0.5, None)
    with pipeline.borrow_slot() as slot:
        assert slot.program(1).is_captured


@pytest.mark.parametrize("about", [{"typestr": "|u1"}, {"shape": (4, 4, 3), "typestr": 7}, {"shape": None}])
def test_what_tells_of_itself_wrongly_is_refused(pipeline, about):
    with pytest.raises((ImageError, MissingDependencyError)):
        pipeline.detect([OnGpu(**about)], 0.5, None)


def test_lists_will_do_where_others_have_tuples(pipeline):
    image = OnGpu(shape=[64, 64, 3], strides=[192, 3, 1], data=(IMAGE.ctypes.data, False))
    assert pipeline.detect([image], 0.5, None) == pipeline.detect([IMAGE], 0.5, None)


def test_a_slot_may_be_closed_twice(pipeline, gpu):
    pipeline.detect([IMAGE], 0.5, None)
    slot = pipeline._pool._idle[0]
    pipeline.close()
    slot.close()
    assert gpu.leaks == {}


def test_what_is_far_apart_is_refused(pipeline):
    with pytest.raises(ImageError, match="copy it first"):
        pipeline.detect([OnGpu(shape=(4, 4, 3), strides=(4, 1, 2**31))], 0.5, None)
