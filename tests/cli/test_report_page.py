"""The page about doubtful faces: pictures, options that mend them, and nothing from elsewhere."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from scrfd_trt._cli import report_page
from scrfd_trt._cli.report_page import Finished
from scrfd_trt._jobs import images
from scrfd_trt._tracking.faces import FrameFaces
from scrfd_trt.video import Summary

Run = Callable[..., Any]
pytestmark = pytest.mark.slow


@pytest.fixture
def two_tracks(monkeypatch: pytest.MonkeyPatch) -> Summary:
    """Put a summary in place of those of all videos: a track is dropped, and another ends inside of the frame."""
    write, summary = report_page.write_page, Summary((160, 120), 0.3)
    for number in range(8):
        ids = [1, 2] if number < 5 else [2]
        boxes = np.array([[20, 30, 60, 80], [90, 30, 130, 80]][-len(ids) :], float)
        faces = FrameFaces(number, number / 25, False, np.array(ids), boxes, np.full(len(ids), 0.4), None)
        faces = FrameFaces(**{**vars(faces), "origins": np.full(len(ids), "detected")})
        summary.add(faces[faces.track_ids == 1])
        summary.add_dropped(faces[faces.track_ids == 2])

    def write_known(page: Path, videos: list[Finished], *how: Any, **more: Any) -> None:
        write(page, [video._replace(summary=summary) for video in videos], *how, **more)

    monkeypatch.setattr("scrfd_trt._cli.overlay_files.write_page", write_known)
    return summary


def test_page_of_a_video(run: Run, film: Callable[..., Path], two_tracks: Summary) -> None:
    """The command is the one that was given, and takes all options of the page."""
    film("a <b>&'.mp4", frames=8)
    ran = run("anonymize", "a <b>&'.mp4", "-o", "o.mp4", "--crf", "30", "--no-subtitles", "--report", "r.html")
    assert ran.code == 0, ran.err
    assert "wrote r.html" in ran.err
    page = Path("r.html").read_text(encoding="utf-8")
    assert os.name != "posix" or Path("r.html").stat().st_mode & 0o077 == 0
    assert "a &lt;b&gt;&amp;" in page
    assert "<b>&'.mp4" not in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert page.count("data:image/jpeg;base64,/9j/") == 2
    again, *options = [shlex.split(unescape(each)) for each in re.findall("<code>(.*?)</code>", page)]
    same = ["--overwrite", "--report", "r.html", "--crf", "30", "--no-subtitles"]
    assert again == ["scrfd-trt", "anonymize", "a <b>&'.mp4", "--output", "o.mp4", *same]
    assert options[:3] == [["--keep-doubtful"], ["--drop-tracks", "2"], ["--drop-tracks", "1"]]
    assert options[3][0] == "--cover"
    assert re.fullmatch(r"20,30,40,50@0:00\.\d\d-0:01\.\d\d", options[3][1])
    assert len(options) == 4
    assert run(*again[1:], *options[0], *options[3]).code == 0  # all in one command, as they stand there
    [later, *_] = re.findall("<code>(.*?)</code>", Path("r.html").read_text(encoding="utf-8"))
    assert all(" ".join(each) in later for each in (options[0], options[3]))
    refused = run("anonymize", "a <b>&'.mp4", "-o", "p.mp4", "--report", "r.txt").error
    assert refused == "--report r.txt: the report is a page; name a file that ends in .html"
    assert "r.html" in run("anonymize", "a <b>&'.mp4", "-o", "p.mp4", "--report", "r.html").error
    assert not Path("p.mp4").exists()


def test_pages_of_parts_and_of_resumed_jobs(run: Run, film: Callable[..., Path]) -> None:
    """Parts have pages of their own; an earlier page stays, and a later one says what it does not show."""
    for name in ("a.mp4", "b.mp4"):
        film(name, frames=3)
    job, page = ("-o", "out", "--resume", "--shard", "1/1", "--report", "r.html"), Path("r-1-of-1.html")
    assert run("anonymize", "a.mp4", *job).code == 0
    assert run("anonymize", "a.mp4", *job).code == 0  # nothing is left to do
    assert page.read_text().count("<h2>") == 1
    assert page.name in run("anonymize", "a.mp4", "b.mp4", *job).error
    page.unlink()
    assert run("anonymize", "a.mp4", "b.mp4", *job, "--jobs", "2").code == 0
    assert "<p>1 input finished by an earlier run: not shown here.</p>" in page.read_text()


def test_pages_about_one_of_several_videos(run: Run, film: Callable[..., Path], two_tracks: Summary) -> None:
    """A command about one video does not replace the page about all."""
    film("a.mp4", frames=8)
    film("b.mp4", frames=8)
    assert run("anonymize", "a.mp4", "b.mp4", "-o", "out", "--report", "r.html").code == 0
    page = Path("r.html").read_text()
    commands = [each for each in re.findall("<code>(.*?)</code>", page) if each.startswith("scrfd-trt")]
    assert [each.split()[-2:] for each in commands] == [["--report", "r-1.html"], ["--report", "r-2.html"]]


@pytest.mark.usefixtures("spots", "known_overlays")
def test_page_of_images(run: Run, picture: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Low scores and places that are not covered have a picture, and options that do what the page says."""
    Path("in").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        picture(name).rename(f"in/{name}")
    sure: Any = cv2.imread("in/c.png")
    sure[0, 0] = 7
    cv2.imwrite("in/c.png", sure)
    monkeypatch.setattr(images, "find_dropped", lambda _, image, found: np.full(len(found), image[0, 0, 0] != 7))
    monkeypatch.setattr("scrfd_trt._cli.overlay_files.LOW_SCORE", 0.0)
    ran = run("anonymize", "in", "-o", "out", "--report", "r.html")
    assert ran.code == 0, ran.err
    page = Path("r.html").read_text(encoding="utf-8")
    assert "<p>1 image without a doubtful face: not shown here.</p>" in page
    assert page.count("data:image/jpeg;base64,/9j/") == page.count("<h2>") == 2
    again, keep, cover = (shlex.split(unescape(each)) for each in re.findall("<code>(.*?)</code>", page)[:3])
    assert again[1:] == ["anonymize", "in/a.png", "--output", "out/a.png", "--overwrite", "--report", "r-1.html"]
    assert keep == ["--keep-doubtful"]
    before = Path("out/a.png").read_bytes()
    monkeypatch.setattr(images, "find_dropped", lambda _detector, _image, found: np.ones(len(found), bool))
    assert run(*again[1:], *cover).code == 0
    assert Path("out/a.png").read_bytes() != before
    monkeypatch.setattr("scrfd_trt._cli.overlay_files.LOW_SCORE", 0.95)
    ran = run(*again[1:], *keep)
    assert "1 face covered with a low score, to review:\n- in/a.png: score 0.88, 50×70 pixels at 40,30\n" in ran.err
    *_, region = re.findall("<code>(.*?)</code>", Path("r-1.html").read_text(encoding="utf-8"))
    assert region.startswith("--except-region ")
    assert run(*again[1:], *keep, *shlex.split(region)).code == 0
    assert Path("out/a.png").read_bytes() == before
