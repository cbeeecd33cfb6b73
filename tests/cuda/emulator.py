"""The kernels of the detector and of the overlays on the processor, compiled by the machine's own C++ compiler."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from overlays import _gpu
from scrfd_trt._cuda import kernels

HERE = Path(__file__).parent
FLAGS = (
    "-O2",
    "-std=c++17",
    "-shared",
    "-fPIC",
    "-ffp-contract=off",
    "-Wall",
    "-Werror",
    "-Wno-unknown-pragmas",
    "-Wno-unused-function",
)
WITH_BARRIERS = {"find_faces", "average"}


@cache
def library(source):
    """Compile a file of kernels; skips the test where there is no compiler, or fails where one is promised."""
    compiler = shutil.which("g++")
    if compiler is None:
        message = "no C++ compiler to run the kernels on the processor with"
        (pytest.fail if os.environ.get("SCRFD_TRT_REQUIRE_CPU") == "1" else pytest.skip)(message)
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "kernels.so"
        names = " ".join(f"RUN({name})" for name in source.names)
        words = [f'-DKERNELS="{source.path}"', f"-DKERNEL_NAMES={names}", str(HERE / "emulated.cpp"), "-o", str(built)]
        done = subprocess.run([compiler, *FLAGS, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found = ctypes.CDLL(str(built))
    found.run_kernel.restype = ctypes.c_char_p
    return found


def run(name, grid, block, arguments, *, falling=False):
    """Run a kernel with arguments as ctypes objects, threads in rising or falling order."""
    pointers = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(argument) for argument in arguments))
    run_at(name, grid, block, pointers, falling=falling)


def run_at(name, grid, block, pointers, *, falling=False):
    """Run a kernel with the addresses of its arguments, as ``cuLaunchKernel`` takes them."""
    sides = [(ctypes.c_uint * 3)(*side) for side in (grid, block)]
    source = _gpu.KERNELS if name in _gpu.KERNELS.names else kernels.DETECTION
    problem = library(source).run_kernel(name.encode(), *sides, pointers, falling, name in WITH_BARRIERS)
    assert problem is None, f"{name}: {problem.decode()}"
