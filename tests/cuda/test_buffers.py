from __future__ import annotations

import numpy as np
import pytest

from scrfd_trt import BackendError, ClosedError
from scrfd_trt._cuda import Device, DeviceBuffer, PinnedBuffer, Stream


@pytest.fixture
def device(gpu):
    return Device(0)


def test_there_and_back(gpu, device):
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    with (
        Stream.create(device) as stream,
        PinnedBuffer(64, device) as here,
        PinnedBuffer(48, device) as back,
        DeviceBuffer(48, device) as there,
    ):
        here.view((3, 4), np.float32)[:] = values
        found = back.view((3, 4), "float32")
        with device.current():
            there.upload(here, 48, stream)
            there.download(back, 48, stream)
            assert not np.array_equal(found, values)
            stream.synchronize()
        assert np.array_equal(found, values)
        assert np.array_equal(back.view((2,), np.float16), values.view(np.float16).reshape(-1)[:2])
    assert gpu.leaks == {}


@pytest.mark.parametrize("kind", [PinnedBuffer, DeviceBuffer])
def test_memory_is_given_back_once(gpu, device, kind):
    with kind(100, device) as buffer:
        assert buffer.size == 100
        assert not buffer.closed
    buffer.close()
    assert buffer.closed
    assert gpu.leaks == {}
    with pytest.raises(ClosedError, match=f"the {kind.__name__} was closed"):
        _ = buffer.handle


def test_nothing_reaches_beyond_the_memory(gpu, device):
    with Stream.create(device) as stream, PinnedBuffer(16, device) as host, DeviceBuffer(8, device) as there:
        with pytest.raises(BackendError, match="20 bytes does not fit into a page-locked buffer of 16"):
            host.view((5,), np.float32)
        with pytest.raises(BackendError, match="cannot copy 12 bytes between buffers of 8 and 16"):
            there.upload(host, 12, stream)
        with pytest.raises(BackendError, match="cannot copy 9 bytes"):
            there.download(host, 9, stream)
    assert gpu.leaks == {}


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        (PinnedBuffer, "cuMemHostAlloc", "page-locking 2.0 MiB of host"),
        (DeviceBuffer, "cuMemAlloc", "2.0 MiB on cuda:0"),
    ],
)
def test_not_enough_memory(gpu, device, kind, name, text):
    gpu.fail(name, "CUDA_ERROR_OUT_OF_MEMORY")
    with pytest.raises(BackendError, match=f"{text}.*CUDA_ERROR_OUT_OF_MEMORY"):
        kind(2 * 2**20, device)
    assert gpu.leaks == {}
