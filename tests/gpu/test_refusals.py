"""What a real TensorRT on a real GPU must not run: a message each, and no crash."""

from __future__ import annotations

import subprocess
import sys

import pytest
from engine_backend import load_engine

from scrfd_trt import BackendError, ModelFormatError
from scrfd_trt._engine import flavours
from scrfd_trt._engine.plan import read_plan
from scrfd_trt._engine.runtime import find_runner, lean_runtime_path


def test_half_a_plan_and_zeros(plan, tmp_path):
    data = plan.read_bytes()
    for name, content in {"half": data[: len(data) // 2], "zeros": bytes(len(data))}.items():
        path = tmp_path / f"{name}.plan"
        path.write_bytes(content)
        with pytest.raises(ModelFormatError, match=r"cut off|all zeros") as caught:
            load_engine(path)
        assert "\n" not in str(caught.value)


def test_a_native_plan_of_another_release_is_refused(plan, native):
    """In a process of its own: it must end with a message, and not with a crash."""
    header = read_plan(plan).header
    if not native(plan) or any(flavour.release == header.release for flavour in flavours.installed()):
        pytest.skip("it is no native plan of another release")
    code = (
        "import sys\n"
        "from scrfd_trt import BackendError\n"
        "from scrfd_trt._engine.plan import read_plan\n"
        "from scrfd_trt._engine.runtime import opener\n"
        "try:\n"
        "    opener(read_plan(sys.argv[1]), 0)()\n"
        "except BackendError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(plan)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert plan.name in done.stdout
    assert done.stdout.count("\n") == 1


def test_a_plan_without_its_lean_runtime_is_refused(plan, opened, monkeypatch):
    runner = find_runner(read_plan(plan).header, flavours.installed(), lean_runtime=lean_runtime_path(None))
    if runner.lean_runtime is None:
        pytest.skip(f"{runner.flavour} runs it by itself")
    monkeypatch.delenv("TRT_LEAN_RUNTIME")
    with pytest.raises(BackendError, match=r"only with the lean runtime of 8.6.0: set .* to its libnvinfer_lean.so.8"):
        load_engine(plan)
