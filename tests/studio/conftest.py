"""A folder for the files of a page, a detector, and sessions without a web server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scrfd_trt import SCRFDDetector
from scrfd_trt._studio.temporary_files import TemporaryFolder


@pytest.fixture
def folder() -> Iterator[TemporaryFolder]:
    """A temporary folder that is deleted after the test."""
    made = TemporaryFolder()
    yield made
    made.close()


@pytest.fixture(scope="session")
def detector(network_500m: Path) -> Iterator[SCRFDDetector]:
    with SCRFDDetector.from_onnx(network_500m, threshold=0.05, device="cpu") as opened:
        yield opened


@pytest.fixture
def session(detector: SCRFDDetector, folder: TemporaryFolder, network_500m: Path) -> Iterator[Any]:
    """A session that searches no file by itself."""
    pytest.importorskip("starlette")
    from scrfd_trt._studio.session import Budget, Session

    made = Session(detector, folder, str(network_500m), Budget(64 << 20))
    yield made
    made.close()


@pytest.fixture
def look() -> Callable[[Any], Any]:
    """Take all looks at a file."""
    pytest.importorskip("starlette")
    from scrfd_trt._studio.session import search

    def all_looks(item: Any) -> Any:
        while search(item):
            pass
        return item

    return all_looks
