"""Detections files of images: detected once, edited by hand, and covered from the file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from scrfd_trt._cli.detections_files import ImageFaces
from scrfd_trt._cli.inputs import Source
from scrfd_trt.errors import DetectionsError

from .conftest import BOX, SIZE

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("spots", "known_overlays")]

Run = Callable[..., Any]
Picture = Callable[..., Path]
Film = Callable[..., Path]

SOLID = ("--replace-with", "solid", "--boxes", "--mask-scale", "1")
OTHER = (100, 70, 130, 110)
"""A second face, which the detector does not find."""


def write(path: str, *lines: dict[str, Any]) -> None:
    Path(path).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def entry(name: str = "spot.png", *boxes: tuple[int, ...], **more: Any) -> dict[str, Any]:
    faces = [{"box": box, "track": number} for number, box in enumerate(boxes or (BOX,), 1)]
    return {"image": name, "image_size": SIZE, "faces": faces} | more


def is_black(name: str, box: tuple[int, int, int, int]) -> bool:
    return bool((cv2.imread(name)[box[1] : box[3], box[0] : box[2]] == 0).all())


def test_faces_of_image_are_detected_edited_and_covered(run: Run, picture: Picture) -> None:
    picture()
    assert run("detect", "spot.png", "-o", "spot.faces.jsonl").code == 0
    found = json.loads(Path("spot.faces.jsonl").read_text())
    assert len(found["faces"]) == 1
    found["faces"].append({"box": OTHER})  # added by hand, without score and landmarks
    write("spot.faces.jsonl", found)
    code, _, err = run("anonymize", "spot.png", "--detections", "spot.faces.jsonl", "-o", "both.png", *SOLID)
    assert (code, err.splitlines()[-1]) == (0, "wrote both.png: 2 faces")
    assert is_black("both.png", BOX)
    assert is_black("both.png", OTHER)
    found["faces"] = []
    write("none.jsonl", found)
    assert "no face was found, so nothing is covered; detect the faces again" in (
        run("anonymize", "spot.png", "--detections", "none.jsonl", "-o", "none.png").err
    )
    assert (cv2.imread("none.png") == cv2.imread("spot.png")).all()


def test_saved_detections_give_same_copies(run: Run, picture: Picture) -> None:
    picture("in/a.png")
    picture("in/b.png", box=(10, 10, 60, 70))
    assert run("anonymize", "in", "-o", "one", "--save-detections", "s.jsonl").code == 0
    assert [json.loads(line)["image"] for line in Path("s.jsonl").read_text().splitlines()] == ["in/a.png", "in/b.png"]
    assert run("anonymize", "in", "-o", "two", "--detections", "s.jsonl").code == 0
    for name in ("a.png", "b.png"):
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes()


def test_high_threshold_gives_warning(run: Run, picture: Picture) -> None:
    picture()
    run("detect", "spot.png", "-o", "f.jsonl")
    err = run("anonymize", "spot.png", "-o", "a.png", "--detections", "f.jsonl").err
    assert err.startswith("warning: f.jsonl: detected with a threshold of 0.5; 'anonymize' uses 0.3 by default, which")
    assert (
        "warning" not in run("overlay", "spot.png", "--overlay", "blur", "-o", "b.png", "--detections", "f.jsonl").err
    )
    assert err.splitlines()[1] == (
        "warning: f.jsonl: detected without --min-face and --rotations, so small and turned faces may be missing; "
        "detect again with 'anonymize --save-detections'"
    )
    run("detect", "spot.png", "-t", "0.3", "-o", "h.jsonl", "--min-face", "16")
    err = run("anonymize", "spot.png", "-o", "h.png", "--detections", "h.jsonl").err
    assert "h.jsonl: detected without --rotations, so turned faces may be missing" in err
    run("anonymize", "spot.png", "-o", "c.png", "--save-detections", "g.jsonl")
    assert "warning" not in run("anonymize", "spot.png", "-o", "d.png", "--detections", "g.jsonl").err


def test_lines_of_folder_are_matched_by_path(run: Run, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("in/a.png", "in/sub/a.png"):
        picture(name)
    write("faces.jsonl", entry("in/a.png"), entry("in/sub/a.png", OTHER))
    assert run("anonymize", "in", "-r", "-o", "out", "--detections", "faces.jsonl", *SOLID).code == 0
    assert [is_black(f"out/{name}", BOX) for name in ("a.png", "sub/a.png")] == [True, False]
    monkeypatch.chdir("in")  # the names in the file are relative to its folder
    assert run("anonymize", "sub", "-o", "../again", "--detections", "../faces.jsonl", *SOLID).code == 0
    assert is_black("../again/a.png", OTHER)


def test_names_are_relative_to_current_folder_first(run: Run, picture: Picture) -> None:
    for name in ("a.png", "in/a.png"):
        picture(name)
    write("in/f.jsonl", entry("a.png", OTHER), entry("in/a.png", BOX))
    for name, box in {"a.png": OTHER, "in/a.png": BOX}.items():
        assert run("anonymize", name, "-o", "o.png", "--overwrite", "--detections", "in/f.jsonl", *SOLID).code == 0
        assert [is_black("o.png", one) for one in (BOX, OTHER)] == [box == BOX, box == OTHER]


def test_image_without_entry_is_not_written(run: Run, picture: Picture) -> None:
    for name in ("in/a.png", "in/b.png", "in/c.png", "in/d.png"):
        picture(name)
    wrong = entry("in/c.png") | {"image_size": [200, 200]}
    failed = {"image": "in/d.png", "error": "the file is empty"}
    write("f.jsonl", entry("in/a.png"), wrong, failed, entry("a\0b.png"), entry("\ud800.png"))
    code, _, err = run("anonymize", "in", "-o", "out", "--detections", "f.jsonl")
    assert code == 1
    other = "an image of 200×200, and this one has 160×120; detect them again"
    assert err.splitlines() == [
        "wrote out/a.png: 1 face",
        "error: 3 of 4 inputs failed, the others succeeded:",
        "- in/b.png: f.jsonl has no faces of this image, so it is not written; detect them first",
        f"- in/c.png: f.jsonl, line 2: the faces belong to {other}",
        "- in/d.png: f.jsonl, line 3: no faces were detected: the file is empty",
    ]
    assert [path.name for path in Path("out").iterdir()] == ["a.png"]


def test_selection_of_faces_of_images(run: Run, picture: Picture) -> None:
    picture()
    write("f.jsonl", entry("spot.png", BOX, OTHER))
    cases = {
        ("--only-tracks", "2"): (False, True),
        ("--except-tracks", "2"): (True, False),
        ("--only-region", "0,0,80,120"): (True, False),
        ("--except-region", "0,0,80,120"): (False, True),
        ("--only-region", "0,0,80,120", "--except-tracks", "1"): (False, False),
    }
    for number, (args, expected) in enumerate(cases.items()):
        code, _, err = run("anonymize", "spot.png", "--detections", "f.jsonl", "-o", f"{number}.png", *SOLID, *args)
        assert code == 0
        assert (is_black(f"{number}.png", BOX), is_black(f"{number}.png", OTHER)) == expected
        left = "1 face" if any(expected) else "2 faces"
        assert err.endswith(f"wrote {number}.png: 2 faces; {left} left uncovered, as requested\n")
        assert (f"{number}.png: no face is covered; the selection leaves out every face" in err) is not any(expected)
    ran = run("anonymize", "spot.png", "--detections", "f.jsonl", "-o", "x.png", "--only-tracks", "3")
    assert (ran.code, ran.error) == (2, "f.jsonl: there is no track 3; the tracks are: 1-2")
    for tracks, written in (("1", "1 face"), ("1,2", "no faces found")):  # what is dropped is not reported
        ran = run("anonymize", "spot.png", "--detections", "f.jsonl", "-o", f"d{tracks}.png", "--drop-tracks", tracks)
        assert (ran.code, ran.err) == (0, f"wrote d{tracks}.png: {written}\n")


def test_images_are_covered_by_hand(run: Run, picture: Picture) -> None:
    picture()
    at = f"{OTHER[0]},{OTHER[1]},{OTHER[2] - OTHER[0]},{OTHER[3] - OTHER[1]}"
    code, _, err = run("anonymize", "spot.png", "--cover", at, "-o", "a.png", "--save-detections", "f.jsonl", *SOLID)
    assert (code, err.splitlines()[-1]) == (0, "wrote a.png: 1 face, 1 cover by hand")
    assert [is_black("a.png", one) for one in (BOX, OTHER)] == [True, True]
    assert run("anonymize", "spot.png", "--detections", "f.jsonl", "-o", "b.png", *SOLID).code == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    ran = run("anonymize", "spot.png", "-o", "c.png", "--cover", "160,0,9,9")
    outside = "the cover 160,0,9,9 lies outside of the picture of 160×120 pixels; see --cover"
    assert (ran.code, ran.error, Path("c.png").exists()) == (2, outside, False)
    ran = run("anonymize", "spot.png", "-o", "c.png", "--cover", "0,0,9,9@1-2")
    assert (ran.code, ran.error) == (
        2, "photographs have no time; leave out what follows '@' in --cover",
    )  # fmt: skip


def test_region_of_detected_image(run: Run, picture: Picture) -> None:
    picture()
    for option, value, black in (
        ("--except-region", "0,0,160,120", False),
        ("--except-region", "100,0,60,120", True),
        ("--only-region", "0,0,80,120", True),
        ("--only-region", "100,0,60,120", False),
    ):
        assert run("anonymize", "spot.png", "-o", "o.png", "--overwrite", *SOLID, option, value).code == 0
        assert is_black("o.png", BOX) is black


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f.jsonl: the file is empty; 'scrfd-trt detect PHOTO -o NAME.faces.jsonl' writes one"),
        ("image,score\n", "f.jsonl, line 1: this is not JSON: "),
        ("[1]\n", "f.jsonl, line 1: this is not a detections file of images; "),
        ('{"format":"scrfd_trt.faces"}\n', "f.jsonl, line 1: this is a detections file of a video; "),
        (json.dumps(entry()) + '\n\n{"x":1}\n', 'f.jsonl, line 3: there is no "image"; '),
        (f"{json.dumps(entry())}\n" * 2, "f.jsonl, line 2: spot.png is in line 1 as well; delete one of them"),
        (json.dumps(entry("spot.png", (9, 9, 3, 20))), "f.jsonl, line 1, face 1, box: must be x1, y1, x2, y2, the"),
        ("[" * 100_000, "f.jsonl, line 1: this is not JSON: "),
        (json.dumps(entry(image_size=[0, 4])), "f.jsonl, line 1, image_size: must be at least 1"),
        ('{"image":"spot.png","image_size":[4,4]}', "f.jsonl, line 1, faces: it is required"),
        ('{"image":"spot.png","faces":[]}', "f.jsonl, line 1, image_size: it is required"),
        ('{"image":"spot.png","image_size":[4],"faces":[]}', "f.jsonl, line 1, image_size: must be width and height"),
        (json.dumps(entry("spot.png", BOX, (1, 2, 3))), "f.jsonl, line 1, face 2, box: must be four numbers: x1, y1"),
        (json.dumps(entry("spot.png", BOX, ("x", 2, 3, 4))), "f.jsonl, line 1, face 2, box: must be a number"),
        (
            json.dumps(entry("spot.png", BOX, (0.1, 0.1, 0.3, 0.4))),
            "line 1, face 2, box: [0.1, 0.1, 0.3, 0.4] is smaller than 1 pixel; boxes are in pixels of the image, not",
        ),
        (json.dumps(entry("spot.png", (50, 50, 50, 90))), "face 1, box: [50.0, 50.0, 50.0, 90.0] is smaller than 1"),
        (
            json.dumps(entry("spot.png", (5000, 5000, 6000, 6000))),
            "face 1, box: [5000.0, 5000.0, 6000.0, 6000.0] lies outside of the image of 160×120 pixels",
        ),
    ],
)
def test_invalid_file_is_refused_before_any_work(run: Run, picture: Picture, text: str, message: str) -> None:
    picture()
    Path("f.jsonl").write_text(text)
    ran = run("anonymize", "spot.png", "--detections", "f.jsonl", "-o", "out.png")
    assert ran.code == 2
    assert message in ran.error
    assert not Path("out.png").exists()


def test_kinds_of_detections_files_and_missing_tracks_are_named(run: Run, picture: Picture, film: Film) -> None:
    picture()
    write("f.jsonl", {"image": "spot.png", "image_size": SIZE, "faces": [{"box": BOX}]})
    ran = run("anonymize", "spot.png", "--detections", "f.jsonl", "-o", "out.png", "--only-tracks", "1")
    assert 'there is no track 1; there are no tracks; put "track": 1 in each face to select it' in ran.error
    film()
    ran = run("anonymize", "clip.mp4", "--detections", "f.jsonl", "-o", "out.mp4")
    assert ran.error == (
        "f.jsonl, line 1: this is a detections file of images, not of a video; --save-detections writes one"
    )


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_pipe_and_missing_file_are_refused(run: Run, picture: Picture) -> None:
    picture()
    os.mkfifo("pipe.jsonl")
    for name, reason in {"pipe.jsonl": "it is not a regular file", "none.jsonl": "No such file or directory"}.items():
        ran = run("anonymize", "spot.png", "--detections", name, "-o", "out.png")
        assert (ran.code, ran.error) == (2, f"{name} cannot be read: {reason}")


def test_files_of_images_with_videos(run: Run, picture: Picture, film: Film) -> None:
    picture("in/b.png")
    film("in/a.mp4", frames=4)
    for option in ("--detections", "--save-detections"):
        ran = run("anonymize", "in", "-o", "out", option, "f.jsonl")
        assert ran.error == f"{option} applies to images, or to a single video; process the videos one by one"
    Path("mixed.jsonl").write_text(run("detect", "in", "-f", "jsonl").out)
    assert run("anonymize", "in/b.png", "-o", "b.png", "--detections", "mixed.jsonl", *SOLID).code == 0
    assert is_black("b.png", BOX)


def test_names_that_are_not_utf8_and_pages(run: Run, picture: Picture, tmp_path: Path) -> None:
    picture()
    name = "\udcff.png"
    write("f.jsonl", entry(name), entry("spot.png", page=1), entry("spot.png", OTHER, page=2))
    image = np.zeros((*SIZE[::-1], 3), np.uint8)
    faces = ImageFaces(Path("f.jsonl"))
    assert faces.find(Source(Path(name), Path(name)), image).boxes[0].tolist() == list(BOX)
    spot = Source(Path("spot.png"), Path("spot.png"))
    assert faces.find(spot, image, 2).boxes[0].tolist() == list(OTHER)
    with pytest.raises(DetectionsError, match=r"has no faces of page 3 of this image, so it is not written"):
        faces.find(spot, image, 3)
