from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scrfd_trt import BackendError, ClosedError, DeviceError, MissingDependencyError
from scrfd_trt._cuda import driver, memory, stream
from scrfd_trt._cuda.driver import Device
from scrfd_trt._cuda.memory import gpu_memory
from scrfd_trt.errors import installable

ROOT = Path(__file__).parents[2]
USED = [
    "cuCtxGetCurrent",
    "cuCtxPopCurrent",
    "cuCtxPushCurrent",
    "cuCtxSetCurrent",
    "cuEventRecord",
    "cuEventRecordWithFlags",
    "cuGetErrorString",
    "cuInit",
    "cuKernelGetFunction",
    "cuLaunchKernel",
    "cuMemAlloc",
    "cuMemFree",
    "cuMemFreeHost",
    "cuMemGetInfo",
    "cuMemHostAlloc",
    "cuMemHostRegister",
    "cuMemHostUnregister",
    "cuMemcpy",
    "cuMemcpyAsync",
    "cuPointerGetAttribute",
    "cuStreamQuery",
    "cuStreamWaitEvent",
    "cuThreadExchangeStreamCaptureMode",
]


def test_driver_functions_exist_with_the_same_arguments(gpu, fakes):
    """The driver's functions that are called directly, with what each takes and returns beside its status."""
    real = pytest.importorskip("cuda.bindings.driver")
    assert [name for name in USED if not hasattr(real, name)] == []
    assert [name for name in (*driver.NO_DEVICE, *driver.ADVICE) if not hasattr(real.CUresult, name)] == []
    assert real.CU_MEMHOSTALLOC_PORTABLE == memory.PORTABLE
    assert int(real.CUevent_record_flags.CU_EVENT_RECORD_EXTERNAL) == stream.AT_LAUNCH
    assert int(real.CUevent_wait_flags.CU_EVENT_WAIT_EXTERNAL) == stream.AT_LAUNCH
    assert int(real.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED) == 2
    for name in USED:
        stand_in = inspect.signature(getattr(fakes.FakeDriver, name)).parameters
        described = getattr(real, name).__doc__.splitlines()[0]
        assert len(stand_in) - 1 == described.count(",") + (not described.endswith("()")), described


def test_no_other_driver_function_is_called():
    paths = [path for path in (ROOT / "scrfd_trt").rglob("*.py") if path.name != "_devices.py"]  # it needs no package
    sources = [path.read_text("utf-8") for path in paths]
    called = {name for source in sources for name in re.findall(r"\.(cu[A-Z]\w+)", source)}
    assert sorted(called) == sorted(set(USED))


def test_missing_package_names_install_command(monkeypatch):
    for find, name, package in (
        (driver.bindings, "cuda.bindings.driver", "cuda-python"),
        (driver.core, "cuda.core", "cuda-core 1.2 or newer"),
    ):
        find.cache_clear()
        monkeypatch.setitem(sys.modules, name, None)
        command = installable('pip install "scrfd-trt[cuda]"')
        message = rf"an NVIDIA GPU needs {package} \(.*\): {re.escape(command)}$"
        with pytest.raises(MissingDependencyError, match=message) as caught:
            find()
        assert isinstance(caught.value.__cause__, ImportError)


def test_nvidia_packages_are_imported_when_first_used():
    code = (
        "import sys, scrfd_trt._pipelines.factory, scrfd_trt._engine.inspect\n"
        "packages = {name.split('.')[0] for name in sys.modules}\n"
        "print(*(name for name in packages if name.startswith(('cuda', 'tensorrt', 'onnx'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("status", "kind", "advice"),
    [
        ("CUDA_ERROR_OUT_OF_MEMORY", BackendError, "use smaller batches"),
        ("CUDA_ERROR_ILLEGAL_ADDRESS", BackendError, "start the process again"),
        ("CUDA_ERROR_INVALID_VALUE", BackendError, "may say more"),
        ("CUDA_ERROR_NO_DEVICE", DeviceError, "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_error_has_name_and_advice(gpu, status, kind, advice):
    gpu.fail("cuMemAlloc", status)
    message = rf"^reserving 3.0 MiB on cuda:0 failed: {status} \(what CUDA says\); .*{advice}"
    with pytest.raises(kind, match=message), Device(0).current():
        gpu_memory(3 * 2**20, Device(0))
    assert gpu.leaks == {}


class DynamicLibNotFoundError(RuntimeError):
    """What cuda.pathfinder raises."""


def test_missing_driver_library(gpu, monkeypatch):
    def no_driver(index):
        raise DynamicLibNotFoundError("the library\ncuda was not found")

    monkeypatch.setattr(driver.core(), "Device", no_driver)
    with pytest.raises(DeviceError, match=r"^opening cuda:0 failed: the library cuda was not found; is the NVIDIA"):
        Device(0)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            "CUDA_ERROR_OUT_OF_MEMORY: The call failed. It\nneeds more.",
            BackendError,
            r"OUT_OF_MEMORY \(The call failed\)",
        ),
        (
            "CUDA_ERROR_NO_DEVICE: There is none.",
            DeviceError,
            r"CUDA_ERROR_NO_DEVICE \(There is none\); is CUDA_VISIBLE",
        ),
        ("Buffer has been closed", ClosedError, "Buffer has been closed; open a new one"),
        ("Failed to create\nan event", BackendError, "Failed to create an event; nvidia-smi"),
    ],
)
def test_cuda_core_errors_are_translated(error, kind, message):
    def fail(first, second):
        assert (first, second) == (1, 2)
        raise RuntimeError(error)

    with pytest.raises(kind, match=f"^doing it failed: .*{message}") as caught:
        driver.call("doing it", fail, 1, 2)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert "\n" not in str(caught.value)


def test_capture_mode_is_restored(gpu, fakes):
    gpu.stack.mode = 1
    with driver.RelaxedCapture():
        assert gpu.is_relaxed
    assert gpu.stack.mode == 1


def test_capture_mode_after_gpu_failure_raises_nothing(gpu, fakes):
    gpu.fail("cuThreadExchangeStreamCaptureMode")
    with driver.RelaxedCapture():
        assert not gpu.is_relaxed
