from __future__ import annotations

import gc
from contextlib import ExitStack, closing

import numpy as np
import pytest

from scrfd_trt import BackendError
from scrfd_trt._cuda.driver import Device
from scrfd_trt._cuda.memory import copy, free, gpu_memory, pinned_address, pinned_array, pinned_memory, view
from scrfd_trt._cuda.stream import create_stream, synchronize


@pytest.fixture
def device(gpu):
    return Device(0)


def make(reserve, size, device, stream=None):
    with device.current():
        return reserve(size, device, stream)


def test_copy_to_gpu_and_back(gpu, device):
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    with ExitStack() as opening:
        stream = opening.enter_context(closing(create_stream(device)))
        here, back = make(pinned_memory, 64, device), make(pinned_memory, 48, device)
        there = make(gpu_memory, 48, device, stream)
        for buffer in (here, back, there):
            opening.callback(free, buffer)
        view(here, (3, 4), np.float32)[:] = values
        found = view(back, (3, 4), "float32")
        with device.current():
            copy("copying", there.handle, here.handle, 48, stream)
            copy("copying", back.handle, there.handle, 48, stream)
            assert not np.array_equal(found, values)
            synchronize(stream)
        assert np.array_equal(found, values)
        assert np.array_equal(view(back, (2,), np.float16), values.view(np.float16).reshape(-1)[:2])
        found[:] = 0
        with device.current():
            copy("copying", found.ctypes.data, there.handle, 48)
        assert np.array_equal(found, values)
    assert gpu.leaks == {}


@pytest.mark.parametrize("reserve", [pinned_memory, gpu_memory])
def test_memory_is_freed_once(gpu, device, reserve):
    buffer = make(reserve, 100, device)
    assert buffer.size == 100
    assert gpu.leaks != {}
    free(buffer)
    assert buffer.is_closed
    assert gpu.leaks == {}


@pytest.mark.parametrize("reserve", [pinned_memory, gpu_memory])
def test_dropped_memory_is_freed_after_its_stream(gpu, device, reserve):
    stream, order = create_stream(device), []
    buffer = make(reserve, 100, device, stream)
    gpu.streams[stream.handle].append(lambda: order.append(gpu.leaks.get("memory", 0) + gpu.leaks.get("pinned", 0)))
    del buffer
    gc.collect()
    assert order == [1]
    stream.close()
    assert gpu.leaks == {}


@pytest.mark.parametrize("call", ["cuStreamSynchronize", "cuMemFree", "cuCtxPushCurrent"])
def test_dropping_memory_of_failed_gpu_raises_nothing(gpu, device, call):
    stream = create_stream(device)
    buffer = make(gpu_memory, 100, device, stream)
    gpu.fail(call)
    del buffer
    gc.collect()
    assert ("memory" in gpu.leaks) == (call != "cuStreamSynchronize")


def test_free_raises_if_driver_fails(gpu, device):
    buffer = make(gpu_memory, 100, device)
    gpu.fail("cuMemFree")
    with pytest.raises(BackendError, match="freeing memory failed: CUDA_ERROR_ILLEGAL_ADDRESS"):
        free(buffer)


def test_array_keeps_its_memory_alive(gpu, device):
    array = pinned_array((4, 5, 3), device)
    array[:] = 7
    part = array[1:, ::2]
    del array
    gc.collect()
    assert gpu.leaks == {"pinned": 1}
    assert (part == 7).all()
    del part
    gc.collect()
    assert gpu.leaks == {}


def test_address_of_page_locked_arrays(gpu, device):
    array = pinned_array((4, 5, 3), device)
    with device.current():
        assert pinned_address(array) == array.ctypes.data
        assert pinned_address(array[1:3]) == array[1:3].ctypes.data
        assert pinned_address(array[:, 1:]) is None
        assert pinned_address(array.copy()) is None
        assert pinned_address(np.zeros((4, 5, 3), np.uint8)[1:]) is None


def test_view_larger_than_buffer_is_refused(gpu, device):
    host = make(pinned_memory, 16, device)
    with pytest.raises(BackendError, match="20 bytes does not fit into a page-locked buffer of 16"):
        view(host, (5,), np.float32)


@pytest.mark.parametrize(
    ("reserve", "name", "text"),
    [
        (pinned_memory, "cuMemHostAlloc", "page-locking 2.0 MiB of host"),
        (gpu_memory, "cuMemAlloc", "2.0 MiB on cuda:0"),
    ],
)
def test_out_of_memory(gpu, device, reserve, name, text):
    gpu.fail(name, "CUDA_ERROR_OUT_OF_MEMORY")
    with pytest.raises(BackendError, match=f"{text}.*CUDA_ERROR_OUT_OF_MEMORY"):
        make(reserve, 2 * 2**20, device)
    assert gpu.leaks == {}
