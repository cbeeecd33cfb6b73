"""Detections files and outputs of video commands: no input is lost, and selections without effect are reported."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import cv2
import pytest

av = pytest.importorskip("av")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("spots", "known_overlays")]

Run = Callable[..., Any]
Film = Callable[..., Path]


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """Serve the current folder over HTTP on loopback."""

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(tmp_path))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(120)


def names() -> list[str]:
    return sorted(path.name for path in Path().rglob("*"))


@pytest.mark.parametrize("command", ["anonymize", "tracks"])
def test_detections_file_never_replaces_video(run: Run, film: Film, command: str) -> None:
    before = film().read_bytes()
    Path("link.jsonl").symlink_to("clip.mp4")
    for name in ("clip.mp4", "./clip.mp4", "link.jsonl"):
        ran = run(command, "clip.mp4", "--save-detections", name, "-o", "out.mp4", "--overwrite")
        assert (ran.code, "is the input; name another file" in ran.error) == (2, True)
    assert Path("clip.mp4").read_bytes() == before
    assert names() == ["clip.mp4", "link.jsonl"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--save-detections", "k.mp4", "-o", "k.mp4"), "--save-detections k.mp4 is the output; name another file"),
        (("--save-detections", "k.json"), "name a file that ends in .faces.jsonl"),
        (("--save-detections", "clip_anonymized.mp4"), "is the output"),
        (("--save-detections", "k.jsonl", "--detections", "k.jsonl"), "exclude each other"),
        (("--duration", "3"), "--duration applies to cameras and streams only; leave it out"),
        (("--delay", "3"), "--delay applies to cameras and streams only; leave it out"),
    ],
)
def test_usage_error_before_first_frame(run: Run, film: Film, args: tuple[str, ...], message: str) -> None:
    film()
    ran = run("anonymize", "clip.mp4", *args)
    assert (ran.code, message in ran.error) == (2, True), ran.error
    assert names() == ["clip.mp4"]


def test_contact_sheet_never_replaces_video_or_detections(run: Run, film: Film) -> None:
    film("x.png", codec="apng", pixels="rgb24", form="apng")
    assert "x.png is the input" in run("tracks", "x.png", "-o", "x.png", "--overwrite").error
    ran = run("tracks", "x.png", "-o", "s.jsonl", "--save-detections", "s.jsonl")
    assert "--save-detections s.jsonl is the contact sheet" in ran.error


def test_folder_never_replaces_itself(run: Run, film: Film) -> None:
    Path("in").mkdir()
    before = film("in/clip.mp4").read_bytes()
    Path("again").symlink_to("in")
    for output in ("in", "again"):
        ran = run("anonymize", "in", "-o", output, "--overwrite")
        assert (ran.code, "clip.mp4 is the input; name another folder" in ran.error) == (2, True)
    assert Path("in/clip.mp4").read_bytes() == before


def test_copies_beside_videos_never_replace_each_other(run: Run, film: Film) -> None:
    film()
    film("clip.mpg", codec="mpeg2video", form="matroska")
    ran = run("anonymize", "clip.mp4", "clip.mpg", "--overwrite")
    assert ran.code == 1
    assert "- clip.mpg: clip_anonymized.mp4 is the copy of clip.mp4; process clip.mpg alone, and name" in ran.err
    assert names() == ["clip.mp4", "clip.mpg", "clip_anonymized.mp4"]
    before = names()
    ran = run("anonymize", "clip.mp4", "clip_anonymized.mp4", "--overwrite")
    assert (ran.code, "warning: clip_anonymized.mp4: left out, as it is the copy of another input" in ran.err) == (
        0,
        True,
    )
    assert names() == before


@pytest.mark.parametrize("option", ["--only-tracks", "--except-tracks", "--drop-tracks"])
def test_missing_track(run: Run, film: Film, option: str) -> None:
    film()
    ran = run("anonymize", "clip.mp4", option, "1,77")
    assert (ran.code, ran.error) == (2, "clip.mp4: there is no track 77; the tracks are: 1")
    assert names() == ["clip.mp4"]
    assert run("tracks", "clip.mp4", "--save-detections", "f.jsonl").code == 0
    ran = run("anonymize", "clip.mp4", option, "78,77", "--detections", "f.jsonl", "-q")
    assert (ran.code, ran.error) == (2, "f.jsonl: there is no track 77, 78; the tracks are: 1")
    assert names() == ["clip.mp4", "f.jsonl"]


def test_tracks_have_the_numbers_of_anonymize(run: Run, film: Film) -> None:
    film()
    for number, more in enumerate([(), ("--every", "2", "-t", "0.2", "--scale", "200")]):
        files = Path(f"t{number}.jsonl"), Path(f"a{number}.jsonl")
        assert "numbers" not in run("tracks", "clip.mp4", *more, "--save-detections", files[0]).err
        ran = run("anonymize", "clip.mp4", "--overwrite", "--drop-tracks", "1", *more, "--save-detections", files[1])
        assert (ran.code, "warning: clip.mp4: track numbers are those of this run" in ran.err) == (0, True)
        assert files[0].read_bytes() == files[1].read_bytes()
    for command in (("anonymize", "--scale", "320"), ("overlay", "--overlay", "blur")):
        ran = run(*command, "clip.mp4", "-o", "b.mp4", "--except-tracks", "1")
        assert ran.code == 2
        assert ran.error.endswith("with the same options, and use --detections FILE")


def test_existing_tracks_are_listed_as_ranges(run: Run, film: Film) -> None:
    film()
    head = {"format": "scrfd_trt.faces", "version": 1, "video": "clip.mp4", "size": [160, 120], "rate": 10.0}
    face = {"box": [1, 2, 30, 40], "score": 0.5, "from": "detected"}
    faces = [{"track": number, **face} for number in (1, 2, 3, 5, 8, 9)]
    lines = [head, *({"frame": n, "pts_seconds": n / 10, "faces": faces} for n in range(20))]
    Path("f.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ran = run("anonymize", "clip.mp4", "--only-tracks", "4", "--detections", "f.jsonl")
    assert ran.error == "f.jsonl: there is no track 4; the tracks are: 1-3, 5, 8-9"


def test_track_numbers_require_single_video(run: Run, film: Film) -> None:
    film("a.mp4")
    film("b.mp4")
    ran = run("anonymize", "a.mp4", "b.mp4", "--except-tracks", "1")
    assert (ran.code, ran.error) == (2, "--except-tracks applies to a single video; process the videos one by one")


def test_selection_that_covers_no_face_gives_warning(run: Run, film: Film) -> None:
    film()
    ran = run("overlay", "clip.mp4", "--overlay", "solid", "-o", "a.mp4", "--only-region", "100,0,60,120")
    assert ran.code == 0
    assert ran.err.startswith("warning: a.mp4: no face is covered; the selection leaves out every track\n")


@pytest.mark.parametrize(
    ("args", "option"),
    [
        (("--thresh", "0.1"), "--threshold"),
        (("--every", "2"), "--every"),
        (("--bridge", "1"), "--bridge"),
        (("--extend", "1"), "--extend"),
        (("-s", "640"), "--scale"),
        (("-m", "10g_bnkps"), "--model"),
        (("--iou", "0.4"), "--iou"),
    ],
)
def test_detection_options_with_detections_file_are_refused(
    run: Run, film: Film, args: tuple[str, ...], option: str
) -> None:
    film()
    assert run("tracks", "clip.mp4", "--save-detections", "f.jsonl", "-q").code == 0
    ran = run("anonymize", "clip.mp4", "--detections", "f.jsonl", *args)
    assert ran.code == 2
    assert ran.error == f"{option} has no effect with --detections, whose faces are already detected; leave it out"
    assert names() == ["clip.mp4", "f.jsonl"]


@pytest.mark.parametrize("command", ["anonymize", "tracks"])
def test_invalid_detections_header_gives_one_line(run: Run, film: Film, command: str) -> None:
    film()
    assert run("tracks", "clip.mp4", "--save-detections", "f.jsonl", "-q").code == 0
    head, *rest = Path("f.jsonl").read_text().splitlines(keepends=True)
    for follow in ({"threshold": "x"}, {"threshold": 7}):
        Path("f.jsonl").write_text(json.dumps(json.loads(head) | {"tracking": follow}) + "\n" + "".join(rest))
        ran = run(command, "clip.mp4", "--detections", "f.jsonl")
        assert ran.code in {1, 2}
        assert "f.jsonl, line 1" in ran.error


def test_detections_with_higher_threshold_give_warning(run: Run, film: Film) -> None:
    film()
    assert run("detect", "clip.mp4", "-o", "f.jsonl").code == 0
    ran = run("anonymize", "clip.mp4", "--detections", "f.jsonl", "-o", "a.mp4")
    assert ran.err.startswith("warning: f.jsonl: detected with a threshold of 0.5; 'anonymize' uses 0.3 by default")
    assert run("detect", "clip.mp4", "-o", "g.jsonl", "-t", "0.3", "--min-face", "16", "--rotations", "90").code == 0
    assert "warning" not in run("anonymize", "clip.mp4", "--detections", "g.jsonl", "-o", "b.mp4").err


def test_unreadable_file_is_named_once(run: Run, film: Film) -> None:
    film()
    Path("broken.mp4").write_bytes(b"no video")
    assert run("anonymize", "broken.mp4").error.startswith("broken.mp4: cannot be read as a video")
    assert "- broken.mp4: cannot be read" in run("anonymize", "broken.mp4", "clip.mp4", "-o", "out").err
    assert run("anonymize", "none/%03d.png").error == "none/%03d.png: no image matches this pattern"


def test_contact_sheet_without_faces_gives_warning(run: Run, film: Film) -> None:
    film(hidden=tuple(range(20)))
    ran = run("tracks", "clip.mp4", "-o", "s.png")
    assert ran.code == 0
    assert ran.err.splitlines()[-1] == "warning: s.png was not written, because the video has no faces"


def test_tracks_of_image_sequence(run: Run, film: Film) -> None:
    film()
    Path("seq").mkdir()
    with av.open("clip.mp4") as container:
        for number, frame in enumerate(container.decode(video=0)):
            cv2.imwrite(f"seq/{number:03d}.png", frame.to_ndarray(format="bgr24"))
    code, out, _ = run("tracks", "seq/%03d.png", "--json", "-o", "sheet.png")
    assert (code, len(json.loads(out))) == (0, 1)
    assert Path("sheet.png").is_file()


def test_file_at_an_address_is_processed_like_a_file(run: Run, film: Film, web: str) -> None:
    pytest.importorskip("requests")
    film("clip.mkv", sound=True)
    assert run("anonymize", "clip.mkv", "-o", "own.mp4").code == 0
    ran = run("anonymize", f"{web}/clip.mkv", "-o", "out.mp4")
    assert (ran.code, "one pass" in ran.err) == (0, False)
    assert abs(Path("out.mp4").stat().st_size - Path("own.mp4").stat().st_size) < 100  # with its audio


def test_web_video_gives_warning_about_one_pass(run: Run, film: Film, web: str) -> None:
    film("clip", form="matroska")
    code, _, err = run("anonymize", f"{web}/clip", "-o", "out.mp4")
    assert code == 0, err
    assert err.splitlines()[0] == (
        f"warning: {web}/clip: a video on the web is processed in one pass; download it first for two passes"
    )
    film("sound", form="matroska", sound=True)
    assert ", without its audio; download it" in run("anonymize", f"{web}/sound", "-o", "a.mp4").err
    code, _, err = run("anonymize", f"{web}/sound", "-o", "b.mp4", "--audio", "drop")
    assert (code, ", without its audio" in err) == (0, False)


def test_span_without_faces_gives_one_hint(run: Run, film: Film) -> None:
    film()
    ran = run("anonymize", "clip.mp4", "--only-span", "10-20")
    assert (ran.code, ran.error.count("\n")) == (2, 0)
    assert "clip.mp4: no frame lies from 0:10.00 to 0:20.00; the video lasts 0:02.00; see --only-span" in ran.error
    assert names() == ["clip.mp4"]
    ran = run("anonymize", "clip.mp4", "--except-span", "0-10")
    assert (ran.code, "no face was found" in ran.err) == (0, False)
    assert "the spans leave out every frame, so nothing is covered" in ran.err
    assert ran.err.count("warning: ") == 1


def test_file_of_span_covers_nothing_else(run: Run, film: Film) -> None:
    film()
    ran = run("anonymize", "clip.mp4", "--only-span", "0-0.5", "--save-detections", "k.faces.jsonl")
    assert ran.code == 0, ran.err
    assert "faces only from 0:00.00 to 0:00.50" in ran.err
    assert "ends inside the picture" not in ran.err
    ran = run("anonymize", "clip.mp4", "--detections", "k.faces.jsonl", "-o", "all.mp4")
    assert ran.code == 2
    assert "faces were detected only from 0:00.00 to 0:00.50; cover those times only" in ran.error
    assert "--only-span" in ran.error
    ran = run("anonymize", "clip.mp4", "--detections", "k.faces.jsonl", "-o", "some.mp4", "--only-span", "0.1-0.4")
    assert ran.code == 0, ran.err
    assert names() == ["clip.mp4", "clip_anonymized.mp4", "k.faces.jsonl", "some.mp4"]
