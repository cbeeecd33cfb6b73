from __future__ import annotations

import logging

import pytest

from scrfd_trt import DeviceError, OptionError, _devices
from scrfd_trt._devices import Driver, Gpu


@pytest.fixture
def driver_is(monkeypatch):
    def put(driver):
        monkeypatch.setattr(_devices, "driver", lambda: driver)

    return put


def no_tensorrt(gpu):
    return "TensorRT is not installed"


def usable(gpu):
    return ""


NONE = Driver(None, (), "no NVIDIA driver: libcuda.so.1 is not on this machine")
ONE = Driver((13, 0), (Gpu(0, "NVIDIA H100", (9, 0)),))


@pytest.mark.parametrize("name", ["gpu0", "gpu:all", "cuda:x", "cpu:0", "auto:1", "CUDA", "", None, True, -1, 1.0])
def test_invalid_names_are_rejected_with_the_choices(name):
    with pytest.raises(OptionError, match="auto, cpu, cuda"):
        _devices.parse(name)


def test_names():
    assert _devices.parse("cuda:3") == ("cuda", 3)
    assert _devices.parse("cuda") == ("cuda", None)
    assert _devices.parse("auto") == ("auto", None)
    assert _devices.parse("gpu") == ("cuda", None)
    assert _devices.parse(0) == _devices.parse("0") == _devices.parse("gpu:0") == ("cuda", 0)


@pytest.mark.parametrize("driver", [NONE, ONE])
def test_requested_gpu_that_cannot_be_used_raises(driver_is, driver):
    driver_is(driver)
    with pytest.raises(DeviceError, match=r"'cuda:0' cannot be used: .*choices here are: auto, cpu"):
        _devices.choose("cuda:0", no_tensorrt)


def test_auto_logs_its_choice_and_the_reason(driver_is, caplog):
    driver_is(NONE)
    with caplog.at_level(logging.INFO, "scrfd_trt"):
        assert _devices.choose("auto", no_tensorrt) == "cpu"
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "libcuda.so.1 is not on this machine" in caplog.text


def test_auto_warns_if_it_does_not_use_a_gpu(driver_is, caplog):
    driver_is(ONE)
    with caplog.at_level(logging.INFO, "scrfd_trt"):
        assert _devices.choose("auto", no_tensorrt) == "cpu"
    warning = next(record for record in caplog.records if record.levelname == "WARNING")
    assert "NVIDIA H100 (cuda:0, compute capability 9.0)" in warning.getMessage()


def test_usable_gpu_is_chosen(driver_is, caplog):
    driver_is(ONE)
    with caplog.at_level(logging.INFO, "scrfd_trt"):
        assert (
            _devices.choose("auto", usable)
            == _devices.choose("cuda", usable)
            == _devices.choose("cuda:0", usable)
            == "cuda:0"
        )
    assert "NVIDIA H100" in caplog.text
    with pytest.raises(DeviceError, match=r"no GPU 1; available: NVIDIA H100"):
        _devices.choose("cuda:1", usable)


def test_cpu_logs_nothing(driver_is, caplog):
    driver_is(ONE)
    with caplog.at_level(logging.INFO, "scrfd_trt"):
        assert _devices.choose("cpu", no_tensorrt) == "cpu"
    assert not caplog.records


def test_driver_of_this_machine_has_gpus_or_a_problem():
    found = _devices.driver()
    assert bool(found.gpus) is not bool(found.problem)
