"""``scrfd-trt evaluate`` detects, scores, goes on after it was killed, and compares two runs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

from .conftest import BOX

pytestmark = [pytest.mark.usefixtures("spots"), pytest.mark.slow]
Run = Callable[..., Any]
Picture = Callable[..., Path]
SPOTS = Path(__file__).with_name("spot_network.py")
EVALUATE = ("evaluate", "in", "labels.json")
AP = 84 / 101
"""Five of six faces are found before anything else, which is the precision at recalls from 0 to 0.83."""


@pytest.fixture
def labelled(picture: Picture) -> None:
    """Six labelled faces, of which the last one has no spot, and a spot without a label."""
    boxes = {f"{number}.png": [[BOX[0], BOX[1], BOX[2] - BOX[0], BOX[3] - BOX[1]]] for number in range(6)} | {
        "6.png": []
    }
    for name in boxes:
        picture(f"in/{name}", box=None if name == "5.png" else BOX)
    images = [{"id": number, "file_name": name} for number, name in enumerate(boxes)]
    faces = [{"image_id": n, "category_id": 1, "bbox": box} for n, each in enumerate(boxes.values()) for box in each]
    labels = {"images": images, "annotations": faces, "categories": [{"id": 1, "name": "face"}]}
    Path("labels.json").write_text(json.dumps(labels))


def found(ran: Any) -> dict[str, Any]:
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


@pytest.mark.usefixtures("labelled")
def test_scores_of_a_run_and_of_its_files_are_equal(run: Run) -> None:
    figures = found(run(*EVALUATE, "-o", "run.jsonl", "--save-wider", "text", "--json"))
    assert (figures["images"], figures["faces"]) == (7, 6)
    (one,) = figures["runs"]
    assert one["ap"] == pytest.approx({"AP50": AP, "AP": AP})
    assert (one["at"][0]["recall"], one["at"][0]["precision"]) == pytest.approx((5 / 6, 5 / 6))
    assert one["at"][0]["sizes"] == [{"low": 64, "high": 128, "faces": 6, "found": 5}]
    for files in ("run.jsonl", "text"):
        again = run("evaluate", "nowhere", "labels.json", "--detections", files, "--json")
        assert found(again)["runs"][0]["ap"] == one["ap"]
        assert "the lowest score is 0.88" in again.err
    Path("in/0.png").unlink()
    ran = run(*EVALUATE)
    assert ran.code == 1
    assert "0.png: there is no such file" in ran.err
    assert "no predictions of 1 labelled image" in ran.err
    assert "64 to 128 pixels       6" in ran.out


@pytest.mark.usefixtures("labelled")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of matplotlib's parsers
def test_two_runs_are_compared_face_by_face(run: Run) -> None:
    pytest.importorskip("matplotlib")
    found(run(*EVALUATE, "-o", "ours.jsonl", "--json"))
    lines = [json.loads(line) for line in Path("ours.jsonl").read_text().splitlines()]
    lines[5]["faces"], lines[0]["faces"] = lines[0]["faces"], []
    Path("theirs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    words = ("--detections", "ours.jsonl", "--against", "theirs.jsonl", "--plot", "p.png", "--sheet", "s.png")
    ran = run(*EVALUATE, *words)
    assert "both find 4 faces, only ours 1, only theirs 1, and neither 0" in ran.out
    assert "wrote s.png: 2 of the 2 faces that one run alone finds" in ran.err
    sheet = cv2.imread("s.png")
    assert sheet.shape == (228, 356, 3)
    assert (sheet[92, 92] == 255).all()  # the spot of the first one's face, and none of the second one's
    assert (sheet[92, 264] < 128).all()
    assert cv2.imread("p.png").shape[0] > 300
    assert "p.png already exists" in run(*EVALUATE, *words).error
    assert found(run(*EVALUATE, *words, "--overwrite", "--json"))["only"] == [1, 1]
    ran = run(*EVALUATE, "--detections", "ours.jsonl", "--against", "ours.jsonl", "--sheet", "t.png")
    assert "both runs find the same faces" in ran.err
    assert not Path("t.png").exists()


@pytest.mark.usefixtures("labelled")
def test_run_goes_on_after_it_is_killed(run: Run) -> None:
    args = [*EVALUATE, "-o", "run.jsonl", "--resume", "--json"]
    with subprocess.Popen([sys.executable, str(SPOTS), "0.2", *args], stderr=subprocess.PIPE) as process:
        part, until = Path("run.jsonl.part"), time.monotonic() + 120
        while not part.exists() or part.stat().st_size < 200:
            assert time.monotonic() < until
            time.sleep(0.02)
        process.kill()
    ran = run(*args)
    assert found(ran)["runs"][0]["ap"] == pytest.approx({"AP50": AP, "AP": AP})
    assert "done before" in ran.err
    assert len(Path("run.jsonl").read_text().splitlines()) == 7
    assert "threshold 0.02" in run(*args, "--threshold", "0.1").error


@pytest.mark.usefixtures("labelled")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--sheet", "s.png"), "--sheet requires --against"),
        (("--detections", "labels.json", "-o", "a.jsonl"), "--output has no effect with --detections"),
        (("-o", "a.csv"), "predictions are JSON lines"),
        (("-o", "labels.json", "--overwrite"), "labels.json is an input"),
        (("--save-wider", "in"), "the folder is not empty"),
        (("--category", "hat"), "there are 1 (face); see --category"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(run: Run, words: tuple[str, ...], message: str) -> None:
    assert message in run(*EVALUATE, *words).error


@pytest.mark.usefixtures("labelled")
def test_folder_without_labelled_images_is_refused(run: Run) -> None:
    Path("empty").mkdir()
    assert "empty has none of the 7 labelled images, such as 0.png" in run("evaluate", "empty", "labels.json").error


@pytest.mark.usefixtures("labelled")
def test_images_may_lie_in_one_folder(run: Run) -> None:
    labels = json.loads(Path("labels.json").read_text())
    for image in labels["images"]:
        image["file_name"] = f"event/{image['file_name']}"
    Path("labels.json").write_text(json.dumps(labels))
    assert found(run(*EVALUATE, "-o", "run.jsonl", "--json"))["runs"][0]["ap"]["AP"] == pytest.approx(AP)
    assert found(run(*EVALUATE, "--detections", "run.jsonl", "--json"))["runs"][0]["ap"]["AP"] == pytest.approx(AP)
