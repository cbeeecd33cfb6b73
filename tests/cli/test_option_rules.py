"""Each option of each command is used, or refused before any work."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from scrfd_trt._cli.application import COMMANDS, load_command
from scrfd_trt._cli.live import is_address
from scrfd_trt._cli.option_rules import RULES

from .conftest import files_below

pytestmark = pytest.mark.slow

Run = Callable[..., Any]
Picture = Callable[..., Path]
Film = Callable[..., Path]

ALWAYS = frozenset((
    *("inputs", "files", "image", "video", "name", "specs", "overlay", "output", "overwrite", "as_json", "format_name"),
    *("settings", "log_format", "quiet", "verbose", "profile", "fetch", "host", "port", "max_upload", "browser"),
    *("runs", "new_name", "server", "folder", "source", "out", "part_size", "anonymize"),
    *("address", "max_images", "max_queue", "timeout", "fetch_from", "processes"),
    *("against", "category", "images", "labels", "save_wider"),
    # Checked where the model or the engine is opened.
    *("batch", "in_flight", "plot", "compare", "precision", "size", "io", "level", "workspace", "timing_cache"),
    *("version_compatible", "lean_runtime_inside", "hardware_compatible", "compute_capability"),
    *("calibration", "max_face_change"),
))  # fmt: skip
"""Parameters that apply to all inputs of their commands, and need no rule."""
VALUES = {
    "threshold": "0.4", "iou": "0.4", "scale": "640", "max_faces": "2", "device": "cpu", "every": "2", "bridge": "2",
    "extend": "1", "damaged": "keep", "progress": "none", "codec": "h264", "crf": "0", "preset": "veryfast",
    "only_tracks": "1", "except_tracks": "1", "only_region": "0,0,9,9", "except_region": "0,0,9,9", "only_span": "0-1",
    "except_span": "0-1", "delay": "3", "duration": "1", "quality": "90", "replace_with": "solid", "mask_scale": "1.5",
    "mosaic_size": "9", "replace_image": "sticker.png", "overlay": "blur", "specs": "blur",
    "save_detections": "s.jsonl",
    "annotate": "marked", "repeat": "1", "format_name": "jsonl", "model": "500m_bnkps", "lean_runtime": "x.so",
    "detections": "none.jsonl", "audio": "drop", "workers": "1", "batch": "2", "shard": "1/1", "jobs": "2",
    "files_from": "list", "min_face": "20", "rotations": "90", "drop_tracks": "1", "cover": "0,0,9,9",
    "report": "r.html", "output": "o.jsonl", "max_pixels": "9", "sheet": "s.png",
}  # fmt: skip
VIDEO = {"jobs", "every", "bridge", "extend", "codec", "crf", "preset", "progress", "only_span", "except_span"}
VIDEO |= {"preview"}
STREAMS = {"audio", "subtitles"}
LIVE = {"delay", "duration"}
TRACKS = {"only_tracks", "except_tracks", "drop_tracks"}
FILES = {"detections", "save_detections", "keep_metadata", "keep_location", "damaged", "cover"}
FILES |= {"only_region", "except_region"}
ALONE = {"recursive"}
JOBS = {"files_from", "shard", "resume", "dry_run"}
DETECT = {"max_faces", "threshold", "iou", "scale", "min_face", "rotations", "model", "device", "lean_runtime"}
DETECT |= {"allow_host_code"}
SITUATIONS = [
    (("anonymize", "spot.png", "-o", "out.png"), VIDEO | STREAMS | LIVE | TRACKS | ALONE | {"quality"}),
    (("anonymize", "clip.mp4", "-o", "out.mp4"), LIVE | ALONE | {"quality", "workers", "batch"}),
    (
        ("anonymize", "camera:77", "-o", "o.mp4"),
        STREAMS
        | FILES
        | JOBS
        | {"jobs", "keep_doubtful", "report"}
        | TRACKS
        | ALONE
        | {"only_span", "except_span", "quality"},
    ),
    (("overlay", "spot.png", "-o", "out.png"), VIDEO | STREAMS | LIVE | TRACKS | ALONE | {"quality"}),
    (("detect", "spot.png"), VIDEO | ALONE | {"quality", "overwrite"}),
    (("detect", "clip.mp4"), ALONE | {"quality", "overwrite", "annotate", "repeat", "workers", "batch"}),
    (("tracks", "clip.mp4"), {"overwrite"}),
    (
        ("tracks", "clip.mp4", "--detections", "f.jsonl"),
        {*(DETECT - {"max_faces"}), *VIDEO, "keep_doubtful", "overwrite", "damaged"},
    ),
    (
        ("evaluate", "in", "labels.json", "--detections", "f.jsonl"),
        {*DETECT, "output", "resume", "workers", "batch", "max_pixels", "sheet", "overwrite"},
    ),
    (("inspect", "model.onnx"), {"device", "lean_runtime", "allow_host_code"}),
    (("build", "model.onnx", "-o", "a.plan", "--batch", "8"), {"no_batch_one_profile"}),
]


def parameters(command: str) -> dict[str, Any]:
    return {str(one.name): one for one in load_command(command).params if one.name != "help"}


def test_each_option_has_rule() -> None:
    known = {f"{command}.{name}" for command in COMMANDS for name in parameters(command)}
    names = {full.partition(".")[2] for full in known}
    advice = "state in scrfd_trt/_cli/option_rules.py what a new option applies to, or that it is always used"
    ruled = {*RULES, *ALWAYS} | {key.partition(".")[2] for key in RULES}
    assert sorted(names - ruled) == [], advice
    assert sorted(key for key in RULES if key not in (known if "." in key else names)) == []
    assert sorted(ALWAYS - names) == []


@pytest.mark.usefixtures("spots", "known_overlays")
@pytest.mark.parametrize(("args", "refused"), SITUATIONS, ids=[" ".join(args[:2]) for args, _ in SITUATIONS])
def test_each_option_is_used_or_refused(
    run: Run, picture: Picture, film: Film, tmp_path: Path, args: tuple[str, ...], refused: set[str]
) -> None:
    film(frames=4)
    picture()
    picture("sticker.png")
    run("detect", "clip.mp4", "-o", "f.jsonl")
    Path("model.onnx").write_bytes(b"\x08\x08")
    before = files_below(tmp_path)
    options = {name: one for name, one in parameters(args[0]).items() if one.param_type_name == "option"}
    for name in refused & options.keys():
        one = options[name]
        flag = (one.secondary_opts or one.opts)[0]
        more = () if one.is_flag else (VALUES[name],)
        base = (*args, "--overlay", "blur") if args[0] == "overlay" else args
        ran = run(*base, flag, *more)
        assert (ran.code, ran.out) == (2, ""), (name, ran)
        assert ran.error.startswith(f"{flag} ") or ran.error.startswith(f"{one.opts[0]} "), (name, ran)
        assert re.search("; (leave it out|for .* use .*)$", ran.error)
    assert files_below(tmp_path) == before


@pytest.mark.usefixtures("spots", "known_overlays")
@pytest.mark.parametrize(("args", "refused"), [SITUATIONS[0], SITUATIONS[4]], ids=["anonymize", "detect"])
def test_other_options_are_accepted(run: Run, picture: Picture, args: tuple[str, ...], refused: set[str]) -> None:
    for name in ("spot.png", "sticker.png", "in/a.png"):
        picture(name)
    options = {name: one for name, one in parameters(args[0]).items() if one.param_type_name == "option"}
    for name in options.keys() - refused - {"lean_runtime", "allow_host_code"}:  # refused for models
        more = () if options[name].is_flag else (VALUES.get(name, "x.jsonl"),)
        assert "leave it out" not in run(*args, options[name].opts[0], *more).err, name
        Path("out.png").unlink(missing_ok=True)


def test_contradictory_options_are_refused(run: Run, picture: Picture) -> None:
    ran = run("detect", picture(), "--quiet", "--verbose")
    assert (ran.code, ran.error) == (2, "--quiet and --verbose exclude each other; leave one of them out")
    ran = run("detect", "spot.png", "-f", "jsonl", "--quiet", "--repeat", "2")
    assert (ran.code, ran.error) == (2, "--repeat prints nothing with --quiet, except in tables; leave it out")
    for numbers in ("4,7", "5-8,11"):
        ran = run("anonymize", "spot.png", "--only-tracks", numbers, "--except-tracks", "7")
        assert (ran.code, ran.error) == (2, "track 7 is in --only-tracks and in --except-tracks; leave it out of one")
    for numbers in ("8-5", "1-99999999", "x"):
        error = run("anonymize", "spot.png", "--only-tracks", numbers).error
        assert error == f"--only-tracks '{numbers}': use track numbers of 'scrfd-trt tracks', such as 2,5 or 2-5"
    ran = run("anonymize", "spot.png", "--only-tracks", "4", "--drop-tracks", "4")
    assert (ran.code, ran.error) == (2, "track 4 is in --drop-tracks and in another option; leave it out of one")
    ran = run("anonymize", "spot.png", "--only-tracks", "4", "--except-tracks", "7")
    assert (ran.code, ran.error) == (2, "--only-tracks leaves all other tracks uncovered, so leave out --except-tracks")


@pytest.mark.parametrize(("inside", "code"), [("0,0,160,120", 2), ("10,10,20,20", 2), ("10,10,200,20", 0)])
@pytest.mark.usefixtures("spots")
def test_region_to_cover_inside_one_to_leave_out_is_refused(run: Run, picture: Picture, inside: str, code: int) -> None:
    regions = ("--only-region", inside, "--except-region", "0,0,160,120")
    ran = run("anonymize", picture(), "-o", "out.png", *regions)
    assert ran.code == code
    if code:
        assert (
            ran.error
            == f"--only-region {inside} lies in --except-region 0,0,160,120, so it covers nothing; leave one out"
        )


@pytest.mark.usefixtures("known_overlays")
def test_help_shows_options_of_overlay(run: Run) -> None:
    assert "Minimum score" in run("anonymize", "--overlay", "solid", "--help").out
    assert "\nfill " in run("anonymize", "--overlay", "solid", "--help").out
    assert "\nfill " not in run("anonymize", "--help").out


@pytest.mark.usefixtures("spots", "known_overlays")
def test_options_of_videos_apply_to_videos_of_folder(run: Run, picture: Picture, film: Film) -> None:
    picture("in/b.png")
    film("in/a.mp4", frames=4)
    code, _, err = run("anonymize", "in", "-o", "out", "--every", "3", "--replace-with", "solid")
    assert (code, err.count("wrote out")) == (0, 2)
    ran = run("anonymize", "in", "-o", "out2", "--quality", "5")
    assert ran.error == "--quality applies to JPEG, WebP, AVIF and HEIC files only, and none is written; leave it out"
    assert not Path("out2").exists()


def black_box(name: str) -> tuple[int, int, int, int]:
    """Return x1, y1, x2, y2 around all black pixels."""
    rows, columns = np.nonzero((cv2.imread(name) == 0).all(2))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


@pytest.mark.usefixtures("spots", "known_overlays")
@pytest.mark.parametrize("scale", [None, "1.1", "0.75"])
@pytest.mark.parametrize("kind", ["solid", "img"])
def test_mask_scale_grows_each_side_as_in_deface(run: Run, picture: Picture, kind: str, scale: str | None) -> None:
    picture(box=(60, 40, 100, 80))
    cv2.imwrite("black.png", np.zeros((40, 40, 3), np.uint8))
    more = {"solid": ("--boxes",), "img": ("--replace-image", "black.png")}[kind]
    sized = () if scale is None else ("--mask-scale", scale)
    assert run("anonymize", "spot.png", "-o", "out.png", "--replace-with", kind, *more, *sized).code == 0
    grown = 40 * (float(scale or 1.3) - 1.0)
    expected = np.array([60 - grown, 40 - grown, 100 + grown, 80 + grown])
    feather = 4 if kind == "solid" else 0  # pixels of the soft edge count as covered only where they are black
    assert np.abs(np.array(black_box("out.png")) - expected).max() <= 1 + feather


@pytest.mark.usefixtures("spots", "known_overlays")
def test_default_ellipse_covers_corners_of_box(run: Run, picture: Picture) -> None:
    picture(box=(60, 40, 100, 80))
    assert run("anonymize", "spot.png", "-o", "out.png", "--replace-with", "solid").code == 0
    assert (cv2.imread("out.png")[40:80, 60:100] == 0).all()


@pytest.mark.usefixtures("spots", "known_overlays")
def test_anonymize_takes_overlays_that_cover(run: Run, picture: Picture) -> None:
    picture(box=(60, 40, 100, 80))
    assert run("anonymize", "spot.png", "-o", "a.png", "--overlay", "solid:fill=#ff0000,shape=rectangle").code == 0
    assert (cv2.imread("a.png")[40:80, 60:100] == (0, 0, 255)).all()
    refused = run("anonymize", "spot.png", "-o", "b.png", "--overlay", "solid", "--overlay", "landmarks")
    assert refused.code == 2
    assert refused.error.startswith("--overlay landmarks does not hide faces; the choices are: blur, emoji, image, ")
    assert "landmarks," not in refused.error
    both = run("anonymize", "spot.png", "-o", "b.png", "--overlay", "blur", "--replace-with", "solid")
    assert both.error == "--replace-with cannot be combined with --overlay, which has options of its own; leave it out"
    warned = run("anonymize", "spot.png", "-o", "c.png", "--overlay", "emoji")
    assert warned.err.splitlines()[0] == (
        "warning: --overlay emoji: scale 1 leaves the edge of some faces visible; use 1.5 or more to hide it"
    )
    assert "warning: --overlay blur:opacity=0.5: opacity 0.5 leaves" in (
        run("anonymize", "spot.png", "-o", "d.png", "--overlay", "blur:opacity=0.5").err
    )
    assert not Path("b.png").exists()


@pytest.mark.usefixtures("spots", "known_overlays")
def test_transparent_picture_gives_warning(run: Run, picture: Picture) -> None:
    picture()
    glasses = np.zeros((40, 40, 4), np.uint8)
    glasses[10:20] = 255
    cv2.imwrite("glasses.png", glasses)
    err = run("anonymize", "spot.png", "-o", "a.png", "--replace-with", "img", "--replace-image", "glasses.png").err
    assert err.startswith(
        "warning: --replace-image: glasses.png is transparent where faces stay visible; use an opaque"
    )


def test_existing_file_is_no_camera(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_address("camera:0")
    assert is_address("rtsp://h/a")
    Path("camera:0").write_bytes(b"")
    assert not is_address("camera:0")
    assert run("detect", "camera:0").error == "camera:0: the file is empty: copy or download it again"
