from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from scrfd_trt import SCRFDDetector
from scrfd_trt._cli.bench_cpu import Pace, find

Run = Callable[..., Any]
Picture = Callable[..., Path]


def test_a_pace() -> None:
    pace = Pace((0.001, 0.002, 0.003, 0.004))
    assert pace.median == 0.0025
    assert pace.images_per_second == pytest.approx(400)
    assert str(pace) == "400.0 images/s, median 2.500 ms (4 runs after one to warm up)"
    assert str(Pace((0.5,))) == "2.0 images/s, median 500.000 ms (1 run after one to warm up)"


def test_each_repetition_is_measured(spot_network: ModuleType) -> None:
    image = np.full((40, 60, 3), 255, np.uint8)
    with SCRFDDetector.from_backend(spot_network.SpotBackend(seconds=0.002), scales=64) as detector:
        faces, seconds, pace = find(detector, image, 3)
        assert faces == detector.detect(image)
        assert pace is not None
        assert len(pace.seconds) == 3
        assert seconds == pace.median
        # Each sleeps.
        assert pace.images_per_second <= 500
        assert find(detector, image, 0)[2] is None


@pytest.mark.usefixtures("spots")
class TestDetect:
    def test_a_line_for_each_image(self, run: Run, picture: Picture) -> None:
        code, out, err = run("detect", picture("a.png"), "none.png", picture("b.png"), "--repeat", 2, "--json")
        assert code == 1
        assert out.count("\n") == 3
        paces = [line for line in err.splitlines() if "images/s" in line]
        assert [line.partition(": ")[0] for line in paces] == ["a.png", "b.png"]
        assert run("detect", "a.png", "--repeat", 2, "--quiet").err == ""

    def test_without_it_nothing_is_told(self, run: Run, picture: Picture) -> None:
        assert run("detect", picture()).err == ""

    def test_a_warning_is_given_once(self, run: Run, picture: Picture) -> None:
        picture()
        Path("strip.png").write_bytes(cv2.imencode(".png", np.zeros((1, 9000, 3), np.uint8))[1].tobytes())
        _, _, err = run("detect", "strip.png", "spot.png", "--scale", 640, "--repeat", 4)
        assert err.count("warning: ") == 1

    @pytest.mark.parametrize("number", [0, -1, "x"])
    def test_wrong_numbers(self, run: Run, picture: Picture, number: object) -> None:
        ran = run("detect", picture(), "--repeat", number)
        assert ran.code == 2
        assert "Invalid value for '--repeat'" in ran.error
