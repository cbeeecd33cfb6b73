from __future__ import annotations

import threading

import pytest

from scrfd_trt import DeviceError, _devices
from scrfd_trt._cuda.driver import Device


def test_device_is_current_only_within_its_block(gpu):
    one, other = Device(0), Device(1)
    with one.current():
        with other.current():
            assert gpu.current == [one.context, other.context]
        assert gpu.current == [one.context]
        with one.current():
            assert gpu.current == [one.context] * 2
    assert gpu.current == []


def test_each_thread_has_its_own_current_device(gpu):
    device = Device(0)
    seen = []
    with device.current():
        thread = threading.Thread(target=lambda: seen.append(list(gpu.current)))
        thread.start()
        thread.join()
    assert seen == [[]]


def test_previous_context_is_restored_after_error(gpu):
    gpu.fail("cuCtxPopCurrent")
    with pytest.raises(ZeroDivisionError), Device(0).current():
        _ = 1 / 0
    assert gpu.current == []


def test_primary_context_is_retained_once(gpu):
    for _ in range(3):
        assert Device(1).context == Device(1).context
    assert gpu.calls.count("cuDevicePrimaryCtxRetain") == 1
    assert "Fake H100" in repr(Device(0))


def test_missing_gpu_lists_the_others(gpu):
    with pytest.raises(DeviceError, match=r"^cuda:2 cannot be used: the GPUs are: Fake H100 \(cuda:0.*cuda:1"):
        Device(2)


def test_machine_without_gpu(gpu, monkeypatch):
    monkeypatch.setattr(_devices, "driver", lambda: _devices.Driver(None, (), "no NVIDIA driver"))
    with pytest.raises(DeviceError, match=r"^cuda:0 cannot be used: no NVIDIA driver$"):
        Device(0)
    assert gpu.calls == []
