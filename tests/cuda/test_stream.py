from __future__ import annotations

import gc
import weakref
from contextlib import closing

import pytest

from scrfd_trt import BackendError, ClosedError, DeviceError, OptionError
from scrfd_trt._cuda.driver import Device
from scrfd_trt._cuda.stream import borrow_stream, create_event, create_stream, is_done, synchronize


class Lent:
    def __init__(self, handle, version=0):
        self.handle, self.version = handle, version

    def __cuda_stream__(self):
        return self.version, self.handle


class LentAsAttribute:
    __cuda_stream__ = (0, 0)


@pytest.fixture
def device(gpu):
    return Device(0)


def test_owned_stream_is_destroyed_once(gpu, device):
    with closing(create_stream(device)) as stream:
        assert stream.__cuda_stream__() == (0, stream.handle)
        with device.current():
            synchronize(stream)
    stream.close()
    assert gpu.calls.count("cuStreamDestroy") == 1
    assert gpu.leaks == {}
    with pytest.raises(ClosedError, match="waiting for the GPU failed: Stream has been closed; open a new one"):
        synchronize(stream)


def test_dropped_stream_and_event_are_destroyed(gpu, device):
    for make in (create_stream, create_event):
        made = make(device)
        assert gpu.leaks != {}
        del made
        gc.collect()
        assert gpu.leaks == {}


class Failing:
    def __init__(self, *returned):
        self.returned = returned

    def __cuda_stream__(self):
        if self.returned:
            return self.returned[0]
        raise KeyError("no stream")


@pytest.mark.parametrize(
    "stream",
    [
        Failing(),
        Failing(5),
        Failing((0,)),
        Failing((0, "x")),
        Failing((0, 2**64)),
        Failing((0, -1)),
        2**64,
        -5,
        "x",
        1.5,
    ],
)
def test_what_is_no_stream_is_rejected(device, stream):
    with pytest.raises(OptionError, match="is not a CUDA stream"):
        borrow_stream(stream, device)


@pytest.mark.parametrize("lend", [Lent, int], ids=["protocol", "handle"])
def test_borrowed_stream_is_never_destroyed(gpu, device, lend):
    with closing(create_stream(device)) as owner:
        with closing(borrow_stream(lend(owner.handle), device)) as stream:
            assert stream.handle == owner.handle
            with device.current():
                synchronize(stream)
        stream.close()
        del stream
        gc.collect()
        assert "cuStreamDestroy" not in gpu.calls
        with device.current():
            synchronize(owner)
    assert gpu.leaks == {}


def test_owner_lives_as_long_as_borrowed_stream(gpu, device):
    lender = Lent(0)
    alive = weakref.ref(lender)
    stream = borrow_stream(lender, device)
    del lender
    gc.collect()
    assert alive() is not None
    del stream
    gc.collect()
    assert alive() is None


def test_borrow_own_stream_and_default_stream(gpu, device):
    with closing(create_stream(device)) as owner:
        assert borrow_stream(owner, device).handle == owner.handle
    assert borrow_stream(0, device).handle == 0
    assert borrow_stream(LentAsAttribute(), device).handle == 0


@pytest.mark.parametrize("stream", ["0", -1, True, 1.0, object()])
def test_other_objects_are_refused(device, stream):
    with pytest.raises(OptionError, match="is not a CUDA stream; pass an object with __cuda_stream__"):
        borrow_stream(stream, device)


def test_later_protocol_version_is_refused(device):
    with pytest.raises(OptionError, match="version 1 of __cuda_stream__"):
        borrow_stream(Lent(0, version=1), device)


def test_stream_of_another_gpu_is_refused(gpu, device):
    with pytest.raises(DeviceError, match="does not belong to cuda:0"):
        borrow_stream(0x77, device)
    assert gpu.leaks == {}


@pytest.mark.parametrize("status", ["CUDA_ERROR_ILLEGAL_ADDRESS", "CUDA_SUCCESS"])
def test_failed_stream_counts_as_done(gpu, device, status):
    with closing(create_stream(device)) as stream, device.current():
        gpu.streams[stream.handle].append(lambda: None)
        assert not is_done(stream)
        gpu.fail("cuStreamQuery", status)
        assert is_done(stream) == (status != "CUDA_SUCCESS")


def test_out_of_memory_for_stream(gpu, device):
    gpu.fail("cuStreamCreate", "CUDA_ERROR_OUT_OF_MEMORY")
    with pytest.raises(BackendError, match=r"making a CUDA stream failed: CUDA_ERROR_OUT_OF_MEMORY \(what CUDA says\)"):
        create_stream(device)
    assert gpu.leaks == {}


def test_out_of_memory_for_event(gpu, device):
    gpu.fail("cuEventCreate", "CUDA_ERROR_OUT_OF_MEMORY")
    with pytest.raises(BackendError, match="making a CUDA event failed: Failed to create CUDA event"):
        create_event(device)
    assert gpu.leaks == {}
