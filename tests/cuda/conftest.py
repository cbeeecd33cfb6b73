from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

FAKES = Path(__file__).parents[1] / "fake_gpu.py"


@pytest.fixture(scope="session")
def fakes():
    """The module of stand-ins for a GPU, its driver and TensorRT."""
    if FAKES.stem not in sys.modules:
        spec = importlib.util.spec_from_file_location(FAKES.stem, FAKES)
        sys.modules[FAKES.stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[FAKES.stem])
    return sys.modules[FAKES.stem]


@pytest.fixture
def gpu(fakes, monkeypatch):
    """A machine with two GPUs and TensorRT 8.6.0, where nothing may be left open."""
    yield fakes.install(monkeypatch)
    fakes.uninstall()
