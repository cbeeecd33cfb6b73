"""``anonymize --verify``: what is printed of the searches of copies, and the exit code."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scrfd_trt._cli.video_report import print_searches
from scrfd_trt.video import _copy_search
from scrfd_trt.video._copy_search import CopySearch, FoundFace

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("spots", "known_overlays")]

Run = Callable[..., Any]
MISSED = ("--verify", "--threshold", "0.9", "--replace-with", "solid")
"""Spots have a lower score, so that only the search of the copy finds them."""


def lines(ran: Any) -> list[str]:
    return [re.sub(r"in [\d.]+ s", "in T s", line) for line in ran.err.splitlines()]


def test_images_are_searched(run: Run, picture: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    picture()
    ran = run("anonymize", "spot.png", "-o", "a.png", *MISSED, "--save-detections", "f.jsonl")
    assert (ran.code, lines(ran)) == (
        0,
        ["wrote a.png: 1 face", "searched a.png in T s: 1 uncovered face; then nothing"],
    )
    assert len(json.loads(Path("f.jsonl").read_text())["faces"]) == 1
    ran = run("anonymize", "spot.png", "-o", "b.png", "--verify", "--replace-with", "solid", "--detections", "f.jsonl")
    assert (ran.code, lines(ran)[-1]) == (0, "searched b.png in T s: nothing")
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    monkeypatch.setattr(_copy_search, "MAX_ROUNDS", 0)
    picture("in/b.png")
    picture("in/a.png")
    ran = run("anonymize", "in", "-o", "out", *MISSED)
    assert (ran.code, lines(ran)[1:]) == (
        1,
        [
            "wrote out: 2 images, no faces found",
            "searched 2 copies in T s: 2 uncovered faces",
            "error: 2 places not covered:",
            "- out/a.png: --cover '40,30,50,70' (score 0.88)",
            "- out/b.png: --cover '40,30,50,70' (score 0.88)",
        ],
    )
    ran = run("anonymize", "in", "-o", "quiet", "--quiet", *MISSED)
    assert (ran.code, len(lines(ran))) == (1, 3)


def test_videos_are_searched(run: Run, film: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    film(frames=6, hidden=(0, 1))
    ran = run("anonymize", "clip.mp4", "-o", "a.mp4", *MISSED)
    assert ran.code == 0
    assert "searched a.mp4 in T s: 1 uncovered face; then nothing" in lines(ran)
    monkeypatch.setattr(_copy_search, "MAX_ROUNDS", 0)
    ran = run("anonymize", "clip.mp4", "-o", "b.mp4", *MISSED)
    assert (ran.code, lines(ran)[-1]) == (1, "- b.mp4: --cover '40,30,50,70@0:00.19-0:00.51' (score 0.88)")
    cover = lines(ran)[-1].split("'")[1]
    ran = run("anonymize", "clip.mp4", "-o", "c.mp4", *MISSED, "--cover", cover)
    assert (ran.code, "searched c.mp4 in T s: nothing" in lines(ran)) == (0, True)
    ran = run("anonymize", "clip.mp4", "-o", "d.mp4", *MISSED, "--progress", "jsonl")
    done = json.loads(next(line for line in ran.err.splitlines() if '"done"' in line))
    assert [face["kind"] for face in done["searches"][0]["faces"]] == ["uncovered"]


def test_weak_cover_gives_warning(run: Run, picture: Callable[..., Path]) -> None:
    picture()
    ran = run("anonymize", "spot.png", "-o", "a.png", "--verify")  # blurred, its middle stays white
    assert (ran.code, lines(ran)[1:]) == (
        0,
        [
            "searched a.png in T s: 1 weak cover; then 1 weak cover",
            (
                "warning: a.png: blur is weak: 1 covered face could be found, with a score of up to 0.88; 1 still can "
                "be found; next time, use solid, a larger mask or a stronger blur"
            ),
        ],
    )


def test_verify_without_effect_is_refused(run: Run, picture: Callable[..., Path]) -> None:
    picture()
    for args, reason in (
        (("spot.png", "--replace-with", "none"), "--verify has no effect with --replace-with none; leave it out"),
        (("camera:7", "-o", "a.mp4"), "--verify applies to files, not to cameras and streams; leave it out"),
    ):
        ran = run("anonymize", *args, "--verify")
        assert (ran.code, ran.error) == (2, reason)


@pytest.mark.parametrize(("number", "what"), [(1, "may be a face and is"), (9, "may be faces and are")])
def test_doubtful_places_are_options(number: int, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    boxes = [(-20.0, -9.0, 80.0, 90.0), *[(10.0, 20.0, 30.0, 40.0)] * 8][:number]
    faces = [FoundFace(0.27 - box[0] / 1e3, box, 1.0, 1.0, 1.0, is_vast=box[0] < 0) for box in boxes]
    searches = [(Path("a.mp4"), [CopySearch(faces, 1.0)])]
    print_searches(searches, None, is_video=False, quiet=False)
    lines = capsys.readouterr().err.splitlines()
    assert lines[1].startswith(f"warning: {number} place{'s' * (number > 1)} {what} not covered; add ")
    assert "- a.mp4: --cover '-20,-9,100,99' (score 0.29, large for its score, so hardly a face)" in lines
    assert [line for line in lines if line.endswith("(score 0.26)")] == lines[3:]
