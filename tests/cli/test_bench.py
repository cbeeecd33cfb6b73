from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from scrfd_trt import DetectorOptions, SCRFDDetector
from scrfd_trt._cli.bench_cpu import AROUND, NETWORK, Stages, Times, measure
from scrfd_trt._pipelines import HostPipeline

Run = Callable[..., Any]
IMAGE = np.random.default_rng(2).integers(0, 200, (300, 500, 3)).astype(np.uint8)
IMAGE[80:200, 100:190] = 255


@pytest.mark.parametrize("scales", [[640], [128, 640], [(320, 256)]])
def test_the_stages_find_what_the_detector_finds(spot_network: ModuleType, scales: list[Any]) -> None:
    options = DetectorOptions(scales=scales)
    backend = spot_network.SpotBackend()
    faces, spent = Stages(backend, HostPipeline(backend, options), options).run(IMAGE)
    with SCRFDDetector.from_backend(spot_network.SpotBackend(), scales=scales) as detector:
        assert faces == detector.detect(IMAGE)
    assert len(faces) == 1
    assert set(spent) == {NETWORK, *AROUND}
    assert all(seconds > 0 for seconds in spent.values())


def test_a_measurement(spot_network: ModuleType) -> None:
    backend = spot_network.SpotBackend(seconds=0.002)
    measured = measure(backend, DetectorOptions(scales=[64, 96]), IMAGE, runs=4)
    assert backend.closed
    assert measured.scales == ((64, 64), (96, 96))
    assert [len(times.seconds) for times in (*measured.stages.values(), measured.around, measured.detect)] == [4] * 7
    # Two passes, each of which sleeps.
    assert measured.stages[NETWORK].best >= 4.0
    assert measured.detect.best >= 4.0
    total = [sum(stage.seconds[run] for name, stage in measured.stages.items() if name in AROUND) for run in range(4)]
    np.testing.assert_allclose(measured.around.seconds, total)
    assert measured.ratio == measured.detect.median / measured.stages[NETWORK].median


def test_times() -> None:
    times = Times((0.004, 0.001, 0.009))
    assert (times.median, times.best) == (4.0, 1.0)


def test_the_command(run: Run, network_500m: Path) -> None:
    code, out, err = run("bench", "--device", "cpu", "--runs", 1, "--scale", 64)
    assert (code, err) == (0, "")
    assert out.startswith("a drawn scene: 1280×720")
    for name in ("letterbox", NETWORK, "decode", "nms", "result", "around the network", "detect()"):
        assert f"\n{name}  " in out
    told = json.loads(
        run("bench", "--device", "cpu", "--runs", 2, "--scale", "64,32", "--json", "--model", network_500m).out
    )
    assert told["scales"] == [[64, 64], [32, 32]]
    assert told["runs"] == 2
    assert told["network"] == network_500m.name
    assert set(told["stages"]) == {NETWORK, *AROUND}
    assert told["detect_to_network"] == told["detect"]["median"] / told["stages"][NETWORK]["median"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["none.jpg"], 1, "none.jpg: there is no such file"),
        (["--runs", "0"], 2, "Invalid value for '--runs'"),
        (["--scale", "100"], 2, "--scale '100'"),
        (["--model", "nope"], 2, "no model 'nope'"),
    ],
)
def test_wrong_use(run: Run, words: list[str], code: int, message: str) -> None:
    ran = run("bench", *words)
    assert ran.code == code
    assert message in ran.error
