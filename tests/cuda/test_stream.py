from __future__ import annotations

import pytest

from scrfd_trt import BackendError, ClosedError, DeviceError, OptionError
from scrfd_trt._cuda import Device, Stream


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


def test_an_owned_stream_is_destroyed_once(gpu, device):
    with Stream.create(device) as stream:
        assert stream.owned
        assert stream.__cuda_stream__() == (0, stream.handle)
        with device.current():
            stream.synchronize()
    stream.close()
    assert gpu.calls.count("cuStreamDestroy") == 1
    assert gpu.leaks == {}
    with pytest.raises(ClosedError, match="Stream was closed"):
        stream.synchronize()


@pytest.mark.parametrize("lend", [Lent, int], ids=["protocol", "handle"])
def test_a_borrowed_stream_is_never_destroyed(gpu, device, lend):
    with Stream.create(device) as owner:
        with Stream.borrow(lend(owner.handle), device) as stream:
            assert stream.handle == owner.handle
            assert not stream.owned
            with device.current():
                stream.synchronize()
        stream.close()
        assert "cuStreamDestroy" not in gpu.calls
        with device.current():
            owner.synchronize()
    assert gpu.leaks == {}


def test_streams_lend_themselves_and_the_default_stream_is_one(gpu, device):
    with Stream.create(device) as owner:
        assert Stream.borrow(owner, device).handle == owner.handle
    assert Stream.borrow(0, device).handle == 0
    assert Stream.borrow(LentAsAttribute(), device).handle == 0


@pytest.mark.parametrize("stream", ["0", -1, True, 1.0, object()])
def test_what_is_no_stream(device, stream):
    with pytest.raises(OptionError, match="is no CUDA stream; hand in an object with __cuda_stream__"):
        Stream.borrow(stream, device)


def test_a_later_protocol(device):
    with pytest.raises(OptionError, match="version 1 of __cuda_stream__"):
        Stream.borrow(Lent(0, version=1), device)


def test_a_stream_of_another_gpu(gpu, device):
    with pytest.raises(DeviceError, match="does not belong to cuda:0"):
        Stream.borrow(0x77, device)
    assert gpu.leaks == {}


def test_a_stream_that_cannot_be_made(gpu, device):
    gpu.fail("cuStreamCreate", "CUDA_ERROR_OUT_OF_MEMORY")
    with pytest.raises(BackendError, match="making a CUDA stream failed: CUDA_ERROR_OUT_OF_MEMORY"):
        Stream.create(device)
    assert gpu.leaks == {}
