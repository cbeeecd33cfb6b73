from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scrfd_trt import BackendError, DeviceError, MissingDependencyError
from scrfd_trt._cuda import Device, DeviceBuffer, driver

ROOT = Path(__file__).parents[2]
USED = [
    "cuInit",
    "cuDeviceGet",
    "cuDevicePrimaryCtxRetain",
    "cuCtxPushCurrent",
    "cuCtxPopCurrent",
    "cuStreamCreate",
    "cuStreamDestroy",
    "cuStreamGetCtx",
    "cuStreamSynchronize",
    "cuMemAlloc",
    "cuMemFree",
    "cuMemHostAlloc",
    "cuMemFreeHost",
    "cuMemcpyHtoDAsync",
    "cuMemcpyDtoHAsync",
    "cuGetErrorString",
]


def test_what_is_used_is_there():
    real = pytest.importorskip("cuda.bindings.driver")
    assert [name for name in USED if not hasattr(real, name)] == []
    assert [name for name in (*driver.NO_DEVICE, *driver.ADVICE) if not hasattr(real.CUresult, name)] == []
    assert real.CUstream_flags.CU_STREAM_NON_BLOCKING == 1
    assert real.CU_MEMHOSTALLOC_PORTABLE == 1


def test_without_cuda_python_it_says_what_to_install(monkeypatch):
    driver.bindings.cache_clear()
    monkeypatch.setitem(sys.modules, "cuda", None)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "scrfd-trt\[cuda\]"') as caught:
        driver.call("cuInit", 0, doing="starting")
    assert isinstance(caught.value.__cause__, ImportError)


def test_nothing_of_nvidias_is_imported_before_it_is_needed():
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
def test_an_error_has_its_name_and_what_to_do(gpu, status, kind, advice):
    gpu.fail("cuMemAlloc", status)
    with pytest.raises(kind, match=rf"^reserving 3.0 MiB on cuda:0 failed: {status} \(what CUDA says\); .*{advice}"):
        DeviceBuffer(3 * 2**20, Device(0))
    assert gpu.leaks == {}


def test_a_driver_that_is_not_there(gpu, monkeypatch):
    class NoDriver:
        def cuInit(self, flags):
            raise RuntimeError("the library\ncuda was not found")

    monkeypatch.setattr(driver, "bindings", NoDriver)
    with pytest.raises(DeviceError, match=r"^opening cuda:0 failed: the library cuda was not found; is the NVIDIA"):
        Device(0)
