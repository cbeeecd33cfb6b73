from __future__ import annotations

import types

import pytest

from scrfd_trt import BackendError, MissingDependencyError, OptionError
from scrfd_trt._devices import Gpu
from scrfd_trt._engine import flavours
from scrfd_trt._engine.flavours import Flavour
from scrfd_trt._engine.plan import PlanHeader
from scrfd_trt._engine.runtime import check_gpu, find_runner

FULL, LEAN, DISPATCH, RTX = "tensorrt", "tensorrt_lean", "tensorrt_dispatch", "tensorrt_rtx"


def flavour(name, version):
    return Flavour(name, version, types.ModuleType(name), name in {FULL, RTX})


def built_by(*version, family=FULL):
    return PlanHeader(family, (*version, 12))


@pytest.fixture(autouse=True)
def _nothing_else_is_installed(monkeypatch):
    monkeypatch.setattr(flavours, "problems", dict)


@pytest.fixture
def lean(tmp_path):
    path = tmp_path / "libnvinfer_lean.so.8"
    path.write_bytes(b"a library")
    return path


@pytest.mark.parametrize(
    ("header", "installed", "chosen"),
    [
        (built_by(8, 6, 0), [(FULL, "8.6.0")], 0),
        (built_by(8, 6, 0), [(FULL, "10.16.1.11"), (LEAN, "8.6.0"), (DISPATCH, "8.6.0")], 1),
        (built_by(10, 16, 1), [(RTX, "1.7.1.116"), (FULL, "10.16.1.11")], 1),
        (built_by(1, 7, 1, family=RTX), [(FULL, "10.16.1.11"), (RTX, "1.7.1.116")], 1),
    ],
)
def test_same_release_needs_no_lean_runtime(header, installed, chosen, lean):
    found = [flavour(*each) for each in installed]
    for lean_runtime in (None, lean):
        runner = find_runner(header, found, lean_runtime=lean_runtime)
        assert runner.flavour is found[chosen]
        assert runner.lean_runtime is None


@pytest.mark.parametrize(
    ("header", "installed", "chosen"),
    [
        (built_by(8, 6, 0), [(LEAN, "10.16.1.11"), (DISPATCH, "10.16.1.11")], 1),
        (built_by(8, 6, 0), [(DISPATCH, "10.16.1.11"), (FULL, "8.6.1")], 1),
        (built_by(8, 6, 0), [(DISPATCH, "8.6.0")], 0),
        (built_by(10, 3, 0), [(DISPATCH, "11.4.0.106")], 0),
        (built_by(8, 6, 0), [(FULL, "11.4.0.106"), (DISPATCH, "10.16.1.11")], 1),
    ],
)
def test_newer_release_needs_lean_runtime(header, installed, chosen, lean):
    found = [flavour(*each) for each in installed]
    runner = find_runner(header, found, lean_runtime=lean)
    assert (runner.flavour, runner.lean_runtime) == (found[chosen], lean.resolve())
    assert find_runner(header, found, allow_host_code=True).lean_runtime is None
    with pytest.raises(BackendError, match=r"only with the lean runtime of .*lean_runtime= or TRT_LEAN_RUNTIME"):
        find_runner(header, found)
    with pytest.raises(BackendError, match=r"cannot run; build it again .* pip install"):
        find_runner(header, found, lean_runtime=lean, version_compatible=False)


@pytest.mark.parametrize(
    ("header", "installed"),
    [
        (built_by(10, 16, 1), [(FULL, "8.6.0")]),
        (built_by(8, 6, 0), [(FULL, "11.4.0.106")]),
        (built_by(8, 5, 3), [(FULL, "8.6.0")]),
        (built_by(10, 16, 1), [(DISPATCH, "10.3.0")]),
        (built_by(1, 4, 0, family=RTX), [(RTX, "1.7.1.116")]),
    ],
)
def test_incompatible_releases(header, installed, lean):
    with pytest.raises(
        BackendError, match=rf"^{header} built it, which .* cannot run; build it again .*, or pip install"
    ):
        find_runner(header, [flavour(*each) for each in installed], lean_runtime=lean, allow_host_code=True)


def test_missing_family():
    with pytest.raises(
        MissingDependencyError, match=r'RTX 1.7.1, and tensorrt 8.6.0 cannot run it: pip install "tensorrt-'
    ):
        find_runner(built_by(1, 7, 1, family=RTX), [flavour(FULL, "8.6.0")])
    with pytest.raises(
        MissingDependencyError, match=r'needs TensorRT 8.6.0, and none is installed: pip .*"tensorrt==8.6.0.\*"'
    ):
        find_runner(built_by(8, 6, 0), [])


def test_broken_installation_is_reported(monkeypatch):
    monkeypatch.setattr(
        flavours,
        "problems",
        lambda: {FULL: "installed, but cannot be loaded: libcudnn.so.8", LEAN: flavours.NOT_INSTALLED},
    )
    with pytest.raises(MissingDependencyError, match=r"none is installed; tensorrt is inst.* but .*libcudnn.so.8: pip"):
        find_runner(built_by(8, 6, 0), [])


def test_missing_lean_runtime(tmp_path):
    with pytest.raises(OptionError, match=r"no such file; correct lean_runtime= or TRT_LEAN_RUNTIME"):
        find_runner(built_by(8, 6, 0), [flavour(FULL, "10.3.0")], lean_runtime=tmp_path / "missing.so")


@pytest.mark.parametrize(
    ("built_for", "unlisted", "own", "fits"),
    [
        ((), False, (9, 0), True),
        (((9, 0),), False, (9, 0), True),
        (((9, 0),), False, (8, 6), False),
        (((8, 0), (8, 6)), False, (9, 0), False),
        (((8, 0), (8, 6)), True, (11, 0), True),
        (((8, 0), (8, 6)), True, (7, 5), False),
    ],
)
def test_check_gpu(built_for, unlisted, own, fits):
    gpu = Gpu(0, "Some GPU", own)
    if fits:
        check_gpu(built_for, gpu, unlisted=unlisted)
    else:
        with pytest.raises(BackendError, match=r"built for compute capability .*, and this GPU is Some GPU \(cuda:0"):
            check_gpu(built_for, gpu, unlisted=unlisted)
