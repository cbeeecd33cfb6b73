"""Where the engines, photographs and reference results are, and a GPU to run them on.

``SCRFD_TRT_SHARED`` names the folder with ``images``, ``reference`` and ``engines``, in place of ``../shared``;
``SCRFD_TRT_ENGINES`` another folder of engines. With ``SCRFD_TRT_REQUIRE_GPU=1`` what is missing is a failure; PyTorch
may still be missing with ``SCRFD_TRT_WITHOUT_TORCH=1``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest
from engine_backend import EngineBackend

from scrfd_trt import _devices, models
from scrfd_trt._cuda import driver
from scrfd_trt._engine import flavours
from scrfd_trt._engine.plan import read_plan
from scrfd_trt.errors import ScrfdError

GPU_IS_PROMISED = os.environ.get("SCRFD_TRT_REQUIRE_GPU") == "1"
TORCH_IS_PROMISED = GPU_IS_PROMISED and os.environ.get("SCRFD_TRT_WITHOUT_TORCH") != "1"
SHARED = Path(os.environ.get("SCRFD_TRT_SHARED") or Path(__file__).resolve().parents[3] / "shared")
ENGINES = Path(os.environ.get("SCRFD_TRT_ENGINES") or SHARED / "engines")


def lack(what: str, *, promised: bool = GPU_IS_PROMISED) -> NoReturn:
    """Skip a test because something is missing; fail it if that is required."""
    (pytest.fail if promised else pytest.skip)(what)


def what_is_missing() -> str:
    """Return why no engine can run here; empty if one can."""
    problem = _devices.driver().problem
    try:
        driver.bindings()
        flavours.choose()
    except ScrfdError as error:
        problem = problem or str(error)
    if not problem and not any(ENGINES.glob("*.plan")):
        problem = f"there are no engines in {ENGINES}"
    return problem


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session", autouse=True)
def _on_a_gpu():
    if problem := what_is_missing():
        lack(problem)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of photographs and reference results."""
    for name in ("images", "reference"):
        if not (SHARED / name).is_dir():
            lack(f"there is no folder {SHARED / name}")
    return SHARED


@pytest.fixture(scope="session")
def network_500m(shared) -> Path:
    """The 500M network's file: of the package that carries it, or among the shared networks."""
    found = models.find("500m_bnkps")
    path = found.path if found else shared / "models" / "scrfd_500m_bnkps.onnx"
    if not path.is_file():
        lack(f"the 500M network is not here: {path}")
    return path


@pytest.fixture(scope="session")
def torch():
    """PyTorch, with a GPU that it can use."""
    try:
        import torch
    except ImportError as error:
        lack(f"PyTorch is not here: {error}", promised=TORCH_IS_PROMISED)
    if not torch.cuda.is_available():
        lack("this PyTorch cannot use the GPU", promised=TORCH_IS_PROMISED)
    return torch


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that has the argument ``plan`` with every engine."""
    if "plan" in metafunc.fixturenames:
        plans = sorted(ENGINES.glob("*.plan")) or [Path("none.plan")]
        metafunc.parametrize("plan", plans, ids=[path.stem for path in plans], scope="module")


MIXING = {"25g_grid_fp16_vc0", "25g_grid_fp16_vc2"}
"""Engines of ``../shared`` whose own network mixes the images of a batch.

The first image is right; the others' scores are off by up to 0.6 against ONNX Runtime, on 8.6.0 and 10.16 alike, unless
all images are the same. Engines built from the same network by this project are right.
"""


def is_native(plan) -> bool:
    """Return whether only the release that built an engine runs it."""
    known = read_plan(plan).version_compatible
    return "_vc0" in plan.stem if known is None else not known


@pytest.fixture(scope="module")
def opened(plan):
    """A backend of each engine that the installed TensorRT can run."""
    header = read_plan(plan).header
    own = any(flavour.release == header.release and flavour.can_build for flavour in flavours.installed())
    if is_native(plan) and not own:
        pytest.skip(f"only {header} runs it")
    with EngineBackend(plan) as backend:
        yield backend


@pytest.fixture(scope="module")
def is_mixing(plan) -> bool:
    """Whether the engine mixes the images of a batch."""
    return plan.stem in MIXING


@pytest.fixture(scope="session")
def native():
    """The function that returns whether only the release that built a plan runs it."""
    return is_native
