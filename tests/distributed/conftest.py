"""A detector with a fake model, and small pictures with a face at a place of its own."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from scrfd_trt import SCRFDDetector

PROGRAM = Path(__file__).parents[1] / "cli" / "spot_network.py"


@pytest.fixture(scope="session")
def spot_detector() -> Iterator[SCRFDDetector]:
    """A detector of a white spot."""
    spec = importlib.util.spec_from_file_location("spot_network", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with SCRFDDetector.from_backend(module.SpotBackend(), scales=[(160, 160)]) as detector:
        yield detector


@pytest.fixture(scope="session")
def spot() -> Callable[[int], bytes]:
    """Return a function that makes a PNG with a spot at a place that its number gives."""

    def make(number: int) -> bytes:
        image = np.full((60, 80, 3), 60, np.uint8)
        image[20:40, 2 + number : 22 + number] = 255
        return cv2.imencode(".png", image)[1].tobytes()

    return make
