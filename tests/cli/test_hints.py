"""Warnings and errors lead to the next step: the value, the option that was typed, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("spots", "known_overlays")]
UNCOVERED = "no face was found, so nothing is covered; lower --threshold or check the result"

Run = Callable[..., Any]
Picture = Callable[..., Path]
Film = Callable[..., Path]


@pytest.mark.parametrize("command", [("anonymize",), ("overlay", "--overlay", "skull")])
def test_output_without_faces_gives_warning(run: Run, picture: Picture, command: tuple[str, ...]) -> None:
    picture(box=None)
    code, _, err = run(*command, "spot.png", "-o", "out.png")
    assert (code, err) == (0, f"warning: out.png: {UNCOVERED}\nwrote out.png: no faces found\n")
    assert run(*command, "spot.png", "-o", "quiet.png", "--quiet").err == ""


def test_video_without_faces_gives_warning(run: Run, film: Film) -> None:
    pytest.importorskip("av")
    film(hidden=range(20))
    code, _, err = run("anonymize", "clip.mp4", "-o", "out.mp4", "--save-detections", "clip.faces.jsonl")
    assert (code, err.splitlines()) == (
        0,
        [
            f"warning: out.mp4: {UNCOVERED}",
            "wrote out.mp4: 20 frames, 0 tracks",
            "not kept: metadata (location, title)",
        ],
    )
    err = run("anonymize", "clip.mp4", "-o", "b.mp4", "--detections", "clip.faces.jsonl").err
    assert "detect the faces again with a lower --threshold" in err


def test_replace_with_none_claims_no_covered_face(run: Run, picture: Picture) -> None:
    code, _, err = run("anonymize", picture(), "--replace-with", "none", "-o", "out.png")
    assert code == 0
    assert err.splitlines()[-1] == "wrote out.png: 1 face; no face is covered"


@pytest.mark.parametrize(
    ("args", "warning"),
    [
        (
            ("--scale", "100x60"),
            "--scale 100x60 is the size for detection, not of copies; small faces may be missed without --min-face 16",
        ),
        (("-t", "0.01"), "--threshold 0.01 finds hundreds of places that are no faces, and takes long"),
        (("--mask-scale", "0.6"), "--mask-scale 0.6 leaves part of the face visible; use 1.1 or more"),
        (("--mask-scale", "1.05"), "--mask-scale 1.05 leaves the edge of some faces visible; use 1.1 or more"),
        (
            ("--replace-with", "mosaic", "--mosaic-size", "9"),
            "--mosaic-size 9 may leave faces above 45 pixels recognisable; leave it out",
        ),
    ],
)
def test_warnings_name_options_of_command(run: Run, picture: Picture, args: tuple[str, ...], warning: str) -> None:
    code, _, err = run("anonymize", picture(), *args, "-o", "out.png")
    assert (code, err.splitlines()[:-1]) == (0, [f"warning: {warning}"])
    assert "warning" not in run("anonymize", "spot.png", "-o", "out2.png").err


@pytest.mark.parametrize(
    ("args", "reason", "in_older_typer"),
    [
        (("--threshold", "50"), "'-t': must be at most 1, not 50; see", "50.0 is not in the range 0.0<=x<=1.0; see"),
        (("--max-pixels", "400000000"), "'--max-pixels': must be at most 1000000 million, not 400000000; see", "range"),
        (("--every", "0"), "'--every': must be at least 1, not 0; see", "0 is not in the range"),
        (("--every", "x"), "'--every': must be a whole number, not x; see", "'x' is not a valid int"),
        (("--iou", "x"), "'--iou': must be a number, not x; see", "'x' is not a valid float"),
    ],
)
def test_value_and_limit_of_number_are_named(
    run: Run, picture: Picture, args: tuple[str, ...], reason: str, in_older_typer: str
) -> None:
    error = run("detect", picture(), *args).error
    assert reason in error or in_older_typer in error


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("detect", "clip.mp4", "--repeat", "3"), 2, "--repeat applies to images only"),
        (("detect", "clip.mp4", "--format", "csv"), 2, "CSV output is for images only"),
        (("detect", "nofolder/"), 1, "nofolder: there is no such file or folder"),
        (("tracks", "."), 2, ". is a folder; name one video file"),
        (("tracks", "spot.png"), 2, "spot.png is an image, which has no tracks; use 'scrfd-trt detect spot.png'"),
        (("tracks", "clip.mp4", "-o", "sheet/"), 2, "sheet: --output is one contact sheet; name a picture, such as"),
        (("detect", "spot.png", "-o", "b.jpg"), 2, "b.jpg is the name of a picture; use --annotate DIR for copies"),
        (("overlay", "spot.png", "--overlay", "blur:50%"), 2, "write OPTION=50%; the options are: opacity, blending"),
        (("overlay", "spot.png", "--overlay", "skull opacity=1"), 2, "options follow a colon: skull:opacity=1"),
        (("anonymize", "spot.png", "--drop-tracks", "1,"), 2, "--drop-tracks '1,': use track numbers"),
        (("detect", "spot.png", "--settings", "list.txt"), 2, "list.txt: settings are TOML, such as"),
        (("tracks", "none.mp4"), 1, "none.mp4: there is no such file"),
        (("detect", "camera:0"), 2, "camera:0: detect does not read cameras or streams; use overlay or anonymize"),
        (
            ("detect", "htp://a.b/c.jpg"),
            2,
            "htp://a.b/c.jpg: htp:// addresses are not read; they begin with http, https",
        ),
        (
            ("overlay", "file:///a.jpg", "skull", "-o", "x.jpg"),
            2,
            "file:///a.jpg: file:// addresses are not read; use the path /a.jpg",
        ),
        (("bench", "camera:0"), 2, "camera:0: bench does not read cameras or streams; use overlay or anonymize"),
        (("anonymize", "camera:0", "-o", "a.mp4", "--duration", "0"), 2, "'--duration'"),
        (("tracks", "rtsp://me:secret@h/a"), 2, "rtsp://me:***@h/a: tracks does not read cameras or streams"),
        (("anonymize", "camera:0"), 2, "camera:0 requires --output FILE"),
        (("anonymize", "spot.png", "--replace-image", "x.png"), 2, "--replace-image requires --replace-with img"),
        (("anonymize", "in", "-o", "out"), 2, "out/a.png already exists; name another folder, or add --overwrite"),
        (("anonymize", "spot.png"), 2, "already exists; name another file with --output, or add --overwrite"),
        (
            ("anonymize", "in", "-q"),
            2,
            "in is a folder; name another one for the copies: scrfd-trt anonymize in -q -o in_an",
        ),
        (("anonymize", "spot.png", "-o", "/dev/null"), 2, "/dev/null is not a folder; name one, or use --dry-run"),
        (("anonymize", "spot.png", "--except-tracks", "1"), 2, "with --detections; for others use --except-region"),
        (("anonymize", "spot.png", "--overlay", "solidd"), 2, "did you mean 'solid'? the overlays are: blur, "),
        (("anonymize", "none", "-o", "x.mp4"), 1, "none: there is no such file or folder"),
        (
            ("detect", "spot.png", "--annotate", "new.jpg"),
            2,
            "new.jpg is the name of a file, and copies go to a",
        ),
        (("detect", "list.txt"), 1, "not an image or a video; if this is a list of paths, use --files-from"),
        (("detect", "in/new/", "-o", "new", "--format", "csv", "-q"), 1, "in/new: there is no such file or folder"),
        (("detect", "spot.png", "-o", "new/", "--format", "csv"), 2, "new/ is a folder, which is for --format yolo"),
        (("detect", "spot.png", "--model", "spot.png"), 2, "spot.png: this is not an ONNX model, or it is damaged"),
        (("detect", "text.jpg"), 1, "not a supported image (JPEG, PNG, WebP, BMP, TIFF, …): convert it to JPEG or PNG"),
        (("detect", "text.mp4"), 1, "Invalid data found when processing input; copy or download it again"),
        (
            ("overlay", "clip.mp4", "--overlay", "skull", "-o", "x.mp4", "--detections", "text.jpg"),
            2,
            "text.jpg, line 1: this is not a detections file; --save-detections writes one",
        ),
        (("studio", "--host", "192.0.2.1", "--no-browser"), 2, "this machine has no address 192.0.2.1; use another"),
    ],
)
def test_error_says_what_to_do(
    run: Run, picture: Picture, film: Film, args: tuple[str, ...], code: int, message: str
) -> None:
    pytest.importorskip("av")
    if args[0] == "studio":
        pytest.importorskip("wsproto")
    film()
    for name in ("spot.png", "in/a.png", "out/a.png", "spot_anonymized.png"):
        picture(name)
    for name in ("text.jpg", "text.mp4", "list.txt"):
        Path(name).write_bytes(b"hello, this is text\n" * 50)
    ran = run(*args)
    assert ran.code == code
    assert message in ran.error
