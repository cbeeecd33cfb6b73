"""How the kernels are compiled, cached and loaded, with stand-ins for cuda.core and for the driver."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest

from scrfd_trt._cuda import driver, kernels
from scrfd_trt._cuda.driver import Device
from scrfd_trt._cuda.kernels import CubinCache
from scrfd_trt.errors import BackendError

COMPILED = b"\x7fELF" + bytes(1000)
compile_kernels = kernels.compiled  # the stand-in for the driver puts another one in its place


class Core:
    """cuda.core, as far as kernels are compiled with it; its cache is ``entries``."""

    def __init__(self):
        self.entries, self.compilations, self.failing = {}, 0, None

    def install(self, monkeypatch):
        utils = SimpleNamespace(
            make_program_cache_key=lambda *, options, **_: options.arch.encode(), FileStreamProgramCache=self._cache
        )
        core = SimpleNamespace(ProgramOptions=SimpleNamespace, Program=self._program, utils=utils)
        monkeypatch.setattr(driver, "core", lambda: core)

    def _program(self, source, kind, options):
        return SimpleNamespace(compile=self._compile)

    def _compile(self, kind):
        self.compilations += 1
        return SimpleNamespace(code=COMPILED)

    def _cache(self, path):
        self.fail("open")
        return self

    def __getitem__(self, key):
        self.fail("read")
        return self.entries[key]

    def __setitem__(self, key, value):
        self.fail("write")
        self.entries[key] = value

    def fail(self, name):
        if name == self.failing:
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def core(monkeypatch, tmp_path):
    monkeypatch.setenv("SCRFD_TRT_HOME", str(tmp_path))
    core = Core()
    core.install(monkeypatch)
    return core


def test_kernels_are_compiled_once(core):
    assert [compile_kernels((9, 0)) for _ in range(3)] == [COMPILED] * 3
    assert core.compilations == 1
    compile_kernels((8, 6))
    compile_kernels((9, 0), anew=True)
    assert core.compilations == 3


@pytest.mark.parametrize("damage", [lambda entry: b"", lambda entry: entry[:500], lambda entry: bytes(len(entry))])
def test_damaged_cache_entry_is_compiled_again(core, damage):
    compile_kernels((9, 0))
    core.entries = {key: damage(entry) for key, entry in core.entries.items()}
    assert [compile_kernels((9, 0)) for _ in range(2)] == [COMPILED] * 2
    assert core.compilations == 2


@pytest.mark.parametrize("what", ["open", "read", "write"])
def test_failing_disk_does_not_prevent_compiling(core, caplog, what):
    caplog.set_level("DEBUG", "scrfd_trt")
    core.failing = what
    assert compile_kernels((9, 0)) == COMPILED
    assert "No space left on device" in caplog.text


def test_unknown_key_has_no_entry(core):
    assert CubinCache(b"other").get() is None


@pytest.fixture
def compilations(gpu, monkeypatch):
    """The kernels that are asked for, each time whether anew."""
    asked = []

    def compiled(capability, source=None, *, anew=False):
        asked.append(anew)
        return b"cubin"

    monkeypatch.setattr(kernels, "compiled", compiled)
    monkeypatch.setattr(kernels, "nvrtc_release", lambda: (13, 5))
    return asked


@pytest.mark.parametrize("call", ["cuLibraryLoadData", "cuLibraryGetKernel", "cuKernelGetFunction"])
def test_invalid_binary_is_compiled_again_once(gpu, compilations, call):
    gpu.fail(call, "CUDA_ERROR_INVALID_IMAGE", times=1)
    assert kernels.load(Device(0)) is kernels.load(Device(0))
    assert compilations == [False, True]
    assert gpu.binaries == [b"cubin"]


def test_binary_invalid_twice_names_nvrtc_and_driver(gpu, compilations):
    gpu.fail("cuLibraryGetKernel", "CUDA_ERROR_NOT_FOUND")
    with pytest.raises(BackendError, match=r"NVRTC 13\.5, .* may be newer than the driver, .* up to 13\.0: update the"):
        kernels.load(Device(0))
    assert compilations == [False, True]
    assert gpu.binaries == []


def test_out_of_memory_does_not_compile_again(gpu, compilations):
    gpu.fail("cuLibraryLoadData", "CUDA_ERROR_OUT_OF_MEMORY")
    with pytest.raises(BackendError, match=r"CUDA_ERROR_OUT_OF_MEMORY.*smaller batches"):
        kernels.load(Device(0))
    assert compilations == [False]
