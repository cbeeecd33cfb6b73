"""``bench``, and the timings of ``detect --repeat``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from scrfd_trt import DetectorOptions, SCRFDDetector
from scrfd_trt._cli.bench_cpu import AROUND_MODEL, STAGES, StagedDetection, Timings, measure_cpu, time_detect
from scrfd_trt._cli.commands.bench import PARTS, WHOLES
from scrfd_trt._pipelines import HostPipeline

Run = Callable[..., Any]
Picture = Callable[..., Path]
IMAGE = np.random.default_rng(2).integers(0, 200, (300, 500, 3)).astype(np.uint8)
IMAGE[80:200, 100:190] = 255


def test_timings() -> None:
    timings = Timings((0.001, 0.002, 0.003, 0.004))
    assert timings.median == 0.0025
    assert timings.images_per_second == pytest.approx(400)
    assert str(timings) == "400.0 images/s, median 2.500 ms (4 runs after one to warm up)"
    assert str(Timings((0.5,))) == "2.0 images/s, median 500.000 ms (1 run after one to warm up)"
    assert Timings((0.004, 0.001, 0.009)).as_dict() == {"median": 4.0, "best": 1.0}


def test_each_repetition_is_measured(spot_network: ModuleType) -> None:
    image = np.full((40, 60, 3), 255, np.uint8)
    with SCRFDDetector.from_backend(spot_network.SpotBackend(seconds=0.002), scales=64) as detector:
        faces, seconds, timings = time_detect(detector, image, 3)
        assert faces == detector.detect(image)
        assert timings is not None
        assert len(timings.seconds) == 3
        assert seconds == timings.median
        assert timings.images_per_second <= 500  # the backend sleeps
        assert time_detect(detector, image, 0)[2] is None


@pytest.mark.usefixtures("spots")
class TestDetectRepeat:
    def test_one_line_per_image(self, run: Run, picture: Picture) -> None:
        code, out, err = run("detect", picture("a.png"), "none.png", picture("b.png"), "--repeat", 2, "-f", "jsonl")
        assert code == 1
        assert out.count("\n") == 3
        timings = [line for line in err.splitlines() if "images/s" in line]
        assert [line.partition(": ")[0] for line in timings] == ["a.png", "b.png"]
        assert run("detect", "a.png", "--repeat", 2, "--quiet").err == ""

    def test_no_line_without_repeat(self, run: Run, picture: Picture) -> None:
        assert run("detect", picture()).err == ""

    def test_warning_is_printed_once(self, run: Run, picture: Picture) -> None:
        picture()
        Path("strip.png").write_bytes(cv2.imencode(".png", np.zeros((1, 9000, 3), np.uint8))[1].tobytes())
        _, _, err = run("detect", "strip.png", "spot.png", "--scale", 640, "--repeat", 4)
        assert err.count("warning: ") == 1

    @pytest.mark.parametrize("number", [0, -1, "x"])
    def test_invalid_repeat_is_refused(self, run: Run, picture: Picture, number: object) -> None:
        ran = run("detect", picture(), "--repeat", number)
        assert ran.code == 2
        assert "Invalid value for '--repeat'" in ran.error


@pytest.mark.parametrize("scales", [[640], [128, 640], [(320, 288)]])
def test_stages_give_the_faces_of_the_detector(spot_network: ModuleType, scales: list[Any]) -> None:
    options = DetectorOptions(scales=scales)
    backend = spot_network.SpotBackend()
    faces, seconds = StagedDetection(backend, HostPipeline(backend, options), options).run(IMAGE)
    with SCRFDDetector.from_backend(spot_network.SpotBackend(), scales=scales) as detector:
        assert faces == detector.detect(IMAGE)
    assert len(faces) == 1
    assert set(seconds) == {"model", *AROUND_MODEL}
    assert all(value > 0 for value in seconds.values())


def test_measure_cpu(spot_network: ModuleType) -> None:
    backend = spot_network.SpotBackend(seconds=0.002)
    figures = measure_cpu(backend, DetectorOptions(scales=[64, 96]), IMAGE, runs=4)
    assert backend.closed
    assert figures.scales == figures.inputs == ((64, 64), (96, 96))
    assert [len(each.seconds) for each in (*figures.stages.values(), figures.around, figures.detect)] == [4] * 7
    # The backend sleeps in each of the two passes.
    assert figures.stages["model"].as_dict()["best"] >= 4.0
    assert figures.detect.as_dict()["best"] >= 4.0
    total = [sum(figures.stages[name].seconds[run] for name in AROUND_MODEL) for run in range(4)]
    np.testing.assert_allclose(figures.around.seconds, total)
    assert figures.ratio == figures.detect.median / figures.stages["model"].median


def test_bench_command(run: Run, network_500m: Path) -> None:
    code, out, err = run("bench", "--device", "cpu", "--runs", 1, "--scale", 320)
    assert (code, err) == (0, "")
    assert out.startswith("a drawn scene: 1280×720")
    assert "; up to 320×320; here 320×224\n" in out
    for name in (*STAGES, "everything except the model", "detect()"):
        assert f"\n{name}  " in out
    report = json.loads(
        run("bench", "--device", "cpu", "--runs", 2, "--scale", "64,32", "--json", "--model", network_500m).out
    )
    assert report["scales"] == report["inputs"] == [[64, 64], [32, 32]]
    assert report["runs"] == 2
    assert report["model"] == network_500m.name
    assert set(report["stages"]) == {"model", *AROUND_MODEL}
    assert report["detect_to_model"] == report["detect"]["median"] / report["stages"]["model"]["median"]


@pytest.mark.slow
@pytest.mark.usefixtures("spots")
def test_bench_video(run: Run, film: Callable[..., Path]) -> None:
    code, out, err = run("bench", "--video", film(), "--runs", 1)
    assert (code, err) == (0, "")
    for name in (*PARTS, *WHOLES):
        assert f"\n{name}  " in out
    report = json.loads(run("bench", "--video", "clip.mp4", "--runs", 1, "--json").out)
    times = report["milliseconds_per_frame"]
    assert list(times) == [*PARTS, *WHOLES]
    assert times["anonymize"] > times["encode"] > 0
    assert report["ratios"]["first pass / slowest part"] == times["first pass"] / max(
        times["decode"], times["detect"], times["track"]
    )
    assert report["faces_per_frame"] > 0
    assert list(Path().iterdir()) == [Path("clip.mp4")]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["a.jpg", "--video", "clip.mp4"], 2, "--video cannot be combined with an image"),
        (["--video", "clip.mp4", "--compare", "ort-cuda"], 2, "--compare cannot be combined with --video"),
        (["--plot", "a.png", "--device", "cpu"], 2, "--plot requires a GPU"),
        (["none.jpg"], 1, "none.jpg: there is no such file"),
        (["--runs", "0"], 2, "Invalid value for '--runs'"),
        (["--scale", "100x"], 2, "--scale '100x'"),
        (["--model", "nope"], 2, "no model 'nope'"),
    ],
)
def test_usage_errors(run: Run, words: list[str], code: int, message: str) -> None:
    ran = run("bench", *words)
    assert ran.code == code
    assert message in ran.error
